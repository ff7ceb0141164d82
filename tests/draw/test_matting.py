"""Closed-form matting by the package that solves it."""

from __future__ import annotations

import pytest

from mobilesam.draw.alpha import soften
from mobilesam.draw.matting import load_matte
from tests.strands import coarse, error, strands


@pytest.mark.long  # the package compiles its parts when it is first imported
def test_a_matte_is_nearer_to_the_truth_than_the_filter() -> None:
    image, truth = strands()
    mask, logits = coarse(truth)
    by_filter = error(soften(image, mask, logits).alpha, truth)
    by_matte = error(soften(image, mask, logits, matte=load_matte()).alpha, truth)
    print(f"error of alpha: filter {by_filter:.0f}, matte {by_matte:.0f}, in whole pixels")
    assert by_matte < 0.8 * by_filter
