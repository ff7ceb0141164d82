"""Fewer points for outlines that stay valid (after Douglas and Peucker, and Saalfeld).

First every outline is simplified by itself. Then come the chords that would change how outlines
lie to each other or to themselves: a chord that crosses or touches another, and one that has a
point of an outline between itself and what it stands for. They get the farthest of their points
back, until no such chord is left. With all points back there is none, so it ends.
"""

from __future__ import annotations

import numpy as np

from mobilesam.core.outlines import Outlines

GREATEST_LOSS = 0.1  # of a shape; the IoU with the mask was measured as 0.967 and more
SPLITS = 4  # rounds in which a bad chord gets one point back; after them it gets all
CELL = 8  # pixels; chords are compared with what lies in the same cells
ROW_OF_CELLS = 2**31  # more than any row has


def simplify_outlines(outlines: Outlines, tolerance: float) -> np.ndarray:
    """Return which points (N,) of the outlines stay.

    Where outlines touch, the point and its neighbours stay, so that they go on touching there
    and nowhere else.

    Args:
        outlines: as traced.
        tolerance: greatest distance in pixels between a point that is left out and the chord in its
            place; 0 keeps all. It is lowered for small and thin shapes, to ``GREATEST_LOSS``
            times area by perimeter, of the region and of the outline.
    """
    chords = _Chords(outlines, tolerances_of(outlines, tolerance))
    chords.refine(np.flatnonzero(~chords.keep))
    rounds = 0
    while (bad := chords.bad()).size:
        chords.split(bad, whole=rounds >= SPLITS)
        rounds += 1
    return chords.keep


def tolerances_of(outlines: Outlines, tolerance: float) -> np.ndarray:
    """Return the tolerance (K,) for each outline.

    What simplifying takes from a shape, or adds to it, is less than the tolerance times the
    perimeter. So the tolerance is tied to area by perimeter, which is a quarter of a square's side and
    half of a line's width.
    """
    areas = np.bincount(outlines.regions, weights=outlines.areas)[outlines.regions]
    perimeters = np.bincount(outlines.regions, weights=outlines.perimeters)[outlines.regions]
    own = np.abs(outlines.areas) / outlines.perimeters
    return np.minimum(tolerance, GREATEST_LOSS * np.minimum(own, areas / perimeters))


