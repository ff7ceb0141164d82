"""Soft edges follow the image, stay near the mask, and have the object's own colours."""

from __future__ import annotations

import numpy as np
import pytest

from mobilesam.draw.alpha import SoftEdge, clean_colours, soften
from mobilesam.draw.cutout import edge_alpha
from tests.strands import ORANGE, coarse, error, strands


def test_a_soft_edge_is_nearer_to_the_truth_than_the_mask() -> None:
    image, truth = strands()
    mask, logits = coarse(truth)
    soft = soften(image, mask, logits)
    assert error(soft.alpha, truth) < 0.65 * error(edge_alpha(mask).astype(float), truth)


def test_far_from_the_edge_alpha_is_the_mask() -> None:
    image, truth = strands()
    mask, logits = coarse(truth)
    alpha = soften(image, mask, logits).alpha
    assert (alpha[100:140, 100:140] == 255).all()
    assert (alpha[:20] == 0).all()


def test_soft_pixels_lose_the_colour_of_what_was_behind() -> None:
    image, truth = strands()
    soft = soften(image, *coarse(truth))
    cleaned = clean_colours(image, soft)
    half = (soft.alpha > 60) & (soft.alpha < 200) & (truth > 0.2)
    assert half.sum() > 100
    before = np.abs(image[half] - ORANGE).mean()
    assert np.abs(cleaned[half] - ORANGE).mean() < 0.5 * before
    outside = np.ones(image.shape[:2], bool)
    outside.ravel()[soft.band] = False
    assert (cleaned[outside] == image[outside]).all()


def test_sixteen_bits_keep_their_depth() -> None:
    image, truth = strands()
    soft = soften(image, *coarse(truth))
    deep = image.astype(np.uint16) * 257
    assert np.abs(clean_colours(deep, soft) / 257 - clean_colours(image, soft)).max() < 1


@pytest.mark.parametrize("fill", [False, True])
def test_an_empty_and_a_full_mask_have_no_edge(fill: bool) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    soft = soften(image, np.full((40, 50), fill))
    assert (soft.alpha == 255 * fill).all()
    assert not len(soft.band)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 2), (3, 3)])
def test_tiny_images(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), bool)
    mask[0, 0] = True
    soft = soften(image, mask, np.where(mask, 2.0, -2.0).astype(np.float32))
    assert soft.alpha.shape == (height, width)
    assert clean_colours(image, soft).shape == image.shape


def test_a_large_image_is_softened_on_a_small_copy_and_agrees() -> None:
    image, truth = strands()
    mask, logits = coarse(truth)
    large = [one.repeat(5, 0).repeat(5, 1) for one in (image, mask)]
    alpha = soften(*large, logits).alpha  # 1.4 million pixels
    small = soften(image, mask, logits).alpha
    assert np.abs(alpha[2::5, 2::5] / 255.0 - small / 255.0).mean() < 0.02


def test_an_edge_without_soft_pixels_changes_no_colour() -> None:
    image = np.full((4, 4, 3), 9, np.uint8)
    edge = SoftEdge(np.full((4, 4), 255, np.uint8), np.zeros(0, np.int64), *np.zeros((2, 0, 3)))
    assert (clean_colours(image, edge) == image).all()
