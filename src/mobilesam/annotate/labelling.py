"""What objects a photo has, for a set: boxes of a detector, of labels that exist, or of texts; or everything.

A labeller answers for one photo, with no memory of others, so that photos may be labelled in any order, by
any number of workers, and again after a crash with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mobilesam.annotate.sources import Photo
from mobilesam.core.arrays import Size
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError
from mobilesam.core.prompts import names_with
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Boxes, Detector, check_boxes, select_boxes
from mobilesam.formats.datasets.model import UNNAMED, Box, LabelledObject, box_of
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.everything.search import no_progress, segment_everything
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation
from mobilesam.segment.text import TextOptions, segment_text

DECIMALS = 4  # of scores


@dataclass(frozen=True)
class Labels:
    """What a labeller says about a photo.

    Attributes:
        objects: the photo's objects, without numbers.
        remarks: what may not be intended.
    """

    objects: tuple[LabelledObject, ...]
    remarks: tuple[str, ...] = ()


class Labeller(Protocol):
    """Finds and segments the objects of a photo. Safe to call from several threads."""

    def label(self, photo: Photo, file_name: str) -> Labels:
        """Return the objects of a photo, which the set calls ``file_name``.

        Raises:
            MobileSamError: if a part of the work fails.
        """
        ...


@dataclass(frozen=True)
class BoxLimits:
    """Which of a detector's boxes are segmented.

    Attributes:
        confidence: boxes must be at least this likely, 0 to 1.
        box_nms_thresh: of two boxes of one class with a higher IoU, the likelier stays, 0 to 1.
        max_boxes: most boxes for a photo.
    """

    confidence: float = 0.25
    box_nms_thresh: float = 0.45
    max_boxes: int = 300


@dataclass(frozen=True)
class ByDetector:
    """Labels the boxes of a detector.

    Attributes:
        predictor: segments the objects.
        detector: what finds boxes; their ``texts``, if it has any, are indices into ``names``.
        names: of the detector's classes; empty for objects of any kind.
        keep: numbers of the classes that are wanted; None for all.
        limits: which boxes are segmented.
    """

    predictor: Predictor
    detector: Detector
    names: tuple[str, ...] = ()
    keep: frozenset[int] | None = None
    limits: BoxLimits = field(default_factory=BoxLimits)

    def label(self, photo: Photo, file_name: str) -> Labels:
        """See :class:`Labeller`."""
        embedding = self.predictor.embed(photo.image, photo.remarks)
        found = check_boxes(self.detector.find(embedding), "detector")
        boxes = select_by_class(found, photo.size, self.limits, self.keep)
        classes = np.zeros(len(boxes), int) if boxes.classes is None else boxes.classes
        wanted = [
            Wanted(tuple(box), self._name(number), round(float(score), DECIMALS))
            for box, number, score in zip(boxes.xyxy.tolist(), classes.tolist(), boxes.scores, strict=True)
        ]
        return segment_wanted(self.predictor, embedding, wanted)

    def _name(self, number: int) -> str:
        if not self.names:
            return UNNAMED if self.keep is None else f"class {number}"
        return self.names[number] if number < len(self.names) else f"class {number}"


@dataclass(frozen=True)
class ByBoxes:
    """Labels boxes that are given.

    Attributes:
        predictor: segments the objects.
        boxes: the boxes of each photo, by its name in the set.
    """

    predictor: Predictor
    boxes: Mapping[str, Sequence[LabelledObject]]

    def label(self, photo: Photo, file_name: str) -> Labels:
        """See :class:`Labeller`."""
        given = self.boxes.get(file_name)
        if given is None:
            return Labels((), ("the given boxes have none for this photo",))
        x1, y1 = photo.size[1], photo.size[0]
        if any(not (one.box[2] <= x1 and one.box[3] <= y1) for one in given):
            raise ConfigError(
                f"{photo.source.name}: its boxes reach beyond its {x1} x {y1} pixels; is it another photo?"
            )
        embedding = self.predictor.embed(photo.image, photo.remarks)
        wanted = [Wanted(one.box, one.label, one.score, one.iscrowd) for one in given if _has_extent(one.box)]
        return segment_wanted(self.predictor, embedding, wanted)


@dataclass(frozen=True)
class ByTexts:
    """Labels what texts name.

    Attributes:
        predictor: segments the objects.
        text_model: what finds boxes for texts.
        texts: what to look for; each is a category.
        options: which boxes are accepted.
    """

    predictor: Predictor
    text_model: Detector
    texts: tuple[str, ...]
    options: TextOptions = field(default_factory=TextOptions)

    def label(self, photo: Photo, file_name: str) -> Labels:
        """See :class:`Labeller`."""
        embedding = self.predictor.embed(photo.image, photo.remarks)
        found = segment_text(self.predictor, embedding, self.texts, self.text_model, self.options)
        objects = [
            segmentation_to_object(
                result, Wanted((0, 0, 0, 0), result.label or UNNAMED, _rounded(result.text_score))
            )
            for result in found
        ]
        return _kept(objects, found.remarks)


@dataclass(frozen=True)
class ByEverything:
    """Labels everything in a photo, as objects of one kind.

    Attributes:
        predictor: segments the objects.
        detector: what finds boxes; a grid needs none.
        options: how a photo is searched.
    """

    predictor: Predictor
    detector: Detector | None
    options: EverythingOptions = field(default_factory=EverythingOptions)

    def label(self, photo: Photo, file_name: str) -> Labels:
        """See :class:`Labeller`."""
        found = segment_everything(
            self.predictor, photo.image, self.options, detector=self.detector, progress=no_progress
        )
        return Labels(
            tuple(
                LabelledObject(
                    UNNAMED,
                    (float(one.box[0]), float(one.box[1]), float(one.box[2]), float(one.box[3])),
                    one.rle,
                    round(one.score, DECIMALS),
                    facts={
                        "predicted_iou": round(one.predicted_iou, DECIMALS),
                        "stability_score": round(one.stability_score, DECIMALS),
                        "point_coords": [[round(float(value), 2) for value in one.point]],
                        "crop_box": list(xyxy_to_xywh(one.crop)),
                    },
                )
                for one in found
            )
        )


@dataclass(frozen=True)
class Wanted:
    """A box to segment, with its object's label and how sure its finder is."""

    box: Box
    label: str
    score: float | None = None
    iscrowd: bool = False


