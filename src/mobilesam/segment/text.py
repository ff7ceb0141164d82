"""Segment what texts name: a detector finds boxes for the texts, the model turns each box into a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.core.postprocess import visible_part
from mobilesam.core.prompts import names_with
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Boxes, Detector, check_boxes, select_boxes
from mobilesam.segment.everything.objects import Found
from mobilesam.segment.everything.options import MAX_BOXES
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import TextMatches


@dataclass(frozen=True)
class TextOptions:
    """Which boxes are trusted.

    Attributes:
        threshold: least score of a box; OWLv2's users usually start from 0.1.
        max_boxes: at most this many boxes are segmented, those with the highest scores.
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


def segment_text(
    predictor: Predictor,
    embedding: Embedding,
    texts: tuple[str, ...],
    detector: Detector,
    options: TextOptions,
    memory: int | None = None,
) -> TextMatches:
    """Segment what texts name; see :meth:`mobilesam.Model.segment_text`.

    Args:
        predictor: segments the boxes.
        embedding: of the image.
        texts: already checked.
        detector: what finds boxes for them.
        options: which boxes are trusted.
        memory: see :meth:`mobilesam.Model.segment`.
    """
    boxes = find_boxes(detector, embedding, texts, options)
    if not len(boxes):
        return TextMatches(embedding.image, (), texts, boxes.remarks)
    assert boxes.texts is not None
    prompts = [Prompt(box=box) for box in boxes.xyxy]
    valid = predictor.validate(embedding, prompts, [names_with("")] * len(prompts), memory)
    results = predictor.segment(embedding, valid, multimask=False, memory=memory)
    kept: dict[int, Found] = {}
    matches = []
    for result, score, number in zip(results, boxes.scores.tolist(), boxes.texts.tolist(), strict=True):
        found = kept.setdefault(number, Found(options.mask_nms_thresh))
        if found.offer(visible_part(result.low_res_masks[0], embedding.frame)):
            matches.append(replace(result, label=texts[number], text_score=score))
    return TextMatches(embedding.image, tuple(matches), texts, boxes.remarks)


def find_boxes(detector: Detector, embedding: Embedding, texts: Sequence[str], options: TextOptions) -> Boxes:
    """Return the boxes that are trusted, highest score first.

    Boxes that repeat each other are left out within each text only, as one thing may have several names.

    Raises:
        ConfigError: if the detector does not answer as :class:`~mobilesam.detectors.base.Detector` says.
    """
    found = check_boxes(detector.find(embedding, texts), "text_model", texts=len(texts))
    assert found.texts is not None
    chosen = [
        select_boxes(
            found.take(found.texts == number),
            embedding.original_size,
            confidence=options.threshold,
            nms_thresh=float(options.box_nms_thresh),
            most=options.max_boxes,
        )
        for number in range(len(texts))
    ]
    boxes = Boxes(
        np.concatenate([one.xyxy for one in chosen]),
        np.concatenate([one.scores for one in chosen]),
        np.concatenate([one.texts for one in chosen if one.texts is not None]),
        found.remarks,
    )
    return boxes.take(np.argsort(-boxes.scores, kind="stable")[: options.max_boxes])
