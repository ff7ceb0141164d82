"""segment_anything's ``SamAutomaticMaskGenerator`` over ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.compat.segment_anything import network_to_model
from mobilesam.core.arrays import Image
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError
from mobilesam.core.types import FoundMask
from mobilesam.predictor import Model
from mobilesam.segment_everything import EverythingOptions, inclusive, segment_everything

if TYPE_CHECKING:
    from mobilesam.networks.sam import Sam

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class SamAutomaticMaskGenerator:
    """Segments everything in an image; signature, defaults and records are segment_anything's.

    The masks are the same; only the order of work differs, see
    :mod:`mobilesam.segment_everything`. ``points_per_batch`` is taken and not needed:
    batches are as large as is fastest, whatever the memory.

    The thresholds are SAM's, whatever the model. ``pocket`` is less sure of itself: of its
    masks hardly one passes them; give it ``pred_iou_thresh=0.35, stability_score_thresh=0.4``,
    which :meth:`mobilesam.Model.everything` takes by itself.

    Args:
        model: a model of :func:`mobilesam.load`, or a network of ``sam_model_registry``.
        points_per_side: of the grid, or None with ``point_grids``.
        points_per_batch: not needed.
        pred_iou_thresh: see :class:`mobilesam.segment_everything.EverythingOptions`, as all that follow.
        stability_score_thresh: the same.
        stability_score_offset: the same.
        box_nms_thresh: the same.
        crop_n_layers: the same.
        crop_nms_thresh: the same.
        crop_overlap_ratio: the same.
        crop_n_points_downscale_factor: the same.
        point_grids: the same.
        min_mask_region_area: the same.
        output_mode: ``binary_mask``, ``uncompressed_rle`` or ``coco_rle``.

    Raises:
        ConfigError: for options that do not fit together.
        PromptError: for a number outside its range.
        LimitError: for more points or crops than can be asked in reasonable time.
    """

    def __init__(
        self,
        model: Model | Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        if output_mode not in OUTPUT_MODES:
            raise ConfigError(f"output_mode: is {output_mode!r}; must be one of {', '.join(OUTPUT_MODES)}")
        self.model = model
        self.points_per_batch = points_per_batch
        self.output_mode = output_mode
        self.options = EverythingOptions(
            points_per_side=points_per_side,
            point_grids=point_grids,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=at_most_one(box_nms_thresh),
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=at_most_one(crop_nms_thresh),
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            min_mask_region_area=min_mask_region_area,
        )
        self._model = model if isinstance(model, Model) else network_to_model(model)

    def generate(self, image: Image) -> list[dict[str, Any]]:
        """Return a record for every mask of an image (H, W, 3) uint8 RGB.

        The keys are ``segmentation`` (in ``output_mode``), ``area``, ``bbox`` (x, y, width
        and height of the far pixels' distance, as segment_anything counts them),
        ``predicted_iou``, ``point_coords``, ``stability_score`` and ``crop_box``.
        """
        return [self._record(mask) for mask in segment_everything(self._model, image, self.options)]

    def _record(self, mask: FoundMask) -> dict[str, Any]:
        if self.output_mode == "binary_mask":
            segmentation: Any = mask.mask
        else:
            segmentation = mask.rle.to_dict(compressed=self.output_mode == "coco_rle")
        return {
            "segmentation": segmentation,
            "area": mask.area,
            "bbox": list(xyxy_to_xywh(inclusive(mask.box))),
            "predicted_iou": mask.predicted_iou,
            "point_coords": [list(mask.point)],
            "stability_score": mask.stability_score,
            "crop_box": list(xyxy_to_xywh(mask.crop)),
        }


def at_most_one(threshold: float) -> float:
    """Return a threshold of IoU; above 1, which segment_anything takes, nothing is suppressed, as at 1."""
    return 1.0 if isinstance(threshold, int | float) and threshold > 1 else threshold
