"""An image in which no mask passes thresholds that are too strict for the model is told."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mobilesam
from mobilesam import EverythingOptions, Model, PromptWarning, SamAutomaticMaskGenerator
from tests.photos import cat

WHAT_TO_PASS = (
    "and no mask of pocket-7 passes them; pass pred_iou_thresh=0.3, stability_score_thresh=0.1, "
    "which are the model's own, or None for these"
)
ASKED = "pred_iou_thresh, stability_score_thresh: are "


@pytest.fixture(scope="module")
def pocket() -> Model:
    return mobilesam.load("pocket")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(cat()[::2, ::2])


def test_the_generator_with_published_thresholds_says_what_to_pass(pocket: Model, image: np.ndarray) -> None:
    with pytest.warns(PromptWarning) as told:
        assert SamAutomaticMaskGenerator(pocket, points_per_side=4).generate(image) == []
    assert [str(one.message) for one in told] == [f"{ASKED}0.88 and 0.95, {WHAT_TO_PASS}"]


@pytest.mark.parametrize("thresholds", [(0.3, 0.1), (None, None)])
def test_with_the_models_own_there_are_masks(
    pocket: Model, image: np.ndarray, thresholds: tuple[float | None, float | None]
) -> None:
    predicted_iou, stability = thresholds
    generator = SamAutomaticMaskGenerator(
        pocket, points_per_side=4, pred_iou_thresh=predicted_iou, stability_score_thresh=stability
    )
    assert len(generator.generate(image)) > 2


@pytest.mark.parametrize("sampler", ["grid", "objects", "hybrid"])
def test_everything_says_it_too(pocket: Model, image: np.ndarray, sampler: str) -> None:
    options = EverythingOptions(
        sampler=sampler, points_per_side=4, max_boxes=4, max_prompts=8, stability_score_thresh=0.99
    )
    for search in (
        lambda: pocket.everything(image, options),
        lambda: pocket.stream_everything(image, options),
    ):
        with pytest.warns(PromptWarning) as told:
            assert list(search()) == []
        assert [str(one.message) for one in told] == [f"{ASKED}its own and 0.99, {WHAT_TO_PASS}"]


@pytest.mark.parametrize(
    "options",
    [
        EverythingOptions(sampler="grid", points_per_side=2),  # the model's own: there is nothing to find
        EverythingOptions(sampler="grid", points_per_side=2, pred_iou_thresh=0.3, stability_score_thresh=0.1),
        EverythingOptions(sampler="grid", points_per_side=2, pred_iou_thresh=0.99, seconds=1e-9),
    ],
)
def test_nothing_is_no_fault_of_the_thresholds(pocket: Model, options: EverythingOptions) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pocket.everything(np.zeros((40, 60, 3), np.uint8), options)
