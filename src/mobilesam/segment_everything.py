"""Segment everything in an image: a grid of points, three masks each, the good ones once (SAM's appendix B).

The order of work is what makes it fast and small. Of a batch of masks, those with a low
predicted IoU go first, which costs nothing; then those whose low-resolution logits are
clearly unstable; only what is left is enlarged, one mask at a time and only where it can
be, to measure its stability exactly. What is kept are runs, so memory does not grow with
the number of masks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.core.arrays import ArrayLike, Image, Logits, Points, Size
from mobilesam.core.boxes import mask_to_box, near_crop_edge, non_maximum_suppression
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.geometry import to_input_frame
from mobilesam.core.grids import Crop, build_layer_grids, generate_crop_boxes, spread_order
from mobilesam.core.postprocess import MASK_THRESHOLD, enlarge_window, stability_scores, visible_part
from mobilesam.core.prompts import FOREGROUND, PAD
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.regions import remove_small_regions
from mobilesam.core.rle import rle_to_mask, window_to_rle
from mobilesam.core.types import MULTIMASK, DecoderInputs, Embedding, FoundMask, MaskThresholds
from mobilesam.formats.image import MAX_PIXELS, read_image
from mobilesam.predictor import PROMPTS_PER_BATCH, Model
from mobilesam.results import Everything as Everything

STABILITY_MARGIN = 0.01  # by how much low-resolution stability may be wrong
MAX_POINTS_PER_SIDE = 256
MAX_CROP_LAYERS = 6  # 5,461 crops
MAX_POINTS = 1_000_000  # at milliseconds each, more than an hour

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EverythingOptions:
    """How an image is searched; names and defaults are those of SAM's automatic mask generator.

    Attributes:
        points_per_side: of the grid over the whole image.
        point_grids: points (N, 2) in 0..1 of the image and of each layer of crops, instead.
        pred_iou_thresh: masks must have a higher predicted IoU, where it is above 0; None for
            the model's own threshold, which is SAM's 0.88 for published models.
        stability_score_thresh: masks must have at least this stability; None for the model's
            own threshold, which is SAM's 0.95 for published models.
        stability_score_offset: how far the threshold moves for it.
        box_nms_thresh: of two masks whose boxes' IoU is higher, the better stays.
        crop_n_layers: layers of crops beyond the whole image; layer i has (2^i)^2.
        crop_nms_thresh: as ``box_nms_thresh``, between crops; the smaller crop's mask stays.
        crop_overlap_ratio: overlap of the first layer's crops, in the image's shorter side.
        crop_n_points_downscale_factor: by how much the grid thins out from layer to layer.
        min_mask_region_area: holes and islands below so many pixels are filled and dropped.
        seconds: time to stop after, with the masks found until then.

    Raises:
        PromptError: for a number outside its range.
        LimitError: for more points or crops than can be asked in reasonable time.
        ConfigError: for options that do not fit together.
    """

    points_per_side: int | None = 32
    point_grids: Sequence[ArrayLike] | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.points_per_side is not None:
            check_whole_number("points_per_side", self.points_per_side, 1, MAX_POINTS_PER_SIDE)
        for name in ("pred_iou_thresh", "stability_score_thresh"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0.0, 1.0)
        check_number("stability_score_offset", self.stability_score_offset, 0.0)
        for name in ("box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        check_whole_number("crop_n_layers", self.crop_n_layers, 0, MAX_CROP_LAYERS)
        check_whole_number("crop_n_points_downscale_factor", self.crop_n_points_downscale_factor, 1)
        check_whole_number("min_mask_region_area", self.min_mask_region_area, 0)
        if self.seconds is not None:
            check_number("seconds", self.seconds, 0.0, above=True)
        crops = [4**layer for layer in range(self.crop_n_layers + 1)]
        points = sum(n * len(grid) for n, grid in zip(crops, self.grids(), strict=False))
        if points > MAX_POINTS:
            raise LimitError(
                f"points_per_side, crop_n_layers: ask for {points:,} points in {sum(crops):,} crops; at most "
                f"{MAX_POINTS:,} are allowed; lower one, or raise crop_n_points_downscale_factor"
            )

    def settled(self, thresholds: MaskThresholds) -> EverythingOptions:
        """These options with a model's thresholds where they have none of their own."""
        return replace(
            self,
            pred_iou_thresh=thresholds.predicted_iou
            if self.pred_iou_thresh is None
            else self.pred_iou_thresh,
            stability_score_thresh=thresholds.stability_score
            if self.stability_score_thresh is None
            else self.stability_score_thresh,
        )

    def grids(self) -> list[Points]:
        """The points of the whole image and of each layer of crops.

        Raises:
            ConfigError: unless exactly one of ``points_per_side`` and ``point_grids`` is given.
        """
        if (self.points_per_side is None) == (self.point_grids is None):
            raise ConfigError("points_per_side, point_grids: give exactly one of them")
        if self.points_per_side is not None:
            thinning = int(self.crop_n_points_downscale_factor)
            return build_layer_grids(int(self.points_per_side), int(self.crop_n_layers), thinning)
        assert self.point_grids is not None
        try:
            grids = [np.asarray(grid, np.float64) for grid in self.point_grids]
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"point_grids: are no lists of points ({error}); give (N, 2) in 0..1"
            ) from error
        if len(grids) <= self.crop_n_layers:
            raise ConfigError(
                f"point_grids: has {len(grids)}; give one for the image and each of {self.crop_n_layers} layers"
            )
        for i, grid in enumerate(grids):
            if grid.ndim != 2 or grid.shape[1] != 2 or not ((grid >= 0) & (grid <= 1)).all():
                raise ConfigError(f"point_grids[{i}]: has shape {grid.shape}; must be (N, 2) in 0..1")
        return grids


