"""Mending: how many clicks a damaged mask takes to become good, compared with starting anew."""

from __future__ import annotations

from dataclasses import dataclass
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
PART = 0.35  # of the object that is missing
MOST_OBJECTS = 3  # of a photo


@dataclass(frozen=True)
class Trial:
    """One damaged mask of one object.

    Attributes:
        damage: its kind.
        anew: IoU after each click of a session that begins with nothing.
        mended: IoU of the damaged mask, and after each click.
    """

    damage: str
    anew: tuple[float, ...]
    mended: tuple[float, ...]


@dataclass(frozen=True)
class MendingScores:
    """What mending took on the objects of a set.

    Attributes:
        name: of the set.
        trials: one for each damaged mask.
    """

    name: str
    trials: tuple[Trial, ...]

    def clicks(self, target: float, damage: str | None = None) -> tuple[int, float, float, float]:
        """Return how many masks are below a target, mean clicks anew and mended, and the share with fewer when mended.

        Args:
            target: the IoU.
            damage: one kind of damage; all if None.
        """
        chosen = [one for one in self.trials if damage in (None, one.damage) and one.mended[0] < target]
        anew = [number_of_clicks(one.anew, target) for one in chosen]
        mended = [number_of_clicks(one.mended[1:], target) for one in chosen]
        fewer = [m < a for a, m in zip(anew, mended, strict=True)]
        return len(chosen), float(np.mean(anew)), float(np.mean(mended)), float(np.mean(fewer))


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
        clicks: most clicks on each mask.
        smallest: least share of the photo that an object must cover.
        photos: this many of the set, spread evenly; all if None.
        progress: called after each photo as ``(done, total)``.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    chosen = read_countable(folder, smallest)
    if photos is not None and photos < len(chosen):
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, photos).astype(int)]
    trials: list[Trial] = []
    for done, photo in enumerate(chosen, start=1):
        embedding = model.embed(read_photo(photo))
        truths = [rle_to_mask(rle) for rle in countable(photo, smallest)]
        truths = sorted(truths, key=lambda one: -int(one.sum()))[:MOST_OBJECTS]
        for number, truth in enumerate(truths):
            others = [one for one in truths if not (one & truth).any()]
            anew = _click(model, embedding, None, truth, clicks)
            for kind, mask in damages(truth, others, np.random.default_rng([done, number])).items():
                trials.append(Trial(kind, anew, _click(model, embedding, mask, truth, clicks)))
        progress(done, len(chosen))
    return MendingScores(folder.name, tuple(trials))


def _click(
    model: Model, embedding: Embedding, mask: Mask | None, truth: Mask, clicks: int
) -> tuple[float, ...]:
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
    return tuple(ious)
