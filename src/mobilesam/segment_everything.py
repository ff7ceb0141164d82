"""Segment everything in an image: ask at many places, keep the good masks once.

Where to ask is the sampler's choice: a grid of points (SAM's appendix B,
:mod:`mobilesam.everything.grid`), a detector's boxes (MobileSAMv2), or boxes and then points where
none was found (:mod:`mobilesam.everything.objects`). Which masks stay is
:mod:`mobilesam.everything.masks`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from mobilesam.core.arrays import ArrayLike, Image
from mobilesam.core.errors import PromptWarning
from mobilesam.core.grids import generate_crop_boxes
from mobilesam.core.types import FoundMask
from mobilesam.everything.grid import clean_all, search_crop, suppress_between_crops
from mobilesam.everything.masks import Batch, clean, suppress
from mobilesam.everything.objects import Found, search_gaps, search_objects
from mobilesam.everything.options import HYBRID_BOXES, Clock, EverythingOptions
from mobilesam.formats.image import MAX_PIXELS, read_image
from mobilesam.predictor import Model, load
from mobilesam.proposals import HeadProposer, Proposer, proposer_for
from mobilesam.results import Everything

Progress = Callable[[int, int], None]
Detector = str | Path | Model | Proposer | None


def segment_everything(
    model: Model,
    image: ArrayLike,
    options: EverythingOptions = EverythingOptions(),  # noqa: B008 (frozen)
    *,
    detector: Detector = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda done, total: None,
) -> Everything:
    """Return the masks of everything in an image, best first; of a grid, the best of each crop first.

    Args:
        model: what segments.
        image: as :meth:`mobilesam.Model.embed` takes it.
        options: how the image is searched.
        detector: what finds boxes, see :func:`mobilesam.proposals.proposer_for`.
        max_pixels: greatest height times width.
        progress: called with how many prompts are done, and of how many.

    Raises:
        ImageError: if the image cannot be read.
        LimitError: if it is too large.
        ConfigError: for a detector that is none.
        WeightsError: if a detector's file is missing or damaged.

    Warns:
        PromptWarning: if no mask passes thresholds that are stricter than the model's own.
    """
    rgb = read_image(image, max_pixels=max_pixels)
    remark = options.remark_on_nothing(model.thresholds, model.name)
    options = options.settled(model.thresholds)
    if options.sampler == "grid":
        return Everything(rgb, tuple(told_if_none(search_grid(model, rgb, options, progress), remark)))
    found = told_if_none(stream_objects(model, rgb, options, detector, progress), remark)
    return Everything(rgb, tuple(sorted(found, key=lambda mask: -mask.score)))


def stream_everything(
    model: Model,
    image: ArrayLike,
    options: EverythingOptions = EverythingOptions(),  # noqa: B008 (frozen)
    *,
    detector: Detector = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda done, total: None,
) -> Iterator[FoundMask]:
    """Yield the masks of :func:`segment_everything` as they are found; of a grid, when it is done.

    Example:
        >>> import numpy as np, mobilesam
        >>> model, image = mobilesam.load("pocket"), np.zeros((60, 80, 3), np.uint8)
        >>> len(list(stream_everything(model, image))) == len(model.everything(image))
        True
    """
    rgb = read_image(image, max_pixels=max_pixels)
    remark = options.remark_on_nothing(model.thresholds, model.name)
    options = options.settled(model.thresholds)
    if options.sampler == "grid":
        return told_if_none(search_grid(model, rgb, options, progress), remark)
    return told_if_none(stream_objects(model, rgb, options, detector, progress), remark)


def told_if_none(masks: Iterable[FoundMask], remark: str) -> Iterator[FoundMask]:
    """Yield masks; if there are none, and something to say about it, warn."""
    none = True
    for mask in masks:
        none = False
        yield mask
    if none and remark:
        warnings.warn(remark, PromptWarning, stacklevel=3)


def search_grid(
    model: Model, image: Image, options: EverythingOptions, progress: Progress
) -> list[FoundMask]:
    """Search an image and its crops by grids of points."""
    grids = options.grids()
    crops = generate_crop_boxes(image.shape[:2], options.crop_n_layers, options.crop_overlap_ratio)
    total = sum(len(grids[layer]) for _, layer in crops)
    clock = Clock(options.seconds)
    found: list[FoundMask] = []
    done = 0
    for crop, layer in crops:
        inside: list[FoundMask] = []
        for batch in search_crop(model, image, crop, grids[layer], options, clock):
            inside += batch.masks
            done += batch.prompts
            progress(done, total)
        found += suppress(inside, [mask.predicted_iou for mask in inside], options.box_nms_thresh)
    if len(crops) > 1:
        found = suppress_between_crops(found, options.crop_nms_thresh)
    if options.min_mask_region_area > 0:
        threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
        found = clean_all(found, options.min_mask_region_area, threshold)
    return found


def stream_objects(
    model: Model, image: Image, options: EverythingOptions, detector: Detector, progress: Progress
) -> Iterator[FoundMask]:
    """Search an image by a detector's boxes and, for the hybrid, by points where no mask lies yet."""
    hybrid = options.sampler == "hybrid"
    if hybrid:
        boxes = max(1, int(options.max_prompts * HYBRID_BOXES))
        options = replace(options, max_boxes=min(options.max_boxes, boxes))
    total = options.max_prompts if hybrid else options.max_boxes
    proposer = default_proposer(model) if detector is None else proposer_for(model, detector)
    clock = Clock(options.seconds)
    embedding = model.embed(image)
    found = Found(options.mask_nms_thresh)
    done = 0

    def take(batches: Iterator[Batch]) -> Iterator[FoundMask]:
        nonlocal done
        for batch in batches:
            done += batch.prompts
            progress(done, total)
            for mask in batch.masks:
                yield clean(mask, options.min_mask_region_area)[0] if options.min_mask_region_area else mask

    yield from take(search_objects(model, proposer, embedding, options, found, clock))
    if hybrid:
        yield from take(search_gaps(model, embedding, options, found, clock, total - done))
    if not clock.spent():
        progress(done, done)  # no more to ask: the total was the most there could be


def default_proposer(model: Model) -> Proposer:
    """Return the head for objects of a model, or ``pocket``'s, which is then loaded once."""
    return HeadProposer(model) if model.runtime.proposes else _pockets_head()


@cache
def _pockets_head() -> Proposer:
    return HeadProposer(load())
