"""segment_anything's ``SamAutomaticMaskGenerator`` over ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.compat.errors import ConfigAssertionError
from mobilesam.compat.segment_anything.predictor import SamPredictor, network_to_model
from mobilesam.compat.segment_anything.tensors import array_like
from mobilesam.compat.segment_anything.utils.amg import MaskData
from mobilesam.core.arrays import Image
from mobilesam.core.boxes import inclusive, mask_to_box, non_maximum_suppression, xyxy_to_xywh
from mobilesam.core.regions import remove_small_regions
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from mobilesam.core.types import FoundMask
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model

if TYPE_CHECKING:
    from mobilesam.compat.segment_anything.sam import Sam

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class SamAutomaticMaskGenerator:
    """Segments everything in an image; signature, defaults, attributes and records are segment_anything's.

    The masks are the same; only the order of work differs, see
    :mod:`mobilesam.segment.everything.search`. ``points_per_batch`` is taken and not needed:
    batches are as large as is fastest, whatever the memory. Every argument is an attribute
    that may be changed between images, but for ``model``, which is ``predictor.model``, and
    ``points_per_side``, which becomes ``point_grids``.

    The thresholds are SAM's, whatever the model. ``pocket`` is less sure of itself: of its
    masks hardly one passes them; give it ``pred_iou_thresh=0.3, stability_score_thresh=0.1``,
    or None for both, which means the model's own, as :meth:`mobilesam.Model.everything` takes them
    by itself. Where none passes, :meth:`generate` warns and says this.

    Args:
        model: a model of :func:`mobilesam.load`, or a network of ``sam_model_registry``.
        points_per_side: of the grid, or None with ``point_grids``.
        points_per_batch: not needed.
        pred_iou_thresh: see :class:`mobilesam.EverythingOptions`, as all that follow.
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
        sampler: not in segment_anything: ``objects`` or ``hybrid`` instead of its ``grid``, which are faster.

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
        pred_iou_thresh: float | None = 0.88,
        stability_score_thresh: float | None = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        *,
        sampler: str = "grid",
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise ConfigAssertionError("points_per_side, point_grids: give exactly one of them")
        if output_mode not in OUTPUT_MODES:
            raise ConfigAssertionError(
                f"output_mode: is {output_mode!r}; must be one of {', '.join(OUTPUT_MODES)}"
            )
        self.point_grids = EverythingOptions(
            sampler="grid",
            points_per_side=points_per_side,
            point_grids=point_grids,
            crop_n_layers=crop_n_layers,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
        ).grids()
        self.predictor = SamPredictor(model)
        self._model = model if isinstance(model, Model) else network_to_model(model)
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.sampler = sampler
        self._points_per_side = points_per_side
        _ = self.options  # what is out of range is refused now, not at the first image

    @property
    def options(self) -> EverythingOptions:
        """What the attributes mean to :meth:`mobilesam.Model.everything`."""
        grid = self.sampler == "grid"
        return EverythingOptions(
            sampler=self.sampler,
            points_per_side=None if grid else self._points_per_side,
            point_grids=self.point_grids if grid else None,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=at_most_one(self.box_nms_thresh),
            crop_n_layers=self.crop_n_layers,
            crop_nms_thresh=at_most_one(self.crop_nms_thresh),
            crop_overlap_ratio=self.crop_overlap_ratio,
            crop_n_points_downscale_factor=self.crop_n_points_downscale_factor,
            min_mask_region_area=self.min_mask_region_area,
        )

    def generate(self, image: Image) -> list[dict[str, Any]]:
        """Return a record for every mask of an image (H, W, 3) uint8 RGB.

        The keys are ``segmentation`` (in ``output_mode``), ``area``, ``bbox`` (x, y, width
        and height of the far pixels' distance, as segment_anything counts them),
        ``predicted_iou``, ``point_coords``, ``stability_score`` and ``crop_box``.

        Warns:
            PromptWarning: if no mask passes thresholds that are stricter than the model's own.
        """
        return [self._record(mask) for mask in self._model.everything(image, self.options)]

    @staticmethod
    def postprocess_small_regions(mask_data: MaskData, min_area: int, nms_thresh: float) -> MaskData:
        """Fill small holes and drop small islands of masks, then drop those that have become alike.

        Masks that needed no change win against those that did.

        Args:
            mask_data: with ``rles``, a list of records of runs, and ``boxes`` (N, 4), far edges
                inclusive; changed in place, all its columns.
            min_area: holes and islands of fewer pixels go.
            nms_thresh: greatest IoU of the boxes of two masks that both stay.

        Returns:
            ``mask_data``.
        """
        cleaned = [remove_small_regions(dict_to_rle(rle), min_area) for rle in mask_data["rles"]]
        if not cleaned:
            return mask_data
        boxes = np.array([inclusive(mask_to_box(rle_to_mask(rle))) for rle, _ in cleaned])
        unchanged = np.array([not changed for _, changed in cleaned], float)
        keep = non_maximum_suppression(boxes, unchanged, nms_thresh)
        new_boxes = array_like(boxes, mask_data["boxes"])
        for i in keep:
            if not unchanged[i]:
                mask_data["rles"][i] = cleaned[i][0].to_dict(compressed=False)
                mask_data["boxes"][i] = new_boxes[i]
        mask_data.filter(keep)
        return mask_data

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
