"""The outlines of a mask, traced along its pixels' edges.

Pixels belong to one region if they share an edge (4-connectivity), in the background as in the
object. If two pixels of the object touch only at a corner, there are two cases. If they belong
to different regions, these touch there and stay apart. If one region comes back to itself, it is
closed there, and what it encloses is a hole that touches another outline in that point. So no
outline passes a point twice, which is what makes a polygon valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.regions import label_runs
from mobilesam.core.rle import mask_to_rle


@dataclass(frozen=True, eq=False)
class Outlines:
    """Closed outlines, one after the other, each beginning at the left of its topmost row or hole.

    Those around regions run clockwise on the screen, those around holes the other way.

    Attributes:
        points: (N, 2) int64 x, y; no three in a row lie on a line, and the first is not repeated.
        starts: (K,) where each outline begins.
        pinched: (N,) whether another outline touches in the point.
        regions: (K,) number of the region that each belongs to.
        areas: (K,) int64 enclosed pixels, negative for holes.
    """

    points: np.ndarray
    starts: np.ndarray
    pinched: np.ndarray
    regions: np.ndarray
    areas: np.ndarray

    @cached_property
    def owner(self) -> np.ndarray:
        """(N,) number of the outline that each point belongs to."""
        return np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, len(self.points))))

    @cached_property
    def after(self) -> np.ndarray:
        """(N,) number of the point that follows each."""
        after = np.arange(1, len(self.points) + 1)
        after[np.append(self.starts[1:], len(after)) - 1] = self.starts
        return after

    @cached_property
    def perimeters(self) -> np.ndarray:
        """(K,) length of each outline."""
        lengths = np.abs(self.points[self.after] - self.points).sum(1)
        return np.bincount(self.owner, weights=lengths, minlength=len(self.starts))

    def split(self, keep: np.ndarray) -> list[np.ndarray]:
        """Return each outline (n, 2) with those of its points that ``keep`` (N,) selects."""
        return np.split(self.points[keep], np.cumsum(np.bincount(self.owner[keep]))[:-1])

    def split_pixels(self, keep: np.ndarray) -> list[np.ndarray]:
        """Return the way (n, 2) from pixel to pixel inside each outline, through the points that ``keep`` (N,) selects.

        The pixels are those of the mask along the outline, so the way around a hole lies outside of
        it. In a corner of the mask that is a pixel of two edges or, where the mask turns outwards,
        the one between those; if that one is not in the mask, because outlines touch, both of them.
        """
        along = np.sign(self.points[self.after] - self.points)
        before = np.empty_like(along)
        before[self.after] = along
        coming = self.points + (_to_the_right(before) - before - 1) // 2
        going = self.points + (_to_the_right(along) + along - 1) // 2
        outwards = (coming != going).any(1)
        coming[outwards & ~self.pinched] += before[outwards & ~self.pinched]
        way = np.stack([coming, going], 1)
        keep_both = np.stack([keep, keep & outwards & self.pinched], 1)
        return np.split(
            way[keep_both], np.cumsum(np.bincount(self.owner, weights=keep_both.sum(1)))[:-1].astype(int)
        )


def trace_outlines(mask: Mask) -> Outlines:
    """Trace the outlines of a mask (H, W) that is not empty.

    A corner of the outlines is a point where an odd number of the four pixels around it is in the
    mask, or two that lie diagonally; the latter is passed twice. In every row and in every column
    the corners pair up into the edges between them, so following an outline means going from edge
    to edge, a row's and a column's in turn.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    height = padded.shape[0] - 1  # of the lattice of corners
    y, x, second = _corners(padded)
    regions = _Regions(padded[1:-1, 1:-1])
    pinched = second | np.append(second[1:], False)
    up_goes_left = np.ones(len(y), bool)
    up_goes_left[pinched] = _up_goes_left(padded, y[pinched], x[pinched], regions)

    by_column = np.argsort((x * height + y) * 2 + (second == up_goes_left), kind="stable")
    vertical = np.empty(len(y), np.int64)  # the other end of a corner's vertical edge
    vertical[by_column[0::2]], vertical[by_column[1::2]] = by_column[1::2], by_column[0::2]

    left = np.arange(0, len(y), 2)  # corners come row by row, so horizontal edges are pairs of them
    below = padded[y[left] + 1, x[left] + 1]
    tail, head = np.where(below, left, left + 1), np.where(below, left + 1, left)
    order, first = _cycles(vertical[head] // 2)
    corners = np.stack([tail[order], head[order]], 1).ravel()
    edges = order[first]
    heights = y[tail[order]] * (x[tail[order]] - x[head[order]])
    return Outlines(
        points=np.stack([x[corners], y[corners]], 1),
        starts=2 * first,
        pinched=pinched[corners],
        regions=regions.at(y[left[edges]] - ~below[edges], x[left[edges]]),
        areas=np.add.reduceat(heights, first),
    )


def count_corners(mask: Mask) -> int:
    """Return how many points the outlines of a mask (H, W) have, without tracing them."""
    return len(_corners(np.pad(np.asarray(mask, bool), 1))[0])


def _to_the_right(direction: np.ndarray) -> np.ndarray:
    """Turn directions (N, 2) to the right, as seen on the screen: to where the mask is."""
    return np.stack([-direction[:, 1], direction[:, 0]], 1)


def _corners(padded: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corners' y and x, row by row, and whether each is the second of two at its place."""
    northwest, northeast = padded[:-1, :-1], padded[:-1, 1:]
    southwest, southeast = padded[1:, :-1], padded[1:, 1:]
    differs = northwest ^ northeast
    turns = differs ^ southwest ^ southeast
    crosses = differs & ~turns & (northwest ^ southwest)
    places = np.flatnonzero(turns | crosses)
    places = np.repeat(places, 1 + crosses.ravel()[places])
    second = np.append(False, places[1:] == places[:-1])
    y, x = np.divmod(places, turns.shape[1])
    return y, x, second


class _Regions:
    """The number of the region that a pixel of the mask belongs to."""

    def __init__(self, mask: Mask) -> None:
        self._height = mask.shape[0]
        self._starts, _, self._labels = label_runs(mask_to_rle(mask), corners=False)

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the numbers at pixels (n,), which are all in the mask."""
        return self._labels[np.searchsorted(self._starts, x * self._height + y, side="right") - 1]


def _up_goes_left(padded: np.ndarray, y: np.ndarray, x: np.ndarray, regions: _Regions) -> np.ndarray:
    """Whether, at corners with two diagonal pixels, the edge from above goes on to the left.

    Two regions are kept apart; if one region closes there, the background's pixels are kept apart.
    """
    falls = padded[y, x]  # the pixels of the mask are those left above and right below
    one = regions.at(y - 1, np.where(falls, x - 1, x))
    other = regions.at(y, np.where(falls, x, x - 1))
    return falls ^ (one == other)


def _cycles(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the elements of a permutation cycle by cycle, and where each cycle begins among them."""
    after = following.tolist()
    seen = bytearray(len(after))
    order: list[int] = []
    first: list[int] = []
    for start in range(len(after)):
        if seen[start]:
            continue
        first.append(len(order))
        here = start
        while not seen[here]:
            seen[here] = 1
            order.append(here)
            here = after[here]
    return np.array(order, np.int64), np.array(first, np.int64)
