"""Regions of a mask: how far inside a pixel lies, and where the middle is."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Mask


def distance_to_edge(mask: Mask) -> np.ndarray:
    """Return each pixel's distance (H, W) to the nearest one outside the mask.

    Exact and Euclidean; everything beyond the picture is outside. Distances along the
    columns come first, then, for each column apart, the nearer of the two sides.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    height, _ = padded.shape
    along = np.where(padded, np.inf, 0.0)
    for y in range(1, height):
        np.minimum(along[y], along[y - 1] + 1, out=along[y])
    for y in range(height - 2, -1, -1):
        np.minimum(along[y], along[y + 1] + 1, out=along[y])
    column = along**2
    squared = column.copy()
    apart = 1
    while apart**2 < squared.max():
        np.minimum(squared[:, apart:], column[:, :-apart] + apart**2, out=squared[:, apart:])
        np.minimum(squared[:, :-apart], column[:, apart:] + apart**2, out=squared[:, :-apart])
        apart += 1
    return np.sqrt(squared[1:-1, 1:-1])


def central_pixel(mask: Mask) -> tuple[int, int]:
    """Return the (x, y) of the pixel farthest from the mask's edge; the first of several."""
    y, x = divmod(int(distance_to_edge(mask).argmax()), mask.shape[1])
    return x, y
