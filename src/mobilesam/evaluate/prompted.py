"""Prompted masks against human ones, at the photos' full size.

Every object that counts is asked for with every kind of prompt
(:mod:`mobilesam.evaluate.kinds`), all made from its human mask. Any chance in
them depends on the photo's name and the object's place in it, so that all models and
runs see the same prompts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.metrics import boundary_iou, calibration_error, mask_iou
from mobilesam.core.prompts import ValidPrompt
from mobilesam.core.rle import Rle, mask_to_rle, rle_to_mask
from mobilesam.evaluate.choices import MODEL, check_mask_choice, chosen, multimask_of
from mobilesam.evaluate.journal import score_photos
from mobilesam.evaluate.kinds import KINDS, USUAL_KINDS
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.sets import SMALLEST_OBJECT, Progress, countable, decided, read_countable
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.segment.model import Model

MEASURES = ("iou", "boundary", "best", "largest", "stablest", "predicted")


@dataclass(frozen=True)
class ObjectScore:
    """One object asked for with one kind of prompt.

    Attributes:
        iou: of the mask that the model chose.
        best: of the best of its masks; the same if there is only one.
        largest: of its largest mask.
        stablest: of its mask with the highest stability score.
        boundary: boundary IoU of the chosen mask.
        predicted: what the model said the IoU would be.
        photo: the photo that the object is in.
        truth: the human mask.
        mask: the chosen one.
        prompt: what was asked.
    """

    iou: float
    best: float
    largest: float
    stablest: float
    boundary: float
    predicted: float
    photo: SetPhoto = field(repr=False)
    truth: Rle = field(repr=False)
    mask: Rle = field(repr=False)
    prompt: ValidPrompt = field(repr=False)


@dataclass(frozen=True)
class KindScores:
    """Means over the objects of a set for one kind of prompt; see :class:`ObjectScore`.

    Attributes:
        iou: of the mask that the model chose.
        best: of the best mask.
        largest: of the largest mask.
        stablest: of the most stable mask.
        boundary: boundary IoU of the chosen mask.
        calibration: expected calibration error of the predicted IoU.
    """

    iou: float
    best: float
    largest: float
    stablest: float
    boundary: float
    calibration: float


@dataclass(frozen=True)
class PromptedScores:
    """A set's scores.

    Attributes:
        name: of the set.
        images: photos with an object that counts.
        objects: objects that count.
        calibration: expected calibration error of the predicted IoU over all prompts.
        kinds: scores by kind of prompt.
        each: every object's scores, by kind of prompt.
    """

    name: str
    images: int
    objects: int
    calibration: float
    kinds: dict[str, KindScores]
    each: dict[str, list[ObjectScore]] = field(repr=False)


@dataclass(frozen=True)
class PromptedOptions:
    """What is asked and which mask counts.

    Attributes:
        kinds: kinds of prompt, some of ``KINDS``.
        mask_choice: see :data:`mobilesam.evaluate.choices.MASK_CHOICES`.
        smallest: least share of the photo that an object must cover.
    """

    kinds: tuple[str, ...] = USUAL_KINDS
    mask_choice: str = MODEL
    smallest: float = SMALLEST_OBJECT

    def __post_init__(self) -> None:
        check_mask_choice(self.mask_choice)

    def to_dict(self) -> dict[str, Any]:
        """The options as the protocol of results."""
        return {
            "kinds": ",".join(self.kinds),
            "mask choice": self.mask_choice,
            "smallest object": self.smallest,
        }


def score_prompted(
    model: Model,
    folder: Path,
    *,
    kinds: Sequence[str] = USUAL_KINDS,
    mask_choice: str = MODEL,
    smallest: float = SMALLEST_OBJECT,
    follow_symlinks: bool = False,
    progress: Progress = lambda done, total: None,
) -> PromptedScores:
    """Score prompts on a set.

    Args:
        model: what is scored.
        folder: of the set, in any format that :func:`mobilesam.formats.datasets.load.read_dataset` reads.
        kinds: names of the kinds of prompt, some of ``KINDS``.
        mask_choice: which mask counts, one of ``MASK_CHOICES``.
        smallest: least share of the photo that an object must cover.
        follow_symlinks: also follow links to photos outside the set.
        progress: called after each photo as ``(done, total)``.

    Raises:
        ConfigError: if the set cannot be read or has no object that counts.
    """
    options = PromptedOptions(tuple(kinds), mask_choice, smallest)
    photos = read_countable(folder, smallest, follow_symlinks=follow_symlinks)
    records = score_photos(lambda photo: photo_rows(model, photo, options), photos, progress=progress)
    return scores_of(folder.name, photos, records, options)


def photo_rows(model: Model, photo: SetPhoto, options: PromptedOptions) -> PhotoRecord:
    """Return a photo's answers by row, as results keep them."""
    found = score_photo(
        model, photo, kinds=options.kinds, mask_choice=options.mask_choice, smallest=options.smallest
    )
    return PhotoRecord(
        {
            KINDS[kind].row(options.mask_choice): tuple(_to_answer(one) for one in scores)
            for kind, scores in found.items()
        }
    )


