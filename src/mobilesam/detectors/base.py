"""What a detector is: one Protocol for heads on a model's features, networks of their own, and text models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.boxes import clip_boxes, non_maximum_suppression
from mobilesam.core.errors import ConfigError
from mobilesam.core.types import Embedding

LEAST_SIDE = 1.0  # of a box, in pixels of the image


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes in an image, each with a score.

    Attributes:
        xyxy: (N, 4) x0, y0, x1, y1 in pixels of the image.
        scores: (N,) how likely each holds an object, or how well its text fits, in 0..1.
        texts: (N,) the number of each box's text, from 0; None if no texts were asked for.
        remarks: which parts of the texts were not read, or may not be understood.
        classes: (N,) the number of each box's class, from 0; None from detectors that do not tell classes apart.

    Example:
        >>> len(Boxes(np.array([[10, 20, 50, 60]]), np.array([0.9])))
        1
    """

    xyxy: np.ndarray
    scores: np.ndarray
    texts: np.ndarray | None = None
    remarks: tuple[str, ...] = ()
    classes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def take(self, numbers: np.ndarray | slice) -> Boxes:
        """Return some of the boxes, by their numbers."""
        texts = None if self.texts is None else self.texts[numbers]
        classes = None if self.classes is None else self.classes[numbers]
        return Boxes(self.xyxy[numbers], self.scores[numbers], texts, self.remarks, classes)


class Detector(Protocol):
    """Finds boxes in an image that a model has seen: of any object, or of what texts name."""

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        """Return boxes in any order; there may be none.

        Args:
            embedding: of the image, with the image itself as ``embedding.image``.
            texts: what to look for; empty for objects of any kind.
        """
        ...


def check_boxes(found: object, name: str, *, texts: int = 0) -> Boxes:
    """Check the answer of a user's own detector; a wrong one would otherwise end in masks of nothing.

    Args:
        found: the answer.
        name: of the argument that gave the detector.
        texts: how many texts it was asked for; 0 if it was asked for objects.

    Raises:
        ConfigError: if that is not :class:`Boxes` of the right shapes.
    """
    if not isinstance(found, Boxes):
        raise ConfigError(f"{name}: find returned a {type(found).__name__}; must be mobilesam.Boxes")
    try:
        xyxy, scores = (np.asarray(part).astype(np.float64) for part in (found.xyxy, found.scores))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: find returned boxes or scores that are not numbers") from error
    xyxy = xyxy if xyxy.size else xyxy.reshape(0, 4)
    if xyxy.ndim != 2 or xyxy.shape != (len(scores), 4) or scores.ndim != 1:
        raise ConfigError(
            f"{name}: find returned boxes {xyxy.shape} and scores {scores.shape}; must be (N, 4) and (N,)"
        )
    numbers = None if not texts else _check_texts(found.texts, len(scores), name, texts)
    classes = None if found.classes is None else _check_classes(found.classes, len(scores), name)
    return Boxes(xyxy, scores, numbers, tuple(found.remarks), classes)


def _check_classes(numbers: object, count: int, name: str) -> np.ndarray:
    array = np.asarray(numbers)
    if array.shape != (count,) or (count and (array.dtype.kind not in "iu" or array.min() < 0)):
        raise ConfigError(
            f"{name}: find returned classes {array.shape}; must be ({count},) whole numbers from 0"
        )
    return array.astype(np.int64)


def _check_texts(numbers: object, count: int, name: str, texts: int) -> np.ndarray:
    array = np.asarray(numbers)
    if array.shape != (count,):
        raise ConfigError(
            f"{name}: find returned the texts of {array.shape} boxes; must be ({count},), one for each"
        )
    if count and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= texts):
        raise ConfigError(
            f"{name}: find returned numbers of texts beyond 0 to {texts - 1}, or not whole numbers"
        )
    return array.astype(np.int64)


def select_boxes(found: Boxes, size: Size, *, confidence: float, nms_thresh: float, most: int) -> Boxes:
    """Clip boxes to an image (height, width), and keep the likeliest that do not repeat each other.

    Args:
        found: the boxes; those with a value that is not finite are left out.
        size: of the image.
        confidence: least score.
        nms_thresh: of two boxes whose IoU is higher, the likelier stays.
        most: how many boxes are kept.
    """
    found = found.take(np.isfinite(found.xyxy).all(1) & (found.scores >= confidence))
    clipped = clip_boxes(found.xyxy.astype(np.float64), size)
    large = (clipped[:, 2:] - clipped[:, :2] >= LEAST_SIDE).all(1)
    found = replace(found, xyxy=clipped).take(large)
    return found.take(non_maximum_suppression(found.xyxy, found.scores, nms_thresh, most=most))
