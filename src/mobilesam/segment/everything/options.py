"""How an image is searched for everything in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mobilesam.core.arrays import ArrayLike, Points
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.grids import build_layer_grids
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.types import MaskThresholds

MAX_POINTS_PER_SIDE = 256
MAX_CROP_LAYERS = 6  # 5,461 crops
MAX_POINTS = 1_000_000  # at milliseconds each, more than an hour
MAX_BOXES = 10_000
LEAST_TILE = 64
HYBRID_BOXES = 0.625  # of the hybrid's prompts: the rest is for what no box holds
SAMPLERS = {
    "objects": "a detector's boxes, one mask each (MobileSAMv2)",
    "grid": "a grid of points, three masks each (Segment Anything)",
    "hybrid": "a detector's boxes, then points where no mask lies yet",
}


@dataclass(frozen=True)
class EverythingOptions:
    """How an image is searched for everything in it.

    Names and defaults of the grid are those of SAM's automatic mask generator; ``paper`` returns MobileSAMv2's.

    Attributes:
        sampler: where to ask. ``hybrid``: boxes of objects, then points where there is no mask yet; ``objects``:
            boxes alone; ``grid``: a grid of points.
        confidence: uses only boxes at least this likely to hold an object, 0 to 1.
        proposal_nms_thresh: of two boxes with a higher IoU, uses the likelier, 0 to 1.
        max_boxes: uses at most this many boxes, from 1.
        max_prompts: uses at most this many boxes and points of the hybrid together, from 1; at most five eighths
            of them are boxes.
        mask_nms_thresh: of two masks of boxes or of the hybrid with a higher IoU, keeps the first, 0 to 1.
        points_per_side: points along each side of the grid, and of the finest grid that the hybrid fills gaps
            with, 1 to 256.
        point_grids: points (N, 2) in 0..1 of the image and of each layer of crops, instead of ``points_per_side``;
            for the grid.
        pred_iou_thresh: masks need a higher predicted IoU, 0 to 1; 0 keeps all. By default the model's own limit:
            0.88 for published models, 0.3 for ``pocket``.
        stability_score_thresh: masks must be at least this stable, 0 to 1. By default the model's own limit:
            0.95 for published models, 0.1 for ``pocket``.
        stability_score_offset: how far the masks' threshold moves to measure stability, from 0.
        box_nms_thresh: of two masks of the grid whose boxes have a higher IoU, keeps the better, 0 to 1.
        crop_n_layers: layers of crops that the grid searches in addition to the whole image, up to 6; layer i
            has 4^i crops.
        crop_nms_thresh: of two masks of different crops whose boxes have a higher IoU, keeps the smaller crop's,
            0 to 1.
        crop_overlap_ratio: overlap of the first layer's crops, as a part of the image's shorter side, 0 to 1.
        crop_n_points_downscale_factor: by how much the grid thins out from layer to layer, from 1.
        min_mask_region_area: fills holes and drops islands smaller than this many pixels.
        seconds: stops after this long for each image, with the masks found by then.
        tile: searches the image in squares with sides of this many pixels, each as if it were an image, and joins
            what they cut; for images that are much larger than what they show. From 64.
        overlap: pixels that neighbouring tiles share at least; less than half a tile. By default a quarter of it.

    Raises:
        PromptError: for a number outside its range.
        LimitError: for more points or crops than can be searched in reasonable time.
        ConfigError: for an unknown sampler, or options that do not fit together.
    """

    sampler: str = "hybrid"
    confidence: float = 0.01
    proposal_nms_thresh: float = 0.8
    max_boxes: int = 320
    max_prompts: int = 256
    mask_nms_thresh: float = 0.8
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
    tile: int | None = None
    overlap: int | None = None

    @classmethod
    def paper(cls, **changes: Any) -> EverythingOptions:
        """MobileSAMv2's options: boxes of confidence 0.4 and more, at most 320 of them, and no filter afterwards."""
        preset: dict[str, Any] = {
            "sampler": "objects",
            "confidence": 0.4,
            "proposal_nms_thresh": 0.9,
            "max_boxes": 320,
            "mask_nms_thresh": 1.0,
            "pred_iou_thresh": 0.0,
            "stability_score_thresh": 0.0,
        }
        return cls(**preset | changes)

    @classmethod
    def tidy(cls, **changes: Any) -> EverythingOptions:
        """For pictures that people look at: fewer and surer masks that overlap less; less is found than by default."""
        preset: dict[str, Any] = {
            "max_prompts": 64,
            "mask_nms_thresh": 0.6,
            "pred_iou_thresh": 0.5,
            "stability_score_thresh": 0.25,
            "min_mask_region_area": 100,
        }
        return cls(**preset | changes)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"sampler: is {self.sampler!r}; must be one of {', '.join(SAMPLERS)}")
        if self.points_per_side is not None:
            check_whole_number("points_per_side", self.points_per_side, 1, MAX_POINTS_PER_SIDE)
        self._check_thresholds()
        check_number("stability_score_offset", self.stability_score_offset, 0.0)
        for name in ("confidence", "proposal_nms_thresh", "mask_nms_thresh"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        for name in ("max_boxes", "max_prompts"):
            check_whole_number(name, getattr(self, name), 1, MAX_BOXES)
        check_number("crop_overlap_ratio", self.crop_overlap_ratio, 0.0, 1.0)
        check_whole_number("crop_n_layers", self.crop_n_layers, 0, MAX_CROP_LAYERS)
        check_whole_number("crop_n_points_downscale_factor", self.crop_n_points_downscale_factor, 1)
        check_whole_number("min_mask_region_area", self.min_mask_region_area, 0)
        if self.seconds is not None:
            check_number("seconds", self.seconds, 0.0, above=True)
        self._check_tiles()
        if self.sampler != "grid" and (self.crop_n_layers or self.point_grids is not None):
            raise ConfigError("crop_n_layers, point_grids: are for the grid; give sampler='grid' as well")
        crops = [4**layer for layer in range(self.crop_n_layers + 1)]
        points = sum(n * len(grid) for n, grid in zip(crops, self.grids(), strict=False))
        if points > MAX_POINTS:
            raise LimitError(
                f"points_per_side, crop_n_layers: ask for {points:,} points in {sum(crops):,} crops; at most "
                f"{MAX_POINTS:,} are allowed; lower one, or raise crop_n_points_downscale_factor"
            )

    def _check_tiles(self) -> None:
        if self.tile is not None:
            check_whole_number("tile", self.tile, LEAST_TILE)
            check_whole_number("overlap", self.tile_overlap, 0, (self.tile - 1) // 2)
        elif self.overlap is not None:
            raise ConfigError("overlap: is what tiles share; give tile as well")

    @property
    def tile_overlap(self) -> int:
        """Pixels that neighbouring tiles share at least."""
        assert self.tile is not None
        return self.tile // 4 if self.overlap is None else self.overlap

    def _check_thresholds(self) -> None:
        """Check the limits that decide which masks are kept."""
        for name in ("pred_iou_thresh", "stability_score_thresh"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0.0, 1.0)
        for name in ("box_nms_thresh", "crop_nms_thresh"):
            check_number(name, getattr(self, name), 0.0, 1.0)

    def settled(self, thresholds: MaskThresholds) -> EverythingOptions:
        """Return these options with a model's thresholds where they have none of their own."""
        return replace(
            self,
            pred_iou_thresh=thresholds.predicted_iou
            if self.pred_iou_thresh is None
            else self.pred_iou_thresh,
            stability_score_thresh=thresholds.stability_score
            if self.stability_score_thresh is None
            else self.stability_score_thresh,
        )

    def remark_on_nothing(self, own: MaskThresholds, model: str) -> str:
        """Return what to say if no mask passes thresholds stricter than the model's own; else an empty text."""
        names = ("pred_iou_thresh", "stability_score_thresh")
        limits = (own.predicted_iou, own.stability_score)
        given = [getattr(self, name) for name in names]
        strict = any(value is not None and value > limit for value, limit in zip(given, limits, strict=True))
        if not strict or self.seconds is not None:  # the time may also have been too short
            return ""
        asked = " and ".join("its own" if value is None else f"{value:g}" for value in given)
        settings = ", ".join(f"{name}={limit:g}" for name, limit in zip(names, limits, strict=True))
        return (
            f"{', '.join(names)}: are {asked}, and no mask of {model} passes them; "
            f"pass {settings}, which are the model's own, or None for these"
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
                f"point_grids: are not lists of points ({error}); give (N, 2) in 0..1"
            ) from error
        if len(grids) <= self.crop_n_layers:
            raise ConfigError(
                f"point_grids: has {len(grids)}; give one for the image and each of {self.crop_n_layers} layers"
            )
        for i, grid in enumerate(grids):
            if grid.ndim != 2 or grid.shape[1] != 2 or not ((grid >= 0) & (grid <= 1)).all():
                raise ConfigError(f"point_grids[{i}]: has shape {grid.shape}; must be (N, 2) in 0..1")
        return grids


class Clock:
    """Says when the time is up; never, where there is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.end is not None

    def left(self) -> float | None:
        """The seconds that are left, always above 0; None where there is no limit."""
        return None if self.end is None else max(1e-3, self.end - time.monotonic())

    def spent(self) -> bool:
        """Whether the time is up."""
        return self.end is not None and time.monotonic() >= self.end
