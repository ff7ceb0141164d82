"""How good a mask is."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Mask


def mask_iou(mask: Mask, truth: Mask) -> float:
    """Return the intersection over union of two masks (H, W); 1 for two empty ones."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0
