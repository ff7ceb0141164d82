"""Samples of pixels: from 16 bits to 8, and whether any is not zero."""

from __future__ import annotations

import numpy as np


def sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    """Return 16-bit samples as 8-bit ones, so that white stays white: divided by 257, rounded."""
    native = values.astype(np.uint16, copy=False)
    shares = native >> 7  # rounded(v / 257) is (v - rounded(v / 256) + 128) >> 8, which fits into 16 bits
    shares += 1
    shares >>= 1
    np.subtract(native, shares, out=shares)
    shares += 128
    shares >>= 8
    return shares.astype(np.uint8)


def any_sample(samples: np.ndarray) -> np.ndarray:
    """Return where any of a pixel's samples (..., S) is not zero."""
    found = samples[..., 0] != 0
    for band in range(1, samples.shape[-1]):
        found |= samples[..., band] != 0
    return found
