"""The NumPy core against the field's own implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scipy import ndimage
from scipy.ndimage import distance_transform_edt
from torch.nn import functional as F

from mobilesam.core.boxes import mask_to_box, non_maximum_suppression, xywh_to_xyxy, xyxy_to_xywh
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.frame import Frame, input_size_of
from mobilesam.core.grids import build_point_grid, spread_order
from mobilesam.core.metrics import (
    boundary_iou,
    boxes_ious,
    calibration_error,
    mask_iou,
    mask_ious,
    number_of_clicks,
    reliability,
)
from mobilesam.core.postprocess import enlarge_logits, enlarge_masks, stability_scores, visible_part
from mobilesam.core.regions import central_pixel, distance_to_edge, remove_small_regions
from mobilesam.core.resize import bilinear_matrix
from mobilesam.core.rle import (
    Rle,
    counts_to_string,
    dict_to_rle,
    mask_to_rle,
    rle_to_mask,
    string_to_counts,
    window_to_rle,
)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((480, 640), (768, 1024)),
        ((201, 2048), (101, 1024)),  # 100.5: int(x + 0.5) is 101, round() is 100
        ((1, 100000), (1, 1024)),  # SAM's rule alone would give no row at all
        ((1, 1), (1024, 1024)),
        ((1024, 1024), (1024, 1024)),
    ],
)
def test_size_rule(size: tuple, wanted: tuple) -> None:
    assert input_size_of(size, 1024) == wanted


def test_coordinates_scale_with_the_rounded_sides() -> None:
    np.testing.assert_allclose(
        Frame((201, 2048), (101, 1024), 1024).to_input(np.array([[2048.0, 201.0]])), [[1024, 101]]
    )


@pytest.mark.parametrize(("length", "new"), [(256, 1024), (768, 480), (64, 64), (3, 7), (1, 5), (5, 1)])
def test_bilinear_matrix_is_torchs_interpolate(length: int, new: int) -> None:
    row = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    wanted = F.interpolate(torch.from_numpy(row)[None, None, None], size=(1, new), mode="bilinear")[0, 0, 0]
    np.testing.assert_allclose(bilinear_matrix(length, new) @ row, wanted, atol=3e-4)


@pytest.mark.parametrize("size", [(480, 640), (700, 311), (50, 90)])
def test_enlarging_is_sams_two_steps(size: tuple) -> None:
    low = np.random.default_rng(1).standard_normal((2, 256, 256)).astype(np.float32)
    frame = Frame.fit(size, 1024)
    big = F.interpolate(torch.from_numpy(low)[None], (1024, 1024), mode="bilinear", align_corners=False)
    big = big[..., : frame.input_size[0], : frame.input_size[1]]
    wanted = F.interpolate(big, size, mode="bilinear", align_corners=False)[0].numpy()
    got = enlarge_logits(low, frame)
    np.testing.assert_allclose(got, wanted, atol=3e-4)
    np.testing.assert_array_equal(enlarge_masks(low, frame), got > 0)


def test_stability_score_is_the_iou_of_two_thresholds() -> None:
    logits = np.random.default_rng(2).normal(0, 2, (3, 64, 64)).astype(np.float32)
    wanted = [mask_iou(m > 1, m > -1) for m in logits]
    np.testing.assert_allclose(stability_scores(logits), wanted, atol=1e-6)
    assert stability_scores(np.full((1, 4, 4), -9, np.float32)) == [0]


def test_padding_is_not_part_of_the_stability_score() -> None:
    assert visible_part(np.zeros((1, 256, 256), np.float32), Frame((768, 1024), (768, 1024), 1024)).shape == (
        1,
        192,
        256,
    )
    assert visible_part(np.zeros((1, 256, 256), np.float32), Frame((1, 1024), (1, 1024), 1024)).shape == (
        1,
        1,
        256,
    )


def random_masks() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = [(1, 1), (1, 9), (7, 1), (13, 17), (40, 64)]
    return [rng.random(shape) < part for shape in shapes for part in (0, 0.2, 0.5, 0.9, 1)]


@pytest.mark.parametrize("mask", random_masks(), ids=lambda m: f"{m.shape}-{m.mean():.1f}")
def test_run_lengths_are_pycocotools(mask: np.ndarray) -> None:
    rle = mask_to_rle(mask)
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.to_dict() == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert rle.area == mask.sum()
    np.testing.assert_array_equal(rle_to_mask(dict_to_rle(rle.to_dict())), mask)
    np.testing.assert_array_equal(rle_to_mask(dict_to_rle(rle.to_dict(compressed=False))), mask)
    np.testing.assert_array_equal(string_to_counts(counts_to_string(rle.counts)), rle.counts)
    assert dict_to_rle(rle.to_dict()) == rle


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4], "add up to 7"),
        ([5, -1, 8], r"counts\[1\]: is -1; a run may not be negative"),
        ([2**62, 2**62, 2**62, 2**62, 12], r"counts\[0\]: is 4611686018427387904; a run may not exceed"),
        ([13], r"counts\[0\]: is 13; a run may not exceed the mask's 12 pixels"),
        ([10**400], r"counts\[0\]: is about 2\^1328"),
        ([12.0], r"counts\[0\]: is 12.0; a run is a whole number"),
        (["12"], r"counts\[0\]: is '12'"),
        ([True, 11], r"counts\[0\]: is true"),
        (np.array([12.0]), r"counts\[0\]: is 12.0"),
        (12, "counts: is 12; must be COCO's text or a list"),
        (None, "counts: is null"),
        ("é", "not a compressed"),
        (counts_to_string(np.array([2**57] * 8 + [12])), r"counts\[0\]: a run exceeds the mask's 12 pixels"),
        ("~~~", "not a compressed"),
        ("P", "not a compressed"),  # says that more follows
        ("o" * 20 + "0", "longer than any picture"),
    ],
)
def test_bad_run_lengths_are_refused(counts: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dict_to_rle({"size": [3, 4], "counts": counts})


@pytest.mark.parametrize(
    "size", [[3.0, 4], ["3", 4], [True, 12], [3], [3, 4, 1], "34", None, [-3, -4], [10**400, 1]]
)
def test_sizes_that_are_none_are_refused(size: object) -> None:
    with pytest.raises(ConfigError, match=r"^size"):
        dict_to_rle({"size": size, "counts": [12]})


def test_records_that_are_none_are_refused() -> None:
    for record, message in (
        ({}, "size: is missing"),
        ({"size": [3, 4]}, "counts: is missing"),
        ([1], "must be a run-length code"),
    ):
        with pytest.raises(ConfigError, match=message):
            dict_to_rle(record)


def test_masks_are_never_written_beyond_their_size() -> None:
    for counts in ([2**62] * 4 + [12], [13], [-1, 13], [12.0]):
        with pytest.raises(ConfigError, match="counts"):
            rle_to_mask(Rle((3, 4), np.array(counts)))
    with pytest.raises(LimitError, match="a mask has at most 4,294,967,295"):
        dict_to_rle({"size": [10**6, 10**6], "counts": [10**12]})


def test_numpys_numbers_are_read() -> None:
    record = {"size": np.array([3, 4]), "counts": np.array([5, 7], np.uint32)}
    assert dict_to_rle(record) == dict_to_rle({"size": (3, 4), "counts": [np.int16(5), 7]})


def test_ious_of_many_are_pycocotools() -> None:
    masks = [np.pad(mask, ((0, 40 - mask.shape[0]), (0, 40 - mask.shape[1]))) for mask in shapes_in_forty()]
    runs = [mask_to_rle(mask) for mask in masks]
    wanted = coco_mask.iou([r.to_dict() for r in runs], [r.to_dict() for r in runs[:5]], [0] * 5)
    np.testing.assert_array_equal(mask_ious(runs, runs[:5]), wanted)
    assert mask_ious(runs, []).shape == (len(runs), 0)
    assert mask_ious([], runs).shape == (0, len(runs))
    boxes = np.array([mask_to_box(mask) for mask in masks], float) + 0.25
    xywh = np.array([xyxy_to_xywh(tuple(box)) for box in boxes])
    np.testing.assert_allclose(boxes_ious(boxes, boxes[:5]), coco_mask.iou(xywh, xywh[:5], [0] * 5))
    assert boxes_ious(boxes, boxes[:0]).shape == (len(boxes), 0)
    assert xywh_to_xyxy(xyxy_to_xywh((1, 2, 5, 9))) == (1, 2, 5, 9)


def shapes_in_forty() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    drawn = [rng.random(tuple(rng.integers(5, 41, 2))) < rng.random() for _ in range(12)]
    return [*drawn[:3], np.ones((40, 40), bool), np.zeros((40, 40), bool), *drawn[3:]]


def test_masks_of_two_images_have_no_iou() -> None:
    with pytest.raises(ConfigError, match=r"sizes \[\(2, 3\), \(3, 2\)\]; all must be of one image"):
        mask_ious([mask_to_rle(np.ones((2, 3), bool))], [mask_to_rle(np.ones((3, 2), bool))])


def test_boxes() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:5, 3:10] = True
    assert mask_to_box(mask) == (3, 2, 10, 5)
    assert xyxy_to_xywh((3, 2, 10, 5)) == (3, 2, 7, 3)
    assert mask_to_box(np.zeros((4, 4), bool)) == (0, 0, 0, 0)


def test_distance_to_edge_is_scipys() -> None:
    rng = np.random.default_rng(4)
    for shape in ((1, 1), (30, 50), (64, 20)):
        mask = rng.random(shape) < 0.9
        wanted = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        np.testing.assert_allclose(distance_to_edge(mask), wanted)


def test_central_pixel() -> None:
    mask = np.zeros((20, 40), bool)
    mask[5:16, 10:31] = True
    x, y = central_pixel(mask)
    assert y == 10
    assert 15 <= x <= 25


def test_boundary_iou_does_not_forgive_coarse_outlines() -> None:
    rows, columns = np.mgrid[:200, :200]
    truth = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    smaller = (rows - 100) ** 2 + (columns - 100) ** 2 < 76**2
    assert boundary_iou(truth, truth) == 1
    assert boundary_iou(smaller, truth) < 0.5 < mask_iou(smaller, truth)
    assert boundary_iou(~truth, truth) == 0
    wide = boundary_iou(smaller, truth, width=1.0)  # a border as wide as the object is the object
    assert wide == mask_iou(smaller, truth)


def test_number_of_clicks() -> None:
    assert number_of_clicks([0.9], 0.85) == 1
    assert number_of_clicks([0.5, 0.84, 0.86, 0.7], 0.85) == 3
    assert number_of_clicks([0.1, 0.2, 0.3], 0.85) == 3


def test_reliability_leaves_empty_bins_out() -> None:
    table = reliability([0.31, 0.33, 0.95], [0.5, 0.7, 0.9])
    np.testing.assert_allclose(table.predicted, [0.32, 0.95])
    np.testing.assert_allclose(table.actual, [0.6, 0.9])
    np.testing.assert_allclose(table.share, [2 / 3, 1 / 3])


def test_calibration_error() -> None:
    assert calibration_error([0.95, 0.95], [0.9, 1.0]) == pytest.approx(0)
    assert calibration_error([0.9, 0.1], [0.5, 0.1]) == pytest.approx(0.2)
    assert calibration_error([1.2, -0.1], [1.0, 0.0]) == pytest.approx(0.15)  # beyond 0..1: the last bins


def test_iou() -> None:
    a = np.zeros((4, 4), bool)
    assert mask_iou(a, a) == 1
    b = a.copy()
    b[0] = True
    assert mask_iou(a, b) == 0
    a[0, :2] = True
    assert mask_iou(a, b) == 0.5


@pytest.mark.parametrize("seed", range(8))
def test_windows_encode_as_the_whole_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(100):
        height, width = rng.integers(1, 12, 2)
        x0, y0 = rng.integers(0, width), rng.integers(0, height)
        x1, y1 = rng.integers(x0, width) + 1, rng.integers(y0, height) + 1
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < rng.choice([0, 0.3, 0.7, 1])
        window = window_to_rle(mask[y0:y1, x0:x1], (int(x0), int(y0)), (int(height), int(width)))
        assert window == mask_to_rle(mask)


@pytest.mark.parametrize("seed", range(8))
def test_small_regions_go_as_in_a_plain_labelling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        mask = rng.random(rng.integers(1, 18, 2)) < rng.choice([0, 0.1, 0.4, 0.5, 0.7, 0.95, 1])
        smallest = int(rng.integers(1, 12))
        wanted, changed = plain_small_regions(mask, smallest)
        found, found_changed = remove_small_regions(mask_to_rle(mask), smallest)
        assert found_changed == changed
        assert found == mask_to_rle(wanted)


def plain_small_regions(mask: np.ndarray, smallest: int) -> tuple[np.ndarray, bool]:
    """SAM's clean-up as described: holes first, then islands, regions touching at corners too."""
    changed = False
    for of_holes in (True, False):
        labels, count = ndimage.label(~mask if of_holes else mask, np.ones((3, 3)))
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        small = [i for i in range(1, count + 1) if areas[i] < smallest]
        if not small:
            continue
        changed = True
        if of_holes:
            mask = mask | np.isin(labels, small)
        elif len(small) == count:
            mask = labels == 1 + int(areas[1:].argmax())
        else:
            mask = mask & ~np.isin(labels, small)
    return mask, changed


