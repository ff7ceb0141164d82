"""Corrective clicks: how good a mask gets when someone keeps clicking where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import mask_iou, number_of_clicks
from mobilesam.core.regions import central_pixel, distance_to_edge
from mobilesam.core.rle import mask_to_rle, rle_to_mask
from mobilesam.core.types import Embedding, Prompt
from mobilesam.evaluate.choices import (
    BEST,
    FIRST_CLICKS,
    MODEL,
    check_first_click,
    check_mask_choice,
    chosen,
    multimask_of,
)
from mobilesam.evaluate.journal import score_photos
from mobilesam.evaluate.prompted import chance
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.sets import SMALLEST_OBJECT, Progress, countable, decided, read_countable
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.segment.model import Model

CLICKS, MOST_CLICKS = 5, 100
TARGETS = (0.8, 0.85, 0.9)  # IoUs whose number of clicks is reported


@dataclass(frozen=True)
class ClickScores:
    """Means over the objects of a set, clicked one correction after the other.

    Attributes:
        name: of the set.
        images: photos with an object that counts.
        objects: objects that count.
        ious: IoU after each click.
        clicks_to: clicks until each of ``TARGETS``; objects that never got there count with all clicks.
    """

    name: str
    images: int
    objects: int
    ious: tuple[float, ...]
    clicks_to: tuple[float, ...]


@dataclass(frozen=True)
class ClickOptions:
    """How objects are clicked.

    Attributes:
        clicks: how often each object is clicked.
        first_click: where first: ``deepest`` inside, ``centroid``, or ``random``.
        mask_choice: which of a first click's three masks counts: ``model``, ``single``, ``best-score`` or ``oracle``.
        smallest: least share of a photo that an object must cover.
    """

    clicks: int = CLICKS
    first_click: str = "deepest"
    mask_choice: str = MODEL
    smallest: float = SMALLEST_OBJECT

    def __post_init__(self) -> None:
        check_first_click(self.first_click)
        check_mask_choice(self.mask_choice)
        if not (isinstance(self.clicks, int) and 1 <= self.clicks <= MOST_CLICKS):
            raise ConfigError(f"clicks: is {self.clicks!r}; must be a whole number from 1 to {MOST_CLICKS}")

    @property
    def row(self) -> str:
        """The row's name."""
        choice = BEST if self.mask_choice == MODEL else self.mask_choice
        return f"clicks, first {self.first_click}, {choice}"

    def to_dict(self) -> dict[str, Any]:
        """The options as the protocol of results."""
        return {
            "clicks": self.clicks,
            "first click": self.first_click,
            "mask choice": self.mask_choice,
            "smallest object": self.smallest,
        }


def score_clicks(
    model: Model,
    folder: Path,
    *,
    clicks: int = CLICKS,
    first_click: str = "deepest",
    mask_choice: str = MODEL,
    smallest: float = SMALLEST_OBJECT,
    follow_symlinks: bool = False,
    progress: Progress = lambda done, total: None,
) -> ClickScores:
    """Score corrective clicks on a set: each after the first lies in the middle of what is most wrong.

    Args:
        model: what is scored.
        folder: of the set, in any format that :func:`mobilesam.formats.datasets.load.read_dataset` reads.
        clicks: how often each object is clicked.
        first_click: where first, of ``FIRST_CLICKS``.
        mask_choice: which mask counts of the first click, of ``MASK_CHOICES``.
        smallest: least share of the photo that an object must cover.
        follow_symlinks: also follow links to photos outside the set.
        progress: called after each photo as ``(done, total)``.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    options = ClickOptions(clicks, first_click, mask_choice, smallest)
    photos = read_countable(folder, smallest, follow_symlinks=follow_symlinks)
    records = score_photos(lambda photo: click_rows(model, photo, options), photos, progress=progress)
    return click_scores(folder.name, records, options)


def click_scores(name: str, records: Sequence[PhotoRecord], options: ClickOptions) -> ClickScores:
    """Return a set's scores from the records of its photos."""
    answers = [one for record in records for one in record.rows[options.row]]

    def mean(measure: str) -> float:
        return float(np.mean([one.values[measure] for one in answers]))

    return ClickScores(
        name,
        len(records),
        len(answers),
        ious=tuple(mean(f"iou {i}") for i in range(1, options.clicks + 1)),
        clicks_to=tuple(mean(noc_name(target)) for target in TARGETS),
    )


def noc_name(target: float) -> str:
    """Return the name of the number of clicks to an IoU."""
    return f"NoC@{round(100 * target)}"


def click_rows(model: Model, photo: SetPhoto, options: ClickOptions) -> PhotoRecord:
    """Click the objects of a photo that count; return their answers by row."""
    embedding = model.embed(read_photo(photo))
    answers, counts = [], decided(photo)
    for i, rle in enumerate(countable(photo, options.smallest)):
        truth = rle_to_mask(rle)
        first = FIRST_CLICKS[options.first_click](truth, chance(photo, f"first {options.first_click}", i))
        ious, mask = click_object(model, embedding, truth, options, first=first, counts=counts)
        values: dict[str, float | None] = {f"iou {n}": iou for n, iou in enumerate(ious, start=1)}
        values |= {noc_name(target): float(number_of_clicks(ious, target)) for target in TARGETS}
        answers.append(Answer(values, rle.area, mask_to_rle(mask)))
    return PhotoRecord({options.row: tuple(answers)})


def click_object(
    model: Model,
    embedding: Embedding,
    truth: Mask,
    options: ClickOptions,
    *,
    first: tuple[int, int] | None = None,
    counts: Mask | None = None,
) -> tuple[list[float], Mask]:
    """Click one object and return the IoU after each click, and the last mask.

    The first click gives one or three masks, among which the options choose; each later click is added
    to those before, with the logits of the mask that it corrects as mask prompt.

    Args:
        model: the model that is asked.
        embedding: of the photo.
        truth: the human mask (H, W).
        options: how it is clicked.
        first: where (x, y) first; deepest inside if None.
        counts: pixels (H, W) that count; all if None.
    """
    counts = np.ones_like(truth) if counts is None else counts
    mask = np.zeros_like(truth)
    points: list[tuple[int, int]] = []
    labels: list[int] = []
    logits = None
    ious: list[float] = []
    for number in range(options.clicks):
        point, label = next_click(mask & counts, truth)
        if number == 0 and first is not None:
            point, label = first, 1
        points.append(point)
        labels.append(label)
        multimask = multimask_of(options.mask_choice) if number == 0 else None
        result = model.segment(embedding, Prompt(points, labels, mask=logits), multimask=multimask)
        each = [mask_iou(one.mask & counts, truth & counts) for one in result]
        which = chosen(result, each, options.mask_choice)
        mask, logits = result[which].mask, result.low_res_masks[which]
        ious.append(each[which])
    return ious, mask


def next_click(mask: Mask, truth: Mask) -> tuple[tuple[int, int], int]:
    """Return the (x, y) deepest inside an error, and its label: 1 for what is missing, 0 for what is too much.

    A mask without errors is clicked in the middle of the object once more.
    """
    missing, extra = truth & ~mask, mask & ~truth
    if not missing.any() and not extra.any():
        return central_pixel(truth), 1
    if distance_to_edge(missing).max() >= distance_to_edge(extra).max():
        return central_pixel(missing), 1
    return central_pixel(extra), 0
