"""Crops of an image: segment_anything's, none of them empty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

import mobilesam
from mobilesam.core.grids import Crop, build_point_grid, generate_crop_boxes, one_per_pixel
from tests.series import one_in

RATIO = 512 / 1500
LAYERS = 6


def published_crops(height: int, width: int, layers: int, ratio: float) -> list[tuple[Crop, int]]:
    """The crops by the formulas of SAM's appendix B, with those that lie beyond the image."""
    crops = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        n = 2**layer
        overlap = int(ratio * min(height, width) * (2 / n))
        wide, tall = (math.ceil((overlap * (n - 1) + side) / n) for side in (width, height))
        for i, j in itertools.product(range(n), range(n)):
            x, y = i * (wide - overlap), j * (tall - overlap)
            crops.append(((x, y, min(x + wide, width), min(y + tall, height)), layer))
    return crops


def fits(crop: Crop, height: int, width: int) -> bool:
    x0, y0, x1, y1 = crop
    return 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


OTHERS = (lambda side: side, lambda side: max(1, side // 3), lambda side: 601 - side)


@pytest.mark.parametrize(("other", "ratio"), one_in(4, product(OTHERS, (0.0, RATIO, 1.0))))
def test_no_crop_is_empty_and_all_of_the_image_is_searched(other: Callable[[int], int], ratio: float) -> None:
    for height in (*range(1, 40), *range(40, 601, 7)):
        width = other(height)
        crops = generate_crop_boxes((height, width), LAYERS, ratio)
        assert len(set(crops)) == len(crops)
        for layer in range(1, LAYERS + 1):
            of_layer = [crop for crop, number in crops if number == layer]
            assert all(fits(crop, height, width) for crop in of_layer), (height, width, layer)
            columns, rows = np.zeros(width, bool), np.zeros(height, bool)
            for x0, y0, x1, y1 in of_layer:
                columns[x0:x1] = rows[y0:y1] = True
            assert columns.all()
            assert rows.all()


@pytest.mark.parametrize("size", [(480, 640), (60, 80), (333, 500), (5, 5), (1, 600), (1080, 1920)])
def test_crops_are_segment_anythings_but_for_empty_ones(size: tuple[int, int]) -> None:
    expected = [one for one in published_crops(*size, LAYERS, RATIO) if fits(one[0], *size)]
    assert generate_crop_boxes(size, LAYERS, RATIO) == expected


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_ordinary_sizes_have_all_their_crops(layers: int) -> None:
    for size in ((480, 640), (768, 1024), (1080, 1920), (427, 640)):
        crops = generate_crop_boxes(size, layers, RATIO)
        assert crops == published_crops(*size, layers, RATIO)
        assert len(crops) == sum(4**layer for layer in range(layers + 1))


@pytest.mark.parametrize("n", [1, 5, 32])
def test_no_point_is_left_out_of_an_image_with_a_pixel_for_each(n: int) -> None:
    for size in ((n, n), (n, 3 * n), (480, 640)):
        np.testing.assert_array_equal(one_per_pixel(build_point_grid(n), size), build_point_grid(n))


def test_a_pixel_of_a_small_image_is_asked_once() -> None:
    asked: list[int] = []
    options = mobilesam.EverythingOptions(sampler="grid")
    image = np.zeros((3, 5, 3), np.uint8)
    mobilesam.load("pocket").everything(image, options, progress=lambda done, total: asked.append(total))
    assert asked[-1] == 15


@pytest.mark.parametrize(
    ("size", "layers"),
    [((1, 1), 3), *(pytest.param(size, 2, marks=pytest.mark.long) for size in ((5, 5), (3, 7)))],
)
def test_a_small_image_is_searched_by_crops(size: tuple[int, int], layers: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    options = mobilesam.EverythingOptions(
        sampler="grid",
        points_per_side=2,
        crop_n_layers=layers,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
    )
    found = mobilesam.load("pocket").everything(image, options)
    assert len(found)
    assert all(mask.mask.shape == size for mask in found)
