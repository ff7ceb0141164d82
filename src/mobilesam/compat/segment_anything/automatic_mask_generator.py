"""segment_anything's ``SamAutomaticMaskGenerator`` over ours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.compat.errors import ConfigAssertionError
from mobilesam.compat.segment_anything.predictor import SamPredictor, image_to_rgb, network_to_model
from mobilesam.compat.segment_anything.tensors import array_like
from mobilesam.compat.segment_anything.utils.amg import (
    MaskData,
    batch_iterator,
    generate_crop_boxes,
    uncrop_boxes_xyxy,
    uncrop_points,
)
from mobilesam.compat.segment_anything.utils.amg import area_from_rle as area_from_rle
from mobilesam.compat.segment_anything.utils.amg import batched_mask_to_box as batched_mask_to_box
from mobilesam.compat.segment_anything.utils.amg import box_xyxy_to_xywh as box_xyxy_to_xywh
from mobilesam.compat.segment_anything.utils.amg import (
    build_all_layer_point_grids as build_all_layer_point_grids,
)
from mobilesam.compat.segment_anything.utils.amg import calculate_stability_score as calculate_stability_score
from mobilesam.compat.segment_anything.utils.amg import coco_encode_rle as coco_encode_rle
from mobilesam.compat.segment_anything.utils.amg import is_box_near_crop_edge as is_box_near_crop_edge
from mobilesam.compat.segment_anything.utils.amg import mask_to_rle_pytorch as mask_to_rle_pytorch
from mobilesam.compat.segment_anything.utils.amg import remove_small_regions as remove_small_regions
from mobilesam.compat.segment_anything.utils.amg import rle_to_mask as rle_to_mask
from mobilesam.compat.segment_anything.utils.amg import uncrop_masks as uncrop_masks
from mobilesam.core import regions, rle
from mobilesam.core.arrays import ArrayLike, Image, Logits, Size, to_numpy
from mobilesam.core.boxes import inclusive, mask_to_box, non_maximum_suppression, xyxy_to_xywh
from mobilesam.core.errors import PromptWarning
from mobilesam.core.ranges import check_number
from mobilesam.core.rle import Rle, dict_to_rle
from mobilesam.core.types import DecoderInputs, Embedding, FoundMask, MaskThresholds
from mobilesam.segment.batches import prompts_at_once
from mobilesam.segment.everything.grid import decode_points
from mobilesam.segment.everything.masks import SLOTS
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model
from mobilesam.segment.predictor import Predictor

if TYPE_CHECKING:
    from mobilesam.compat.segment_anything.modeling.sam import Sam

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class SamAutomaticMaskGenerator:
    """Segments everything in an image; signature, defaults, attributes and records are segment_anything's.

    The masks are the same; only the order of work differs, see
    :mod:`mobilesam.segment.everything.masks`. Every argument is an attribute
    that may be changed between images, except ``model``, which is ``predictor.model``, and
    ``points_per_side``, which becomes ``point_grids``.

    The thresholds are SAM's, whatever the model. ``pocket`` is less sure of itself, and hardly
    one of its masks passes them; give it ``pred_iou_thresh=0.3, stability_score_thresh=0.1``,
    or None for both, which means the model's own, as :meth:`mobilesam.Model.everything` takes them
    by itself. If none passes, :meth:`generate` warns and says this.

    Args:
        model: a model of :func:`mobilesam.load`, or a network of ``sam_model_registry``.
        points_per_side: of the grid, or None with ``point_grids``.
        points_per_batch: how many points :meth:`_process_batch` is given at once.
        pred_iou_thresh: see :class:`mobilesam.EverythingOptions`, also for all that follow.
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
        LimitError: for more points or crops than can be handled in reasonable time.
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
        return UnboundedOptions(
            sampler=self.sampler,
            points_per_side=None if grid else self._points_per_side,
            point_grids=self.point_grids if grid else None,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=self.box_nms_thresh,
            crop_n_layers=self.crop_n_layers,
            crop_nms_thresh=self.crop_nms_thresh,
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
        if self.sampler != "grid":
            return [self._found_to_record(mask) for mask in self._model.everything(image, self.options)]
        data = self._generate_masks(image_to_rgb(image))
        if self.min_mask_region_area > 0:
            threshold = max(self.box_nms_thresh, self.crop_nms_thresh)
            data = self.postprocess_small_regions(data, self.min_mask_region_area, threshold)
        if not len(data["rles"]):
            remark = self.options.remark_on_nothing(self._model.thresholds, self._model.name)
            if remark:
                warnings.warn(remark, PromptWarning, stacklevel=2)
        return [self._row_to_record(data, i) for i in range(len(data["rles"]))]

    def _generate_masks(self, image: Image) -> MaskData:
        """Return the masks of an image and its crops, as arrays: what :meth:`_process_crop` returns, each mask once."""
        size = image.shape[:2]
        crops, layers = generate_crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        data = MaskData()
        for crop, layer in zip(crops, layers, strict=True):
            data.cat(self._process_crop(image, crop, layer, size))
        if len(crops) > 1:  # of masks that are alike, the one from the smaller crop stays
            x0, y0, x1, y1 = to_numpy(data["crop_boxes"]).T
            suppress(data, 1 / ((x1 - x0) * (y1 - y0)), self.crop_nms_thresh)
        data.to_numpy()
        return data

    def _process_crop(
        self, image: Image, crop_box: Sequence[int], crop_layer_idx: int, orig_size: Size
    ) -> MaskData:
        """Return the masks of a crop of an image, in the image's pixels, with their ``crop_boxes``.

        Args:
            image: (H, W, 3).
            crop_box: x0, y0, x1, y1.
            crop_layer_idx: which of ``point_grids`` to ask.
            orig_size: (H, W).
        """
        x0, y0, x1, y1 = crop_box
        self.predictor.set_image(np.ascontiguousarray(image[y0:y1, x0:x1]))
        size = (y1 - y0, x1 - x0)
        data = found_to_data([], (0, 0), self.predictor.features)
        points = self.point_grids[crop_layer_idx] * size[::-1]
        for (batch,) in batch_iterator(self.points_per_batch, points):
            data.cat(self._process_batch(batch, size, crop_box, orig_size))
        self.predictor.reset_image()
        suppress(data, to_numpy(data["iou_preds"]), self.box_nms_thresh)
        data["boxes"] = uncrop_boxes_xyxy(data["boxes"], crop_box)
        data["points"] = uncrop_points(data["points"], crop_box)
        data["crop_boxes"] = array_like(np.tile(crop_box, (len(data["rles"]), 1)), data["boxes"])
        return data

    def _process_batch(
        self, points: np.ndarray, im_size: Size, crop_box: Sequence[int], orig_size: Size
    ) -> MaskData:
        """Return the good masks of points (N, 2) in the predictor's image, which is a crop.

        Args:
            points: x and y in the crop.
            im_size: (height, width) of the crop.
            crop_box: x0, y0, x1, y1.
            orig_size: (height, width) of the whole image.

        Returns:
            ``rles`` of the whole image; ``iou_preds`` and ``stability_score`` (M,); ``boxes`` (M, 4), far edges
            inclusive, and ``points`` (M, 2), in the crop.
        """
        x0, y0, x1, y1 = (int(side) for side in crop_box)
        model = self._model
        current = CurrentImage(self.predictor, name=model.name, thresholds=model.thresholds)
        embedding = Embedding({}, model.name, current.frame, np.zeros((*im_size, 3), np.uint8))
        options = self.options.settled(model.thresholds)
        found: list[FoundMask] = []
        at_once = prompts_at_once(model.runtime, SLOTS)
        for start in range(0, len(points), at_once):
            few = np.asarray(points[start : start + at_once], np.float64)
            batch = decode_points(
                current, embedding, few, options, (x0, y0, x1, y1), (orig_size[0], orig_size[1])
            )
            found += batch.masks
        return found_to_data(found, (x0, y0), current.arrays["image_embedding"])

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
        cleaned = [regions.remove_small_regions(dict_to_rle(one), min_area) for one in mask_data["rles"]]
        if not cleaned:
            return mask_data
        boxes = np.array([inclusive(mask_to_box(rle.rle_to_mask(one))) for one, _ in cleaned])
        unchanged = np.array([not changed for _, changed in cleaned], float)
        keep = non_maximum_suppression(boxes, unchanged, nms_thresh)
        new_boxes = array_like(boxes, mask_data["boxes"])
        for i in keep:
            if not unchanged[i]:
                mask_data["rles"][i] = cleaned[i][0].to_dict(compressed=False)
                mask_data["boxes"][i] = new_boxes[i]
        mask_data.filter(keep)
        return mask_data

    def _encode(self, runs: Rle) -> Any:
        """Return a mask in ``output_mode``."""
        if self.output_mode == "binary_mask":
            return rle.rle_to_mask(runs)
        return runs.to_dict(compressed=self.output_mode == "coco_rle")

    def _row_to_record(self, data: MaskData, i: int) -> dict[str, Any]:
        runs = dict_to_rle(data["rles"][i])
        return {
            "segmentation": self._encode(runs),
            "area": runs.area,
            "bbox": list(xyxy_to_xywh(tuple(data["boxes"][i].tolist()))),
            "predicted_iou": data["iou_preds"][i].item(),
            "point_coords": [data["points"][i].tolist()],
            "stability_score": data["stability_score"][i].item(),
            "crop_box": list(xyxy_to_xywh(tuple(data["crop_boxes"][i].tolist()))),
        }

    def _found_to_record(self, mask: FoundMask) -> dict[str, Any]:
        return {
            "segmentation": self._encode(mask.rle),
            "area": mask.area,
            "bbox": list(xyxy_to_xywh(inclusive(mask.box))),
            "predicted_iou": mask.predicted_iou,
            "point_coords": [list(mask.point)],
            "stability_score": mask.stability_score,
            "crop_box": list(xyxy_to_xywh(mask.crop)),
        }


class UnboundedOptions(EverythingOptions):
    """Options whose thresholds may be any numbers, even beyond those of all masks, as segment_anything takes them."""

    def _check_thresholds(self) -> None:
        for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), -math.inf)