def scores_of(
    name: str, photos: Sequence[SetPhoto], records: Sequence[PhotoRecord], options: PromptedOptions
) -> PromptedScores:
    """Return a set's scores from the records of its photos."""
    each: dict[str, list[ObjectScore]] = {kind: [] for kind in options.kinds}
    for photo, record in zip(photos, records, strict=True):
        runs = countable(photo, options.smallest)
        for kind in options.kinds:
            answers = record.rows[KINDS[kind].row(options.mask_choice)]
            each[kind] += [
                _from_answer(answer, photo, rle) for answer, rle in zip(answers, runs, strict=True)
            ]
    return PromptedScores(
        name,
        len(photos),
        len(each[options.kinds[0]]),
        calibration=_calibration([score for scores in each.values() for score in scores]),
        kinds={kind: summarise(scores) for kind, scores in each.items()},
        each=each,
    )


def _to_answer(score: ObjectScore) -> Answer:
    prompt = score.prompt
    asked: dict[str, Any] = {}
    if len(prompt.points):
        asked |= {"points": np.round(prompt.points, 2).tolist(), "labels": np.asarray(prompt.labels).tolist()}
    if prompt.box is not None:
        asked["box"] = np.round(prompt.box, 2).tolist()
    values = {name: getattr(score, name) for name in MEASURES}
    return Answer(values, score.truth.area, score.mask, asked)


def _from_answer(answer: Answer, photo: SetPhoto, truth: Rle) -> ObjectScore:
    asked = answer.prompt or {}
    assert answer.mask is not None
    prompt = ValidPrompt(
        np.array(asked.get("points", []), np.float64).reshape(-1, 2),
        np.array(asked.get("labels", []), np.int64),
        np.array(asked["box"], np.float64) if "box" in asked else None,
        None,
    )
    values = {name: float(answer.values[name] or 0.0) for name in MEASURES}
    return ObjectScore(**values, photo=photo, truth=truth, mask=answer.mask, prompt=prompt)


def score_photo(
    model: Model,
    photo: SetPhoto,
    *,
    kinds: Sequence[str] = USUAL_KINDS,
    mask_choice: str = MODEL,
    smallest: float = SMALLEST_OBJECT,
) -> dict[str, list[ObjectScore]]:
    """Score each object of a photo that counts, by kind of prompt."""
    embedding = model.embed(read_photo(photo))
    runs = countable(photo, smallest)
    truths = [rle_to_mask(rle) for rle in runs]
    counts = decided(photo)
    found: dict[str, list[ObjectScore]] = {}
    for kind in kinds:
        chances = (chance(photo, kind, i) for i in range(len(truths)))
        prompts = [KINDS[kind].make(truth, random) for truth, random in zip(truths, chances, strict=True)]
        results = model.segment(embedding, prompts, multimask=multimask_of(mask_choice))
        found[kind] = []
        for rle, truth, result in zip(runs, truths, results, strict=True):
            ious = [mask_iou(one.mask & counts, truth & counts) for one in result]
            number = chosen(result, ious, mask_choice)
            found[kind].append(
                ObjectScore(
                    iou=ious[number],
                    best=max(ious),
                    largest=ious[int(np.argmax([one.area for one in result]))],
                    stablest=ious[int(result.stability_score.argmax())],
                    boundary=boundary_iou(result[number].mask & counts, truth & counts),
                    predicted=result[number].predicted_iou,
                    photo=photo,
                    truth=rle,
                    mask=mask_to_rle(result[number].mask),
                    prompt=result.prompt,
                )
            )
    return found


