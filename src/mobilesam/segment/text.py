"""Segment what texts name: a network finds boxes for the texts, the model turns each box into a mask.

The network that finds the boxes is a plug-in. What is needed of it is :class:`TextDetector`, and
nothing else of it is known here; :mod:`mobilesam.detectors.owl` has one for OWL-ViT and OWLv2.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ConfigError, PromptWarning
from mobilesam.core.phrases import check_texts
from mobilesam.core.postprocess import visible_part
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import select_proposals
from mobilesam.detectors.owl import open_owl
from mobilesam.runtimes.onnx_file import SECONDS
from mobilesam.segment.everything.objects import Found
from mobilesam.segment.everything.options import MAX_BOXES
from mobilesam.segment.model import Model
from mobilesam.segment.results import TextMatches


class TextDetector(Protocol):
    """Finds boxes of what texts name.

    One that also has ``remarks(texts)``, a list of what it does not read or may not understand
    of them, has these told as warnings.
    """

    def find(self, image: Image, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes, scores and texts of an image, in any order.

        Args:
            image: (H, W, 3) uint8 RGB.
            texts: at least one.

        Returns:
            Boxes (N, 4) as x0, y0, x1, y1 in pixels of the image, how well each one's text fits (N,) in
            0..1, and the number of that text (N,) from 0; N may be 0.
        """
        ...


@dataclass(frozen=True)
class TextOptions:
    """Which boxes are believed.

    Attributes:
        threshold: least score of a box; 0.1 is what OWLv2's users start from.
        max_boxes: boxes that are segmented, those with the highest scores.
        box_nms_thresh: of two boxes of one text whose IoU is higher, the better stays; 1 keeps all.
        mask_nms_thresh: of two masks of one text whose IoU is higher, the one with the better
            box stays; 1 keeps all.

    Raises:
        PromptError: for a number outside its range.
        LimitError: for too many boxes.

    Example:
        >>> TextOptions(threshold=0.3).max_boxes
        100
    """

    threshold: float = 0.1
    max_boxes: int = 100
    box_nms_thresh: float = 0.7
    mask_nms_thresh: float = 0.8

    def __post_init__(self) -> None:
        for name in ("threshold", "box_nms_thresh", "mask_nms_thresh"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        check_whole_number("max_boxes", self.max_boxes, 1, MAX_BOXES)


def load_text_model(
    folder: str | Path | None = None, *, threads: int | None = None, seconds: float = SECONDS
) -> TextDetector:
    """Open a network that finds what texts name: OWL-ViT or OWLv2 as an ONNX file. Nothing is ever downloaded here.

    Args:
        folder: with ``tokenizer.json``, ``preprocessor_config.json`` and ``onnx/model.onnx``, as
            Hugging Face's tools write them; where None, ``owlv2-base-patch16-ensemble`` in the
            folder of the weights.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.
        seconds: after which it is given up, for each image.

    Raises:
        MissingExtraError: if ``mobilesam[text]`` is not installed.
        WeightsError: if the folder is missing, which tells the command that fetches it; or if a
            file in it is missing, damaged or another network's.
        PromptError: for seconds that are none.

    Warns:
        WeightsWarning: that the file is of unknown origin.

    Example:
        >>> text_model = load_text_model("owlv2-base-patch16-ensemble")  # doctest: +SKIP
        >>> model.segment_text(embedding, ["a dog"], text_model=text_model)  # doctest: +SKIP
    """
    check_number("seconds", seconds, 0.0, above=True)
    return open_owl(folder, threads=threads, seconds=seconds)


def segment_text(
    model: Model,
    embedding: Embedding,
    texts: str | Sequence[str],
    *,
    text_model: str | Path | TextDetector | None = None,
    options: TextOptions = TextOptions(),  # noqa: B008 (frozen)
    memory: int | None = None,
) -> TextMatches:
    """Segment what texts name; see :meth:`mobilesam.Model.segment_text`."""
    checked = check_texts(texts)
    detector = text_detector_for(text_model)
    remarks = tuple(getattr(detector, "remarks", lambda _: ())(checked))
    for remark in remarks:
        warnings.warn(remark, PromptWarning, stacklevel=3)
    boxes, scores, numbers = find_boxes(detector, embedding.image, checked, options)
    if not len(boxes):
        return TextMatches(embedding.image, (), checked, remarks)
    results = model.segment(embedding, [Prompt(box=box) for box in boxes], multimask=False, memory=memory)
    kept: dict[int, Found] = {}
    matches = []
    for result, score, number in zip(results, scores.tolist(), numbers.tolist(), strict=True):
        found = kept.setdefault(number, Found(options.mask_nms_thresh))
        if found.offer(visible_part(result.low_res_masks[0], embedding.frame)):
            matches.append(replace(result, label=checked[number], text_score=score))
    return TextMatches(embedding.image, tuple(matches), checked, remarks)


def text_detector_for(text_model: str | Path | TextDetector | None) -> TextDetector:
    """Return what finds boxes for texts.

    Args:
        text_model: a folder, or None for the one in the folder of the weights, see
            :func:`load_text_model`; or a :class:`TextDetector` of your own.

    Raises:
        ConfigError: for something else.
        MobileSamError: as :func:`load_text_model` does.
    """
    if text_model is None or isinstance(text_model, str | Path):
        return load_text_model(text_model)
    if not callable(getattr(text_model, "find", None)):
        raise ConfigError(
            f"text_model: is a {type(text_model).__name__}; give a folder or an object with find(image, texts)"
        )
    return text_model


def find_boxes(
    detector: TextDetector, image: Image, texts: Sequence[str], options: TextOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes (N, 4) that are believed, their scores (N,) and texts (N,), by falling score.

    Boxes that repeat each other are left out for each text by itself: one thing may have several names.

    Raises:
        ConfigError: if the detector does not answer as :class:`TextDetector` says.
    """
    boxes, scores, numbers = _check_answer(detector.find(image, texts), len(texts))
    chosen = [
        select_proposals(
            boxes[numbers == number],
            scores[numbers == number],
            image.shape[:2],
            confidence=options.threshold,
            nms_thresh=float(options.box_nms_thresh),
            most=options.max_boxes,
        )
        for number in range(len(texts))
    ]
    boxes = np.concatenate([one.boxes for one in chosen])
    scores = np.concatenate([one.objectness for one in chosen])
    numbers = np.repeat(np.arange(len(texts)), [len(one) for one in chosen])
    order = np.argsort(-scores, kind="stable")[: options.max_boxes]
    return boxes[order], scores[order], numbers[order]


def _check_answer(answer: Any, texts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Refuse what a detector should not answer, which would otherwise end in masks of nothing."""
    try:
        boxes, scores, numbers = (np.asarray(part) for part in answer)
        boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "text_model: find must return boxes (N, 4), scores (N,) and the number of each one's text (N,)"
        ) from error
    if not boxes.size:
        boxes = boxes.reshape(0, 4)
    if boxes.shape != (len(scores), 4) or scores.shape != numbers.shape or scores.ndim != 1:
        raise ConfigError(
            f"text_model: find returned boxes {boxes.shape}, scores {scores.shape} and numbers of texts "
            f"{numbers.shape}; must be (N, 4), (N,) and (N,)"
        )
    if len(numbers) and (numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= texts):
        raise ConfigError(
            f"text_model: find returned numbers of texts beyond 0 to {texts - 1}, or no whole ones"
        )
    return boxes, scores, numbers
