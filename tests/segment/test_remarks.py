"""Low confidence, boxes that hold nearly everything and masks of the ground are told; cut-outs have no unsure holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mobilesam
from mobilesam import Model, Prompt
from mobilesam.core.regions import fill_unsure_holes
from mobilesam.segment.results import LOW_PREDICTED_IOU, LOW_PREDICTED_IOU_BOX, Segmentation
from tests.photos import cat

AROUND_THE_CAT = [5, 0, 370, 295]


@pytest.fixture(scope="module")
def by_box() -> Segmentation:
    model = mobilesam.load("pocket")
    return model.segment(model.embed(cat()), Prompt(box=AROUND_THE_CAT))


@pytest.fixture(scope="module")
def by_point(by_box: Segmentation) -> Segmentation:
    return mobilesam.load("pocket").segment(by_box.embedding, Prompt(points=[160, 95]), multimask=False)


def test_a_good_mask_has_no_remark(by_box: Segmentation) -> None:
    assert by_box.best.predicted_iou > LOW_PREDICTED_IOU_BOX
    assert by_box.remarks == ()


@pytest.mark.parametrize(("predicted", "told"), [(0.3, True), (0.59, True), (0.6, False), (0.95, False)])
def test_a_low_predicted_iou_of_a_box_is_told(by_box: Segmentation, predicted: float, told: bool) -> None:
    remarks = replace(by_box, predicted_iou=np.array([predicted])).remarks
    expected = f"the predicted IoU is {predicted:.2f}, below 0.6; look at the mask, and give points as well"
    assert remarks == ((expected,) if told else ())


@pytest.mark.parametrize(("predicted", "told"), [(0.44, True), (0.45, False), (0.59, False)])
def test_a_low_predicted_iou_of_a_point_is_told(by_point: Segmentation, predicted: float, told: bool) -> None:
    remarks = replace(by_point, predicted_iou=np.array([predicted])).remarks
    expected = f"the predicted IoU is {predicted:.2f}, below {LOW_PREDICTED_IOU:g}; look at the mask, and give a box or more points"
    assert remarks == ((expected,) if told else ())


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.02, 0.02, 0.98, 0.95), (0.1, 0.0, 1.0, 0.9)])
def test_a_box_around_nearly_everything_is_told(by_box: Segmentation, box: tuple[float, ...]) -> None:
    height, width = by_box.embedding.original_size
    x0, y0, x1, y1 = box
    result = replace(
        by_box,
        prompt=replace(by_box.prompt, box=np.array([x0 * width, y0 * height, x1 * width, y1 * height])),
    )
    share = (x1 - x0) * (y1 - y0)
    assert result.remarks[0] == (
        f"the box holds {share:.0%} of the image, and the mask may be the ground; "
        "look at it, and draw the box closely around the object or give points"
    )


def test_a_box_with_room_around_it_is_not_told(by_box: Segmentation) -> None:
    height, width = by_box.embedding.original_size
    box = np.array([0, 0, 0.79 * width, height])
    assert not any(
        "holds" in remark for remark in replace(by_box, prompt=replace(by_box.prompt, box=box)).remarks
    )


def test_a_mask_of_what_lies_around_the_box_is_told(by_box: Segmentation) -> None:
    height, width = by_box.embedding.original_size
    box = np.array([0, 0, 0.75 * width, height])
    ground = replace(
        by_box,
        low_res_masks=np.ones_like(by_box.low_res_masks),  # all of the image
        prompt=replace(by_box.prompt, box=np.array([0, 0.03 * height, width, height])),
    )
    assert "the mask takes 100% of what lies outside the box, as the ground would" in ground.remarks[-1]
    strays = replace(ground, prompt=replace(by_box.prompt, box=box)).remarks
    assert strays[-1].startswith("25% of the mask lies outside its box")


@pytest.mark.parametrize(
    ("photo", "box"),
    [("white", (10, 5, 290, 195)), ("black", (10, 5, 290, 195)), ("white", (0, 0, 300, 200))],
)
def test_a_silhouette_in_a_box_around_everything(photo: str, box: tuple[int, ...]) -> None:
    """A good mask, or a remark."""
    y, x = np.mgrid[:200, :300]
    shape = (np.abs(x - 150) < 90) & (np.abs(y - 100) < 30) | ((np.abs(x - 80) < 12) & (y > 90) & (y < 180))
    image = (
        np.where((shape if photo == "white" else ~shape)[..., None], 10, 245).repeat(3, 2).astype(np.uint8)
    )
    model: Model = mobilesam.load("pocket")
    result = model.segment(model.embed(image), Prompt(box=box))
    iou = (result.mask & shape).sum() / (result.mask | shape).sum()
    assert iou > 0.75 or result.remarks


def with_hole(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask of 60 x 60 pixels with a hole, and its logits."""
    mask = np.zeros((80, 90), bool)
    mask[10:70, 10:70] = True
    mask[20 : 20 + height, 30 : 30 + width] = False
    return mask, np.where(mask, 2.0, -0.6).astype(np.float32)


def filled(mask: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return fill_unsure_holes(mask, logits, certain=-1.0, largest=0.1 * mask.sum())


def test_an_unsure_hole_is_filled() -> None:
    mask, logits = with_hole(10, 12)
    np.testing.assert_array_equal(filled(mask, logits), with_hole(0, 0)[0])
    assert not mask[20, 30]  # the mask given is as it was


def test_a_hole_that_is_meant_stays() -> None:
    mask, logits = with_hole(10, 12)
    logits[25, 33] = -1.1
    np.testing.assert_array_equal(filled(mask, logits), mask)


def test_a_large_hole_stays() -> None:
    mask, logits = with_hole(20, 20)
    np.testing.assert_array_equal(filled(mask, logits), mask)


def test_what_reaches_the_edge_of_the_image_is_no_hole() -> None:
    mask = np.ones((40, 50), bool)
    mask[0:3, 5:9] = mask[20:24, 47:] = mask[38:, 30] = False
    logits = np.where(mask, 2.0, -0.1).astype(np.float32)
    np.testing.assert_array_equal(filled(mask, logits), mask)
    mask[10:12, 10:12] = False
    assert filled(mask, np.where(mask, 2.0, -0.1).astype(np.float32))[10:12, 10:12].all()


def test_no_background_and_no_mask() -> None:
    for mask in (np.ones((5, 6), bool), np.zeros((5, 6), bool)):
        np.testing.assert_array_equal(filled(mask, np.zeros((5, 6), np.float32)), mask)


def test_cut_outs_are_filled_unless_told_otherwise(by_box: Segmentation) -> None:
    hole = by_box.low_res_masks.copy()
    y, x = hole.shape[1] // 3, hole.shape[2] // 3
    assert by_box.mask[90:110, 140:160].all()
    hole[:, y - 5 : y + 5, x - 5 : x + 5] = -0.5
    result = replace(by_box, low_res_masks=hole)
    around = result.cutout(crop=False)[..., 3] > 0
    kept = result.cutout(crop=False, fill_holes=False)[..., 3] > 0
    np.testing.assert_array_equal(kept, result.mask)
    assert around.sum() - kept.sum() > 50
    assert around[result.mask].all()
