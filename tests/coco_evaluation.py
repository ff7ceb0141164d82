"""COCO's own evaluation of class-agnostic recall, to compare ours with."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobilesam.core.metrics import RECALL_LIMITS, RecallCounts


def coco_recall(dataset: dict, results: list[dict], kind: str) -> np.ndarray:
    """Recall (thresholds, sizes, limits) of ``segm`` or ``bbox``; -1 where there is no object."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(RECALL_LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0]


def our_recall(counts: RecallCounts) -> np.ndarray:
    """The same of our counts."""
    there = counts.objects[:, None, None] > 0
    recall = np.where(there, counts.found / np.maximum(counts.objects[:, None, None], 1), -1)
    return recall.transpose(1, 0, 2)
