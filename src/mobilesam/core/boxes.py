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


def xyxy_to_xywh(box: tuple) -> tuple:
    """Return (x, y, width, height) of a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0
