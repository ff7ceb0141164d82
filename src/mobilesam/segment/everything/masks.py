"""Which masks stay, the cheapest question first.

From a batch of masks, those with a low predicted IoU are dropped first, which costs nothing, then those
whose low-resolution logits are clearly unstable. Only the rest are enlarged, one mask at a time and
only where they can be, to measure their stability exactly. Masks are kept as runs, so memory
does not grow with the number of masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.core.arrays import Logits, Size
from mobilesam.core.boxes import inclusive, mask_to_box, non_maximum_suppression
from mobilesam.core.grids import Crop
from mobilesam.core.postprocess import MASK_THRESHOLD, enlarge_window, stability_scores, visible_part
from mobilesam.core.regions import remove_small_regions
from mobilesam.core.rle import rle_to_mask, window_to_rle
from mobilesam.core.types import DecoderInputs, Embedding, FoundMask
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.predictor import Predictor

SLOTS = 2  # a point and its pad, or the corners of a box
STABILITY_MARGIN = 0.01  # by how much low-resolution stability may be wrong


@dataclass(frozen=True)
class Batch:
    """What a batch of prompts has found.

    Attributes:
        masks: the good ones.
        prompts: how many were asked.
    """

    masks: tuple[FoundMask, ...]
    prompts: int


@dataclass(frozen=True)
class Likely:
    """A mask that passed the cheap questions.

    Attributes:
        number: of its prompt in the batch.
        predicted_iou: of the mask.
        low_res: its logits (h, w).
    """

    number: int
    predicted_iou: float
    low_res: Logits


def decode_likely(
    predictor: Predictor,
    embedding: Embedding,
    inputs: DecoderInputs,
    mask_tokens: Sequence[int],
    options: EverythingOptions,
) -> list[Likely]:
    """Decode prompts, and keep the masks whose predicted IoU is high enough and that may be stable.

    Args:
        predictor: decodes them.
        embedding: of the image, or of a crop of it.
        inputs: the prompts.
        mask_tokens: which masks each prompt gets.
        options: settled, see :meth:`EverythingOptions.settled`.
    """
    low_res, ious = predictor.decode(embedding, inputs, mask_tokens)
    assert options.pred_iou_thresh is not None and options.stability_score_thresh is not None  # settled
    rows, tokens = np.nonzero((ious > options.pred_iou_thresh) | (options.pred_iou_thresh <= 0))
    low_res = low_res[rows, tokens]
    if not len(low_res):
        return []
    visible = visible_part(low_res, embedding.frame)
    stable = stability_scores(visible, offset=options.stability_score_offset)
    likely = stable >= options.stability_score_thresh - STABILITY_MARGIN
    return [Likely(int(rows[i]), float(ious[rows[i], tokens[i]]), low_res[i]) for i in np.flatnonzero(likely)]


def measure(
    mask: Likely,
    embedding: Embedding,
    options: EverythingOptions,
    crop: Crop | None = None,
    size: Size | None = None,
) -> FoundMask | None:
    """Enlarge one mask's logits, and return the mask in the image if it is stable.

    Args:
        mask: the mask.
        embedding: of the image, or of a crop of it.
        options: settled, see :meth:`EverythingOptions.settled`.
        crop: that the embedding shows; the whole image where None.
        size: of the image, where there is a crop.
    """
    size = size or embedding.original_size
    crop = crop or (0, 0, size[1], size[0])
    offset = options.stability_score_offset
    enlarged = enlarge_window(mask.low_res, -offset, embedding.frame)
    if enlarged is None:
        return None
    logits, (x, y) = enlarged
    stability = float(stability_scores(logits[None], offset=offset)[0])
    assert options.stability_score_thresh is not None  # settled
    if stability < options.stability_score_thresh:
        return None
    window = logits > MASK_THRESHOLD
    x, y = x + crop[0], y + crop[1]
    x0, y0, x1, y1 = mask_to_box(window)
    box = (x0 + x, y0 + y, x1 + x, y1 + y) if x1 else (0, 0, 0, 0)
    rle = window_to_rle(window, (x, y), size)
    return FoundMask(rle, box, mask.predicted_iou, stability, (0.0, 0.0), crop)


def suppress(masks: list[FoundMask], scores: Sequence[float], threshold: float) -> list[FoundMask]:
    """Where masks' boxes overlap, keep the mask with the higher score; highest score first."""
    if not masks:
        return []
    boxes = np.array([inclusive(mask.box) for mask in masks])
    return [masks[i] for i in non_maximum_suppression(boxes, np.asarray(scores), threshold)]


def clean(mask: FoundMask, smallest: int) -> tuple[FoundMask, bool]:
    """Fill a mask's small holes and drop its small islands; say whether that changed it."""
    rle, changed = remove_small_regions(mask.rle, smallest)
    if not changed:
        return mask, False
    return replace(mask, rle=rle, box=mask_to_box(rle_to_mask(rle))), True
