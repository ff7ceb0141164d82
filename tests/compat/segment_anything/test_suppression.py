"""Which of many masks stay: the generator's suppression against torchvision's, which segment_anything's search uses.

The referee is its ``batched_nms`` in NumPy: float32, by falling score, equals in their order.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from mobilesam.compat.segment_anything.modeling.build import build_named
from mobilesam.core.boxes import non_maximum_suppression
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.segment.model import Model
from tests.conftest import GOLDEN
from tests.photos import cat
from tests.seeded import seeded_image, seeded_weights
from tests.suppression import Recorder, check_suppression, referee


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


def test_masks_of_mobile_sam(onnx_vit_t: Model) -> None:
    generator = Recorder(onnx_vit_t, 4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    check_suppression(generator, seeded_image(90, 120), 40)


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("name", ["vit_l", "vit_h"])
def test_masks_of_large_encoders(name: str) -> None:
    """ViT-B's are asked in ``test_golden``, where its network stands already."""
    weights = seeded_weights(json.loads((GOLDEN / f"{name}_state_dict.json").read_text()))
    network = load_tensors(build_named(name), weights, name)
    generator = Recorder(network, 8, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    check_suppression(generator, seeded_image(90, 120), 150)
