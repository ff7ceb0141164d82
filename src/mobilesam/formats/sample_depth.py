"""16 bits a sample to 8."""

from __future__ import annotations

import numpy as np


def sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    """Return 16-bit samples as 8-bit ones, so that white stays white: divided by 257, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