def segment_everything(
    model: Model,
    image: ArrayLike,
    options: EverythingOptions = EverythingOptions(),  # noqa: B008 (frozen)
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda done, total: None,
) -> Everything:
    """Return the masks of everything in an image, the best of each crop first.

    Args:
        model: what segments.
        image: as :meth:`mobilesam.Model.embed` takes it.
        options: how the image is searched.
        max_pixels: greatest height times width.
        progress: called with how many points are done, and of how many.

    Raises:
        ImageError: if the image cannot be read.
        LimitError: if it is too large.
    """
    rgb = read_image(image, max_pixels=max_pixels)
    options = options.settled(model.thresholds)
    grids = options.grids()
    crops = generate_crop_boxes(rgb.shape[:2], options.crop_n_layers, options.crop_overlap_ratio)
    total = sum(len(grids[layer]) for _, layer in crops)
    clock = Clock(options.seconds)
    found: list[FoundMask] = []
    done = 0
    for crop, layer in crops:
        inside: list[FoundMask] = []
        for masks, points in search_crop(model, rgb, crop, grids[layer], options, clock):
            inside += masks
            done += points
            progress(done, total)
        found += suppress(inside, [mask.predicted_iou for mask in inside], options.box_nms_thresh)
    if len(crops) > 1:
        sizes = [(mask.crop[2] - mask.crop[0]) * (mask.crop[3] - mask.crop[1]) for mask in found]
        found = suppress(found, [1 / size for size in sizes], options.crop_nms_thresh)
    if options.min_mask_region_area > 0:
        threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
        found = clean(found, options.min_mask_region_area, threshold)
    return Everything(rgb, tuple(found))


