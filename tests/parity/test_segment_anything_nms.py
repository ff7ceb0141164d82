"""Which of many masks stay: the generator's suppression against torchvision's, which segment_anything's search uses.

The referee is its ``batched_nms`` in NumPy: float32, by falling score, equals in their order.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator
from mobilesam.compat.segment_anything.modeling.build import build_named
from mobilesam.compat.segment_anything.utils.amg import MaskData, generate_crop_boxes
from mobilesam.core.arrays import to_numpy
from mobilesam.core.boxes import non_maximum_suppression
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.segment.model import Model
from tests.conftest import GOLDEN
from tests.photographs import cat
from tests.seeded import seeded_image, seeded_weights


def referee(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """The numbers that stay, of boxes (N, 4) that all are of one class."""
    boxes, scores = boxes.astype(np.float32), scores.astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    gone = np.zeros(len(boxes), bool)
    kept = []
    for place, i in enumerate(order):
        if gone[i]:
            continue
        kept.append(int(i))
        others = order[place + 1 :]
        low, high = np.maximum(boxes[i, :2], boxes[others, :2]), np.minimum(boxes[i, 2:], boxes[others, 2:])
        width, height = np.maximum(np.float32(0), high - low).T
        shared = width * height
        with np.errstate(invalid="ignore"):  # of two boxes without area: NaN, which is above nothing
            overlap = shared / (areas[i] + areas[others] - shared)
        gone[others[overlap.astype(np.float64) > threshold]] = True
    return kept


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 2.0])
def test_boxes_that_are_nearly_alike(threshold: float) -> None:
    """Whole coordinates, as masks have them, so that overlaps often are the threshold exactly; equal scores."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 12, (600, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 11, (600, 2))], 1)
    scores = rng.integers(0, 40, 600).astype(np.float32) / 40
    kept = non_maximum_suppression(boxes, scores, threshold)
    assert kept.tolist() == referee(boxes, scores, threshold)
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    if threshold in (0.5, 0.7, 0.8):
        assert (shared * 10 == round(threshold * 10) * (areas[:, None] + areas - shared)).sum() > 600


class Recorder(SamAutomaticMaskGenerator):
    """Keeps what each crop has before any suppression."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.found: dict[tuple, list[MaskData]] = {}

    def _process_batch(self, points: np.ndarray, im_size: Any, crop_box: Any, orig_size: Any) -> MaskData:
        data = super()._process_batch(points, im_size, crop_box, orig_size)
        self.found.setdefault(tuple(crop_box), []).append(MaskData(**dict(data.items())))
        return data


def check_suppression(generator: Recorder, image: np.ndarray, least: int) -> None:
    records = generator.generate(image)
    crops, _ = generate_crop_boxes(image.shape[:2], generator.crop_n_layers, generator.crop_overlap_ratio)
    rows: list[tuple] = []
    for crop in crops:
        batches = generator.found[tuple(crop)]
        boxes, scores = (
            np.concatenate([to_numpy(batch[key]) for batch in batches]) for key in ("boxes", "iou_preds")
        )
        kept = referee(boxes, scores, generator.box_nms_thresh)
        assert len(boxes) >= least
        assert len(kept) < len(boxes)
        rows += [((boxes[i] + np.tile(crop[:2], 2)).tolist(), scores[i], crop) for i in kept]
    if len(crops) > 1:
        smaller = np.array([1 / ((crop[2] - crop[0]) * (crop[3] - crop[1])) for _, _, crop in rows])
        kept = referee(np.array([box for box, _, _ in rows]), smaller, generator.crop_nms_thresh)
        assert len(kept) < len(rows)
        rows = [rows[i] for i in kept]
    assert len(records) == len(rows)
    for record, (box, score, crop) in zip(records, rows, strict=True):
        x0, y0, x1, y1 = box
        assert record["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert record["predicted_iou"] == score
        assert record["crop_box"][:2] == crop[:2]


def of_network(name: str, points: int, **options: Any) -> Recorder:
    """All masks are kept that seeded weights give, so that there is much to suppress."""
    weights = seeded_weights(json.loads((GOLDEN / f"{name}_state_dict.json").read_text()))
    network = load_tensors(build_named(name), weights, name)
    return Recorder(network, points, pred_iou_thresh=0.0, stability_score_thresh=0.0, **options)


def test_masks_of_mobile_sam(onnx_vit_t: Model) -> None:
    generator = Recorder(onnx_vit_t, 6, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    check_suppression(generator, seeded_image(90, 120), 80)


def test_masks_of_crops(pocket: Model) -> None:
    """Masks of trained weights: those of seeded ones fill each crop and are cut by its edges."""
    generator = Recorder(
        pocket,
        4,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        box_nms_thresh=0.6,
        crop_n_layers=1,
        crop_nms_thresh=0.4,
    )
    check_suppression(generator, cat(), 6)


def test_masks_of_vit_b() -> None:
    check_suppression(of_network("vit_b", 3), seeded_image(90, 120), 20)


@pytest.mark.long
@pytest.mark.parametrize("name", ["vit_l", "vit_h"])
def test_masks_of_large_encoders(name: str) -> None:
    check_suppression(of_network(name, 8), seeded_image(180, 240), 150)
