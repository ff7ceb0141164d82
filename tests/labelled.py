"""Small sets of labelled photos with everything that formats differ in: holes, parts, boxes alone, crowds, scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mobilesam.core.rle import Rle, mask_to_rle
from mobilesam.formats.datasets.model import (
    Category,
    Dataset,
    LabelledObject,
    LabelledPhoto,
    box_of,
    make_dataset,
)

SIZE = (90, 120)


def disc(x: float, y: float, r: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < r**2


def masked(mask: np.ndarray, label: str = "cat", **more: object) -> LabelledObject:
    rle = mask_to_rle(mask)
    return LabelledObject(label, box_of(rle), rle, **more)


def ring() -> np.ndarray:
    return disc(40, 40, 25) & ~disc(40, 40, 12)


def two_parts() -> np.ndarray:
    return disc(85, 30, 12) | disc(106, 60, 10)


def small_set(root: Path | None = None) -> Dataset:
    """Three photos: one object with a hole and one in parts; a plain one and a box; none at all."""
    photos = [
        LabelledPhoto(
            "a.png",
            SIZE,
            (masked(ring(), facts={"predicted_iou": 0.75}, score=0.5), masked(two_parts(), "dog & bone")),
            split="train",
        ),
        LabelledPhoto(
            "below/b.png",
            SIZE,
            (masked(disc(60, 45, 30)), LabelledObject("dog & bone", (3, 4, 20, 31))),
            split="val",
        ),
        LabelledPhoto("c.png", SIZE, (), split="train"),
    ]
    if root is not None:
        for i, photo in enumerate(photos):
            (root / photo.file_name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*SIZE, 3), 60 * i, np.uint8)).save(root / photo.file_name)
    return make_dataset(photos, [Category(3, "cat"), Category(7, "dog & bone")], root=root)


def iou(one: Rle | None, other: Rle | None) -> float:
    if one is None or other is None:
        return float(one is other)
    from mobilesam.core.metrics import mask_ious

    return float(mask_ious([one], [other])[0, 0])
