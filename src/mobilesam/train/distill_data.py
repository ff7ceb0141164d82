"""What a student sees in a step: whole photos, what the teacher made of them, and prompts.

As everywhere in training, a batch depends only on the recipe's seed and the step's number. Photos come in rounds:
each once before any comes again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from mobilesam.core.arrays import NamedArrays
from mobilesam.core.errors import ConfigError
from mobilesam.core.frame import input_size_of
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.coco import SetPhoto
from mobilesam.storage.shards import Shards
from mobilesam.train.data import Drawn, reduce_mask
from mobilesam.train.distill_recipe import DistillRecipe, DistillStage
from mobilesam.train.photos import read_any_photos
from mobilesam.train.prompts import draw_box, draw_point
from mobilesam.train.ranks import Ranks
from mobilesam.train.teacher import decode, key_of, photo_pixels
from mobilesam.weights.graph_index import network_specs

TAUGHT = "teacher/"  # prefix of the teacher's arrays in a batch
LOOSE_BOXES = 0.3  # part of the boxes whose corners are jittered


def split_photos(
    recipe: DistillRecipe, data: Path, *, follow_symlinks: bool = False
) -> tuple[list[Drawn], list[Drawn]]:
    """Return the photos to learn from, and those held out: by the hash of their names."""
    learnt: list[Drawn] = []
    held_out: list[Drawn] = []
    for entry in recipe.sets:
        for photo in read_any_photos(data / entry.path, follow_symlinks=follow_symlinks):
            part = int.from_bytes(hashlib.sha256(photo.path.name.encode()).digest()[:4], "big") / 2**32
            (held_out if part < recipe.held_out else learnt).append(Drawn(photo, 1.0, False))
    if not learnt:
        raise ConfigError(
            f"{data}: the recipe's sets have no photo to learn from; held_out is {recipe.held_out}"
        )
    if recipe.targets == "human" and not all(drawn.photo.instances for drawn in learnt):
        raise ConfigError(
            'targets: is "human", and there are photos without masks; write targets = "teacher"'
        )
    return learnt, held_out


class DistillSamples(Dataset):
    """Batches by number; see the module's docstring.

    Args:
        photos: the photos to learn from.
        recipe: seed and settings.
        stage: image size and numbers of images and prompts.
        first_step: number of the stage's first step in the run.
        data: folder that the recipe's store is in.

    Attributes:
        ranks: which of several processes takes which part of each batch; each makes only its own.
    """

    def __init__(
        self, photos: list[Drawn], recipe: DistillRecipe, stage: DistillStage, first_step: int, *, data: Path
    ) -> None:
        self.photos, self.recipe, self.stage, self.first_step = photos, recipe, stage, first_step
        self.ranks = Ranks()
        self.store = Shards(data / recipe.store) if recipe.store else None
        self._keys: dict[Path, str] = {}

    def __len__(self) -> int:
        return self.stage.steps

    @property
    def low_res(self) -> int:
        """Side of the student's masks."""
        return self.stage.image_size // network_specs()[self.recipe.network].stride * LOW_RES_PER_GRID

    def photo(self, step: int, i: int) -> SetPhoto:
        """Return photo ``i`` of a step's batch."""
        number = (self.first_step + step) * self.stage.images + i
        turn, place = divmod(number, len(self.photos))
        order = np.random.default_rng([self.recipe.seed, turn]).permutation(len(self.photos))
        return self.photos[order[place]].photo

    def photos_of(self, step: int) -> list[str]:
        """Return the names of the photos of a step's batch."""
        return sorted({self.photo(step, i).path.name for i in range(self.stage.images)})

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """Return the batch of a step, or this rank's part of it."""
        part = self.ranks.part(self.stage.images, "images")
        samples = [self._sample(step, i) for i in range(part.start, part.stop)]
        return {
            key: torch.from_numpy(np.concatenate([sample[key] for sample in samples])) for key in samples[0]
        }

    def _sample(self, step: int, i: int) -> NamedArrays:
        photo, size = self.photo(step, i), self.stage.image_size
        height, width = input_size_of((photo.height, photo.width), size)
        sample: NamedArrays = {
            "pixels": photo_pixels(photo, size),
            "shown": np.array([[height / size, width / size]], np.float32),
        }
        if self.store is not None:
            arrays = decode(self.store.read(self._key(photo)))
            sample |= {TAUGHT + name: array[None] for name, array in arrays.items()}
        if self.recipe.compares_masks:
            rng = np.random.default_rng([self.recipe.seed, self.first_step + step, i])
            sample |= self._prompts(photo, (height, width), rng)
        return sample

    def _key(self, photo: SetPhoto) -> str:
        if photo.path not in self._keys:
            self._keys[photo.path] = key_of(photo)
        return self._keys[photo.path]

    def _prompts(self, photo: SetPhoto, shown: tuple[int, int], rng: np.random.Generator) -> NamedArrays:
        """Return prompts for objects with a mask, or points anywhere in a photo that has none, and the human masks."""
        n, side = self.stage.objects, self.low_res
        scale = self.stage.image_size / side
        coords, labels = np.zeros((n, 2, 2), np.float32), np.full((n, 2), -1, np.float32)
        targets = np.zeros((n, side, side), np.float32)
        least = self.recipe.smallest_object * photo.width * photo.height
        masks = [one.segmentation for one in photo.instances if one.segmentation.area >= least]
        order = rng.permutation(len(masks))
        for k in range(n):
            if not len(order):
                coords[k, 0] = rng.uniform(0, shown[::-1])
                labels[k, 0] = 1
                continue
            targets[k] = reduce_mask(rle_to_mask(masks[order[k % len(order)]]), side)
            if rng.random() < self.recipe.boxes and targets[k].any():
                coords[k] = draw_box(targets[k], rng, LOOSE_BOXES).reshape(2, 2) * scale
                labels[k] = 2, 3
            else:
                spot, _ = draw_point(targets[k], rng)
                coords[k, 0], labels[k, 0] = spot * scale - 0.5, 1
        return {"point_coords": coords, "point_labels": labels, "targets": targets}