def chance(photo: SetPhoto, kind: str, number: int) -> np.random.Generator:
    """Return the source of chance for one object's prompt, the same in every run."""
    return np.random.default_rng([zlib.crc32(photo.path.name.encode()), *kind.encode(), number])


def summarise(scores: Sequence[ObjectScore]) -> KindScores:
    """Return the means of objects' scores."""
    means = {
        name: float(np.mean([getattr(score, name) for score in scores]))
        for name in ("iou", "best", "largest", "stablest", "boundary")
    }
    return KindScores(**means, calibration=_calibration(scores))


def _calibration(scores: Sequence[ObjectScore]) -> float:
    return calibration_error([s.predicted for s in scores], [s.iou for s in scores])


PART = 0.6  # of the whole's area, at most: then it is a part
INSIDE = 0.9  # of the part's area, at least, that lies in the whole
FOUND = 0.5  # IoU at which an object is found


@dataclass(frozen=True)
class NestedScores:
    """One point that means both a part and the whole it belongs to: do the three masks include both?

    Attributes:
        pairs: part and whole, with the point at the part's centre.
        part: mean IoU of the mask that is nearest to the part.
        whole: mean IoU of the mask that is nearest to the whole.
        both: share of the pairs where two different masks find both.
    """

    pairs: int
    part: float
    whole: float
    both: float


def score_nested(
    model: Model,
    folder: Path,
    *,
    limit: int | None = None,
    smallest: float = SMALLEST_OBJECT,
    follow_symlinks: bool = False,
    progress: Progress = lambda done, total: None,
) -> NestedScores:
    """Score one point where an object of the set lies inside another; see :func:`score_prompted`.

    With a ``limit`` only the first photos that count, this many, are asked.
    """
    photos = read_countable(folder, smallest, follow_symlinks=follow_symlinks)[:limit]
    found: list[tuple[float, float, bool]] = []
    for done, photo in enumerate(photos, start=1):
        truths = [rle_to_mask(rle) for rle in countable(photo, smallest)]
        pairs = nested_pairs(truths)
        if pairs:
            embedding = model.embed(read_photo(photo))
            prompts = [KINDS["point"].make(truths[part], chance(photo, "point", 0)) for part, _ in pairs]
            for (part, whole), result in zip(pairs, model.segment(embedding, prompts), strict=True):
                of_part = np.array([mask_iou(one.mask, truths[part]) for one in result])
                of_whole = np.array([mask_iou(one.mask, truths[whole]) for one in result])
                distinct = of_part.argmax() != of_whole.argmax()
                both = bool(distinct and of_part.max() >= FOUND and of_whole.max() >= FOUND)
                found.append((float(of_part.max()), float(of_whole.max()), both))
        progress(done, len(photos))
    if not found:
        return NestedScores(0, np.nan, np.nan, np.nan)
    means = np.mean(found, axis=0)
    return NestedScores(len(found), *(float(mean) for mean in means))


def nested_pairs(truths: Sequence[Mask]) -> list[tuple[int, int]]:
    """Return the numbers of all parts with the smallest whole that each lies in."""
    areas = [int(truth.sum()) for truth in truths]
    pairs = []
    for part, truth in enumerate(truths):
        wholes = [
            whole
            for whole, other in enumerate(truths)
            if areas[part] <= PART * areas[whole] and (truth & other).sum() >= INSIDE * areas[part]
        ]
        if wholes:
            pairs.append((part, min(wholes, key=lambda whole: areas[whole])))
    return pairs