def test_suppression_keeps_the_better_of_two() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]])
    np.testing.assert_array_equal(
        non_maximum_suppression(boxes, np.array([0.5, 0.9, 0.7, 0.1]), 0.7), [1, 2, 3]
    )
    np.testing.assert_array_equal(
        non_maximum_suppression(boxes, np.array([0.5, 0.9, 0.7, 0.1]), 1.01), [1, 2, 0, 3]
    )
    assert len(non_maximum_suppression(np.zeros((0, 4)), np.zeros(0), 0.7)) == 0


def test_beginnings_of_the_spread_order_cover_the_image() -> None:
    points = build_point_grid(8)
    order = spread_order(points)
    assert sorted(order) == list(range(64))
    for beginning, cells in ((4, 2), (16, 4)):
        seen = {tuple(np.floor(point * cells).astype(int)) for point in points[order[:beginning]]}
        assert len(seen) == cells**2


def plain_counts_to_string(counts: list[int]) -> str:
    """COCO's text, group by group, as pycocotools writes it."""
    out = []
    for i, run in enumerate(counts):
        value = run - counts[i - 2] if i > 2 else run
        while True:
            group, value = value & 31, value >> 5
            done = value == (-1 if group & 16 else 0)
            out.append(chr(48 + (group if done else group | 32)))
            if done:
                break
    return "".join(out)


def test_text_of_runs_is_that_of_the_plain_way() -> None:
    rng = np.random.default_rng(0)
    edges = [0, 1, 15, 16, 17, 31, 32, 511, 512, 513, 2**14, 2**15 - 1, 2**31 - 1, 2**32 - 1]
    cases = [[], [0], [7], [0, 7], [3, 0, 9], edges, edges[::-1], rng.permutation(edges * 3).tolist()]
    cases += [rng.integers(0, 2 ** rng.integers(1, 20), 50).tolist() for _ in range(50)]
    for counts in cases:
        assert counts_to_string(np.array(counts, np.int64)) == plain_counts_to_string(counts)
    assert counts_to_string(np.array([3, 300, 2, 1], np.int16)) == plain_counts_to_string([3, 300, 2, 1])
