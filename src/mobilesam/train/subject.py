"""Train the head that says where the subject of a photo is: ``mobilesam train subject``.

Encoder and decoder stay as they are, so boxes and points do not change. The encoder looks once at each of
:mod:`~mobilesam.train.subject_looks`, and its arrays are kept in the run's folder; steps of the head then cost little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from mobilesam.core.arrays import NamedArrays
from mobilesam.core.errors import ConfigError
from mobilesam.core.frame import input_size_of
from mobilesam.core.preprocess import preprocess
from mobilesam.evaluate.subject import dominant_object
from mobilesam.formats.coco import read_photo
from mobilesam.networks.subject_head import INPUTS, SubjectHead
from mobilesam.runtimes.load import load_runtime
from mobilesam.storage.atomic import write_bytes
from mobilesam.train.checkpoint import fingerprint
from mobilesam.train.data import Drawn, split_sets
from mobilesam.train.loop import Progress, Report, Task, no_report, train
from mobilesam.train.losses import mask_ious
from mobilesam.train.options import RunOptions
from mobilesam.train.ranks import Ranks
from mobilesam.train.recipe import Recipe, Stage
from mobilesam.train.subject_looks import Look, Looks
from mobilesam.weights import entry_of
from mobilesam.weights.graph_index import network_specs

NETWORK = "pocket"  # whose features the head reads
LOOKS = 2600  # at most, that are embedded, and learnt from again and again
CELL = 16  # pixels of the input to a cell of the head's logits
DROPPED = 0.1  # part of the maps that a step does not see
THERE = 0.25  # weight of whether there is a subject
EVERY = 100  # looks between two reports

HELD_OUT = "held-out"


def train_subject(
    recipe: Recipe,
    data: Path,
    out: Path,
    options: RunOptions | None = None,
    report: Report = no_report,
) -> Path:
    """Train the head by ``recipe``, or go on; see :func:`mobilesam.train.loop.train`.

    Raises:
        ConfigError: also if the recipe is another network's, names no weights to start from, or has other inputs.
    """
    size = network_specs()[NETWORK].image_size
    if recipe.network != NETWORK or not recipe.start:
        raise ConfigError(
            f'network, start: the head reads the features of {NETWORK}; write network = "{NETWORK}" and start = "{NETWORK}"'
        )
    for number, stage in enumerate(recipe.stages, 1):
        if stage.image_size != size:
            raise ConfigError(f"stage {number}: image_size is {stage.image_size}; {NETWORK} looks at {size}")
    options = options or RunOptions()
    photos, held_out = split_sets(recipe, data, follow_symlinks=options.follow_symlinks)
    folder = out / f"looks-{fingerprint(replace(recipe, stages=()))}"
    embed_looks(recipe, Looks(photos, recipe.seed), held_out, folder, report)
    task = replace(
        SUBJECT, samples=partial(SubjectSamples, folder=folder), score=partial(score_held_out, folder=folder)
    )
    return train(task, recipe, data, out, options, report)


def embed_looks(recipe: Recipe, looks: Looks, held_out: list[Drawn], folder: Path, report: Report) -> None:
    """Write what the encoder sees in each look, and in the held-out photos with one dominant object, that is not there yet."""
    runtime = load_runtime(entry_of(recipe.start))
    wanted = list(_wanted(looks, looks_of(recipe), held_out, folder))
    for number, (path, look) in enumerate(wanted, 1):
        if not path.is_file():
            made = look()
            arrays = runtime.encode(preprocess(made.image, runtime.spec))
            write_bytes(path, save(look_arrays(arrays, made)))
        if number % EVERY == 0:
            report(Progress(number, len(wanted), 0.0, 0.0, doing="pictures looked at"))


def looks_of(recipe: Recipe) -> int:
    """Return how many looks a recipe learns from: no more than its steps take."""
    return min(LOOKS, sum(stage.steps * stage.images for stage in recipe.stages))


def _wanted(
    looks: Looks, count: int, held_out: list[Drawn], folder: Path
) -> Iterator[tuple[Path, partial[Look]]]:
    for number in range(count):
        yield folder / f"{number:05d}.safetensors", partial(looks.__getitem__, number)
    for number, drawn in enumerate(held_out):
        if dominant_object(drawn.photo) is not None:
            yield folder / HELD_OUT / f"{number:05d}.safetensors", partial(dominant_look, drawn)


def dominant_look(drawn: Drawn) -> Look:
    """Return a photo with its dominant object."""
    truth = dominant_object(drawn.photo)
    assert truth is not None
    return Look(read_photo(drawn.photo), truth.astype(np.float32), drawn.photo)


def look_arrays(arrays: NamedArrays, look: Look) -> NamedArrays:
    """Return what is learnt of a look: the arrays that the head reads (C, s, s) float16, padded; how much of each
    cell is the subject's (s, s); the cells (h, w) that show the picture; whether there is a subject."""
    side = network_specs()[NETWORK].image_size // CELL
    coarse = arrays["coarse_embedding"]
    sides = {name: side * arrays[name].shape[-1] // coarse.shape[-1] for name in INPUTS}
    kept = {name: _padded(arrays[name][0], sides[name]).astype(np.float16) for name in INPUTS}
    target = np.zeros((side, side)) if look.subject is None else reduce_alpha(look.subject, side)
    return kept | {
        "target": target.astype(np.float16),
        "size": np.array(coarse.shape[-2:]),
        "there": np.array([look.subject is not None]),
    }


def _padded(array: np.ndarray, side: int) -> np.ndarray:
    height, width = array.shape[-2:]
    return np.pad(array, ((0, 0), (0, side - height), (0, side - width)))


def reduce_alpha(alpha: np.ndarray, side: int) -> np.ndarray:
    """Return how much of each cell is the subject's, with zeros to the right and below: (side, side)."""
    height, width = input_size_of(alpha.shape, side)
    picture = Image.fromarray(np.rint(alpha * 255).astype(np.uint8))
    target = np.zeros((side, side), np.float32)
    target[:height, :width] = (
        np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    )
    return target


class SubjectSamples(Dataset):
    """Batches of embedded looks, by number.

    Args:
        photos: that the looks were made of.
        recipe: seed and settings.
        stage: looks of a batch.
        first_step: number of the stage's first step in the run.
        folder: of the embedded looks.

    Attributes:
        ranks: of several processes, which takes which part of each batch.
    """

    def __init__(
        self, photos: list[Drawn], recipe: Recipe, stage: Stage, first_step: int, *, folder: Path
    ) -> None:
        self.recipe, self.stage, self.first_step, self.folder = recipe, stage, first_step, folder
        self.ranks = Ranks()

    def __len__(self) -> int:
        return self.stage.steps

    def photos_of(self, step: int) -> list[str]:
        """Return the names of a step's looks."""
        return [f"{number:05d}.safetensors" for number in self._numbers(step)[0]]

    def _numbers(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which looks a step's batch has, and which of them are mirrored."""
        rng = np.random.default_rng([self.recipe.seed, self.first_step + step])
        return rng.integers(looks_of(self.recipe), size=self.stage.images), rng.random(
            self.stage.images
        ) < 0.5

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step, or this rank's part of it."""
        numbers, mirrored = self._numbers(step)
        part = self.ranks.part(self.stage.images, "images")
        looks = [load_file(self.folder / f"{number:05d}.safetensors") for number in numbers[part]]
        return to_batch(
            [_mirrored(one) if swap else one for one, swap in zip(looks, mirrored[part], strict=True)]
        )


def to_batch(looks: list[NamedArrays]) -> dict[str, Tensor]:
    """Return embedded looks as tensors, with ``seen``: which cells show the picture."""
    batch = {
        name: torch.from_numpy(np.stack([one[name] for one in looks])).float() for name in (*INPUTS, "target")
    }
    seen = torch.zeros_like(batch["target"])[:, None]
    for place, one in zip(seen, looks, strict=True):
        place[:, : one["size"][0], : one["size"][1]] = 1
    return batch | {
        "seen": seen,
        "there": torch.from_numpy(np.concatenate([one["there"] for one in looks])).float(),
    }


def _mirrored(look: NamedArrays) -> NamedArrays:
    """Return a look whose left and right are swapped, as nearly as the encoder sees it."""
    side, width = look["target"].shape[-1], int(look["size"][1])
    swapped = dict(look)
    for name in (*INPUTS, "target"):
        swapped[name] = look[name].copy()
        shown = swapped[name][..., : width * look[name].shape[-1] // side]
        shown[:] = shown[..., ::-1].copy()
    return swapped


def start_head(recipe: Recipe, data: Path) -> SubjectHead:
    """Return an untrained head."""
    return SubjectHead()


def step_loss(
    network: nn.Module, batch: dict[str, Tensor], recipe: Recipe, stage: Stage, step: int, device: str
) -> Tensor:
    """Return the loss of a step's batch: where the subject is, and whether there is one."""
    source = torch.Generator().manual_seed(recipe.seed * 2**32 + step)  # the same after a stop
    arrays = {name: drop_maps(batch[name], source) for name in INPUTS}
    logits, there = network(arrays, batch["seen"])
    seen, target, wanted = batch["seen"][:, 0], batch["target"], batch["there"]
    cells = seen.sum((1, 2))
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")
    inside = logits[:, 0].sigmoid() * seen
    overlap = (inside * target).sum((1, 2))
    dice = 1 - (2 * overlap + 1) / (inside.sum((1, 2)) + target.sum((1, 2)) + 1)
    each = (entropy * seen).sum((1, 2)) / cells + dice
    loss = (each * wanted).sum() / wanted.sum().clamp(min=1)
    return loss + THERE * F.binary_cross_entropy_with_logits(there, wanted)


def drop_maps(arrays: Tensor, source: torch.Generator) -> Tensor:
    """Return arrays (B, C, h, w) without some of their maps, and the others the stronger for it."""
    kept = torch.rand(*arrays.shape[:2], 1, 1, generator=source) >= DROPPED
    return arrays * kept.to(arrays) / (1 - DROPPED)


@torch.no_grad()
def score_held_out(
    network: nn.Module, recipe: Recipe, stage: Stage, held_out: list[Drawn], device: str, *, folder: Path
) -> dict[str, float]:
    """Return the mean IoU of the head's own coarse masks on the held-out photos."""
    ious = []
    for path in sorted((folder / HELD_OUT).glob("*.safetensors")):
        batch = {key: value.to(device) for key, value in to_batch([load_file(path)]).items()}
        logits, _ = network({name: batch[name] for name in INPUTS}, batch["seen"])
        ious.append(mask_ious(torch.where(batch["seen"] > 0, logits, -1.0), batch["target"]))
    return {"subject": float(torch.cat(ious).mean())} if ious else {}


SUBJECT = Task(
    samples=SubjectSamples,
    split=split_sets,
    plain=lambda recipe, weights: weights,
    start=start_head,
    trained=lambda network, stage: list(network.parameters()),
    step_loss=step_loss,
    score=score_held_out,
)
