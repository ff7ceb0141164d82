"""segment_anything's amg and transforms, for arrays and for tensors, against plain definitions and pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from scipy import ndimage

from mobilesam import ConfigError
from mobilesam.compat.segment_anything.utils import amg
from mobilesam.compat.segment_anything.utils.transforms import ResizeLongestSide
from tests.seeded import seeded_image

KINDS = {"array": np.asarray, "tensor": torch.as_tensor}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """Grainy masks, an empty one and a full one."""
    rng = np.random.default_rng(0)
    grain = rng.normal(size=(6, 37, 53))
    smooth = np.stack([ndimage.gaussian_filter(one, 1.5) for one in grain])
    return np.concatenate([smooth > 0.05, np.zeros((1, 37, 53), bool), np.ones((1, 37, 53), bool)])


def same_kind(result: Any, example: Any) -> np.ndarray:
    assert type(result) is type(example)
    return np.asarray(result)


def test_runs(kind: Any, masks: np.ndarray) -> None:
    for mask, rle in zip(masks, amg.mask_to_rle_pytorch(kind(masks)), strict=True):
        flat = mask.ravel(order="F")
        starts = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
        edges = [0, *starts, flat.size]
        assert rle == {"size": [37, 53], "counts": np.diff(edges).tolist()}
        np.testing.assert_array_equal(amg.rle_to_mask(rle), mask)
    for broken in (
        {"size": [3, 4], "counts": [2**62] * 4 + [12]},
        {"size": [3, 4], "counts": [12.0]},
        {"size": [3, 4]},
        [12],
    ):
        for read in (amg.rle_to_mask, amg.area_from_rle, amg.coco_encode_rle):
            with pytest.raises(ConfigError):
                read(broken)
        assert amg.area_from_rle(rle) == mask.sum()
        encoded = amg.coco_encode_rle(rle)
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert encoded == {"size": theirs["size"], "counts": theirs["counts"].decode()}
        np.testing.assert_array_equal(coco.decode(encoded).astype(bool), mask)


@pytest.mark.parametrize("area", [1, 3, 8.5, 40, 1e6])
@pytest.mark.parametrize("mode", ["holes", "islands"])
def test_remove_small_regions(masks: np.ndarray, mode: str, area: float) -> None:
    for mask in masks:
        before = mask.copy()
        cleaned, changed = amg.remove_small_regions(mask, area, mode)
        regions, count = ndimage.label(mask ^ (mode == "holes"), np.ones((3, 3)))
        areas = ndimage.sum_labels(np.ones_like(regions), regions, range(1, count + 1))
        small = [i + 1 for i, size in enumerate(areas) if size < area]
        wanted = mask.copy()
        if mode == "islands" and small and len(small) == count:
            small.remove(int(areas.argmax()) + 1)
            wanted[np.isin(regions, small)] = False
            assert cleaned.sum() == wanted.sum()  # of equals either may stay
        else:
            wanted[np.isin(regions, small)] = mode == "holes"
            np.testing.assert_array_equal(cleaned, wanted)
        assert changed == ((areas < area).any() if count else False)
        np.testing.assert_array_equal(mask, before)
    with pytest.raises(AssertionError, match="mode: is 'gaps'"):
        amg.remove_small_regions(masks[0], 5, "gaps")


def test_boxes_of_masks(kind: Any, masks: np.ndarray) -> None:
    boxes = amg.batched_mask_to_box(kind(masks))
    assert boxes.dtype in (np.int64, torch.int64)
    for mask, box in zip(masks, same_kind(boxes, kind(masks)), strict=True):
        y, x = np.nonzero(mask)
        assert box.tolist() == ([x.min(), y.min(), x.max(), y.max()] if x.size else [0, 0, 0, 0])
    assert amg.batched_mask_to_box(kind(masks[0])).shape == (4,)
    assert amg.batched_mask_to_box(kind(masks.reshape(2, 4, 37, 53))).shape == (2, 4, 4)
    assert amg.batched_mask_to_box(kind(masks[:0])).shape == (0, 4)


def test_stability(kind: Any, masks: np.ndarray) -> None:
    logits = np.random.default_rng(1).normal(1, 2, (4, 3, 20, 30)).astype(np.float32)
    logits[0, 0] = -50
    for threshold, offset in ((0.0, 1.0), (0.7, 0.3)):
        scores = same_kind(amg.calculate_stability_score(kind(logits), threshold, offset), kind(logits))
        inner, outer = (logits > threshold + offset).sum((2, 3)), (logits > threshold - offset).sum((2, 3))
        np.testing.assert_allclose(scores, inner / np.maximum(outer, 1), rtol=1e-6)
        assert scores.dtype == np.float32 and scores[0, 0] == 0
    half = torch.as_tensor(logits).bfloat16()
    assert amg.calculate_stability_score(half[0, 1], 0.0, 1.0).shape == ()


def test_crops_and_what_comes_out_of_them(kind: Any, masks: np.ndarray) -> None:
    boxes, layers = amg.generate_crop_boxes((60, 80), 2, 512 / 1500)
    assert layers == [0] + [1] * 4 + [2] * 16
    assert boxes[0] == [0, 0, 80, 60] and all(isinstance(box, list) for box in boxes)
    crop = [10, 20, 63, 57]
    inside = kind(np.array([[1.5, 2, 3, 4], [5, 6, 7, 8]], np.float32))
    moved = same_kind(amg.uncrop_boxes_xyxy(inside, crop), inside)
    np.testing.assert_array_equal(moved, [[11.5, 22, 13, 24], [15, 26, 17, 28]])
    per_mask = kind(np.zeros((2, 1, 4), np.int64))
    assert same_kind(amg.uncrop_boxes_xyxy(per_mask, crop), per_mask).tolist() == [[[10, 20, 10, 20]]] * 2
    points = kind(np.zeros((3, 2), np.float32))
    assert same_kind(amg.uncrop_points(points, crop), points).tolist() == [[10, 20]] * 3
    whole = amg.uncrop_masks(kind(masks), crop, 60, 80)
    assert whole.dtype == kind(masks).dtype and whole.shape == (8, 60, 80)
    np.testing.assert_array_equal(same_kind(whole, kind(masks))[:, 20:57, 10:63], masks)
    assert int(whole.sum()) == masks.sum()
    assert amg.uncrop_masks(whole, [0, 0, 80, 60], 60, 80) is whole


def test_boxes_at_a_crops_edge(kind: Any) -> None:
    """The crop's left and top edges cut the image; its right one is the image's."""
    boxes = kind(np.array([[0, 30, 20, 50], [40, 30, 60, 50], [80, 30, 98, 50], [40, 5, 60, 50]], np.float32))
    found = amg.is_box_near_crop_edge(boxes, [100, 100, 200, 200], [0, 0, 200, 300])
    assert same_kind(found, boxes).tolist() == [True, False, False, True]
    assert amg.is_box_near_crop_edge(boxes, [100, 100, 200, 200], [0, 0, 200, 300], atol=4)[3].item() is False
    moved = amg.is_box_near_crop_edge(boxes, [150, 150, 250, 250], [50, 50, 250, 350])
    assert np.asarray(moved).tolist() == np.asarray(found).tolist()
    assert amg.is_box_near_crop_edge(boxes[:0], [1, 1, 9, 9], [0, 0, 9, 9]).shape == (0,)


def test_xywh(kind: Any) -> None:
    box = kind(np.array([1, 2, 5, 9]))
    assert same_kind(amg.box_xyxy_to_xywh(box), box).tolist() == [1, 2, 4, 7]
    assert box.tolist() == [1, 2, 5, 9]
    assert amg.box_xyxy_to_xywh([1, 2, 5, 9]) == [1, 2, 4, 7]
    assert amg.box_xyxy_to_xywh((1, 2, 5, 9)) == (1, 2, 4, 7)


def test_grids() -> None:
    np.testing.assert_allclose(
        amg.build_point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )
    assert [len(grid) for grid in amg.build_all_layer_point_grids(32, 2, 2)] == [1024, 256, 64]


def test_batches() -> None:
    parts = list(amg.batch_iterator(2, [1, 2, 3], np.arange(3)))
    assert [(list(a), b.tolist()) for a, b in parts] == [([1, 2], [0, 1]), ([3], [2])]
    assert list(amg.batch_iterator(2, [])) == []
    for wrong in (([1], [1, 2]), ()):
        with pytest.raises(AssertionError, match="same length"):
            next(amg.batch_iterator(2, *wrong))


def test_mask_data_filters_and_grows(kind: Any) -> None:
    data = amg.MaskData(boxes=kind(np.arange(12).reshape(3, 4)), names=["a", "b", "c"])
    data["points"] = np.arange(3)
    data.filter(kind(np.array([2, 0])))
    assert data["boxes"].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert data["names"] == ["c", "a"] and data["points"].tolist() == [2, 0]
    data.filter(torch.tensor([True, False]))
    everything = amg.MaskData()
    everything.cat(data)
    everything.cat(data)
    assert everything["names"] == ["c", "c"] and everything["points"].tolist() == [2, 2]
    assert type(everything["boxes"]) is type(data["boxes"])
    data["names"].append("d")
    assert everything["names"] == ["c", "c"]
    everything.filter(torch.tensor([], dtype=torch.int64))
    assert len(everything["boxes"]) == len(everything["names"]) == 0
    everything.to_numpy()
    assert all(isinstance(column, list | np.ndarray) for _, column in everything.items())
    del everything["boxes"]
    assert {key for key, _ in everything.items()} == {"names", "points"}
    for wrong in (None, "ab", (1, 2)):
        with pytest.raises(AssertionError, match="must be a list"):
            everything["odd"] = wrong
    with pytest.raises(ConfigError, match="odd: is a int"):
        amg.MaskData(odd=3)


@pytest.mark.parametrize("size", [(480, 640), (201, 2048), (33, 20), (1, 3000)])
def test_transforms(size: tuple[int, int]) -> None:
    transform = ResizeLongestSide(1024)
    height, width = transform.get_preprocess_shape(*size, 1024)
    assert max(height, width) == 1024
    image = seeded_image(*size)
    resized = transform.apply_image(image)
    assert resized.shape == (height, width, 3) and resized.dtype == np.uint8 and resized.flags.writeable
    on_device = transform.apply_image_torch(torch.as_tensor(image).permute(2, 0, 1)[None].float())
    assert np.abs(on_device[0].permute(1, 2, 0).numpy() - resized).max() <= 1.01  # Pillow rounds twice
    coords = np.array([[[3, 1], [0, 0]], [[7, 9], [2.5, 4]]])
    moved = transform.apply_coords(coords, size)
    np.testing.assert_allclose(moved, coords * [width / size[1], height / size[0]])
    tensor = transform.apply_coords_torch(torch.as_tensor(coords), size)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor, moved, rtol=1e-6)
    boxes = np.array([[0, 1, 5, 6], [2, 2, 9, 8]])
    np.testing.assert_allclose(
        transform.apply_boxes(boxes, size), transform.apply_coords(boxes.reshape(2, 2, 2), size).reshape(2, 4)
    )
    np.testing.assert_allclose(
        transform.apply_boxes_torch(torch.as_tensor(boxes), size),
        transform.apply_boxes(boxes, size),
        rtol=1e-6,
    )
    assert boxes.tolist() == [[0, 1, 5, 6], [2, 2, 9, 8]]


def test_an_image_of_the_right_size_is_copied() -> None:
    image = seeded_image(20, 64)
    resized = ResizeLongestSide(64).apply_image(image)
    resized[:] = 0
    assert image.any()
