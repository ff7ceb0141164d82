"""From low-resolution logits to masks: linear until the threshold, so one map of the rows and one of the columns."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Logits, Masks
from mobilesam.core.frame import Frame
from mobilesam.core.resize import enlarging_taps

MASK_THRESHOLD = 0.0
ROUNDING = (
    1e-3  # logits can be this much less than a threshold, as a part of it, and their average still above
)
STABILITY_OFFSET = 1.0  # SAM's: how far the threshold is moved either way


def enlarge_logits(low_res_masks: Logits, frame: Frame) -> Logits:
    """Enlarge logits (M, h, w) of a frame's square to the image's size, (M, H, W) float32."""
    rows, columns = enlarging_taps(low_res_masks.shape[-1], frame)
    out = np.empty((len(low_res_masks), *frame.original_size), np.float32)
    for large, low_res in zip(out, low_res_masks, strict=True):
        across = columns.apply(np.ascontiguousarray(low_res.T))
        large[:] = rows.apply(np.ascontiguousarray(across.T))
    return out


def enlarge_window(low_res: Logits, floor: float, frame: Frame) -> tuple[Logits, tuple[int, int]] | None:
    """Enlarge one mask's logits (h, w) only where they can be above ``floor``.

    Enlarging averages neighbours, so a pixel can be above the floor only near a low-resolution
    logit that is. The rest of the image is never made.

    Returns:
        Logits (H', W') and the (x, y) of their corner in the image; None if no logit is above.
    """
    taps = enlarging_taps(low_res.shape[-1], frame)
    above = low_res > floor
    filled = [np.flatnonzero(above.any(1)), np.flatnonzero(above.any(0))]
    outputs = [
        tap.reading(int(cells[0]), int(cells[-1])) if cells.size else slice(0, 0)
        for tap, cells in zip(taps, filled, strict=True)
    ]
    if any(window.start >= window.stop for window in outputs):  # nothing, or only in the padding
        return None
    spans = [tap.span(window) for tap, window in zip(taps, outputs, strict=True)]
    rows, columns = (
        tap.part(window, span.start) for tap, window, span in zip(taps, outputs, spans, strict=True)
    )
    narrow = columns.apply(np.ascontiguousarray(low_res[spans[0], spans[1]].T))
    return rows.apply(np.ascontiguousarray(narrow.T)), (outputs[1].start, outputs[0].start)


def enlarge_masks(low_res_masks: Logits, frame: Frame, *, threshold: float = MASK_THRESHOLD) -> Masks:
    """Enlarge logits (M, h, w) to boolean masks (M, H, W), each only where it can be above the threshold."""
    masks = np.zeros((len(low_res_masks), *frame.original_size), bool)
    floor = threshold - abs(threshold) * ROUNDING
    for mask, low_res in zip(masks, low_res_masks, strict=True):
        enlarged = enlarge_window(low_res, floor, frame)
        if enlarged is not None:
            logits, (x, y) = enlarged
            height, width = logits.shape
            np.greater(logits, threshold, out=mask[y : y + height, x : x + width])
    return masks


def visible_part(low_res_masks: Logits, frame: Frame) -> Logits:
    """Cut the padding off logits (..., h, w); cells that show any of the image stay."""
    height, width = frame.grid_size(low_res_masks.shape[-1])
    return low_res_masks[..., :height, :width]


def stability_scores(
    logits: Logits, *, offset: float = STABILITY_OFFSET, threshold: float = MASK_THRESHOLD
) -> np.ndarray:
    """Return the IoU (M,) of each mask thresholded high and thresholded low (SAM's appendix).

    One lies inside the other, so it is a quotient of areas. An empty pair scores 0.
    """
    inner = (logits > threshold + offset).sum((-2, -1), dtype=np.int64)
    outer = (logits > threshold - offset).sum((-2, -1), dtype=np.int64)
    return (inner / np.maximum(outer, 1)).astype(np.float32)
