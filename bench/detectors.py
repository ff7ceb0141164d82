"""How many objects are met by the boxes of detectors themselves, before any mask, and how long they take.

    python bench/detectors.py data/eval/coco_val detector_nano pocket yolox_nano.onnx

Recall of the likeliest 10 and 100 boxes of each photo after non-maximum suppression (IoU 0.7), averaged over
COCO's IoU thresholds 0.50, 0.55 ... 0.95 and all objects; the time is that of finding boxes alone, for `pocket`
without its encoder.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import mobilesam
from mobilesam.core.boxes import box_ious
from mobilesam.detectors.base import Detector, select_boxes
from mobilesam.detectors.load import detector_for
from mobilesam.formats.coco import SetPhoto, read_instances

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
MOST = (10, 100)
SAME = 0.7  # IoU above which two boxes are one


def recalls(model: mobilesam.Model, detector: Detector, photo: SetPhoto) -> tuple[list[list[float]], float]:
    """Return the recall of each object by the best boxes, for each of ``MOST``, and the seconds it took."""
    embedding = model.embed(photo.path)
    start = time.perf_counter()
    boxes = detector.find(embedding)
    seconds = time.perf_counter() - start
    size = embedding.original_size
    found = select_boxes(boxes, size, confidence=0, nms_thresh=SAME, most=max(MOST))
    rows = []
    for instance in photo.instances:
        x, y, width, height = instance.bbox
        ious = box_ious(np.array([x, y, x + width, y + height]), found.xyxy)
        rows.append([float((ious[:most].max(initial=0) >= THRESHOLDS).mean()) for most in MOST])
    return rows, seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("detectors", nargs="+")
    arguments = parser.parse_args()
    model = mobilesam.load()
    photos = read_instances(arguments.set)
    for name in arguments.detectors:
        detector = detector_for(model.runtime, model.name, name)
        rows, seconds = [], []
        for photo in photos:
            found, took = recalls(model, detector, photo)
            rows += found
            seconds.append(took)
        scores = ", ".join(
            f"AR@{most} {score:.3f}" for most, score in zip(MOST, np.mean(rows, axis=0), strict=True)
        )
        print(f"{name}: {len(rows)} objects, {scores}, {1e3 * statistics.median(seconds):.1f} ms")


if __name__ == "__main__":
    main()
