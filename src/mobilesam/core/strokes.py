"""Brushed lines: which pixels they cover, and the points that stand for them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mobilesam.core.arrays import Mask, Points, Size


def stroke_to_mask(points: Points, width: float, size: Size) -> Mask:
    """Return the pixels (H, W) whose middle lies within half a width of a line through points (N, 2), x and y.

    The pixels that the points lie in are always among them, however thin the line is.

    Example:
        >>> stroke_to_mask(np.array([[1.0, 1.0], [4.0, 1.0]]), 1.0, (3, 6)).astype(int).tolist()
        [[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    """
    mask = np.zeros(size, bool)
    reach = width / 2
    ends = list(pairwise(points)) or [(points[0], points[0])]
    for begin, end in ends:
        x0, y0 = np.maximum(np.floor(np.minimum(begin, end) - reach).astype(int), 0)
        x1, y1 = np.ceil(np.maximum(begin, end) + reach).astype(int) + 1
        window = mask[y0:y1, x0:x1]
        rows, columns = np.mgrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]] + 0.5
        window |= _distance(columns, rows, begin, end) <= reach
    columns, rows = np.floor(points).astype(int).T
    mask[rows, columns] = True
    return mask


def _distance(x: np.ndarray, y: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return how far places lie from the line between two points."""
    along = end - begin
    length = float(along @ along)
    part = (
        0.0 if not length else np.clip(((x - begin[0]) * along[0] + (y - begin[1]) * along[1]) / length, 0, 1)
    )
    return np.hypot(x - begin[0] - part * along[0], y - begin[1] - part * along[1])


def points_along(points: Points, count: int) -> Points:
    """Return up to ``count`` points (M, 2) evenly along a line through points (N, 2), including its ends.

    Example:
        >>> points_along(np.array([[0.0, 0.0], [4.0, 0.0]]), 3).tolist()
        [[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]
    """
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if not along[-1]:
        return points[:1]
    wanted = np.linspace(0, along[-1], count)
    return np.stack([np.interp(wanted, along, points[:, axis]) for axis in (0, 1)], 1)
