"""Mending: how many clicks a damaged mask takes to be good, beside starting anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.metrics import mask_iou, number_of_clicks
from mobilesam.core.rle import rle_to_mask
from mobilesam.core.types import Embedding
from mobilesam.evaluate.clicks import next_click
from mobilesam.evaluate.sets import SMALLEST_OBJECT, Progress, countable, read_countable
from mobilesam.formats.coco import read_photo
from mobilesam.segment.cutout import moved
from mobilesam.segment.model import Model
from mobilesam.segment.session import Session

CLICKS = 20
TARGETS = (0.85, 0.9)
EDGE = 0.12  # how far an edge is moved, in the root of the object's area
PART = 0.35  # of the object, that is missing
MOST_OBJECTS = 3  # of a photo


@dataclass(frozen=True)
class MendingScores:
    """What mending took on the objects of a set.

    Attributes:
        name: of the set.
        objects: that were mended.
        clicks_anew: mean clicks until each of ``TARGETS`` from nothing.
        clicks_mending: for each damage, the same from the damaged mask.
        fewer: for each damage, the part of the objects that take fewer clicks mended than anew, to each target;
            objects count whose damaged mask is below the target.
        worse: mean IoU that a click took away where it did, over all clicks.
    """

    name: str
    objects: int
    clicks_anew: tuple[float, ...]
    clicks_mending: dict[str, tuple[float, ...]]
    fewer: dict[str, tuple[float, ...]]
    worse: float


def damages(truth: Mask, others: list[Mask], rng: np.random.Generator) -> dict[str, Mask]:
    """Return a mask (H, W) damaged in several ways.

    Args:
        truth: the mask.
        others: masks of other objects in the photo.
        rng: chooses the part that is missing.
    """
    pixels = max(1, round(EDGE * float(np.sqrt(truth.sum()))))
    rows, columns = np.nonzero(truth)
    angle = rng.uniform(0, 2 * np.pi)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    missing = truth.copy()
    gone = along > np.quantile(along, 1 - PART)
    missing[rows[gone], columns[gone]] = False
    found = {"eroded": moved(truth, -pixels), "dilated": moved(truth, pixels), "part missing": missing}
    if others:
        found["with another object"] = truth | max(others, key=lambda one: int(one.sum()))
    return {kind: mask for kind, mask in found.items() if mask.any() and mask_iou(mask, truth) < TARGETS[-1]}


def score_mending(
    model: Model,
    folder: Path,
    *,
    clicks: int = CLICKS,
    smallest: float = SMALLEST_OBJECT,
    photos: int | None = None,
    progress: Progress = lambda done, total: None,
) -> MendingScores:
    """Score mending on a set: each click lies in the middle of what is most wrong.

    Args:
        model: what is scored.
        folder: of the set.
        clicks: how often each mask is clicked at most.
        smallest: least part of the photo that an object must cover.
        photos: so many of the set, evenly; all where None.
        progress: called after each photo with how many are done, and of how many.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    chosen = read_countable(folder, smallest)
    if photos is not None and photos < len(chosen):
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, photos).astype(int)]
    anew: list[list[int]] = []
    mended: dict[str, list[list[int]]] = {}
    fewer: dict[str, list[list[float]]] = {}
    lost: list[float] = []
    for done, photo in enumerate(chosen, start=1):
        embedding = model.embed(read_photo(photo))
        truths = [rle_to_mask(rle) for rle in countable(photo, smallest)]
        truths = sorted(truths, key=lambda one: -int(one.sum()))[:MOST_OBJECTS]
        for number, truth in enumerate(truths):
            others = [one for one in truths if not (one & truth).any()]
            rng = np.random.default_rng([done, number])
            first = [
                number_of_clicks(one, t)
                for t in TARGETS
                for one in [_click(model, embedding, None, truth, clicks)]
            ]
            anew.append(first)
            for kind, mask in damages(truth, others, rng).items():
                ious = _click(model, embedding, mask, truth, clicks)
                took = [number_of_clicks(ious[1:], target) for target in TARGETS]
                lost += [max(0.0, a - b) for a, b in pairwise(ious)]
                mended.setdefault(kind, []).append(took)
                counts = [
                    float(t < f) if ious[0] < target else np.nan
                    for t, f, target in zip(took, first, TARGETS, strict=True)
                ]
                fewer.setdefault(kind, []).append(counts)
        progress(done, len(chosen))
    return MendingScores(
        folder.name,
        len(anew),
        _means(anew),
        {kind: _means(some) for kind, some in mended.items()},
        {kind: _means(some) for kind, some in fewer.items()},
        float(np.mean(lost)) if lost else 0.0,
    )


def _means(rows: list) -> tuple[float, ...]:
    return tuple(float(one) for one in np.nanmean(np.array(rows, float), axis=0))


def _click(model: Model, embedding: Embedding, mask: Mask | None, truth: Mask, clicks: int) -> list[float]:
    """Return the IoU of a mask, if there is one, and after each click, until the last target is reached."""
    session: Session = model.session(embedding)
    ious: list[float] = []
    if mask is not None:
        session = session.from_mask(mask)
        ious.append(mask_iou(mask, truth))
    now = np.zeros_like(truth) if mask is None else mask
    for _ in range(clicks):
        if ious and ious[-1] >= TARGETS[-1]:
            break
        (x, y), label = next_click(now, truth)
        session = session.click([x + 0.5, y + 0.5], label)
        assert session.mask is not None
        now = session.mask
        ious.append(mask_iou(now, truth))
    return ious


Click = Callable[[Model, Embedding, Mask | None, Mask, int], list[float]]
