"""The subject that is found without a prompt, against human masks: as salient objects are scored.

Only photos count that have one dominant object. It is asked for in three ways: without a prompt
(:meth:`mobilesam.Model.subject`), as what the ground leaves, and by the human mask's box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Logits, Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import mask_iou, max_f_measure, structure_measure
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.core.types import Embedding, Prompt
from mobilesam.evaluate.journal import score_photos
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.sets import Progress
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.model import Model

# What a dominant object is.
LEAST_PART, GREATEST_PART = 0.05, 0.8  # of the photo
MOST_BORDER = 0.25  # of the photo's border pixels, that it may hold: more is ground
MOST_BESIDE = 0.25  # of its area, that another object may have outside of it

WAYS = ("subject", "ground", "box")
MEASURES = ("iou", "mae", "max_f", "s", "predicted")
SUBJECT_PROTOCOL = {
    "photos": f"with one object of {LEAST_PART:.0%} to {GREATEST_PART:.0%} that holds at most {MOST_BORDER:.0%} of the border"
}


@dataclass(frozen=True)
class SubjectScore:
    """One photo, asked in one way.

    Attributes:
        iou: of the mask.
        mae: mean absolute error of the probabilities.
        max_f: greatest F-measure over all thresholds, with precision weighted as usual (beta squared 0.3).
        s: structure measure (Fan et al. 2017).
        predicted: IoU that the model expected.
        photo: that was asked.
    """

    iou: float
    mae: float
    max_f: float
    s: float
    predicted: float
    photo: SetPhoto = field(repr=False)


@dataclass(frozen=True)
class SubjectScores:
    """A set's scores.

    Attributes:
        name: of the set.
        images: photos with a dominant object.
        ways: means by way of asking, of ``WAYS``: iou, mae, max_f and s.
        each: every photo's, by way of asking.
    """

    name: str
    images: int
    ways: dict[str, dict[str, float]]
    each: dict[str, list[SubjectScore]] = field(repr=False)


def score_subject(
    model: Model,
    folder: Path,
    *,
    limit: int | None = None,
    follow_symlinks: bool = False,
    progress: Progress = lambda done, total: None,
) -> SubjectScores:
    """Score what is found without a prompt on a set.

    Args:
        model: what is scored.
        folder: of the set.
        limit: only the first so many photos that have a dominant object.
        follow_symlinks: read photos that links show of the world outside the set.
        progress: called after each photo with how many are done, and of how many.

    Raises:
        ConfigError: if the set cannot be read or no photo has a dominant object.
    """
    photos = read_dominant(folder, limit, follow_symlinks=follow_symlinks)
    records = score_photos(lambda photo: subject_rows(model, photo), photos, progress=progress)
    return subject_scores(folder.name, photos, records)


def read_dominant(folder: Path, limit: int | None, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read the photos of a set that have a dominant object, at most so many.

    Raises:
        ConfigError: if there is none.
    """
    read = read_photos(folder, follow_symlinks=follow_symlinks)
    photos = [one for one in read if dominant_object(one) is not None][:limit]
    if not photos:
        raise ConfigError(
            f"{folder}: no photo has one dominant object (docs/how-to/evaluate.md says what that is); choose another set"
        )
    return photos


def subject_rows(model: Model, photo: SetPhoto) -> PhotoRecord:
    """Score a photo that has a dominant object; return the answers by way of asking."""
    truth = dominant_object(photo)
    assert truth is not None
    return PhotoRecord(
        {
            way: (Answer({name: getattr(score, name) for name in MEASURES}, int(truth.sum())),)
            for way, score in score_photo(model, photo, truth).items()
        }
    )


def subject_scores(name: str, photos: Sequence[SetPhoto], records: Sequence[PhotoRecord]) -> SubjectScores:
    """Return a set's scores from the records of its photos."""
    each: dict[str, list[SubjectScore]] = {way: [] for way in WAYS}
    for photo, record in zip(photos, records, strict=True):
        for way in WAYS:
            values = {key: float(value or 0.0) for key, value in record.rows[way][0].values.items()}
            each[way].append(SubjectScore(**values, photo=photo))
    ways = {
        way: {
            measure: float(np.mean([getattr(one, measure) for one in scores]))
            for measure in ("iou", "mae", "max_f", "s")
        }
        for way, scores in each.items()
    }
    return SubjectScores(name, len(photos), ways, each)


def dominant_object(photo: SetPhoto) -> Mask | None:
    """Return the mask (H, W) of a photo's one dominant object; None where there is none.

    It is the largest, covers 5 to 80 % of the photo and at most a quarter of its border, and no other object
    has more than a quarter of its area outside of it.
    """
    runs = [one.segmentation for one in photo.instances]
    if not runs:
        return None
    largest = max(runs, key=lambda rle: rle.area)
    pixels = photo.width * photo.height
    if not LEAST_PART <= largest.area / pixels <= GREATEST_PART:
        return None
    mask = rle_to_mask(largest)
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    if border.mean() > MOST_BORDER or _another_beside(mask, [one for one in runs if one is not largest]):
        return None
    return mask


def _another_beside(mask: Mask, others: Sequence[Rle]) -> bool:
    most = MOST_BESIDE * np.count_nonzero(mask)
    large = (one for one in others if one.area > most)
    return any(np.count_nonzero(rle_to_mask(one) & ~mask) > most for one in large)


def score_photo(model: Model, photo: SetPhoto, truth: Mask) -> dict[str, SubjectScore]:
    """Score one photo in every way of asking."""
    embedding = model.embed(read_photo(photo))
    height, width = truth.shape
    subject = model.subject(embedding)
    ground, box = (_ask(model, embedding, box) for box in ((0, 0, width, height), mask_to_box(truth)))
    answers = {
        "subject": (subject.logits(0), subject.best.predicted_iou),
        "ground": (-ground[0], ground[1]),
        "box": box,
    }
    return {way: _score(logits, predicted, truth, photo) for way, (logits, predicted) in answers.items()}


def _ask(model: Model, embedding: Embedding, box: tuple[int, int, int, int]) -> tuple[Logits, float]:
    found = model.segment(embedding, Prompt(box=box))
    return found.logits(found.choice), found.best.predicted_iou


def _score(logits: Logits, predicted: float, truth: Mask, photo: SetPhoto) -> SubjectScore:
    likely = 1 / (1 + np.exp(-np.clip(logits, -20, 20)))
    return SubjectScore(
        mask_iou(logits > 0, truth),
        float(np.abs(likely - truth).mean()),
        max_f_measure(likely, truth),
        structure_measure(likely, truth),
        predicted,
        photo,
    )
