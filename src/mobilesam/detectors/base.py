"""Boxes that may hold an object: what MobileSAMv2 prompts with instead of a grid of points.

Two kinds behind one Protocol. :class:`HeadProposer` asks the head on ``pocket``'s own features,
which costs a few per cent of its encoder; where another model segments, ``pocket`` looks at the
image beside it. :class:`DetectorProposer` runs a network that does nothing else: this project's own,
or any detector that is given as an ONNX file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mobilesam.core.boxes import clip_boxes, non_maximum_suppression
from mobilesam.core.errors import ConfigError
from mobilesam.core.types import Embedding
from mobilesam.detectors.onnx_layouts import Detector, open_detector
from mobilesam.detectors.own import OwnDetector, open_own_detector
from mobilesam.segment.model import Model, load
from mobilesam.weights import DEFAULT_MODEL, entry_of

LEAST_SIDE = 1.0  # of a box, in pixels of the image


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes with how likely each holds an object, likeliest first.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the image, inside it.
        objectness: (N,) in 0..1.
    """

    boxes: np.ndarray
    objectness: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


class Proposer(Protocol):
    """Finds boxes in an image that a model has seen."""

    def propose(self, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4) xyxy in pixels of the image, and their objectness (N,), in any order."""
        ...


class HeadProposer:
    """The head for objects on a model's own feature maps.

    Args:
        model: a model that has one, such as ``pocket``. Where another model made the embedding,
            this one embeds the image as well.

    Raises:
        ConfigError: if the model has no such head.
    """

    def __init__(self, model: Model) -> None:
        if not model.runtime.proposes:
            raise ConfigError(f"detector: {model.name} has no head for objects; give pocket or an .onnx file")
        self.model = model

    def propose(self, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Proposer`."""
        if embedding.model != self.model.name:
            embedding = self.model.embed(embedding.image)
        boxes, objectness = self.model.runtime.propose(embedding.arrays)
        return embedding.frame.boxes_to_original(boxes), objectness


class DetectorProposer:
    """A stand-alone detector.

    Args:
        detector: from :func:`mobilesam.detectors.onnx_layouts.open_detector` or
            :func:`mobilesam.detectors.own.open_own_detector`.
    """

    def __init__(self, detector: Detector | OwnDetector) -> None:
        self.detector = detector

    def propose(self, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Proposer`."""
        return self.detector.detect(embedding.image)


def proposer_for(
    model: Model, detector: str | Path | Model | Proposer | None = None, *, layout: str | None = None
) -> Proposer:
    """Return what finds objects for a model.

    Args:
        model: what segments.
        detector: None for the model's own head, or ``pocket``'s where it has none; a model with a
            head or its name; ``detector_nano``; an .onnx file, or a .safetensors file that
            ``mobilesam train boxes`` made; or a :class:`Proposer` of your own.
        layout: of the file's outputs, see ``mobilesam.detectors.onnx_layouts.LAYOUTS``; found out where None.

    Raises:
        ConfigError: for a model without a head, or an unknown layout.
        WeightsError: if a file is missing or no such detector.
    """
    if detector is None:
        return HeadProposer(model if model.runtime.proposes else load(DEFAULT_MODEL))
    if isinstance(detector, Model):
        return HeadProposer(detector)
    if isinstance(detector, str | Path):
        if Path(detector).suffix.lower() == ".onnx":
            return DetectorProposer(open_detector(detector, layout=layout))
        if Path(detector).suffix.lower() == ".safetensors":
            return DetectorProposer(open_own_detector(detector))
        if str(detector) != model.name and entry_of(str(detector)).detector:
            return DetectorProposer(open_own_detector(entry_of(str(detector))))
        return HeadProposer(model if str(detector) == model.name else load(str(detector)))
    if not callable(getattr(detector, "propose", None)):
        raise ConfigError(
            f"detector: is a {type(detector).__name__}; give a model's name, a detector's file or an object with "
            "propose(embedding)"
        )
    return detector


def select_proposals(
    boxes: np.ndarray,
    objectness: np.ndarray,
    size: tuple[int, int],
    *,
    confidence: float,
    nms_thresh: float,
    most: int,
) -> Proposals:
    """Clip boxes to an image (height, width), and keep the likeliest that do not repeat each other.

    Args:
        boxes: (N, 4) xyxy; those with a value that is not finite are left out.
        objectness: (N,).
        size: of the image.
        confidence: least objectness.
        nms_thresh: of two boxes whose IoU is higher, the likelier stays.
        most: boxes that are kept.
    """
    fine = np.isfinite(boxes).all(1) & (objectness >= confidence)
    boxes, objectness = clip_boxes(boxes[fine].astype(np.float64), size), objectness[fine]
    fine = (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(1)
    boxes, objectness = boxes[fine], objectness[fine]
    kept = non_maximum_suppression(boxes, objectness, nms_thresh, most=most)
    return Proposals(boxes[kept], objectness[kept])
