"""Segment everything against human masks: average recall, as object proposals are scored.

COCO's evaluation without categories: the masks of a photo, by falling score,
are matched with its objects, and the share of a set's objects that were found is averaged
over the IoUs from 0.50 to 0.95 at which an object counts as found. AR@10 counts each
photo's ten best masks. What was found besides the human masks costs nothing, so
a set must have masks of all objects that should be found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from mobilesam.core.boxes import xywh_to_xyxy
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import (
    OBJECT_SIZES,
    RECALL_LIMITS,
    RecallCounts,
    boxes_ious,
    count_found,
    mask_ious,
    recall_of_objects,
)
from mobilesam.evaluate.journal import score_photos
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.sets import Progress
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.everything.search import Detector
from mobilesam.segment.model import Model

Recall = dict[str, dict[int, float]]  # by size of object, then by how many masks may count


@dataclass(frozen=True, eq=False)
class PhotoScore:
    """What one search found of a photo's objects; no masks are kept.

    Attributes:
        photo: the photo that was searched.
        masks: objects found by mask.
        boxes: objects found by box.
        ious: for each object, the IoU of the mask nearest to it.
        recalls: (M, limits) of each object by mask, then (M, limits) by box.
        found: how many masks the search found.
        prompts: how many it asked.
        seconds: how long it took.
    """

    photo: SetPhoto = field(repr=False)
    masks: RecallCounts
    boxes: RecallCounts
    ious: tuple[float, ...]
    recalls: tuple[np.ndarray, np.ndarray] = field(repr=False)
    found: int
    prompts: int
    seconds: float

    def answers(self) -> tuple[Answer, ...]:
        """What results keep: recall and the nearest mask of each object."""
        found = []
        for i, (truth, iou) in enumerate(zip(self.photo.instances, self.ious, strict=True)):
            values: dict[str, float | None] = {
                f"{what}AR@{limit}": float(recalls[i, k])
                for what, recalls in zip(("", "box "), self.recalls, strict=True)
                for k, limit in enumerate(RECALL_LIMITS)
            }
            found.append(Answer(values | {"nearest": iou}, truth.area))
        return tuple(found)


@dataclass(frozen=True)
class SearchScores:
    """How well one way of searching found a set's objects.

    Attributes:
        masks: average recall of masks, NaN if there is no object of a size.
        boxes: average recall of boxes.
        found: masks found in a photo, on average.
        prompts: prompts asked in a photo, on average.
        seconds: time for a photo, on average.
        each: every photo's scores.
    """

    masks: Recall
    boxes: Recall
    found: float
    prompts: float
    seconds: float
    each: list[PhotoScore] = field(repr=False)


@dataclass(frozen=True)
class EverythingScores:
    """A set's scores.

    Attributes:
        name: of the set.
        images: photos with an object.
        objects: how many there are, by size.
        searches: scores by name of the search.
    """

    name: str
    images: int
    objects: dict[str, int]
    searches: dict[str, SearchScores]


def score_everything(
    model: Model,
    folder: Path,
    searches: Mapping[str, EverythingOptions],
    *,
    detector: str | Path | Detector | None = None,
    limit: int | None = None,
    follow_symlinks: bool = False,
    progress: Progress = lambda done, total: None,
) -> EverythingScores:
    """Score one or several ways of segmenting everything on a set.

    Photos without an object are left out: they cannot change the recall.

    Args:
        model: what is scored.
        folder: of the set, in any format that :func:`mobilesam.formats.datasets.load.read_dataset` reads.
        searches: what is compared, by name, such as grids of several sizes.
        detector: what finds boxes, see :meth:`mobilesam.Model.everything`.
        limit: only the first photos, this many.
        follow_symlinks: also follow links to photos outside the set.
        progress: called after each photo as ``(done, total)``.

    Raises:
        ConfigError: if the set cannot be read or has no object, for a limit below 1, and for no searches.
    """
    if not searches:
        raise ConfigError("searches: is empty; give at least one, such as {'grid': EverythingOptions()}")
    photos = read_with_objects(folder, limit, follow_symlinks=follow_symlinks)
    score = SearchScorer(model, searches, detector)
    records = score_photos(score, photos, progress=progress)
    return everything_scores(folder.name, photos, records, score)


def read_with_objects(folder: Path, limit: int | None, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read the photos of a set that have an object, at most ``limit``.

    Raises:
        ConfigError: if there is none, or for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: is {limit}; must be 1 or more")
    read = read_photos(folder, follow_symlinks=follow_symlinks)
    photos = [p for p in read if p.instances][:limit]
    if not photos:
        raise ConfigError(f"{folder}: no photo has an object; recall needs human masks")
    return photos


@dataclass
class SearchScorer:
    """Scores photos when called with each; times are kept separately, because no two runs have the same.

    Attributes:
        model: what is scored.
        searches: what is compared, by name.
        detector: what finds boxes.
        seconds: of each photo, by search.
    """

    model: Model
    searches: Mapping[str, EverythingOptions]
    detector: str | Path | Detector | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, photo: SetPhoto) -> PhotoRecord:
        """Search a photo in every way."""
        rows, facts = {}, {}
        for name, options in self.searches.items():
            score = score_photo(self.model, photo, options, self.detector)
            self.seconds.setdefault(name, []).append(score.seconds)
            rows[name] = score.answers()
            facts[name] = {
                "masks": score.masks.to_dict(),
                "boxes": score.boxes.to_dict(),
                "found": score.found,
                "prompts": score.prompts,
            }
        return PhotoRecord(rows, facts)


def everything_scores(
    name: str, photos: Sequence[SetPhoto], records: Sequence[PhotoRecord], scorer: SearchScorer
) -> EverythingScores:
    """Return a set's scores from the records of all its photos."""
    each: dict[str, list[PhotoScore]] = {}
    for search in scorer.searches:
        mean = float(np.mean(scorer.seconds.get(search, [np.nan])))
        each[search] = [
            _from_record(record, search, photo, mean) for photo, record in zip(photos, records, strict=True)
        ]
    objects = pool([score.masks for score in each[next(iter(each))]]).objects
    return EverythingScores(
        name,
        len(photos),
        dict(zip(OBJECT_SIZES, objects.tolist(), strict=True)),
        {name: summarise(scores) for name, scores in each.items()},
    )


