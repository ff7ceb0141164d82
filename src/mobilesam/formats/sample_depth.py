"""Samples of pixels: 16 bits to 8, and whether any is there."""

from __future__ import annotations

import numpy as np


def sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    """Return 16-bit samples as 8-bit ones, so that white stays white: divided by 257, rounded."""
    return ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)  # the same without a division


def any_sample(samples: np.ndarray) -> np.ndarray:
    """Return where any of a pixel's samples (..., S) is not zero."""
    found = samples[..., 0] != 0
    for band in range(1, samples.shape[-1]):
        found |= samples[..., band] != 0
    return found
