"""Polygons cover exactly the mask's pixels, holes included."""

from __future__ import annotations

import numpy as np
import pytest

from mobilesam.core.polygons import contains, mask_to_polygons, polygons_to_ring, signed_area, simplify


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


def test_simplifying_keeps_within_the_tolerance() -> None:
    rows, columns = np.mgrid[:200, :200]
    disc = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    (exact,) = mask_to_polygons(disc)
    (simple,) = mask_to_polygons(disc, tolerance=1.0)
    assert len(simple.exterior) < len(exact.exterior) / 4
    assert abs(simple.area - exact.area) < 0.02 * exact.area
    assert len(simplify(exact.exterior, 1e9)) >= 3


@pytest.mark.parametrize("seed", range(4))
def test_one_ring_covers_regions_and_leaves_holes(seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 11)) < 0.5
    ring = polygons_to_ring(mask_to_polygons(mask))
    assert signed_area(ring) == mask.sum()
    inside = [[contains(ring, np.array([x + 0.5, y + 0.5])) for x in range(11)] for y in range(9)]
    np.testing.assert_array_equal(inside, mask)


def test_no_regions_are_an_empty_ring() -> None:
    assert polygons_to_ring(()).shape == (0, 2)
