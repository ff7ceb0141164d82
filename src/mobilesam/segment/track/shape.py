"""The outer shape of an object: a hull of few points, which moves and blends, and the box around it."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.boxes import mask_to_box

DIRECTIONS = 32  # in which a hull has a point
PEAKS = 3  # number of places that are looked at
LEAST_VOTES = 0.12  # share of a window's cells


def support_points(points: np.ndarray) -> np.ndarray:
    """Return those of the points (N, 2) that are farthest in each of ``DIRECTIONS``, (32, 2)."""
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    ways = np.stack([np.cos(angles), np.sin(angles)], 1)
    return points[(points @ ways.T).argmax(0)]


def hull_of(mask: Mask) -> np.ndarray:
    """Return the support points of a mask that is not empty, in pixels."""
    x0, y0, x1, y1 = mask_to_box(mask)
    part = mask[y0:y1, x0:x1]
    rows = np.flatnonzero(part.any(1))
    first, last = part.argmax(1)[rows], part.shape[1] - part[:, ::-1].argmax(1)[rows]
    corners = [np.stack([x, y], 1) for x in (first, last) for y in (rows, rows + 1)]
    return support_points(np.concatenate(corners).astype(np.float64) + np.array([x0, y0]))


def box_of(hull: np.ndarray) -> np.ndarray:
    """Return the upright box (4,) of a hull."""
    return np.concatenate([hull.min(0), hull.max(0)])


def peaks(votes: np.ndarray, rows: int, columns: int) -> list[tuple[float, float]]:
    """Return the middles (x, y), in cells, of the windows (``rows``, ``columns``) with the most votes, best first."""
    rows, columns = min(rows, votes.shape[0]), min(columns, votes.shape[1])
    wide = (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    total = np.pad(np.pad(votes, wide).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    summed = (
        total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    )
    summed = summed[: votes.shape[0], : votes.shape[1]].copy()
    found: list[tuple[float, float]] = []
    while len(found) < PEAKS:
        y, x = divmod(int(summed.argmax()), summed.shape[1])
        if summed[y, x] < LEAST_VOTES * rows * columns:
            break
        found.append((x + 0.5, y + 0.5))
        beside = (
            slice(max(0, y - rows // 2), y + rows // 2 + 1),
            slice(max(0, x - columns // 2), x + columns // 2 + 1),
        )
        summed[beside] = 0
    return found
