"""The smaller input by which videos are followed is the same in both runtimes, and near what the full one says."""

from __future__ import annotations

import numpy as np
import pytest

import mobilesam
from mobilesam import Model, Prompt
from mobilesam.core.metrics import mask_iou
from tests.moving import box_of_face, moving_face
from tests.photos import cat
from tests.runtimes.conformance import LOGITS, PROMPTS


@pytest.fixture(scope="module")
def torch_pocket() -> Model:
    return mobilesam.load("pocket", runtime="torch")


@pytest.mark.parametrize("high", [False, True])
def test_both_runtimes_take_the_smaller_input(pocket: Model, torch_pocket: Model, high: bool) -> None:
    image = np.vstack([cat(), cat()]) if high else cat()
    ours, theirs = (one.predictor.embed(image, small=True) for one in (pocket, torch_pocket))
    assert ours.frame == theirs.frame and ours.frame.side == 512
    assert max(ours.image_embedding.shape[-2:]) == 64  # 96 for the full input
    assert ours.image_embedding.shape == theirs.image_embedding.shape
    assert np.abs(ours.image_embedding - theirs.image_embedding).max() < 1e-3
    first = pocket.segment(ours, PROMPTS[:3]), torch_pocket.segment(theirs, PROMPTS[:3])
    again = [Prompt(mask=first[0][1].low_res_masks[:1])]
    second = pocket.segment(ours, again), torch_pocket.segment(theirs, again)
    for one, two in zip([*first[0], *second[0]], [*first[1], *second[1]], strict=True):
        assert np.abs(one.low_res_masks - two.low_res_masks).max() <= LOGITS
        assert np.abs(one.predicted_iou - two.predicted_iou).max() <= 1e-3


def test_the_smaller_input_says_nearly_what_the_full_one_says(pocket: Model) -> None:
    (image,), _ = moving_face(1)
    box = Prompt(box=box_of_face())
    small, full = (pocket.predictor.embed(image, small=small) for small in (True, False))
    assert full.frame.side == 768
    assert mask_iou(pocket.segment(small, box).mask, pocket.segment(full, box).mask) > 0.9


def test_a_network_without_smaller_inputs_takes_its_own(onnx_vit_t: Model) -> None:
    spec = onnx_vit_t.runtime.spec
    assert spec.small == spec
