"""Which of many masks stay: a generator that shows what it had before, and torchvision's rule as its referee."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator
from mobilesam.compat.segment_anything.utils.amg import MaskData, generate_crop_boxes
from mobilesam.core.arrays import to_numpy


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
