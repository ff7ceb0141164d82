"""Training samples: random crops of photos, with objects and prompts.

Every sample depends only on the recipe's seed and the sample's number, so a run that
is stopped and resumed sees what it would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.frame import input_size_of
from mobilesam.core.preprocess import normalise
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.resize import resize_image
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.types import DecoderInputs
from mobilesam.core.views import LARGEST, WHOLE
from mobilesam.formats.coco import Instance, SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.train.prompts import draw_coarse_mask, draw_prompt
from mobilesam.train.ranks import Ranks
from mobilesam.train.recipe import Recipe, Stage
from mobilesam.weights.graph_index import network_specs

MOST_BOXES = 64  # in a sample
DRAWS = 1000  # of crops, before giving up on a sample with an object
LEAST_BOX_SIDE = 4.0  # of an object that the head for objects learns, in pixels of the input
SEEN = 0.25  # part of an object that a crop must show
BACKGROUND = (0.1, 0.9)  # least and greatest part of a crop that a background takes
PASTED = (0.15, 0.6)  # least and greatest longer side of a pasted object, in sides of the input
LEAST_PASTED = 0.01  # part of its photo that a pasted object covers there
LEAST_PASTED_SIDE = 12  # pixels of the input
KEPT_BYTES = 3 * 2**30  # of decoded photos, in each worker

# Slots of a step's prompts, and how often. SAM pads a prompt without a box, so a box takes
# two slots, and so does a point with its pad. All prompts of a step have the same number.
SLOTS = {2: 0.62, 3: 0.2, 4: 0.08, 6: 0.05, 0: 0.05}
BOXES = 0.62  # part of the prompts with two slots that are boxes; the others are points
BOXES_WITH_POINTS = 0.4  # part of those with more slots that have a box; the others are only points


@dataclass(frozen=True)
class Drawn:
    """A photo that samples are drawn from.

    Attributes:
        photo: with its objects.
        weight: how often it is drawn, relative to the others.
        partial: whether it has objects without a mask.
    """

    photo: SetPhoto
    weight: float
    partial: bool


def split_sets(
    recipe: Recipe, data: Path, *, follow_symlinks: bool = False
) -> tuple[list[Drawn], list[Drawn]]:
    """Return the photos to train on, and those held out, each of which weighs the same.

    A photo is held out by the hash of its name, so the split never depends on the order.
    """
    train, held_out = [], []
    for entry in recipe.sets:
        for photo in read_photos(data / entry.path, follow_symlinks=follow_symlinks):
            if not has_large_object(photo, recipe.smallest_object):
                continue
            partial = not entry.labels_all(photo.source)
            digest = hashlib.sha256(photo.path.name.encode()).digest()
            if int.from_bytes(digest[:4], "big") / 2**32 < recipe.held_out:
                held_out.append(Drawn(photo, 1.0, partial))
            else:
                train.append(Drawn(photo, entry.weight, partial))
    if not train:
        raise ConfigError(f"{data}: no photo in the recipe's sets has an object that is large enough")
    return train, held_out


def has_large_object(photo: SetPhoto, smallest: float) -> bool:
    """Whether the whole photo would show an object that covers ``smallest`` of it."""
    least = smallest * photo.width * photo.height
    return any(instance.segmentation.area >= least for instance in photo.instances)


def fingerprint_photos(photos: list[Drawn]) -> str:
    """Return a short hash of photos' names, sizes and masks, in any order; a run resumes only with the same."""
    lines = []
    for drawn in photos:
        photo = drawn.photo
        whole = hashlib.sha256(f"{photo.width}x{photo.height} {photo.file_bytes}".encode())
        for instance in photo.instances:
            whole.update(np.ascontiguousarray(instance.segmentation.counts).tobytes())
        lines.append(f"{photo.path.name} {whole.hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]


class Samples(Dataset):
    """Samples by number; see the module's docstring.

    Attributes:
        ranks: which of several processes takes which part of each batch.

    Args:
        photos: the photos to draw from.
        recipe: seed and settings.
        stage: image size and numbers of images and objects.
        first_step: number of the stage's first step in the run.
    """

    def __init__(
        self,
        photos: list[Drawn],
        recipe: Recipe,
        stage: Stage,
        first_step: int,
    ) -> None:
        self.photos = photos
        self.chances = np.array([drawn.weight for drawn in photos], np.float64)
        self.chances /= self.chances.sum()
        self.recipe = recipe
        self.stage = stage
        self.first_step = first_step
        spec = network_specs()[recipe.network]
        self.views = spec.views if stage.image_size == spec.image_size else None
        self.ranks = Ranks()
        self._pixels: dict[Path, np.ndarray] = {}
        self._kept = 0
        self._names: list[str] = []  # of the photos in the latest batch

    @property
    def low_res(self) -> int:
        """Side of a whole input's masks."""
        return self.stage.image_size // network_specs()[self.recipe.network].stride * LOW_RES_PER_GRID

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """Return the batch of a step, or this rank's part of it."""
        self._names = []
        rng = np.random.default_rng([self.recipe.seed, self.first_step + step])
        slots = int(rng.choice(list(SLOTS), p=list(SLOTS.values())))
        windows = self.views is not None and rng.random() < self.stage.windows
        samples = [self._sample(slots, rng, windows=windows) for _ in range(self.stage.images)]
        samples = samples[self.ranks.part(len(samples), "images")]
        return {
            key: torch.from_numpy(np.concatenate([sample[key] for sample in samples])) for key in samples[0]
        }

    def photos_of(self, step: int) -> list[str]:
        """Return the names of the photos in a step's batch, which is made once more for that."""
        self[step]
        return sorted(set(self._names))

    def _sample(self, slots: int, rng: np.random.Generator, *, windows: bool) -> dict[str, np.ndarray]:
        size, n = self.stage.image_size, self.stage.objects
        for _ in range(DRAWS):
            drawn = self._draw(rng)
            photo = drawn.photo
            crop = draw_crop(photo, self.stage, rng)
            targets = self._targets(photo.instances, crop, n, rng)
            if windows:
                targets = [target for target in targets if self._is_small(target)]
            if targets:
                break
        else:
            small = " small enough for a window; write windows = 0" if windows else " large enough"
            raise ConfigError(f"sets: among {DRAWS} crops none shows an object{small}")
        image = crop_pixels(self._read(photo), crop, size)
        background = None  # number of the target that is the background
        chance = 0 if windows or drawn.partial else self.stage.background
        if chance and rng.random() < chance:
            background = self._put_background(targets, photo.instances, crop, rng)
        if self.stage.copy_paste and not self.stage.boxes and rng.random() < self.stage.copy_paste:
            image, targets = self._paste(image, targets, background, rng, small=windows)
        image = recolour(image, rng)
        boxes = crop_boxes(photo.instances, crop, size) if self.stage.boxes else np.zeros((0, 4))
        if rng.random() < 0.5:
            image, boxes = flip(image, boxes)
            width = image.shape[1]
            targets = [flip_padded(target, width * target.shape[0] / size) for target in targets]
        numbers = [i % len(targets) for i in range(n)]
        chosen = [targets[number] for number in numbers]
        prompts = []
        for number, target in zip(numbers, chosen, strict=True):
            boxed = True if windows or number == background else False if self._is_small(target) else None
            kind = draw_kind(slots, rng, boxed=boxed)
            prompts.append(draw_prompt(target, kind, slots, size, rng, self.stage.loose_boxes))
        inputs = DecoderInputs(
            np.stack([coords for coords, _ in prompts]),
            np.stack([labels for _, labels in prompts]),
            np.stack([draw_coarse_mask(t, rng) for t in chosen])[:, None] if slots == 0 else None,
        )
        sample = {"pixels": normalise(image, size)}
        sample |= self._shown(np.stack(chosen), inputs, windows=windows)
        if self.stage.boxes:
            sample |= box_arrays(boxes, partial=drawn.partial)
        return sample

    def _is_small(self, target: np.ndarray) -> bool:
        """Whether there are views and an object belongs in a window as soon as its extent is known."""
        if self.views is None:
            return False
        x0, y0, x1, y1 = mask_to_box(target > 0)
        return max(x1 - x0, y1 - y0) * self.stage.image_size <= LARGEST * self.views.size * target.shape[0]

    def _shown(self, targets: np.ndarray, inputs: DecoderInputs, *, windows: bool) -> dict[str, np.ndarray]:
        """Return an input's targets (n, s, s) and prompts as the decoder is shown them, by name."""
        sample: dict[str, np.ndarray] = {}
        if self.views is not None:
            square = (self.stage.image_size, self.stage.image_size)
            shown = self.views.largest_windows(inputs, square) if windows else np.array([WHOLE])
            sample["windows"] = np.broadcast_to(shown, (len(targets), 4)).astype(np.int64)
            places = sample["windows"].tolist()
            targets = np.stack(
                [self.views.cut(t, place, square) for t, place in zip(targets, places, strict=True)]
            )
            inputs = self.views.inputs(inputs, sample["windows"], square)
        sample |= {
            "targets": targets,
            "point_coords": inputs.point_coords,
            "point_labels": inputs.point_labels,
        }
        return sample if inputs.mask_input is None else sample | {"mask_input": inputs.mask_input}

    def _targets(
        self,
        instances: tuple[Instance, ...],
        crop: tuple[int, int, int, int],
        n: int,
        rng: np.random.Generator,
    ) -> list[np.ndarray]:
        """Return up to ``n`` objects of the crop that are large enough, in random order."""
        x0, y0, x1, y1 = crop
        targets: list[np.ndarray] = []
        for i in rng.permutation(len(instances)):
            if is_outside(instances[i].bbox, crop):
                continue
            mask = rle_to_mask(instances[i].segmentation)
            part = mask[y0:y1, x0:x1]
            seen = part.sum() / max(mask.sum(), 1)
            if not part.any() or part.mean() < self.recipe.smallest_object or seen < SEEN:
                continue
            targets.append(reduce_mask(part, self.low_res))
            if len(targets) == n:
                break
        return targets

    def _put_background(
        self,
        targets: list[np.ndarray],
        instances: tuple[Instance, ...],
        crop: tuple[int, int, int, int],
        rng: np.random.Generator,
    ) -> int | None:
        """Replace a target with what no object of the crop covers; return its number, if there is enough of it."""
        x0, y0, x1, y1 = crop
        rest = np.ones((y1 - y0, x1 - x0), bool)
        for instance in instances:
            if not is_outside(instance.bbox, crop):
                rest &= ~rle_to_mask(instance.segmentation)[y0:y1, x0:x1]
        if not BACKGROUND[0] < rest.mean() < BACKGROUND[1]:
            return None
        number = int(rng.integers(len(targets)))
        targets[number] = reduce_mask(rest, self.low_res)
        return number

    def _paste(
        self,
        image: np.ndarray,
        targets: list[np.ndarray],
        kept: int | None,
        rng: np.random.Generator,
        *,
        small: bool = False,
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Paste in another photo's object, and put it in place of a target, or after the targets.

        Does nothing if it is too small or too large, or would hide a target.

        Args:
            image: (h, w, 3), the input without its padding.
            targets: (s, s) each.
            kept: number of a target that must not be replaced.
            rng: source of all draws.
            small: whether the object must belong in a window.
        """
        drawn = self._draw(rng).photo
        area = LEAST_PASTED * drawn.width * drawn.height
        large = [instance for instance in drawn.instances if instance.segmentation.area >= area]
        places = [i for i in range(len(targets)) if i != kept]
        if len(targets) < self.stage.objects:
            places = [len(targets)]
        if not (large and places):
            return image, targets
        instance = large[rng.integers(len(large))]
        size = self.stage.image_size
        least, most = PASTED
        if small and self.views is not None:
            most = LARGEST * self.views.size / size
        alpha, pasted = cut_out(instance, self._read(drawn), int(size * rng.uniform(least, most)))
        room = np.subtract(image.shape[:2], alpha.shape)
        if min(alpha.shape) < LEAST_PASTED_SIDE or room.min() <= 0:
            return image, targets
        y, x = rng.integers(room)
        cover = np.zeros((size, size), np.float32)
        cover[y : y + alpha.shape[0], x : x + alpha.shape[1]] = alpha
        cells = size // self.low_res
        covered = cover.reshape(self.low_res, cells, self.low_res, cells).mean((1, 3))
        left = [target * (1 - covered) for target in targets]
        if any(target.mean() < self.recipe.smallest_object for target in left):
            return image, targets
        place = int(rng.choice(places))
        left[place : place + 1] = [covered]
        image = image.copy()
        window = image[y : y + alpha.shape[0], x : x + alpha.shape[1]]
        window[:] = window * (1 - alpha[..., None]) + pasted * alpha[..., None]
        return image, left

    def _draw(self, rng: np.random.Generator) -> Drawn:
        return self.photos[rng.choice(len(self.photos), p=self.chances)]

    def _read(self, photo: SetPhoto) -> np.ndarray:
        self._names.append(photo.path.name)
        if photo.path in self._pixels:
            return self._pixels[photo.path]
        image = read_photo(photo)
        if self._kept + image.nbytes <= KEPT_BYTES:
            self._pixels[photo.path] = image
            self._kept += image.nbytes
        return image


class BoxSamples(Samples):
    """Samples with boxes only, for a network that has no masks."""

    def _sample(self, slots: int, rng: np.random.Generator, *, windows: bool) -> dict[str, np.ndarray]:
        size = self.stage.image_size
        while True:
            drawn = self._draw(rng)
            crop = draw_crop(drawn.photo, self.stage, rng)
            boxes = crop_boxes(drawn.photo.instances, crop, size)
            if len(boxes):
                break
        image = recolour(crop_pixels(self._read(drawn.photo), crop, size), rng)
        if rng.random() < 0.5:
            image, boxes = flip(image, boxes)
        return {"pixels": normalise(image, size), **box_arrays(boxes, partial=drawn.partial)}


def draw_kind(slots: int, rng: np.random.Generator, *, boxed: bool | None = None) -> str:
    """Choose the kind of an object's prompt with ``slots`` slots; ``boxed`` says whether it has a box, if it can."""
    if slots == 0:
        return "mask"
    box = rng.random() < (BOXES if slots == 2 else BOXES_WITH_POINTS)
    box = box if boxed is None else boxed
    if slots == 2:
        return "box" if box else "point"
    return "box_and_points" if box else "points"


def draw_crop(photo: SetPhoto, stage: Stage, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Choose the part (x0, y0, x1, y1) of a photo that is shown."""
    w, h = photo.width, photo.height
    if rng.random() < stage.whole:
        return 0, 0, w, h
    scale, aspect = rng.uniform(stage.smallest_crop, 1.0), np.exp(rng.uniform(-0.25, 0.25))
    cw = int(np.clip(w * scale * aspect, 32, w))
    ch = int(np.clip(h * scale / aspect, 32, h))
    x0, y0 = int(rng.integers(0, w - cw + 1)), int(rng.integers(0, h - ch + 1))
    return x0, y0, x0 + cw, y0 + ch


def crop_pixels(image: np.ndarray, crop: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut out a crop and resize it so that its longer side is ``size``."""
    x0, y0, x1, y1 = crop
    return resize_image(image[y0:y1, x0:x1], input_size_of((y1 - y0, x1 - x0), size))


def cut_out(instance: Instance, image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut an object out of its photo, its longer side ``side`` pixels; return its part of each pixel, and pixels."""
    mask = rle_to_mask(instance.segmentation)
    x0, y0, x1, y1 = mask_to_box(mask)
    pixels = crop_pixels(image, (x0, y0, x1, y1), side)
    height, width = pixels.shape[:2]
    return reduce_mask(mask[y0:y1, x0:x1], side)[:height, :width], pixels


def is_outside(bbox: tuple[float, float, float, float], crop: tuple[int, int, int, int]) -> bool:
    """Whether a COCO box lies entirely outside a crop."""
    x, y, w, h = bbox
    return x + w <= crop[0] or y + h <= crop[1] or x >= crop[2] or y >= crop[3]


def crop_boxes(instances: tuple[Instance, ...], crop: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Return the tight boxes (M, 4) of the objects that a crop shows, in pixels of the input."""
    x0, y0, x1, y1 = crop
    h, w = input_size_of((y1 - y0, x1 - x0), size)
    scale = np.array([w / (x1 - x0), h / (y1 - y0)] * 2)
    boxes = []
    for instance in instances:
        if is_outside(instance.bbox, crop):
            continue
        part = rle_to_mask(instance.segmentation)[y0:y1, x0:x1]
        if part.sum() < SEEN * instance.segmentation.area:
            continue
        box = np.array(mask_to_box(part)) * scale
        if (box[2:] - box[:2]).min() >= LEAST_BOX_SIDE:
            boxes.append(box)
    return np.array(boxes).reshape(-1, 4)


def flip(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror an image and its boxes."""
    width = image.shape[1]
    return image[:, ::-1], np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def box_arrays(boxes: np.ndarray, *, partial: bool) -> dict[str, np.ndarray]:
    """Return the arrays that a head for objects learns from one sample, by name."""
    return {
        "boxes": pad_boxes(boxes)[None],
        "partial": np.array([partial]),
        "counts": np.array([min(len(boxes), MOST_BOXES)]),
    }


def pad_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return (MOST_BOXES, 4), with zeros after the last box."""
    padded = np.zeros((MOST_BOXES, 4), np.float32)
    padded[: len(boxes)] = boxes[:MOST_BOXES]
    return padded


def reduce_mask(part: np.ndarray, size: int) -> np.ndarray:
    """Return the part of each cell that is object, with zeros to the right and below: (size, size)."""
    h, w = input_size_of(part.shape, size)
    small = Image.fromarray(part.astype(np.uint8) * 255).resize((w, h), Image.Resampling.BOX)
    target = np.zeros((size, size), np.float32)
    target[:h, :w] = np.asarray(small, np.float32) / 255
    return target


def flip_padded(target: np.ndarray, width: float) -> np.ndarray:
    """Mirror the first ``width`` columns and leave the padding where it is."""
    w = round(width)
    out = np.zeros_like(target)
    out[:, :w] = target[:, :w][:, ::-1]
    return out


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation a little; sometimes take the colour away."""
    picture = Image.fromarray(image)
    if rng.random() < 0.8:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = enhance(picture).enhance(float(rng.uniform(0.65, 1.35)))
    if rng.random() < 0.05:
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)


def batches(samples: Samples, start: int, workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches of a stage from step ``start`` on, made by worker processes."""
    return iter(
        DataLoader(
            samples,
            batch_size=None,
            sampler=range(start, len(samples)),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
    )