class _Chords:
    """The lines between the points of outlines that stay, each in place of the points left out between them.

    Args:
        outlines: as traced.
        tolerances: (K,) for each of them.

    Attributes:
        keep: (N,) whether each point stays.
    """

    def __init__(self, outlines: Outlines, tolerances: np.ndarray) -> None:
        self._outlines, self._points = outlines, outlines.points
        self._xy = np.ascontiguousarray(outlines.points.T, np.float64)
        self._limit = np.asarray(tolerances, np.float64)[outlines.owner]
        self.keep = outlines.pinched | outlines.pinched[outlines.after] | (self._limit == 0)
        self.keep[outlines.after[outlines.pinched]] = True
        self.keep[outlines.starts] = True

    def _number(self) -> np.ndarray:
        """Return the number (N,) of the chord that begins at, or stands for, each point."""
        return np.cumsum(self.keep) - 1

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the points (n,) that the chords begin and end at."""
        begin, owner = np.flatnonzero(self.keep), self._outlines.owner
        end = np.roll(begin, -1)
        last = np.append(owner[begin[1:]] != owner[begin[:-1]], True)
        end[last] = self._outlines.starts[owner[begin[last]]]
        return begin, end

    def refine(self, points: np.ndarray) -> None:
        """Keep more of ``points`` until none is farther from its chord than it may be."""
        while points.size:
            distance, groups = self._distances(points)
            worst, largest = _largest(distance, groups)
            over = largest > self._limit[points[worst]]
            self.keep[points[worst[over]]] = True
            points = points[np.repeat(over, np.diff(np.append(groups, len(points))))]
            points = points[~self.keep[points]]

    def split(self, bad: np.ndarray, *, whole: bool) -> None:
        """Give chords the farthest of their points back, or the ``whole`` of them."""
        points = np.flatnonzero(np.isin(self._number(), bad) & ~self.keep)
        back = points if whole else points[_largest(*self._distances(points))[0]]
        self.keep[back] = True
        self.refine(points[~self.keep[points]])

    def _distances(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances (n,) of points from their chords, and where those of each chord begin."""
        begin, end = self._ends()
        number = self._number()[points]
        x, y = (at[points] - at[begin][number] for at in self._xy)
        dx, dy = ((at[end] - at[begin])[number] for at in self._xy)
        length = dx * dx + dy * dy
        along = np.divide(x * dx + y * dy, length, out=np.zeros(len(points)), where=length > 0)
        along = np.minimum(np.maximum(along, 0), 1)
        x, y = x - along * dx, y - along * dy
        groups = np.flatnonzero(np.append(True, number[1:] != number[:-1]))
        return np.sqrt(x * x + y * y), groups

    def bad(self) -> np.ndarray:
        """Return the numbers of the chords that stand for points and lie wrongly to what is near them."""
        begin, end = self._ends()
        stands = np.bincount(self._number(), minlength=len(begin)) > 1
        one, other = _neighbours(self._points[begin], self._points[end], stands, self._limit[begin])
        crossing = self._cross(begin, end, one, other)
        enclosing = self._enclose(begin, end, one, other)
        bad = np.concatenate([one[crossing | enclosing], other[crossing]])
        return np.unique(bad[stands[bad]])

    def _cross(self, begin: np.ndarray, end: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether pairs of chords have a point in common, other than an end of both."""
        a, b, c, d = (self._points[numbers] for numbers in (begin[one], end[one], begin[other], end[other]))
        apart = (np.maximum(a, b) < np.minimum(c, d)) | (np.maximum(c, d) < np.minimum(a, b))
        sides_of_one = _side(a, b, c) * _side(a, b, d)
        sides_of_other = _side(c, d, a) * _side(c, d, b)
        meet = ~apart.any(1) & (sides_of_one <= 0) & (sides_of_other <= 0)
        for joint, far, mate, beyond in ((a, b, c, d), (a, b, d, c), (b, a, c, d), (b, a, d, c)):
            folded = (_side(joint, far, beyond) == 0) & (((far - joint) * (beyond - joint)).sum(1) > 0)
            meet = np.where((joint == mate).all(1), folded, meet)
        return meet

    def _enclose(self, begin: np.ndarray, end: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether the start of each ``other`` chord lies between ``one`` and the points it stands for."""
        point = self._points[begin[other]]
        low, high = (
            extreme.reduceat(self._points, begin, axis=0)[one] for extreme in (np.minimum, np.maximum)
        )
        tip = self._points[end[one]]
        near = ((point >= np.minimum(low, tip)) & (point <= np.maximum(high, tip))).all(1)
        for mine in (self._points[begin[one]], tip):
            near &= (point != mine).any(1)
        asked = np.flatnonzero(near)
        inside = np.zeros(len(one), bool)
        if asked.size:
            inside[asked] = self._inside(begin, end, one[asked], point[asked])
        return inside

    def _inside(
        self, begin: np.ndarray, end: np.ndarray, chords: np.ndarray, points: np.ndarray
    ) -> np.ndarray:
        """Whether each point (n, 2) lies in the polygon of a chord (n,) and what it stands for."""
        count = np.bincount(self._number())[chords]
        which = np.repeat(np.arange(len(chords)), count)
        at = _ranges(begin[chords], count)
        along = _crossed(self._points[at], self._points[self._outlines.after[at]], points[which])
        times = np.bincount(which, weights=along, minlength=len(chords))
        times += _crossed(self._points[begin[chords]], self._points[end[chords]], points)
        return times % 2 == 1


def _largest(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the largest value of each group is (the first of equals), and the value."""
    largest = np.maximum.reduceat(values, groups)
    group = np.repeat(np.arange(len(groups)), np.diff(np.append(groups, len(values))))
    places = np.flatnonzero(values == largest[group])
    _, first = np.unique(group[places], return_index=True)
    return places[first], largest


def _side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return on which side of the lines from ``a`` to ``b`` points ``c`` (n, 2) lie: -1, 0 or 1."""
    along, to = b - a, c - a
    return np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])


def _crossed(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Whether the rays to the right of points cross the lines from ``a`` to ``b``, all (n, 2)."""
    spans = (a[:, 1] > point[:, 1]) != (b[:, 1] > point[:, 1])
    return spans & (_side(a, b, point) * np.where(b[:, 1] > a[:, 1], 1, -1) > 0)


def _neighbours(
    begin: np.ndarray, end: np.ndarray, wanted: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of chords, the first of them ``wanted``, that may lie within its reach of each other."""
    chosen = np.flatnonzero(wanted)
    one, at_one = _cells(begin[chosen], end[chosen], reach[chosen])
    other, at_other = _cells(begin, end, np.zeros(len(begin)))
    order = np.argsort(at_other, kind="stable")
    other, at_other = other[order], at_other[order]
    first = np.searchsorted(at_other, at_one, side="left")
    many = np.searchsorted(at_other, at_one, side="right") - first
    pairs = np.unique(np.repeat(chosen[one], many) * len(begin) + other[_ranges(first, many)])
    one, other = np.divmod(pairs, len(begin))
    return one[one != other], other[one != other]


def _cells(begin: np.ndarray, end: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which lines come within their reach (n,) of which cells, piece by piece: numbers of both."""
    pieces = np.abs(end - begin).max(1) // CELL + 1
    line = np.repeat(np.arange(len(begin)), pieces)
    part = _ranges(np.zeros(len(begin), np.int64), pieces)
    step = ((end - begin) / pieces[:, None])[line]
    here = begin[line] + step * part[:, None]
    low = np.floor((np.minimum(here, here + step) - reach[line, None]) / CELL).astype(np.int64)
    high = np.floor((np.maximum(here, here + step) + reach[line, None]) / CELL).astype(np.int64)
    wide, tall = (high - low + 1).T
    piece = np.repeat(np.arange(len(line)), wide * tall)
    row, column = np.divmod(_ranges(np.zeros(len(line), np.int64), wide * tall), wide[piece])
    return line[piece], (low[piece, 1] + row) * ROW_OF_CELLS + low[piece, 0] + column


def _ranges(first: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Return the numbers from each of ``first`` on, as ``many`` of them, one range after the other."""
    return np.repeat(first - np.cumsum(many) + many, many) + np.arange(many.sum())
