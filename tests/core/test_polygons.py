"""Polygons cover exactly the mask's pixels, holes included, and are valid at every tolerance."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import PromptError
from mobilesam.core.polygons import Polygon, mask_to_polygons, polygons_to_ring, signed_area
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.datasets.photos import read_photos
from tests.conftest import SHARED
from tests.pace import within
from tests.series import one_in

TOLERANCES = (0.0, 0.5, 1.0, 3.0, 100.0)
LEAST_IOU = 0.9
SETS = ("coco_val", "ccp_fashion", "bsds_consensus")


def contains(loop: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point (x, y) lies inside an outline (N, 2): the even-odd rule."""
    x, y = point
    a, b = loop, np.roll(loop, -1, axis=0)
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    a, b = a[crosses].astype(float), b[crosses]
    at = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return bool((at > x).sum() % 2)


def to_shapely(polygons: tuple[Polygon, ...]) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shapely.Polygon(p.exterior, p.holes) for p in polygons])


def assert_simple(mask: np.ndarray, tolerance: float) -> None:
    """Fail unless a mask's polygons are valid and like the mask."""
    polygons = mask_to_polygons(mask, tolerance=tolerance)
    shape = to_shapely(polygons)
    assert shape.is_valid, shapely.is_valid_reason(shape)
    for ring in (ring for p in polygons for ring in (p.exterior, *p.holes)):
        assert len(np.unique(ring, axis=0)) == len(ring) >= 3
    assert all(signed_area(p.exterior) > 0 for p in polygons)
    assert all(signed_area(hole) < 0 for p in polygons for hole in p.holes)
    exact = to_shapely(mask_to_polygons(mask))
    assert exact.area == mask.sum()
    assert len(polygons) == len(exact.geoms)
    if tolerance == 0:
        assert shape.equals(exact)
    elif mask.any():
        assert shape.intersection(exact).area >= LEAST_IOU * shape.union(exact).area


