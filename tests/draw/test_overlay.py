"""Pictures of several masks: which numbers there are, and where."""

from __future__ import annotations

import numpy as np

from mobilesam.core.rle import Rle, mask_to_rle
from mobilesam.core.types import Prompt
from mobilesam.draw.overlay import draw_numbered
from mobilesam.segment.model import Model
from mobilesam.segment.results import draw_results

GREY = np.full((240, 320, 3), 128, np.uint8)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Rle:
    mask = np.zeros(GREY.shape[:2], bool)
    mask[y0:y1, x0:x1] = True
    return mask_to_rle(mask)


def black(picture: np.ndarray) -> np.ndarray:
    """The strokes around numbers (N, 2) as x, y; tints and outlines are never black."""
    y, x = np.nonzero((picture < 30).all(2))
    return np.stack([x, y], 1)


def test_numbers_of_masks_within_each_other_lie_apart() -> None:
    """The outer one's middle is covered by the inner one."""
    inner = (110, 70, 210, 170)
    strokes = black(draw_numbered(GREY, [rectangle(20, 10, 300, 230), rectangle(*inner)]))
    within = ((strokes >= inner[:2]) & (strokes < inner[2:])).all(1)
    assert within.any() and not within.all()
    apart = strokes[within].mean(0) - strokes[~within].mean(0)
    assert np.abs(apart).max() > 50


def test_a_mask_that_is_all_covered_has_no_number() -> None:
    left, right = rectangle(20, 20, 160, 220), rectangle(160, 20, 300, 220)
    covered = rectangle(20, 20, 300, 220)
    alone = draw_numbered(GREY, [left, right])
    strokes = black(draw_numbered(GREY, [left, right, covered]))
    np.testing.assert_array_equal(strokes, black(alone))


def test_several_results_are_numbered_and_one_is_not(pocket: Model) -> None:
    embedding = pocket.embed(GREY)
    prompts = [Prompt(box=[20, 20, 100, 100]), Prompt(box=[150, 120, 300, 220]), Prompt(points=[[40, 200]])]
    results = pocket.segment(embedding, prompts)
    one, several = draw_results(GREY, results[:1]), draw_results(GREY, results)
    ends = ((20, 20, 100, 100), (150, 120, 300, 220))
    labels = [black(several[y0 : y0 + 20, x0 : x0 + 20]) for x0, y0, *_ in ends]
    assert all(len(label) > 20 for label in labels)
    assert len(black(several[200:220, 40:60])) > 20
    assert len(black(one)) == 0


def test_an_empty_mask_is_passed_over() -> None:
    empty = rectangle(0, 0, 0, 0)
    assert len(black(draw_numbered(GREY, [empty]))) == 0
