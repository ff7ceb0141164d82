"""Masks as polygons with holes, along the pixels' edges, and simplified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.outlines import Outlines, trace_outlines
from mobilesam.core.ranges import check_number
from mobilesam.core.simplify import simplify_outlines

GREATEST_LOSS = 0.15  # of a shape, that simplifying may take from it or add to it


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
    and parts apart; rings may touch in single points. Pixels belong to one region where they
    share an edge, in holes too, so pixels that only touch at a corner belong to different ones.
    With ``tolerance`` 0 the polygons cover the mask's pixels exactly.

    Args:
        mask: (H, W).
        tolerance: greatest distance, in pixels, between a point that is left out and the line in
            its place. It is lowered for small and thin shapes, to ``GREATEST_LOSS`` times area
            by perimeter, so that an outline keeps at least nine tenths of its shape.

    Raises:
        PromptError: for a tolerance that is no number from 0.
    """
    check_number("tolerance", tolerance, 0.0)
    if not np.any(mask):
        return ()
    outlines = trace_outlines(mask)
    rings = outlines.split(simplify_outlines(outlines, _tolerances(outlines, tolerance)))
    around = np.flatnonzero(outlines.areas > 0)
    holes: dict[int, list[np.ndarray]] = {int(region): [] for region in outlines.regions[around]}
    for number in np.flatnonzero(outlines.areas < 0):
        holes[int(outlines.regions[number])].append(rings[number])
    largest_first = around[np.argsort(-outlines.areas[around], kind="stable")]
    return tuple(Polygon(rings[i], tuple(holes[int(outlines.regions[i])])) for i in largest_first)


def _tolerances(outlines: Outlines, tolerance: float) -> np.ndarray:
    """Return how far (K,) the points of each outline may be from it when they are left out."""
    areas = np.bincount(outlines.regions, weights=outlines.areas)[outlines.regions]
    perimeters = np.bincount(outlines.regions, weights=outlines.perimeters)[outlines.regions]
    own = np.abs(outlines.areas) / outlines.perimeters
    return np.minimum(tolerance, GREATEST_LOSS * np.minimum(own, areas / perimeters))


def polygons_to_ring(polygons: Sequence[Polygon]) -> np.ndarray:
    """Join regions and holes to one outline (N, 2), for formats that have one ring per object.

    Each further outline is reached by a bridge that is walked there and back, so it
    encloses nothing: filled, the ring covers what the polygons cover, holes left out.
    Outlines alone, without bridges, are in the polygons.

    Args:
        polygons: of one object, as :func:`mask_to_polygons` returns them; none give (0, 2).

    Example:
        >>> mask = np.ones((3, 3), bool)
        >>> mask[1, 1] = False
        >>> ring = polygons_to_ring(mask_to_polygons(mask))
        >>> len(ring), signed_area(ring)
        (10, 8.0)
    """
    loops = [loop for polygon in polygons for loop in (polygon.exterior, *polygon.holes)]
    if not loops:
        return np.zeros((0, 2))
    ring = loops[0]
    for loop in loops[1:]:
        here, there = _nearest(ring, loop)
        around = np.concatenate([loop[there:], loop[: there + 1]])
        ring = np.concatenate([ring[: here + 1], around, ring[here:]])
    return ring


def _nearest(ring: np.ndarray, loop: np.ndarray) -> tuple[int, int]:
    """Return the numbers of the points of two outlines that are nearest to each other."""
    best, at = np.inf, (0, 0)
    for there, point in enumerate(loop):
        distances = np.square(ring - point).sum(1)
        here = int(distances.argmin())
        if distances[here] < best:
            best, at = float(distances[here]), (here, there)
    return at


def contains(loop: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point (x, y) lies inside an outline (N, 2): the even-odd rule."""
    x, y = point
    a, b = loop, np.roll(loop, -1, axis=0)
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    a, b = a[crosses].astype(float), b[crosses]
    at = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return bool((at > x).sum() % 2)


def signed_area(loop: np.ndarray) -> float:
    """Area of an outline (N, 2), positive where it runs clockwise on the screen."""
    x, y = loop[:, 0].astype(float), loop[:, 1].astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
