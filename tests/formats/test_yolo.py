"""YOLO lines, filled as training fills them, are the masks."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobilesam.core.errors import ConfigError, PromptError
from mobilesam.core.metrics import mask_iou
from mobilesam.core.outlines import count_corners
from mobilesam.core.regions import largest_regions
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.yolo import mask_to_yolo_line, mask_to_yolo_ring, masks_to_yolo_lines
from tests.conftest import SHARED
from tests.pace import within
from tests.series import one_in

SIZE = (100, 120)
LEAST_IOU = 0.95
RESAMPLED = 1000  # points that training makes of a line
Cut = Callable[[np.ndarray], np.ndarray]
CUTS = {"cut off": np.trunc, "rounded": np.round}


def fill(line: str, size: tuple[int, int], cut: Cut = np.trunc, *, resampled: bool = False) -> np.ndarray:
    """Fill a line as training does: enlarge, perhaps put points between, make whole pixels, fill."""
    height, width = size
    points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * np.array([width, height], np.float32)
    if resampled:
        closed = np.concatenate([points, points[:1]])
        at = np.linspace(0, len(points), RESAMPLED)
        points = np.stack([np.interp(at, np.arange(len(closed)), axis) for axis in closed.T], 1)
    filled = np.zeros(size, np.uint8)
    cv2.fillPoly(filled, [cut(points).astype(np.int32)], 1)
    return filled > 0


def placed(shape: np.ndarray, corner: str) -> np.ndarray:
    """A shape in the middle of an image, or at one of its corners."""
    height, width = shape.shape
    y, x = {"first": (0, 0), "middle": (9, 13), "last": (SIZE[0] - height, SIZE[1] - width)}[corner]
    mask = np.zeros(SIZE, bool)
    mask[y : y + height, x : x + width] = shape
    return mask


def rectangle(height: int, width: int) -> np.ndarray:
    return np.ones((height, width), bool)


def ellipse(height: int, width: int) -> np.ndarray:
    y, x = (np.arange(n) * 2 + 1 - n for n in (height, width))
    return np.hypot(y[:, None] / height, x / width) < 1


def triangle(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return x * height <= y * width


def bent(height: int, width: int) -> np.ndarray:
    mask = np.ones((height, width), bool)
    mask[: height - 2, 2:] = False
    return mask


@pytest.mark.parametrize("corner", ["first", "middle", "last"])
@pytest.mark.parametrize("shape", [rectangle, ellipse, triangle, bent])
@pytest.mark.parametrize("height", one_in(3, [1, 2, 5, 6, 7, 10, 15, 20, 33, 60]))
def test_small_shapes_are_filled(height: int, shape: Callable[[int, int], np.ndarray], corner: str) -> None:
    for width in {1, 3, 5, 8, 13, 20, height}:
        mask = placed(shape(height, width), corner)
        if not mask.any():
            continue
        line = mask_to_yolo_line(mask)
        for name, cut in CUTS.items():
            assert mask_iou(fill(line, SIZE, cut), mask) >= LEAST_IOU, (width, name)


@pytest.mark.parametrize("side", range(1, 21))
def test_squares_are_exact(side: int) -> None:
    for corner in ("first", "middle", "last"):
        mask = placed(rectangle(side, side), corner)
        for cut in CUTS.values():
            for resampled in (False, True):
                np.testing.assert_array_equal(
                    fill(mask_to_yolo_line(mask), SIZE, cut, resampled=resampled), mask
                )


def test_coordinates_lie_in_the_image() -> None:
    numbers = np.array(mask_to_yolo_line(np.ones((7, 9), bool)).split()[1:], float)
    assert numbers.min() > 0
    assert numbers.max() < 1


@pytest.mark.parametrize("side", [5, 10_000])
def test_coordinates_are_exact_enough(side: int) -> None:
    mask = np.zeros((3, side), bool)
    mask[1, side - 4 : side - 1] = True
    for cut in CUTS.values():
        np.testing.assert_array_equal(fill(mask_to_yolo_line(mask), (3, side), cut), mask)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)), st.sampled_from([*CUTS]))
def test_any_single_part_is_exact_without_tolerance(mask: np.ndarray, cut: str) -> None:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for number in range(1, len(stats)):
        part = labels == number
        line = mask_to_yolo_line(part, tolerance=0.0)
        np.testing.assert_array_equal(fill(line, part.shape, CUTS[cut]), part)


def test_holes_stay_holes() -> None:
    mask = placed(rectangle(45, 45), "middle")
    mask[20:25, 30:35] = False
    mask[35:45, 25:40] = False
    mask[38:41, 30:34] = True  # an island in a hole
    line = mask_to_yolo_line(mask)
    assert mask_iou(fill(line, SIZE), mask) > 0.99
    assert not fill(line, SIZE)[20:25, 30:35].any()
    assert fill(line, SIZE)[38:41, 30:34].all()


@pytest.mark.parametrize("gap", [1, 3, 10, 30])
def test_parts_are_joined_by_a_line_of_one_pixel(gap: int) -> None:
    mask = placed(rectangle(12, 12), "middle")
    mask[13:22, 25 + gap : 34 + gap] = True
    filled = fill(mask_to_yolo_line(mask), SIZE)
    assert filled[mask].all()
    assert gap - 1 <= (filled & ~mask).sum() <= gap + 1


def test_specks_far_off_are_left_out() -> None:
    mask = placed(rectangle(30, 30), "middle")
    mask[90:92, 110:112] = True
    filled = fill(mask_to_yolo_line(mask), SIZE)
    assert not filled[90:92, 110:112].any()
    assert filled.sum() == 900
    mask[40:42, 20:22] = True  # next to the square
    assert fill(mask_to_yolo_line(mask), SIZE)[40:42, 20:22].all()


def test_lines_and_classes_stay_together() -> None:
    one, none, three = placed(rectangle(9, 9), "first"), np.zeros(SIZE, bool), placed(rectangle(5, 5), "last")
    lines = masks_to_yolo_lines([one, none, three], [4, 5, 6], scores=[0.9, 0.8, 0.75])
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [("4", "0.9"), ("6", "0.75")]
    assert masks_to_yolo_lines([one, none, three], [4, 5, 6])[1] == mask_to_yolo_line(three, 6)
    assert mask_to_yolo_line(none) == ""
    assert mask_to_yolo_ring(none).shape == (0, 2)
    assert masks_to_yolo_lines([], []) == []


def test_what_cannot_be_meant_is_refused() -> None:
    mask = np.ones((4, 4), bool)
    with pytest.raises(ConfigError, match=r"^class_numbers: has 1 for 2 masks; give one for each mask$"):
        masks_to_yolo_lines([mask, mask], [1])
    with pytest.raises(ConfigError, match=r"^scores: has 1 for 2 masks"):
        masks_to_yolo_lines([mask, mask], [1, 2], scores=[0.5])
    with pytest.raises(PromptError, match=r"^class_number: is -1; must be a whole number from 0$"):
        mask_to_yolo_line(mask, -1)
    with pytest.raises(PromptError, match=r"^tolerance: is -1.0; must be a number from 0$"):
        mask_to_yolo_line(mask, tolerance=-1.0)


@pytest.mark.parametrize("every", [pytest.param(3, marks=pytest.mark.long), 30])
@pytest.mark.parametrize("name", ["coco_val", "ccp_fashion", "bsds_consensus"])
def test_real_masks_are_filled(name: str, every: int) -> None:
    folder = SHARED / "data/eval" / name
    if not folder.is_dir():
        pytest.skip(f"no such set: {folder}")
    ious = []
    for instance in [one for photo in read_photos(folder) for one in photo.instances][::every]:
        mask = rle_to_mask(instance.segmentation)
        line = mask_to_yolo_line(mask)
        ious.append([mask_iou(fill(line, mask.shape, cut), mask) for cut in CUTS.values()])
    assert np.mean(ious) > 0.985
    few = np.count_nonzero(np.array(ious) < LEAST_IOU, axis=0)  # their parts are far from each other
    assert (few <= max(1, 0.005 * len(ious))).all()


@pytest.mark.parametrize(
    ("side", "density", "least"), one_in(3, [(256, 0.5, 0.4), (1000, 0.5, 0.08), (1000, 0.62, 0.6)])
)
def test_noise_takes_a_few_seconds(side: int, density: float, least: float) -> None:
    """Noise of four megapixels takes little more: its outlines are made coarser until they have as many corners."""
    mask = np.random.default_rng(0).random((side, side)) < density
    start = time.process_time()
    line = mask_to_yolo_line(mask, tolerance=0.5)
    assert within(time.process_time() - start, 5.0)
    assert mask_iou(fill(line, mask.shape), mask) >= least


def test_the_largest_regions_stay() -> None:
    mask = np.zeros((20, 30), bool)
    mask[0:3, 0:3], mask[3, 3], mask[5:9, 5:9], mask[0, 29], mask[19, 0:30] = True, True, True, True, True
    wanted = np.zeros_like(mask)
    wanted[5:9, 5:9], wanted[19] = True, True
    assert (largest_regions(mask, 2) == wanted).all()
    wanted[0:3, 0:3] = True
    assert (largest_regions(mask, 3) == wanted).all()  # pixels that touch at a corner are of different ones
    assert (largest_regions(mask, 9) == mask).all()
    assert count_corners(wanted) == 12
