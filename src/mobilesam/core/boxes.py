"""Boxes: xyxy corners with the far edge exclusive; COCO's bbox is xywh."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Mask


def mask_to_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return the tight box (x0, y0, x1, y1) of a mask; all zeros for an empty one."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not columns.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def inclusive(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return a box with its far edges inclusive, as SAM compares boxes; zeros for an empty mask."""
    x0, y0, x1, y1 = box
    return (x0, y0, x1 - 1, y1 - 1) if x1 else box


def xyxy_to_xywh(box: tuple) -> tuple:
    """Return (x, y, width, height) of a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0


def xywh_to_xyxy(box: tuple) -> tuple:
    """Return (x0, y0, x1, y1) of a box (x, y, width, height)."""
    x, y, width, height = box
    return x, y, x + width, y + height


def box_ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU (N,) of one box (4,) with each of ``boxes`` (N, 4); 0 where a box has no area.

    It has the boxes' own type.
    """
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    overlap = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    union = (box[2:] - box[:2]).prod() + areas - overlap
    return np.divide(
        overlap, union, out=np.zeros(len(boxes), np.result_type(union, np.float32)), where=union > 0
    )


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes (N, 4) xyxy with what lies outside an image (height, width) cut off."""
    height, width = size
    return np.clip(boxes, 0, [width, height, width, height])


def non_maximum_suppression(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, *, most: int | None = None
) -> np.ndarray:
    """Return the numbers of the boxes that stay, by falling score.

    A box is dropped if its IoU with a better one that stays is above ``threshold``. IoUs are float32 as in
    torchvision, which SAM's own search uses: 4/5 is then above 0.8, and 7/10 is not above 0.7.

    Args:
        boxes: (N, 4) x0, y0, x1, y1.
        scores: (N,).
        threshold: IoU.
        most: how many may stay; all if None.
    """
    boxes = np.asarray(boxes, np.float32)
    waiting = np.argsort(-np.asarray(scores), kind="stable")
    kept: list[int] = []
    while waiting.size and len(kept) != most:
        best, rest = waiting[0], waiting[1:]
        kept.append(best)
        waiting = rest[box_ious(boxes[best], boxes[rest]).astype(np.float64) <= threshold]
    return np.array(kept, np.int64)


def near_crop_edge(
    boxes: np.ndarray, crop: tuple, size: tuple[int, int], *, reach: float = 20.0
) -> np.ndarray:
    """Return (N,) whether a box lies at an edge that the crop cuts, not the image: its object goes on.

    Args:
        boxes: (N, 4) x0, y0, x1, y1 in the image, the far edges inclusive as in SAM.
        crop: (x0, y0, x1, y1).
        size: (height, width) of the image.
        reach: how near is near, in pixels.
    """
    height, width = size
    at_crop = np.abs(boxes - np.array(crop)) <= reach
    at_image = np.abs(boxes - np.array([0, 0, width, height])) <= reach
    return (at_crop & ~at_image).any(1)
