"""Prompted masks against human ones, at the photographs' full size.

The prompts are made from the ground truth: its box as it stands, and one point at the
pixel farthest from its edge. Objects below ``smallest`` are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import boundary_iou, calibration_error, mask_iou, number_of_clicks
from mobilesam.core.regions import central_pixel, distance_to_edge
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.types import Embedding, Prompt
from mobilesam.formats.coco import Photograph, read_instances, read_photograph
from mobilesam.predictor import Model

SMALLEST_OBJECT = 0.002  # of the photograph
CLICKS = 5
TARGETS = (0.8, 0.85, 0.9)  # IoUs whose number of clicks is told

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PromptedScores:
    """Means over the objects of a set.

    Attributes:
        name: of the set.
        images: photographs with an object that counts.
        objects: objects that count.
        box: IoU of the single mask of a box.
        box_boundary: boundary IoU of the same mask.
        point_choice: IoU, of a point's three masks, of the one the model predicts to be best.
        point_best: IoU, of a point's three masks, of the one that is best.
        calibration: expected calibration error of the predicted IoU, over boxes and chosen point masks.
    """

    name: str
    images: int
    objects: int
    box: float
    box_boundary: float
    point_choice: float
    point_best: float
    calibration: float


@dataclass(frozen=True)
class ClickScores:
    """Means over the objects of a set, clicked one correction after the other.

    Attributes:
        name: of the set.
        images: photographs with an object that counts.
        objects: objects that count.
        ious: IoU after each click.
        clicks_to: clicks until each of ``TARGETS``, those that never came there with all clicks.
    """

    name: str
    images: int
    objects: int
    ious: tuple[float, ...]
    clicks_to: tuple[float, ...]


def score_prompted(
    model: Model,
    folder: Path,
    *,
    smallest: float = SMALLEST_OBJECT,
    progress: Progress = lambda done, total: None,
) -> PromptedScores:
    """Score boxes and single points on a set.

    Args:
        model: what is scored.
        folder: with ``instances.json`` and ``images/``.
        smallest: least part of the photograph that an object must cover.
        progress: called after each photograph with how many are done, and of how many.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    photographs = read_countable(folder, smallest)
    found: list[ObjectScores] = []
    for done, photograph in enumerate(photographs, start=1):
        found += score_photograph(model, photograph, smallest)
        progress(done, len(photographs))
    predicted = [p for scores in found for p in (scores.box_predicted, scores.point_predicted)]
    actual = [iou for scores in found for iou in (scores.box, scores.point_choice)]
    return PromptedScores(
        folder.name,
        len(photographs),
        len(found),
        box=float(np.mean([scores.box for scores in found])),
        box_boundary=float(np.mean([scores.box_boundary for scores in found])),
        point_choice=float(np.mean([scores.point_choice for scores in found])),
        point_best=float(np.mean([scores.point_best for scores in found])),
        calibration=calibration_error(predicted, actual),
    )


@dataclass(frozen=True)
class ObjectScores:
    """One object's scores; see :class:`PromptedScores`, with the IoUs that the model predicted."""

    box: float
    box_boundary: float
    box_predicted: float
    point_choice: float
    point_best: float
    point_predicted: float


def score_photograph(model: Model, photograph: Photograph, smallest: float) -> list[ObjectScores]:
    """Score each object of a photograph that counts."""
    embedding = model.embed(read_photograph(photograph))
    truths = [rle_to_mask(rle) for rle in countable(photograph, smallest)]
    boxes = model.segment(embedding, [Prompt(box=mask_to_box(truth)) for truth in truths])
    points = model.segment(embedding, [Prompt(points=[central_pixel(truth)]) for truth in truths])
    found = []
    for truth, box, point in zip(truths, boxes, points, strict=True):
        ious = [mask_iou(one.mask, truth) for one in point]
        found.append(
            ObjectScores(
                box=mask_iou(box.mask, truth),
                box_boundary=boundary_iou(box.mask, truth),
                box_predicted=box.best.predicted_iou,
                point_choice=ious[point.choice],
                point_best=max(ious),
                point_predicted=point.best.predicted_iou,
            )
        )
    return found


def score_clicks(
    model: Model,
    folder: Path,
    *,
    clicks: int = CLICKS,
    smallest: float = SMALLEST_OBJECT,
    progress: Progress = lambda done, total: None,
) -> ClickScores:
    """Score corrective clicks on a set: each lies in the middle of what is most wrong.

    The arguments and errors are those of :func:`score_prompted`; ``clicks`` is how often
    each object is clicked.
    """
    photographs = read_countable(folder, smallest)
    found: list[list[float]] = []
    for done, photograph in enumerate(photographs, start=1):
        embedding = model.embed(read_photograph(photograph))
        for rle in countable(photograph, smallest):
            found.append(click_object(model, embedding, rle_to_mask(rle), clicks))
        progress(done, len(photographs))
    return ClickScores(
        folder.name,
        len(photographs),
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


def read_countable(folder: Path, smallest: float) -> list[Photograph]:
    """Read the photographs of a set that have an object that counts.

    Raises:
        ConfigError: if there is none.
    """
    photographs = [p for p in read_instances(folder) if countable(p, smallest)]
    if not photographs:
        raise ConfigError(f"{folder}: no object covers {smallest:g} of its photograph; lower --smallest")
    return photographs


def countable(photograph: Photograph, smallest: float) -> list:
    """Return the runs of the objects that are large enough."""
    least = smallest * photograph.width * photograph.height
    return [i.segmentation for i in photograph.instances if i.segmentation.area >= max(least, 1)]
