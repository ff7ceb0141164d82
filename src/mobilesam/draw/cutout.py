"""The object alone, on a transparent ground."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Image, Mask
from mobilesam.core.boxes import mask_to_box


def cut_out(image: Image, mask: Mask, *, crop: bool = True) -> np.ndarray:
    """Return RGBA (h, w, 4) uint8: the object opaque, its outermost pixel fading, the rest transparent.

    Args:
        image: (H, W, 3).
        mask: (H, W).
        crop: cut to the mask's box; an empty mask keeps the whole size.
    """
    rgba = np.dstack([image, edge_alpha(mask)])
    if crop and mask.any():
        x0, y0, x1, y1 = mask_to_box(mask)
        rgba = rgba[y0:y1, x0:x1]
    return rgba


def edge_alpha(mask: Mask) -> np.ndarray:
    """Return how much of each pixel's 3 x 3 neighbourhood is mask, 0..255, and 0 outside the mask.

    The mask is taken to go on beyond the image, so that the image's border does not fade.
    """
    height, width = mask.shape
    padded = np.pad(mask, 1, mode="edge").astype(np.uint16)
    nine = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.where(mask, (nine * 255 + 4) // 9, 0).astype(np.uint8)
