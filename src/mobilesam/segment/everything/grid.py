"""Searching an image by a grid of points, three masks each, over the whole image and over crops (SAM, appendix B)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mobilesam.core.arrays import Image, Points, Size
from mobilesam.core.boxes import inclusive, near_crop_edge
from mobilesam.core.grids import Crop, spread_order
from mobilesam.core.prompts import points_to_decoder_inputs
from mobilesam.core.types import MULTIMASK, Embedding, FoundMask
from mobilesam.segment.everything.masks import SLOTS, Batch, clean, decode_likely, measure, suppress
from mobilesam.segment.everything.options import Clock, EverythingOptions
from mobilesam.segment.predictor import Predictor


def search_crop(
    predictor: Predictor, image: Image, crop: Crop, grid: Points, options: EverythingOptions, clock: Clock
) -> Iterator[Batch]:
    """Prompt with the points (N, 2) in 0..1 of a crop, batch by batch; yield what each batch finds."""
    if clock.spent():
        return
    x0, y0, x1, y1 = crop
    embedding = predictor.embed(np.ascontiguousarray(image[y0:y1, x0:x1]))
    if clock.limited:
        grid = grid[spread_order(grid)]
    points = grid * [x1 - x0, y1 - y0]
    at_once = predictor.at_once(SLOTS)
    for start in range(0, len(points), at_once):
        if clock.spent():
            return
        batch = points[start : start + at_once]
        yield decode_points(predictor, embedding, batch, options, crop, image.shape[:2])


def decode_points(
    predictor: Predictor,
    embedding: Embedding,
    points: Points,
    options: EverythingOptions,
    crop: Crop,
    size: Size,
) -> Batch:
    """Decode three masks for each point (N, 2) of a crop and keep the good ones that the crop does not cut."""
    inputs = points_to_decoder_inputs(points, embedding.frame)
    places = points + crop[:2]
    masks = []
    for likely in decode_likely(predictor, embedding, inputs, MULTIMASK, options):
        mask = measure(likely, embedding, options, crop, size)
        if mask is not None:
            x, y = places[likely.number]
            masks.append(replace(mask, point=(float(x), float(y))))
    if masks:
        cut = near_crop_edge(np.array([inclusive(mask.box) for mask in masks]), crop, size)
        masks = [mask for mask, goes_on in zip(masks, cut, strict=True) if not goes_on]
    return Batch(tuple(masks), len(points))


def suppress_between_crops(masks: list[FoundMask], threshold: float) -> list[FoundMask]:
    """Among similar masks from several crops, keep the one from the smallest crop."""
    sizes = [(mask.crop[2] - mask.crop[0]) * (mask.crop[3] - mask.crop[1]) for mask in masks]
    return suppress(masks, [1 / size for size in sizes], threshold)


def clean_all(masks: list[FoundMask], smallest: int, threshold: float) -> list[FoundMask]:
    """Fill small holes and drop small islands, then suppress masks that have become alike.

    Masks that needed no change win against those that did.
    """
    cleaned = [clean(mask, smallest) for mask in masks]
    return suppress(
        [mask for mask, _ in cleaned], [0.0 if changed else 1.0 for _, changed in cleaned], threshold
    )