class CurrentImage(Predictor):
    """Decodes prompts about the image of a segment_anything predictor, which may hold tensors; returns arrays.

    Args:
        predictor: with an image.
        name: of its model.
        thresholds: of its model.
    """

    def __init__(self, predictor: SamPredictor, *, name: str, thresholds: MaskThresholds) -> None:
        super().__init__(predictor._runtime, name=name, thresholds=thresholds)
        self.arrays, self.frame = predictor._current()
        self.mask_threshold = predictor._threshold

    def decode(
        self, embedding: Embedding, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        """Return logits (B, M, h, w), above 0 in a mask whatever the network's threshold, and IoU predictions (B, M)."""
        low_res, ious = self.runtime.decode(self.arrays, inputs, mask_tokens)
        low_res = to_numpy(low_res)
        return low_res - np.float32(self.mask_threshold) if self.mask_threshold else low_res, to_numpy(ious)


def found_to_data(found: Sequence[FoundMask], corner: tuple[int, int], like: ArrayLike) -> MaskData:
    """Return masks as columns, positions from a crop's corner (x, y); arrays or tensors, as ``like`` is."""
    x, y = corner
    boxes = np.array([inclusive(mask.box) for mask in found], np.int64).reshape(-1, 4)
    points = np.array([mask.point for mask in found], np.float64).reshape(-1, 2)
    columns: dict[str, np.ndarray] = {
        "iou_preds": np.array([mask.predicted_iou for mask in found], np.float32),
        "stability_score": np.array([mask.stability_score for mask in found], np.float32),
        "boxes": boxes - [x, y, x, y],
        "points": points - [x, y],
    }
    return MaskData(
        rles=[mask.rle.to_dict(compressed=False) for mask in found],
        **{name: array_like(column, like) for name, column in columns.items()},
    )


def suppress(data: MaskData, scores: np.ndarray, threshold: float) -> None:
    """Of masks whose boxes overlap, keep those with the higher score; sort by falling score."""
    data.filter(non_maximum_suppression(to_numpy(data["boxes"]), scores, float(threshold)))
