"""Masks as polygons with holes, along the pixels' edges, and simplified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Mask


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

    Pixels that only touch at a corner belong to different regions. With ``tolerance`` 0
    the polygons cover the mask's pixels exactly.

    Args:
        mask: (H, W).
        tolerance: greatest distance, in pixels, that simplifying may move an outline.
    """
    loops = trace_loops(np.asarray(mask, bool))
    outer = [loop for loop in loops if signed_area(loop) > 0]
    outer.sort(key=lambda loop: -signed_area(loop))
    holes: list[list[np.ndarray]] = [[] for _ in outer]
    for loop in loops:
        if signed_area(loop) < 0:
            holes[_owner(loop, outer)].append(loop)
    return tuple(
        Polygon(simplify(exterior, tolerance), tuple(simplify(hole, tolerance) for hole in inner))
        for exterior, inner in zip(outer, holes, strict=True)
    )


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


def trace_loops(mask: Mask) -> list[np.ndarray]:
    """Return the closed outlines of a mask, regions clockwise on the screen, holes the other way.

    Every unit edge between a foreground and a background pixel is directed so that the
    foreground lies to its right (y points down); following the edges from corner to
    corner closes each outline.
    """
    padded = np.pad(mask, 1)
    down = padded[1:, 1:-1].astype(np.int8) - padded[:-1, 1:-1]  # (H + 1, W) horizontal edges
    right = padded[1:-1, 1:].astype(np.int8) - padded[1:-1, :-1]  # (H, W + 1) vertical edges
    follow: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(y: np.ndarray, x: np.ndarray, dy: int, dx: int) -> None:
        for a, b in zip(y.tolist(), x.tolist(), strict=True):
            follow.setdefault((a, b), []).append((dy, dx))

    y, x = np.nonzero(down > 0)  # a top edge runs to the right
    add(y, x, 0, 1)
    y, x = np.nonzero(down < 0)  # a bottom edge runs to the left
    add(y, x + 1, 0, -1)
    y, x = np.nonzero(right < 0)  # a right edge runs down
    add(y, x, 1, 0)
    y, x = np.nonzero(right > 0)  # a left edge runs up
    add(y + 1, x, -1, 0)

    loops = []
    while follow:
        start = next(iter(follow))
        direction = follow[start][0]
        place = start
        points: list[tuple[int, int]] = []
        while True:
            step = _take(follow, place, direction)
            if step is None:
                break
            if step != direction or not points:
                points.append((place[1], place[0]))
            direction = step
            place = (place[0] + step[0], place[1] + step[1])
        loops.append(_drop_straight(np.array(points, np.int64)))
    return loops


def _take(
    follow: dict[tuple[int, int], list[tuple[int, int]]],
    place: tuple[int, int],
    direction: tuple[int, int],
) -> tuple[int, int] | None:
    """Remove and return the edge that leaves ``place``: of two, the one that turns right."""
    edges = follow.get(place)
    if not edges:
        return None
    turn_right = (direction[1], -direction[0])
    step = turn_right if turn_right in edges else edges[0]
    edges.remove(step)
    if not edges:
        del follow[place]
    return step


def _drop_straight(points: np.ndarray) -> np.ndarray:
    """Remove the start point where the outline runs straight through it."""
    before, after = points[0] - points[-1], points[1] - points[0]
    return points[1:] if before[0] * after[1] == before[1] * after[0] else points


def _owner(hole: np.ndarray, outer: list[np.ndarray]) -> int:
    """Return the smallest outline around a hole; ``outer`` is ordered from large to small."""
    i = np.lexsort((hole[:, 0], hole[:, 1]))[0]  # the topmost left corner; the hole lies below it
    point = hole[i] + 0.5
    return max(k for k, loop in enumerate(outer) if contains(loop, point))


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


def simplify(loop: np.ndarray, tolerance: float) -> np.ndarray:
    """Leave out points while the outline moves by at most ``tolerance`` (Douglas and Peucker)."""
    if tolerance <= 0 or len(loop) <= 4:
        return loop
    far = int(np.square(loop - loop[0]).sum(1).argmax())
    closed = np.concatenate([loop, loop[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, -1]] = True
    spans = [(0, far), (far, len(closed) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        chord = (closed[last] - closed[first]).astype(float)
        offset = closed[first + 1 : last] - closed[first]
        length = np.hypot(*chord)
        if length:
            distance = np.abs(chord[0] * offset[:, 1] - chord[1] * offset[:, 0]) / length
        else:
            distance = np.hypot(offset[:, 0], offset[:, 1])
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            split = first + 1 + worst
            keep[split] = True
            spans += [(first, split), (split, last)]
    simple = closed[:-1][keep[:-1]]
    return simple if len(simple) >= 3 else loop
