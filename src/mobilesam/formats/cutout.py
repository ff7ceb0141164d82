"""The object alone, on transparent ground."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Image, Logits, Mask

SOFT_EDGE = 1.0  # logits either side of the threshold over which the edge fades


def cut_out(image: Image, mask: Mask, *, logits: Logits | None = None, crop: bool = True) -> np.ndarray:
    """Return RGBA (h, w, 4) uint8 with everything beside the mask transparent.

    Args:
        image: (H, W, 3).
        mask: (H, W).
        logits: (H, W) of the same mask, for an edge that fades.
        crop: cut to the mask's box; an empty mask keeps the whole size.
    """
    alpha = mask.astype(np.float32)
    if logits is not None:
        alpha = np.clip(logits / (2 * SOFT_EDGE) + 0.5, 0, 1)
    rgba = np.dstack([image, np.rint(alpha * 255).astype(np.uint8)])
    if crop and mask.any():
        columns, rows = np.flatnonzero((alpha > 0).any(0)), np.flatnonzero((alpha > 0).any(1))
        rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return rgba
