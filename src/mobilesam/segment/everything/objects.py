"""Searching an image by its objects, and then where none was found (MobileSAMv2, and what it misses).

A detector's boxes are prompts that need one mask each, not three: that is MobileSAMv2. It never finds
what no box holds. So the hybrid continues where there is no mask yet: points, coarse to fine, three
masks each as on SAM's grid, until every place is explained or the prompts are used up.

A mask that was found stays found: later ones that repeat it are dropped. So masks can be shown
as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mobilesam.core.arrays import Logits, Mask, Points
from mobilesam.core.grids import build_point_grid, spread_order
from mobilesam.core.postprocess import MASK_THRESHOLD, visible_part
from mobilesam.core.prompts import boxes_to_decoder_inputs, points_to_decoder_inputs
from mobilesam.core.types import MULTIMASK, SINGLE_MASK, Embedding, FoundMask
from mobilesam.detectors.base import Boxes, Detector, check_boxes, select_boxes
from mobilesam.segment.everything.masks import SLOTS, Batch, Likely, decode_likely, measure
from mobilesam.segment.everything.options import Clock, EverythingOptions
from mobilesam.segment.predictor import Predictor

POINT_OBJECTNESS = 0.1  # a point ranks like a box this likely; measured for pocket, on COCO
LARGEST = 0.1  # part of the image; what lies in a larger mask may still be something of its own
COARSEST = 4  # points per side of the first look at what no mask explains


class Found:
    """The masks found in an image so far, and the places that they explain.

    Args:
        mask_nms_thresh: of two masks whose IoU is higher, the first stays.
    """

    def __init__(self, mask_nms_thresh: float) -> None:
        self._threshold = mask_nms_thresh
        self._bits: list[np.ndarray] = []  # of the low-resolution masks, eight cells a byte
        self._areas: list[int] = []
        self.explained: Mask | None = None

    def offer(self, low_res: Logits) -> bool:
        """Take a mask by its visible logits (h, w) unless it repeats one that is there; return whether it was taken."""
        new = not self.repeats(low_res)
        if new:
            self.add(low_res)
        return new

    def repeats(self, low_res: Logits) -> bool:
        """Whether a mask, by its visible logits (h, w), repeats one that is there."""
        inside = low_res > MASK_THRESHOLD
        bits, area = np.packbits(inside), int(inside.sum())
        areas = np.array(self._areas, np.int64)
        # An IoU is at most the quotient of the areas.
        near = np.flatnonzero(np.minimum(areas, area) > self._threshold * np.maximum(areas, area))
        if not len(near):
            return False
        overlap = np.bitwise_count(np.stack([self._bits[i] for i in near]) & bits).sum(1, dtype=np.int64)
        return bool((overlap > self._threshold * (areas[near] + area - overlap)).any())

    def add(self, low_res: Logits) -> None:
        """Take a mask by its visible logits (h, w)."""
        inside = low_res > MASK_THRESHOLD
        self._bits.append(np.packbits(inside))
        self._areas.append(int(inside.sum()))
        if self._areas[-1] <= LARGEST * inside.size:
            self.explained = inside if self.explained is None else self.explained | inside

    def explains(self, points: Points) -> np.ndarray:
        """Whether a mask that is not too large lies at each point (N, 2) in 0..1 of the image."""
        if self.explained is None:
            return np.zeros(len(points), bool)
        height, width = self.explained.shape
        x, y = (points * [width, height]).astype(int).T
        return self.explained[y.clip(0, height - 1), x.clip(0, width - 1)]


def search_objects(
    predictor: Predictor,
    detector: Detector,
    embedding: Embedding,
    options: EverythingOptions,
    found: Found,
    clock: Clock,
) -> Iterator[Batch]:
    """Prompt with a detector's boxes, likeliest first; yield what each batch finds."""
    boxes = select_boxes(
        check_boxes(detector.find(embedding), "detector"),
        embedding.original_size,
        confidence=options.confidence,
        nms_thresh=options.proposal_nms_thresh,
        most=options.max_boxes,
    )
    at_once = predictor.at_once(SLOTS)
    for start in range(0, len(boxes), at_once):
        if clock.spent():
            return
        batch = boxes.take(slice(start, start + at_once))
        yield decode_boxes(predictor, embedding, batch, options, found)


def decode_boxes(
    predictor: Predictor, embedding: Embedding, boxes: Boxes, options: EverythingOptions, found: Found
) -> Batch:
    """Decode the single mask of each box, and keep the good ones that are new."""
    inputs = boxes_to_decoder_inputs(boxes.xyxy, embedding.frame)
    masks = []
    for likely in decode_likely(predictor, embedding, inputs, SINGLE_MASK, options):
        mask = measure_new(likely, embedding, options, found)
        if mask is not None:
            x, y = boxes.xyxy[likely.number].reshape(2, 2).mean(0)
            objectness = float(boxes.scores[likely.number])
            masks.append(replace(mask, point=(float(x), float(y)), objectness=objectness))
    return Batch(tuple(masks), len(boxes))


def measure_new(
    likely: Likely, embedding: Embedding, options: EverythingOptions, found: Found
) -> FoundMask | None:
    """Return a mask that is stable and new, and remember it; one that repeats another is not enlarged."""
    visible = visible_part(likely.low_res, embedding.frame)
    if found.repeats(visible):
        return None
    mask = measure(likely, embedding, options)
    if mask is not None:
        found.add(visible)
    return mask


def search_gaps(
    predictor: Predictor,
    embedding: Embedding,
    options: EverythingOptions,
    found: Found,
    clock: Clock,
    prompts: int,
) -> Iterator[Batch]:
    """Prompt with points where no mask lies yet, coarse to fine; yield what each batch finds."""
    at_once = predictor.at_once(SLOTS)
    for points in gap_grids(options.points_per_side or 0):
        points = points[spread_order(points)]
        while len(points) and prompts > 0 and not clock.spent():
            points = points[~found.explains(points)]
            batch, points = points[: min(at_once, prompts)], points[at_once:]
            if not len(batch):
                break
            prompts -= len(batch)
            yield decode_gaps(predictor, embedding, batch, options, found)


def gap_grids(finest: int) -> Iterator[Points]:
    """Yield grids of points (N, 2) in 0..1, each twice as fine as the one before, up to ``finest`` a side."""
    side = min(COARSEST, finest)
    while 0 < side <= finest:
        yield build_point_grid(side)
        side = finest if side < finest < 2 * side else 2 * side


def decode_gaps(
    predictor: Predictor, embedding: Embedding, points: Points, options: EverythingOptions, found: Found
) -> Batch:
    """Decode three masks for each point (N, 2) in 0..1, and keep the good ones that are new, best first."""
    height, width = embedding.original_size
    places = points * [width, height]
    inputs = points_to_decoder_inputs(places, embedding.frame)
    good = decode_likely(predictor, embedding, inputs, MULTIMASK, options)
    masks = []
    for likely in sorted(good, key=lambda mask: -mask.predicted_iou):
        mask = measure_new(likely, embedding, options, found)
        if mask is not None:
            x, y = places[likely.number]
            masks.append(replace(mask, point=(float(x), float(y)), objectness=POINT_OBJECTNESS))
    return Batch(tuple(masks), len(points))
