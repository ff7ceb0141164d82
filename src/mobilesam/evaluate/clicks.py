"""Corrective clicks: how good a mask gets when someone keeps clicking where it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.metrics import mask_iou, number_of_clicks
from mobilesam.core.regions import central_pixel, distance_to_edge
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.types import Embedding, Prompt
from mobilesam.evaluate.sets import SMALLEST_OBJECT, Progress, countable, read_countable
from mobilesam.formats.coco import read_photo
from mobilesam.segment.model import Model

CLICKS = 5
TARGETS = (0.8, 0.85, 0.9)  # IoUs whose number of clicks is told


@dataclass(frozen=True)
class ClickScores:
    """Means over the objects of a set, clicked one correction after the other.

    Attributes:
        name: of the set.
        images: photos with an object that counts.
        objects: objects that count.
        ious: IoU after each click.
        clicks_to: clicks until each of ``TARGETS``, those that never came there with all clicks.
    """

    name: str
    images: int
    objects: int
    ious: tuple[float, ...]
    clicks_to: tuple[float, ...]


def score_clicks(
    model: Model,
    folder: Path,
    *,
    clicks: int = CLICKS,
    smallest: float = SMALLEST_OBJECT,
    follow_symlinks: bool = False,
    progress: Progress = lambda done, total: None,
) -> ClickScores:
    """Score corrective clicks on a set: each lies in the middle of what is most wrong.

    Args:
        model: what is scored.
        folder: of the set, in any format that :func:`mobilesam.formats.datasets.load.read_dataset` reads.
        clicks: how often each object is clicked.
        smallest: least part of the photo that an object must cover.
        follow_symlinks: read photos that links show of the world outside the set.
        progress: called after each photo with how many are done, and of how many.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    photos = read_countable(folder, smallest, follow_symlinks=follow_symlinks)
    found: list[list[float]] = []
    for done, photo in enumerate(photos, start=1):
        embedding = model.embed(read_photo(photo))
        for rle in countable(photo, smallest):
            found.append(click_object(model, embedding, rle_to_mask(rle), clicks))
        progress(done, len(photos))
    return ClickScores(
        folder.name,
        len(photos),
        len(found),
        ious=tuple(float(iou) for iou in np.mean(found, axis=0)),
        clicks_to=tuple(float(np.mean([number_of_clicks(i, target) for i in found])) for target in TARGETS),
    )


def click_object(model: Model, embedding: Embedding, truth: Mask, clicks: int) -> list[float]:
    """Click one object and return the IoU after each click.

    The first click gives three masks, of which the model chooses; each later one is added
    to those before, with the logits of the mask that it corrects as mask prompt.
    """
    mask = np.zeros_like(truth)
    points: list[tuple[int, int]] = []
    labels: list[int] = []
    logits = None
    ious: list[float] = []
    for _ in range(clicks):
        point, label = next_click(mask, truth)
        points.append(point)
        labels.append(label)
        result = model.segment(embedding, Prompt(points, labels, mask=logits))
        mask, logits = result.mask, result.low_res_masks[result.choice]
        ious.append(mask_iou(mask, truth))
    return ious


def next_click(mask: Mask, truth: Mask) -> tuple[tuple[int, int], int]:
    """Return the (x, y) deepest inside an error, and its label: 1 for what is missing, 0 for too much.

    A mask without errors is clicked in the middle of the object once more.
    """
    missing, extra = truth & ~mask, mask & ~truth
    if not missing.any() and not extra.any():
        return central_pixel(truth), 1
    if distance_to_edge(missing).max() >= distance_to_edge(extra).max():
        return central_pixel(missing), 1
    return central_pixel(extra), 0