def select_by_class(found: Boxes, size: Size, limits: BoxLimits, keep: frozenset[int] | None = None) -> Boxes:
    """Return the likeliest boxes; those of different classes do not suppress each other.

    Args:
        found: by a detector.
        size: (height, width) of the photo.
        limits: which boxes are taken.
        keep: numbers of the classes that are wanted; None for all.
    """
    if keep is not None and found.classes is not None:
        found = found.take(np.isin(found.classes, sorted(keep)))
    kinds = [None] if found.classes is None else np.unique(found.classes).tolist()
    chosen = [
        select_boxes(
            found if kind is None else found.take(found.classes == kind),
            size,
            confidence=limits.confidence,
            nms_thresh=limits.box_nms_thresh,
            most=limits.max_boxes,
        )
        for kind in kinds
    ]
    if not chosen:
        return found
    joined = Boxes(
        np.concatenate([one.xyxy for one in chosen]),
        np.concatenate([one.scores for one in chosen]),
        classes=None if found.classes is None else np.concatenate([one.classes for one in chosen]),
    )
    return joined.take(np.argsort(-joined.scores, kind="stable")[: limits.max_boxes])


def segment_wanted(predictor: Predictor, embedding: Embedding, wanted: Sequence[Wanted]) -> Labels:
    """Segment boxes; an object keeps its label, whatever happens to those before it."""
    prompts = [Prompt(box=one.box) for one in wanted]
    names = [names_with(f"box {i}: ") for i in range(1, len(prompts) + 1)]
    valid = predictor.validate(embedding, prompts, names)
    results = predictor.segment(embedding, valid, multimask=False)
    return _kept([segmentation_to_object(result, one) for result, one in zip(results, wanted, strict=True)])


def segmentation_to_object(result: Segmentation, wanted: Wanted) -> LabelledObject | None:
    """Return the object of a result; None where its mask is empty."""
    if not result.area:
        return None
    facts = {
        "predicted_iou": round(result.best.predicted_iou, DECIMALS),
        "stability_score": round(result.best.stability_score, DECIMALS),
    }
    return LabelledObject(
        wanted.label, box_of(result.rle), result.rle, wanted.score, wanted.iscrowd, facts=facts
    )


def _kept(objects: Sequence[LabelledObject | None], remarks: Sequence[str] = ()) -> Labels:
    there = tuple(one for one in objects if one is not None)
    empty = len(objects) - len(there)
    told = [f"{empty} of {len(objects)} boxes have an empty mask; they are left out"] if empty else []
    return Labels(there, (*remarks, *told))


def _has_extent(box: Box) -> bool:
    return box[2] - box[0] >= 1 and box[3] - box[1] >= 1


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(float(score), DECIMALS)
