"""Where to ask when nobody points: grids of points, and crops of the image (SAM's appendix B)."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from mobilesam.core.arrays import Points, Size

SPREAD_BITS = 12  # finer places than any grid has
Crop = tuple[int, int, int, int]  # x0, y0, x1, y1


def build_point_grid(n_per_side: int) -> Points:
    """Return an even grid of (n * n, 2) points x, y in 0..1, row by row.

    Example:
        >>> build_point_grid(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    side = (np.arange(n_per_side) + 0.5) / n_per_side
    return np.stack([np.tile(side, n_per_side), np.repeat(side, n_per_side)], axis=-1)


def build_layer_grids(n_per_side: int, layers: int, downscale: int) -> list[Points]:
    """Return the grid of the whole image and of each layer of crops, thinner by ``downscale`` each."""
    return [build_point_grid(int(n_per_side / downscale**layer)) for layer in range(layers + 1)]


def one_per_pixel(grid: Points, size: Size) -> Points:
    """Return the points (N, 2) in 0..1 without those that lie in the same pixel as an earlier one.

    Args:
        grid: the points.
        size: (height, width) of the image or crop.

    Example:
        >>> len(one_per_pixel(build_point_grid(32), (5, 40)))
        160
    """
    pixels = np.floor(grid * np.array(size[::-1])).astype(np.int64)
    first = np.unique(pixels, axis=0, return_index=True)[1]
    return grid[np.sort(first)]


def generate_crop_boxes(size: Size, layers: int, overlap_ratio: float) -> list[tuple[Crop, int]]:
    """Return the crops of an image (height, width) with their layers, the whole image first.

    Layer i has (2^i)^2 crops, which overlap by a part of the image's shorter side. Their sides are
    rounded up, so the last ones of a row or column may begin beyond a small image; those are left out.

    Args:
        size: (height, width).
        layers: layers beyond the whole image.
        overlap_ratio: the first layer's overlap; it halves with each layer.
    """
    height, width = size
    crops: list[tuple[Crop, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        n = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / n))
        crop_width, crop_height = (math.ceil((overlap * (n - 1) + side) / n) for side in (width, height))
        x_starts, y_starts = (
            list(dict.fromkeys(start for start in ((crop - overlap) * i for i in range(n)) if start < side))
            for crop, side in ((crop_width, width), (crop_height, height))
        )
        crops += [
            ((x, y, min(x + crop_width, width), min(y + crop_height, height)), layer)
            for x, y in product(x_starts, y_starts)
        ]
    return crops


def spread_order(points: Points) -> np.ndarray:
    """Return an order of points (N, 2) in 0..1 in which the first ones, however many, spread over the image.

    The places are numbered with their bits in reverse (van der Corput's order, in two
    dimensions). So under a time limit, what was done covers the whole image.
    """
    cells = np.floor(points * 2**SPREAD_BITS).astype(np.int64).clip(0, 2**SPREAD_BITS - 1)
    number = np.zeros(len(points), np.int64)
    for bit in range(SPREAD_BITS):
        for axis in (0, 1):
            coarsest_first = cells[:, axis] >> (SPREAD_BITS - 1 - bit) & 1
            number |= coarsest_first << (2 * bit + axis)
    return np.argsort(number, kind="stable")
