"""Segment everything in an image: ask at many places, keep each good mask once.

Where to ask is the sampler's choice: a grid of points (SAM's appendix B,
:mod:`mobilesam.segment.everything.grid`), a detector's boxes (MobileSAMv2), or boxes and then points where
none was found (:mod:`mobilesam.segment.everything.objects`). Which masks stay is
:mod:`mobilesam.segment.everything.masks`. Images that are much larger than what a model sees are searched
in tiles (:mod:`mobilesam.segment.everything.tiles`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from mobilesam.core.arrays import Image
from mobilesam.core.errors import PromptWarning
from mobilesam.core.grids import generate_crop_boxes, one_per_pixel
from mobilesam.core.types import Embedding, FoundMask
from mobilesam.detectors.base import Detector
from mobilesam.segment.everything.grid import clean_all, search_crop, suppress_between_crops
from mobilesam.segment.everything.masks import Batch, clean, suppress
from mobilesam.segment.everything.objects import Found, search_gaps, search_objects
from mobilesam.segment.everything.options import HYBRID_BOXES, Clock, EverythingOptions
from mobilesam.segment.everything.tiles import Seams, pixels_of, tile_boxes
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Everything

Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def segment_everything(
    predictor: Predictor,
    image: Image,
    options: EverythingOptions,
    *,
    detector: Detector | None = None,
    progress: Progress = no_progress,
) -> Everything:
    """Return the masks of everything in an image; see :meth:`mobilesam.Model.everything`.

    Args:
        predictor: what segments.
        image: (H, W, 3).
        options: how the image is searched.
        detector: what finds boxes; a grid needs none.
        progress: called with how many prompts are done, and how many there are.
    """
    found = stream_everything(predictor, image, options, detector=detector, progress=progress)
    if options.sampler == "grid":
        return Everything(image, tuple(found))
    return Everything(image, tuple(sorted(found, key=lambda mask: -mask.score)))


def stream_everything(
    predictor: Predictor,
    image: Image,
    options: EverythingOptions,
    *,
    detector: Detector | None = None,
    progress: Progress = no_progress,
) -> Iterator[FoundMask]:
    """Yield the masks of :func:`segment_everything` as they are found; those of a grid when it is done.

    Warns:
        PromptWarning: if no mask passes thresholds that are stricter than the model's own.
    """
    remark = options.remark_on_nothing(predictor.thresholds, predictor.name)
    return told_if_none(search(predictor, image, options, detector, progress), remark)


def search(
    predictor: Predictor,
    image: Image | Embedding,
    options: EverythingOptions,
    detector: Detector | None,
    progress: Progress,
) -> Iterable[FoundMask]:
    """Yield the masks of an image, or of its embedding if there is one already, without remarks."""
    options = options.settled(predictor.thresholds)
    if options.tile is None:
        return _search(predictor, image, options, detector, progress)
    pixels = image.image if isinstance(image, Embedding) else image
    return search_tiles(predictor, pixels, options, detector, progress)


def _search(
    predictor: Predictor,
    image: Image | Embedding,
    options: EverythingOptions,
    detector: Detector | None,
    progress: Progress,
) -> Iterable[FoundMask]:
    """Search what a model sees in one look."""
    if options.sampler == "grid":
        pixels = image.image if isinstance(image, Embedding) else image
        return search_grid(predictor, pixels, options, progress)
    assert detector is not None  # the face has chosen one
    return stream_objects(predictor, image, options, detector, progress)


def search_tiles(
    predictor: Predictor,
    image: Image,
    options: EverythingOptions,
    detector: Detector | None,
    progress: Progress,
) -> Iterator[FoundMask]:
    """Search an image tile by tile; masks are yielded once all tiles are searched."""
    assert options.tile is not None
    size = image.shape[0], image.shape[1]
    tiles = tile_boxes(size, options.tile, options.tile_overlap)
    seams, clock, done = Seams(tiles, size), Clock(options.seconds), 0
    for number, tile in enumerate(tiles):
        if clock.spent():
            break
        inside = replace(options, tile=None, overlap=None, seconds=clock.left())
        asked = 0

        def tell(now: int, total: int) -> None:
            nonlocal asked
            asked = now
            progress(done + now, done + total * (len(tiles) - number))  # noqa: B023  called in this round alone

        seams.add(number, _search(predictor, pixels_of(image, tile), inside, detector, tell))
        done += asked
    yield from seams.joined()


def told_if_none(masks: Iterable[FoundMask], remark: str) -> Iterator[FoundMask]:
    """Yield masks; if there are none and there is a remark about it, warn."""
    none = True
    for mask in masks:
        none = False
        yield mask
    if none and remark:
        warnings.warn(remark, PromptWarning, stacklevel=3)


def search_grid(
    predictor: Predictor, image: Image, options: EverythingOptions, progress: Progress
) -> list[FoundMask]:
    """Search an image and its crops by grids of points."""
    grids = options.grids()
    crops = generate_crop_boxes(image.shape[:2], options.crop_n_layers, options.crop_overlap_ratio)
    asked = [grids[layer] for _, layer in crops]
    if options.points_per_side is not None:  # points that somebody gave are all asked
        asked = [
            one_per_pixel(grid, (y1 - y0, x1 - x0))
            for grid, ((x0, y0, x1, y1), _) in zip(asked, crops, strict=True)
        ]
    total = sum(map(len, asked))
    clock = Clock(options.seconds)
    found: list[FoundMask] = []
    done = 0
    for (crop, _), points in zip(crops, asked, strict=True):
        inside: list[FoundMask] = []
        for batch in search_crop(predictor, image, crop, points, options, clock):
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
    predictor: Predictor,
    image: Image | Embedding,
    options: EverythingOptions,
    detector: Detector,
    progress: Progress,
) -> Iterator[FoundMask]:
    """Search an image by a detector's boxes and, for the hybrid, by points where no mask lies yet."""
    hybrid = options.sampler == "hybrid"
    if hybrid:
        boxes = max(1, int(options.max_prompts * HYBRID_BOXES))
        options = replace(options, max_boxes=min(options.max_boxes, boxes))
    total = options.max_prompts if hybrid else options.max_boxes
    clock = Clock(options.seconds)
    embedding = image if isinstance(image, Embedding) else predictor.embed(image)
    found = Found(options.mask_nms_thresh)
    done = 0

    def take(batches: Iterator[Batch]) -> Iterator[FoundMask]:
        nonlocal done
        for batch in batches:
            done += batch.prompts
            progress(done, total)
            for mask in batch.masks:
                yield clean(mask, options.min_mask_region_area)[0] if options.min_mask_region_area else mask

    yield from take(search_objects(predictor, detector, embedding, options, found, clock))
    if hybrid:
        yield from take(search_gaps(predictor, embedding, options, found, clock, total - done))
    if not clock.spent():
        progress(done, done)  # nothing left to ask: the total was an upper limit