def fill(polygons: tuple, shape: tuple[int, int]) -> np.ndarray:
    """Rasterise polygons by the even-odd rule at pixel centres."""
    mask = np.zeros(shape, bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            for polygon in polygons:
                rings = [polygon.exterior, *polygon.holes]
                mask[y, x] |= sum(contains(ring, np.array([x + 0.5, y + 0.5])) for ring in rings) % 2 == 1
    return mask


def test_one_pixel() -> None:
    mask = np.zeros((3, 3), bool)
    mask[0, 0] = True
    (polygon,) = mask_to_polygons(mask)
    assert sorted(map(tuple, polygon.exterior)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert polygon.area == 1


def test_ring_has_a_hole_and_its_core_is_another_region() -> None:
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    ring, core = mask_to_polygons(mask)
    assert len(ring.holes) == 1
    assert ring.area == 24
    assert core.area == 1
    assert not core.holes


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    assert len(mask_to_polygons(np.eye(2, dtype=bool))) == 2


@pytest.mark.parametrize("seed", range(6))
def test_random_masks_come_back(seed: int) -> None:
    mask = np.random.default_rng(seed).random((12, 15)) < 0.55
    polygons = mask_to_polygons(mask)
    np.testing.assert_array_equal(fill(polygons, mask.shape), mask)
    assert sum(polygon.area for polygon in polygons) == mask.sum()
    assert [p.area + sum(abs(signed_area(h)) for h in p.holes) for p in polygons] == sorted(
        (abs(signed_area(p.exterior)) for p in polygons), reverse=True
    )


def test_empty_mask() -> None:
    assert mask_to_polygons(np.zeros((5, 5), bool)) == ()


def test_a_region_that_comes_back_to_itself_at_a_corner_has_a_hole_there() -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    (polygon,) = mask_to_polygons(mask)
    assert len(polygon.holes) == 1
    assert polygon.area == 7
    assert [2, 2] in polygon.exterior.tolist()
    assert [2, 2] in polygon.holes[0].tolist()


def test_simplifying_keeps_within_the_tolerance() -> None:
    rows, columns = np.mgrid[:200, :200]
    disc = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    (exact,) = mask_to_polygons(disc)
    (simple,) = mask_to_polygons(disc, tolerance=1.0)
    assert len(simple.exterior) < len(exact.exterior) / 4
    assert abs(simple.area - exact.area) < 0.02 * exact.area
    kept = {tuple(point) for point in simple.exterior.tolist()}
    line = shapely.LinearRing(simple.exterior)
    gone = [point for point in exact.exterior.tolist() if tuple(point) not in kept]
    assert len(gone) > len(kept)
    assert max(line.distance(shapely.Point(point)) for point in gone) <= 1.0


def test_an_endless_tolerance_leaves_the_shape() -> None:
    rows, columns = np.mgrid[:200, :200]
    disc = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    assert_simple(disc, 1e9)
    assert len(mask_to_polygons(disc, tolerance=1e9)[0].exterior) <= 16


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none(tolerance: float) -> None:
    with pytest.raises(PromptError, match=r"^tolerance: is .*; must be a number from 0$"):
        mask_to_polygons(np.ones((3, 3), bool), tolerance=tolerance)


@pytest.mark.parametrize("seed", range(4))
def test_one_ring_covers_regions_and_leaves_holes(seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 11)) < 0.5
    ring = polygons_to_ring(mask_to_polygons(mask))
    assert signed_area(ring) == mask.sum()
    inside = [[contains(ring, np.array([x + 0.5, y + 0.5])) for x in range(11)] for y in range(9)]
    np.testing.assert_array_equal(inside, mask)


def test_no_regions_are_an_empty_ring() -> None:
    assert polygons_to_ring(()).shape == (0, 2)


def checkerboard(side: int) -> np.ndarray:
    return np.indices((side, side)).sum(0) % 2 == 0


def diagonals(side: int) -> np.ndarray:
    return np.indices((side, side)).sum(0) % 5 < 2


def disc_of_checks(side: int) -> np.ndarray:
    return checkerboard(side) & (rings(side) < 3)


def rings(side: int) -> np.ndarray:
    y, x = np.indices((side, side)) - (side - 1) / 2
    return (np.hypot(x, y) * 8 / side).astype(int)


def rings_in_rings(side: int) -> np.ndarray:
    return rings(side) % 2 == 0


def squares_in_squares(side: int) -> np.ndarray:
    y, x = np.abs(np.indices((side, side)) - side // 2)
    return np.maximum(x, y) % 2 == 0


def diamonds_in_diamonds(side: int) -> np.ndarray:
    return np.abs(np.indices((side, side)) - side // 2).sum(0) % 3 == 0


def touching_holes(side: int) -> np.ndarray:
    return ~(np.pad(checkerboard(side - 2), 1) & (rings(side) % 3 != 2))


def lines_of_one_pixel(side: int) -> np.ndarray:
    y, x = np.indices((side, side))
    return (x == y) | (y == side // 3) | (x == 2 * y // 3 + 2) | (x % 7 == 3)


def comb(side: int) -> np.ndarray:
    mask = np.ones((side, side), bool)
    mask[1:, 1::2] = False
    return mask


def spiral(side: int) -> np.ndarray:
    y, x = np.indices((side, side)) - side / 2
    return (np.hypot(x, y) - np.arctan2(y, x) * 6 / np.pi) % 6 < 3


SHAPES = (
    checkerboard,
    diagonals,
    disc_of_checks,
    rings_in_rings,
    squares_in_squares,
    diamonds_in_diamonds,
    touching_holes,
    lines_of_one_pixel,
    comb,
    spiral,
)


@pytest.mark.parametrize(
    ("shape", "side", "tolerance"), one_in(4, product(SHAPES, (3, 8, 31, 64), TOLERANCES))
)
def test_hard_shapes_are_simple(shape: Callable[[int], np.ndarray], side: int, tolerance: float) -> None:
    mask = shape(side)
    assert_simple(mask, tolerance)
    assert_simple(~mask, tolerance)


@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)),
    st.integers(1, 3),
    st.sampled_from(TOLERANCES) | st.floats(0, 30),
)
def test_any_mask_is_simple(mask: np.ndarray, magnified: int, tolerance: float) -> None:
    assert_simple(np.kron(mask, np.ones((magnified, magnified), bool)), tolerance)


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("width", one_in(3, [3, 4, 5, 7, 12, 40]))
def test_small_shapes_are_not_eaten(width: int, tolerance: float) -> None:
    for height in (3, 4, 6, 9, 25):
        y, x = np.mgrid[: height + 2, : width + 2].astype(float)
        y, x = (y - (height + 1) / 2) / (height / 2), (x - (width + 1) / 2) / (width / 2)
        for shape in (
            np.maximum(np.abs(x), np.abs(y)) < 1,  # a rectangle, an ellipse, a rhombus, a triangle
            np.hypot(x, y) < 1,
            np.abs(x) + np.abs(y) < 1,
            (np.abs(x) < (y + 1) / 2) & (y < 1),
        ):
            assert_simple(shape, tolerance)


@pytest.mark.parametrize("name", one_in(3, SETS))
def test_some_real_masks_are_simple(name: str) -> None:
    assert_real_masks_are_simple(name, every=8)


@pytest.mark.long
@pytest.mark.parametrize("name", SETS)
def test_real_masks_are_simple(name: str) -> None:
    assert_real_masks_are_simple(name, every=1)


def assert_real_masks_are_simple(name: str, every: int) -> None:
    folder = SHARED / "data/eval" / name
    if not folder.is_dir():
        pytest.skip(f"no such set: {folder}")
    instances = [one for photo in read_photos(folder) for one in photo.instances]
    assert len(instances) > 200
    for number, instance in enumerate(instances[::every]):
        mask = rle_to_mask(instance.segmentation)
        x0, y0, x1, y1 = mask_to_box(mask)
        mask = mask[y0:y1, x0:x1]
        assert_simple(mask, 0.0)
        assert_simple(mask, TOLERANCES[1 + number % 4])


def test_tracing_takes_milliseconds() -> None:
    noise = np.random.default_rng(0).random((20, 20))
    rows = np.linspace(0, 18.99, 1000)
    at, part = rows.astype(int), rows % 1
    noise = noise[at] * (1 - part[:, None]) + noise[at + 1] * part[:, None]
    mask = noise[:, at] * (1 - part) + noise[:, at + 1] * part > 0.5  # a megapixel with a ragged outline
    seconds = []
    for _ in range(5):
        start = time.process_time()
        polygons = mask_to_polygons(mask, tolerance=1.0)
        seconds.append(time.process_time() - start)
    assert sum(len(p.exterior) for p in polygons) > 500
    assert within(min(seconds), 0.1)  # measured: 0.014; a loop over the edges takes 0.24
