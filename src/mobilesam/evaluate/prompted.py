"""Mean IoU of prompted masks against human ones, at the photographs' full size.

The prompts are made from the ground truth: its box as it stands, and one point at the
pixel farthest from its edge. Objects below ``smallest`` are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import mask_iou
from mobilesam.core.regions import central_pixel
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.types import Prompt
from mobilesam.formats.coco import Photograph, read_instances, read_photograph
from mobilesam.predictor import Model

SMALLEST_OBJECT = 0.002  # of the photograph


@dataclass(frozen=True)
class PromptedScores:
    """Mean IoU over the objects of a set.

    Attributes:
        name: of the set.
        images: photographs with an object that counts.
        objects: objects that count.
        box: single mask of a box.
        point_choice: of a point's three masks, the one the model predicts to be best.
        point_best: of a point's three masks, the one that is best.
    """

    name: str
    images: int
    objects: int
    box: float
    point_choice: float
    point_best: float


def score_prompted(
    model: Model,
    folder: Path,
    *,
    smallest: float = SMALLEST_OBJECT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PromptedScores:
    """Score a model on a set.

    Args:
        model: what is scored.
        folder: with ``instances.json`` and ``images/``.
        smallest: least part of the photograph that an object must cover.
        progress: called after each photograph with how many are done, and of how many.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    photographs = [p for p in read_instances(folder) if countable(p, smallest)]
    if not photographs:
        raise ConfigError(f"{folder}: no object covers {smallest:g} of its photograph; lower --smallest")
    ious: list[tuple[float, float, float]] = []
    for done, photograph in enumerate(photographs, start=1):
        ious += score_photograph(model, photograph, smallest)
        progress(done, len(photographs))
    box, choice, best = np.mean(ious, axis=0)
    return PromptedScores(folder.name, len(photographs), len(ious), float(box), float(choice), float(best))


def score_photograph(
    model: Model, photograph: Photograph, smallest: float
) -> list[tuple[float, float, float]]:
    """Return the IoU of box, chosen point mask and best point mask for each object that counts."""
    embedding = model.embed(read_photograph(photograph))
    truths = [rle_to_mask(rle) for rle in countable(photograph, smallest)]
    boxes = [Prompt(box=mask_to_box(truth)) for truth in truths]
    points = [Prompt(points=[central_pixel(truth)]) for truth in truths]
    found = []
    for truth, box, point in zip(
        truths, model.segment(embedding, boxes), model.segment(embedding, points), strict=True
    ):
        ious = [mask_iou(one.mask, truth) for one in point]
        found.append((mask_iou(box.mask, truth), ious[point.choice], max(ious)))
    return found


def countable(photograph: Photograph, smallest: float) -> list:
    """Return the runs of the objects that are large enough."""
    least = smallest * photograph.width * photograph.height
    return [i.segmentation for i in photograph.instances if i.segmentation.area >= max(least, 1)]