def _from_record(record: PhotoRecord, search: str, photo: SetPhoto, seconds: float) -> PhotoScore:
    facts, answers = record.facts[search], record.rows[search]
    recalls = tuple(
        np.array(
            [[one.values[f"{what}AR@{limit}"] for limit in RECALL_LIMITS] for one in answers], np.float64
        )
        for what in ("", "box ")
    )
    return PhotoScore(
        photo,
        masks=RecallCounts.from_dict(facts["masks"]),
        boxes=RecallCounts.from_dict(facts["boxes"]),
        ious=tuple(float(one.values["nearest"] or 0.0) for one in answers),
        recalls=(recalls[0], recalls[1]),
        found=facts["found"],
        prompts=facts["prompts"],
        seconds=seconds,
    )


def score_photo(
    model: Model,
    photo: SetPhoto,
    options: EverythingOptions,
    detector: str | Path | Detector | None = None,
) -> PhotoScore:
    """Segment everything in a photo and match it with the human masks and boxes."""
    image = read_photo(photo)
    prompts = [0]
    start = time.perf_counter()
    everything = model.everything(
        image, options, detector=detector, progress=lambda done, total: prompts.append(done)
    )
    seconds = time.perf_counter() - start
    found = sorted(everything, key=lambda mask: mask.score, reverse=True)
    truths = photo.instances
    areas = np.array([truth.area for truth in truths])
    ious = mask_ious([mask.rle for mask in found], [truth.segmentation for truth in truths])
    boxes = np.array([mask.box for mask in found], np.float64).reshape(-1, 4)
    true_boxes = np.array([xywh_to_xyxy(truth.bbox) for truth in truths], np.float64)
    box_ious = boxes_ious(boxes, true_boxes)
    return PhotoScore(
        photo,
        masks=count_found(ious, areas),
        boxes=count_found(box_ious, areas),
        ious=tuple(ious.max(0, initial=0).tolist()),
        recalls=(recall_of_objects(ious), recall_of_objects(box_ious)),
        found=len(found),
        prompts=prompts[-1],
        seconds=seconds,
    )


def summarise(scores: Sequence[PhotoScore]) -> SearchScores:
    """Pool the counts of photos into a set's recall."""
    return SearchScores(
        masks=pool([score.masks for score in scores]).average_recall(),
        boxes=pool([score.boxes for score in scores]).average_recall(),
        found=float(np.mean([score.found for score in scores])),
        prompts=float(np.mean([score.prompts for score in scores])),
        seconds=float(np.mean([score.seconds for score in scores])),
        each=list(scores),
    )


def pool(counts: Sequence[RecallCounts]) -> RecallCounts:
    """Add up the counts of several photos, at least one."""
    return reduce(add, counts)


def mean_recall(recall: Recall) -> float:
    """Return the mean over the limits, of objects of all sizes."""
    return float(np.mean(list(recall["all"].values())))
