"""How masks hold up when photos or prompts get worse: jitter, JPEG, blur, noise, low light, rotation, resolution.

Every condition is one change of known strength, made from the photo's pixels. The human mask is changed along
with the photo where it moves (rotation, resolution); prompts are made from the mask that belongs to the photo.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from mobilesam.core.arrays import Image, Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import mask_iou
from mobilesam.core.regions import central_pixel
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.evaluate.choices import BEST, SINGLE
from mobilesam.evaluate.kinds import moved_box
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.sets import SMALLEST_OBJECT, countable
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.segment.model import Model

Random = np.random.Generator
Scene = tuple[Image, list[Mask]]
LUMA_NOISE = 20.0  # standard deviation in grey levels
DARK, SHOT = 0.15, 4.0  # part of the light, and the noise's deviation in grey levels
TURN = 15.0  # degrees
SHRINK = 4  # factor by which each side has fewer pixels
JPEG_QUALITY = 10
BLUR = 3.0  # pixels, the Gaussian's deviation


def _jpeg(image: Image) -> Image:
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(PillowImage.open(buffer).convert("RGB"))


def _noisy(image: Image, deviation: float, random: Random) -> Image:
    noise = random.standard_normal((*image.shape[:2], 1)) * deviation
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _pixels(change: Callable[[Image, Random], Image]) -> Callable[[Scene, Random], Scene]:
    """A condition that changes pixels and moves nothing."""
    return lambda scene, random: (change(scene[0], random), scene[1])


def _turn(scene: Scene, random: Random) -> Scene:
    def turned(array: np.ndarray, how: PillowImage.Resampling) -> np.ndarray:
        return np.asarray(PillowImage.fromarray(array).rotate(TURN, how, expand=True))

    image = turned(scene[0], PillowImage.Resampling.BILINEAR)
    grey = [turned(mask.astype(np.uint8) * 255, PillowImage.Resampling.BILINEAR) for mask in scene[1]]
    return image, [one >= 128 for one in grey]


def _shrunk(scene: Scene, random: Random) -> Scene:
    height, width = scene[0].shape[:2]
    size = (max(1, width // SHRINK), max(1, height // SHRINK))

    def smaller(array: np.ndarray) -> np.ndarray:
        return np.asarray(PillowImage.fromarray(array).resize(size, PillowImage.Resampling.BOX))

    return smaller(scene[0]), [smaller(mask.astype(np.uint8) * 255) >= 128 for mask in scene[1]]


def _blurred(image: Image, random: Random) -> Image:
    return np.asarray(PillowImage.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR)))


# Name, and what is done to the photo.
CONDITIONS: dict[str, Callable[[Scene, Random], Scene]] = {
    "as it is": lambda scene, random: scene,
    f"JPEG quality {JPEG_QUALITY}": _pixels(lambda image, random: _jpeg(image)),
    f"blur {BLUR:g} px": _pixels(_blurred),
    f"noise {LUMA_NOISE:g} levels": _pixels(lambda image, random: _noisy(image, LUMA_NOISE, random)),
    f"{DARK:.0%} of the light": _pixels(
        lambda image, random: _noisy((image * DARK).astype(np.uint8), SHOT, random)
    ),
    f"turned {TURN:g} degrees": _turn,
    f"1/{SHRINK} of the pixels a side": _shrunk,
}
JITTERS = (0.05, 0.1, 0.2)  # of the box's sides, by which each side of a box is off at most


@dataclass(frozen=True)
class RobustnessOptions:
    """What is made worse.

    Attributes:
        conditions: some of ``CONDITIONS``.
        jitters: parts of a box's sides, by which each side is off at most.
        smallest: least share of the photo that an object must cover.
    """

    conditions: tuple[str, ...] = tuple(CONDITIONS)
    jitters: tuple[float, ...] = JITTERS
    smallest: float = SMALLEST_OBJECT

    def __post_init__(self) -> None:
        for name in self.conditions:
            if name not in CONDITIONS:
                raise ConfigError(
                    f"conditions: {printable(name)!r} is unknown; choose from {', '.join(CONDITIONS)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """The options as the protocol of results."""
        return {"jitters": ",".join(f"{j:g}" for j in self.jitters), "smallest object": self.smallest}


def robustness_rows(model: Model, photo: SetPhoto, options: RobustnessOptions) -> PhotoRecord:
    """Ask for the objects of a photo under every condition, by box and by the central point; answers by row."""
    image = read_photo(photo)
    truths = [rle_to_mask(rle) for rle in countable(photo, options.smallest)]
    rows: dict[str, list[Answer]] = {}
    for name in options.conditions:
        random = _chance(photo, name)
        changed, masks = CONDITIONS[name]((image, truths), random)
        embedding = model.embed(np.ascontiguousarray(changed))
        there = [mask for mask in masks if mask.any()]
        boxes = [Prompt(box=mask_to_box(mask)) for mask in there]
        points = [Prompt(points=[central_pixel(mask)]) for mask in there]
        for kind, prompts in ((f"box, {SINGLE}", boxes), (f"point, {BEST}", points)):
            found = model.segment(embedding, prompts)
            rows[f"{kind}: {name}"] = [
                Answer({"iou": mask_iou(result.mask, truth)}, int(truth.sum()))
                for result, truth in zip(found, there, strict=True)
            ]
    rows |= _jittered(model, photo, image, truths, options)
    return PhotoRecord({row: tuple(answers) for row, answers in rows.items()})


def _jittered(
    model: Model, photo: SetPhoto, image: Image, truths: list[Mask], options: RobustnessOptions
) -> dict[str, list[Answer]]:
    embedding = model.embed(image)
    rows = {}
    for jitter in options.jitters:
        random = _chance(photo, f"jitter {jitter:g}")
        boxes = [Prompt(box=moved_box(truth, jitter, random)) for truth in truths]
        found = model.segment(embedding, boxes)
        rows[f"box, {SINGLE}: each side off by up to {jitter:.0%}"] = [
            Answer({"iou": mask_iou(result.mask, truth)}, int(truth.sum()))
            for result, truth in zip(found, truths, strict=True)
        ]
    return rows


def _chance(photo: SetPhoto, what: str) -> Random:
    return np.random.default_rng([zlib.crc32(photo.path.name.encode()), *what.encode()])