class Clock:
    """Tells when the time is spent; never, where there is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.end is not None

    def spent(self) -> bool:
        """Whether the time is over."""
        return self.end is not None and time.monotonic() >= self.end


def search_crop(
    model: Model, image: Image, crop: Crop, grid: Points, options: EverythingOptions, clock: Clock
) -> Iterator[tuple[list[FoundMask], int]]:
    """Ask for the points of a crop, batch by batch; yield what was found and how many were asked."""
    if clock.spent():
        return
    x0, y0, x1, y1 = crop
    embedding = model.embed(np.ascontiguousarray(image[y0:y1, x0:x1]))
    if clock.limited:
        grid = grid[spread_order(grid)]
    points = grid * [x1 - x0, y1 - y0]
    for start in range(0, len(points), PROMPTS_PER_BATCH):
        if clock.spent():
            return
        batch = points[start : start + PROMPTS_PER_BATCH]
        yield decode_points(model, embedding, batch, options, crop, image.shape[:2]), len(batch)


def decode_points(
    model: Model,
    embedding: Embedding,
    points: Points,
    options: EverythingOptions,
    crop: Crop,
    size: Size,
) -> list[FoundMask]:
    """Decode three masks for each point (N, 2) of a crop and keep the good ones."""
    coords = np.zeros((len(points), 2, 2), np.float32)  # each with a pad, as SAM has it without a box
    coords[:, 0] = to_input_frame(points, embedding.original_size, embedding.input_size)
    labels = np.tile(np.array([FOREGROUND, PAD], np.float32), (len(points), 1))
    low_res, ious = model.runtime.decode(embedding.arrays, DecoderInputs(coords, labels), MULTIMASK)
    assert options.pred_iou_thresh is not None and options.stability_score_thresh is not None  # settled
    rows, tokens = np.nonzero((ious > options.pred_iou_thresh) | (options.pred_iou_thresh == 0))
    low_res = low_res[rows, tokens]
    if not len(low_res):
        return []
    visible = visible_part(low_res, embedding.image_size, embedding.input_size)
    stable = stability_scores(visible, offset=options.stability_score_offset)
    likely = stable >= options.stability_score_thresh - STABILITY_MARGIN
    found = []
    for i in np.flatnonzero(likely):
        point, iou = points[rows[i]], float(ious[rows[i], tokens[i]])
        mask = measure(low_res[i], embedding, options, crop, size)
        if mask is not None:
            x, y = point + crop[:2]
            found.append(replace(mask, predicted_iou=iou, point=(float(x), float(y))))
    if not found:
        return []
    boxes = np.array([inclusive(mask.box) for mask in found])
    cut = near_crop_edge(boxes, crop, size)
    return [mask for mask, goes_on in zip(found, cut, strict=True) if not goes_on]


def measure(
    low_res: Logits, embedding: Embedding, options: EverythingOptions, crop: Crop, size: Size
) -> FoundMask | None:
    """Enlarge one mask's logits, and return the mask in the image if it is stable."""
    offset = options.stability_score_offset
    enlarged = enlarge_window(
        low_res, -offset, embedding.image_size, embedding.input_size, embedding.original_size
    )
    if enlarged is None:
        return None
    logits, (x, y) = enlarged
    stability = float(stability_scores(logits[None], offset=offset)[0])
    assert options.stability_score_thresh is not None  # settled
    if stability < options.stability_score_thresh:
        return None
    window = logits > MASK_THRESHOLD
    x, y = x + crop[0], y + crop[1]
    x0, y0, x1, y1 = mask_to_box(window)
    box = (x0 + x, y0 + y, x1 + x, y1 + y) if x1 else (0, 0, 0, 0)
    return FoundMask(window_to_rle(window, (x, y), size), box, 0.0, stability, (0.0, 0.0), crop)


def inclusive(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return a box with its far edges inclusive, as SAM compares them; zeros for an empty mask."""
    x0, y0, x1, y1 = box
    return (x0, y0, x1 - 1, y1 - 1) if x1 else box


def suppress(masks: list[FoundMask], scores: Sequence[float], threshold: float) -> list[FoundMask]:
    """Keep, of masks whose boxes overlap, those with the higher score; by falling score."""
    if not masks:
        return []
    boxes = np.array([inclusive(mask.box) for mask in masks])
    return [masks[i] for i in non_maximum_suppression(boxes, np.asarray(scores), threshold)]


def clean(masks: list[FoundMask], smallest: int, threshold: float) -> list[FoundMask]:
    """Fill small holes and drop small islands, then suppress what has become alike.

    Masks that needed no change win against those that did.
    """
    cleaned, scores = [], []
    for mask in masks:
        rle, changed = remove_small_regions(mask.rle, smallest)
        if changed:
            mask = replace(mask, rle=rle, box=mask_to_box(rle_to_mask(rle)))
        cleaned.append(mask)
        scores.append(0.0 if changed else 1.0)
    return suppress(cleaned, scores, threshold)
