"""Masks as polygons with holes, along the pixels' edges, and simplified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.outlines import trace_outlines
from mobilesam.core.ranges import check_number
from mobilesam.core.simplify import simplify_outlines

MOST_DISTANCES = 1_000_000  # how many are in memory at once
MOST_PLACES = 10_000  # at which bridges may begin or end; all are compared with all, in about a second


@dataclass(frozen=True, eq=False)
class Polygon:
    """A connected region: its outline and the outlines of its holes.

    Points are (x, y) corners of pixels, so a single pixel at (0, 0) is
    (0, 0), (1, 0), (1, 1), (0, 1). Outlines are not closed by repeating the first point.

    Attributes:
        exterior: (N, 2) int64 or float64.
        holes: (M, 2) each.
    """

    exterior: np.ndarray
    holes: tuple[np.ndarray, ...] = ()

    @property
    def area(self) -> float:
        """Area in pixels, without the holes."""
        return abs(signed_area(self.exterior)) - sum(abs(signed_area(hole)) for hole in self.holes)


def mask_to_polygons(mask: Mask, *, tolerance: float = 0.0) -> tuple[Polygon, ...]:
    """Trace a mask's regions, the largest first.

    They are valid simple features with every tolerance: no ring meets itself, holes lie inside
    and parts apart; rings may touch in single points. Pixels belong to one region if they
    share an edge, in holes too, so pixels that only touch at a corner belong to different ones.
    With ``tolerance`` 0 the polygons cover the mask's pixels exactly.

    Args:
        mask: (H, W).
        tolerance: greatest distance, in pixels, between a point that is left out and the line in
            its place. It is lowered for small and thin shapes, so that their IoU with the mask stays
            0.9 and more; see :func:`mobilesam.core.simplify.tolerances_of`.

    Raises:
        PromptError: for a tolerance that is not a number from 0.
    """
    check_number("tolerance", tolerance, 0.0)
    if not np.any(mask):
        return ()
    outlines = trace_outlines(mask)
    rings = outlines.split(simplify_outlines(outlines, tolerance))
    around = np.flatnonzero(outlines.areas > 0)
    holes: dict[int, list[np.ndarray]] = {int(region): [] for region in outlines.regions[around]}
    for number in np.flatnonzero(outlines.areas < 0):
        holes[int(outlines.regions[number])].append(rings[number])
    largest_first = around[np.argsort(-outlines.areas[around], kind="stable")]
    return tuple(Polygon(rings[i], tuple(holes[int(outlines.regions[i])])) for i in largest_first)


def polygons_to_ring(
    polygons: Sequence[Polygon], *, worth: Callable[[int, np.ndarray], bool] = lambda number, bridge: True
) -> np.ndarray:
    """Join regions and holes into one outline (N, 2), for formats that have one ring per object.

    Each further outline is reached by a bridge that is walked there and back, so it
    encloses nothing: filled, the ring covers what the polygons cover, holes left out. The
    nearest comes first, from the nearest place on the outlines, so bridges are short.
    The polygons themselves have the outlines without bridges.

    Args:
        polygons: of one object, as :func:`mask_to_polygons` returns them; (0, 2) for none.
        worth: whether a polygon is worth its bridge, by its number and the bridge's (x, y);
            otherwise it is left out. The first always stays.

    Example:
        >>> mask = np.ones((3, 3), bool)
        >>> mask[1, 1] = False
        >>> ring = polygons_to_ring(mask_to_polygons(mask))
        >>> len(ring), signed_area(ring)
        (11, 8.0)
    """
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.holes)]
    if len(rings) < 2:
        return rings[0] if rings else np.zeros((0, 2))
    owner = [number for number, polygon in enumerate(polygons) for _ in range(1 + len(polygon.holes))]
    bridges = _Bridges(rings)
    bridges.join(0)
    left_out: set[int] = set()
    while (nearest := bridges.nearest()) is not None:
        ring, here, there = nearest
        number = owner[ring]
        is_hole = ring > 0 and owner[ring - 1] == number
        if number in left_out or not (is_hole or worth(number, bridges.points[there] - bridges.points[here])):
            left_out.add(number)
            bridges.drop(ring)
        else:
            bridges.join(ring, here, there)
    return bridges.walk()


class _Bridges:
    """Rings that are joined into one, the nearest first (Prim's tree), where they are nearest.

    Besides the rings' own points there are places at every pixel between them. They are left
    out again if no bridge begins or ends there. Of very many, bridges have only every second, third and so on
    to choose from, and are longer by that much.

    Args:
        rings: (n, 2) each.
    """

    def __init__(self, rings: Sequence[np.ndarray]) -> None:
        stepped = [_steps_along(ring) for ring in rings]
        self.points = np.concatenate([points for points, _ in stepped])
        self._stays = np.concatenate([own for _, own in stepped])
        self._starts = np.cumsum([0, *(len(points) for points, _ in stepped)])
        self._ring = np.repeat(np.arange(len(rings)), np.diff(self._starts))
        self._distance = np.full(len(self.points), np.inf)  # from points that wait to the nearest joined one
        self._nearest = np.zeros(len(self.points), np.int64)
        self._is_place = np.arange(len(self.points)) % (len(self.points) // MOST_PLACES + 1) == 0
        self._is_place[self._starts[:-1]] = True  # each ring has one
        self._waits = self._is_place.copy()
        self._following = [*range(1, len(self.points) + 1)]  # point by point along what is joined
        for first, end in zip(self._starts[:-1], self._starts[1:], strict=True):
            self._following[end - 1] = int(first)
        self._at = [*range(len(self.points))]  # the point that each step of the way is at

    def nearest(self) -> tuple[int, int, int] | None:
        """Return the ring that is nearest to those joined, with the points on both sides; None if none waits."""
        waiting = np.flatnonzero(self._waits)
        if not len(waiting):
            return None
        there = int(waiting[self._distance[waiting].argmin()])
        return int(self._ring[there]), int(self._nearest[there]), there

    def drop(self, ring: int) -> None:
        """Leave a ring out."""
        self._waits[self._starts[ring] : self._starts[ring + 1]] = False

    def join(self, ring: int, here: int | None = None, there: int | None = None) -> None:
        """Go from point ``here`` of what is joined to ``there`` of a ring, around it and back."""
        self.drop(ring)
        if here is not None and there is not None:
            first, end = int(self._starts[ring]), int(self._starts[ring + 1])
            last = there - 1 if there > first else end - 1
            again, back = len(self._at), len(self._at) + 1
            self._stays[[here, there]] = True
            self._at += [there, here]
            self._following += [back, self._following[here]]
            self._following[last] = again
            self._following[here] = there
        self._measure(ring)

    def _measure(self, ring: int) -> None:
        """Compare the points that wait with those of a ring that has been joined."""
        first, end = self._starts[ring], self._starts[ring + 1]
        own = first + np.flatnonzero(self._is_place[first:end])
        mine = self.points[own]
        waiting = np.flatnonzero(self._waits)
        for some in np.array_split(waiting, len(waiting) * len(mine) // MOST_DISTANCES + 1):
            apart = self.points[some, None] - mine
            distance = np.square(apart).sum(2)
            closest = distance.argmin(1)
            distance = distance[np.arange(len(some)), closest]
            better = distance < self._distance[some]
            self._distance[some[better]] = distance[better]
            self._nearest[some[better]] = own[closest[better]]

    def walk(self) -> np.ndarray:
        """Return the points (N, 2) along everything that is joined, from the first ring's first on."""
        way, step = [0], self._following[0]
        while step != 0:
            way.append(self._at[step])
            step = self._following[step]
        return self.points[[at for at in way if self._stays[at]]]


def _steps_along(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a ring with steps of at most a pixel between them, and which are its own."""
    along = np.roll(ring, -1, axis=0) - ring
    steps = np.maximum(np.ceil(np.abs(along).max(1)).astype(np.int64), 1)
    number = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    part = number / np.repeat(steps, steps)
    return np.repeat(ring, steps, axis=0) + part[:, None] * np.repeat(along, steps, axis=0), number == 0


def signed_area(loop: np.ndarray) -> float:
    """Area of an outline (N, 2), positive if it runs clockwise on the screen."""
    x, y = loop[:, 0].astype(float), loop[:, 1].astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
