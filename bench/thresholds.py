"""Which thresholds suit a model when it segments everything: what is found, and among how many masks.

    python bench/thresholds.py path/to/coco_val

The set is a folder with instances.json and images/. Of its photos, those with the most labelled objects are
searched once with both thresholds at 0; what they would have left is worked out afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np

import mobilesam
from mobilesam.core.boxes import inclusive, non_maximum_suppression
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos

PREDICTED_IOUS = (0.2, 0.3, 0.35, 0.4, 0.5, 0.6)
STABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5)
BOX_NMS = 0.7
IOUS = np.arange(0.5, 1, 0.05)


def search(model: mobilesam.Model, photo: SetPhoto, side: int) -> tuple[np.ndarray, ...]:
    """Return predicted IoUs (N,), stabilities (N,), boxes (N, 4) and IoUs (N, M) with the labelled objects."""
    options = mobilesam.EverythingOptions(
        sampler="grid", points_per_side=side, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1
    )
    found = model.everything(read_photo(photo), options)
    objects = np.stack([rle_to_mask(i.segmentation).ravel() for i in photo.instances]).astype(np.float32)
    areas = objects.sum(1)
    ious = np.empty((len(found), len(objects)))
    for row, mask in zip(ious, found, strict=True):
        flat = mask.mask.ravel()
        both = objects[:, flat].sum(1)
        row[:] = both / (areas + flat.sum() - both)
    return (
        np.array([mask.predicted_iou for mask in found]),
        np.array([mask.stability_score for mask in found]),
        np.array([inclusive(mask.box) for mask in found]),
        ious,
    )


def best_ious(
    found: tuple[np.ndarray, ...], predicted_iou: float, stability: float
) -> tuple[np.ndarray, int]:
    """Return the best IoU (M,) for each labelled object under two thresholds, and how many masks are left."""
    predicted, stable, boxes, ious = found
    passing = np.flatnonzero((predicted > predicted_iou) & (stable >= stability))
    if not len(passing):
        return np.zeros(ious.shape[1]), 0
    kept = passing[non_maximum_suppression(boxes[passing], predicted[passing], BOX_NMS)]
    return ious[kept].max(0), len(kept)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--points-per-side", type=int, default=16)
    options = parser.parse_args()
    model = mobilesam.load(options.model)
    most = sorted(read_photos(options.set), key=lambda p: len(p.instances), reverse=True)
    start = time.perf_counter()
    found = [search(model, photo, options.points_per_side) for photo in most[: options.photos]]
    objects = sum(one[3].shape[1] for one in found)
    print(f"{model.name}, {len(found)} photos, {objects} objects, {time.perf_counter() - start:.0f} s")
    print("predicted IoU  stability  masks/photo  recall at 0.5  at 0.5:0.95")
    for thresholds in [(0.0, 0.0), *itertools.product(PREDICTED_IOUS, STABILITIES)]:
        scored = [best_ious(one, *thresholds) for one in found]
        best = np.concatenate([ious for ious, _ in scored])
        masks = sum(count for _, count in scored) / len(found)
        average = (best[:, None] >= IOUS).mean()
        print(
            f"{thresholds[0]:13.2f}{thresholds[1]:11.2f}{masks:18.1f}{(best >= 0.5).mean():15.3f}{average:13.3f}"
        )


if __name__ == "__main__":
    main()
