"""segment_anything's ``utils.amg`` over our core: tensors come back as tensors on their device, arrays as arrays.

As there, the far edges of boxes are inclusive, and those of crops exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Generator, ItemsView, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from mobilesam.compat.errors import ConfigAssertionError
from mobilesam.compat.segment_anything.tensors import array_like, shift_like
from mobilesam.core.arrays import ArrayLike, Mask, Points, Size, is_tensor, to_numpy
from mobilesam.core.boxes import inclusive, mask_to_box, near_crop_edge, xyxy_to_xywh
from mobilesam.core.grids import build_layer_grids
from mobilesam.core.grids import build_point_grid as build_point_grid
from mobilesam.core.grids import generate_crop_boxes as layered_crops
from mobilesam.core.postprocess import stability_scores
from mobilesam.core.regions import drop_small_islands, fill_small_holes
from mobilesam.core.rle import dict_to_rle, mask_to_rle
from mobilesam.core.rle import rle_to_mask as runs_to_mask

NEAR_EDGE = 20.0  # pixels
REGION_MODES = {"holes": fill_small_holes, "islands": drop_small_islands}


class MaskData:
    """Columns about masks, each a list, an array or a tensor with one entry for each mask.

    Raises:
        ConfigAssertionError: for a column of another type.

    Example:
        >>> data = MaskData(area=[5, 7, 9], iou=np.array([0.5, 0.7, 0.9]))
        >>> data.filter(np.array([True, False, True]))
        >>> data["area"], data["iou"].tolist()
        ([5, 9], [0.5, 0.9])
    """

    def __init__(self, **kwargs: ArrayLike) -> None:
        self._stats: dict[str, Any] = {}
        for key, column in kwargs.items():
            self[key] = column

    def __setitem__(self, key: str, item: ArrayLike) -> None:
        if not isinstance(item, list | np.ndarray) and not is_tensor(item):
            raise ConfigAssertionError(
                f"{key}: is a {type(item).__name__}; must be a list, an array or a tensor"
            )
        self._stats[key] = item

    def __delitem__(self, key: str) -> None:
        del self._stats[key]

    def __getitem__(self, key: str) -> Any:
        return self._stats[key]

    def items(self) -> ItemsView[str, Any]:
        """Return the columns with their names."""
        return self._stats.items()

    def filter(self, keep: ArrayLike) -> None:
        """Keep some entries of every column: ``keep`` holds a truth value for each, or their numbers."""
        numbers = to_numpy(keep)
        if numbers.dtype == bool:
            numbers = np.flatnonzero(numbers)
        for key, column in self.items():
            if isinstance(column, list):
                self._stats[key] = [column[i] for i in numbers]
            else:
                self._stats[key] = column[array_like(numbers.astype(np.int64), column)]

    def cat(self, new_stats: MaskData) -> None:
        """Append the entries of other columns; columns that are not here yet are added."""
        for key, column in new_stats.items():
            mine = self._stats.get(key)
            if mine is None:
                self[key] = deepcopy(column)
            elif isinstance(mine, list):
                self[key] = mine + deepcopy(column)
            elif is_tensor(mine):
                import torch

                self[key] = torch.cat([mine, column])
            else:
                self[key] = np.concatenate([mine, column])

    def to_numpy(self) -> None:
        """Make arrays of all tensors."""
        for key, column in self.items():
            self._stats[key] = to_numpy(column) if is_tensor(column) else column


def is_box_near_crop_edge(
    boxes: ArrayLike, crop_box: Sequence[int], orig_box: Sequence[int], atol: float = NEAR_EDGE
) -> ArrayLike:
    """Return (N,) whether boxes (N, 4) of a crop lie at an edge that the crop cuts and the image does not."""
    left, top, right, bottom = orig_box
    in_image = to_numpy(boxes) + np.tile([crop_box[0] - left, crop_box[1] - top], 2)
    crop = (np.asarray(crop_box) - np.tile([left, top], 2)).tolist()
    near = near_crop_edge(in_image, tuple(crop), (bottom - top, right - left), reach=float(atol))
    return array_like(near, boxes)


def box_xyxy_to_xywh(box_xyxy: ArrayLike) -> ArrayLike:
    """Return (x, y, width, height) of a box (x0, y0, x1, y1), in the type that was given."""
    if isinstance(box_xyxy, list | tuple):
        return type(box_xyxy)(xyxy_to_xywh(tuple(box_xyxy)))
    return array_like(np.stack(xyxy_to_xywh(tuple(to_numpy(box_xyxy)))), box_xyxy)


def batch_iterator(batch_size: int, *args: Any) -> Generator[list[Any], None, None]:
    """Yield the sequences' parts of ``batch_size`` entries side by side.

    Raises:
        ConfigAssertionError: for none, or for different lengths.
    """
    lengths = [len(arg) for arg in args]
    if len(set(lengths)) != 1:
        raise ConfigAssertionError(
            f"args: have lengths {lengths}; give at least one, and all of the same length"
        )
    for start in range(0, lengths[0], batch_size):
        yield [arg[start : start + batch_size] for arg in args]


def mask_to_rle_pytorch(tensor: ArrayLike) -> list[dict[str, Any]]:
    """Return the runs of masks (B, H, W), as records with ``size`` and a list of ``counts``."""
    return [mask_to_rle(mask).to_dict(compressed=False) for mask in to_numpy(tensor)]


def rle_to_mask(rle: dict[str, Any]) -> Mask:
    """Return the mask (H, W) of a record of runs, with ``counts`` as a list or as text."""
    return runs_to_mask(dict_to_rle(rle))


def area_from_rle(rle: dict[str, Any]) -> int:
    """Return the pixels in a record of runs."""
    return dict_to_rle(rle).area


def calculate_stability_score(masks: ArrayLike, mask_threshold: float, threshold_offset: float) -> ArrayLike:
    """Return the stability (...) of logits (..., H, W); a mask that is empty at both thresholds has 0."""
    if not is_tensor(masks):
        logits = np.asarray(masks, np.float32)
        return stability_scores(logits, offset=float(threshold_offset), threshold=float(mask_threshold))
    inner, outer = (
        (masks > mask_threshold + offset).sum((-2, -1)) for offset in (threshold_offset, -threshold_offset)
    )  # on their device, and in the graphs that programs export from it
    return inner.float() / outer.clamp(min=1)


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[Points]:
    """Return the grids of the whole image and of each layer of crops."""
    return build_layer_grids(n_per_side, n_layers, scale_per_layer)


def generate_crop_boxes(
    im_size: Size, n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Return the crops x0, y0, x1, y1 of an image (height, width), and the layer of each."""
    crops = layered_crops(im_size, n_layers, overlap_ratio)
    return [list(crop) for crop, _ in crops], [layer for _, layer in crops]


def uncrop_boxes_xyxy(boxes: ArrayLike, crop_box: Sequence[int]) -> ArrayLike:
    """Move boxes (..., 4) of a crop into the image."""
    return shift_like(boxes, [*crop_box[:2], *crop_box[:2]])


def uncrop_points(points: ArrayLike, crop_box: Sequence[int]) -> ArrayLike:
    """Move points (..., 2) of a crop into the image."""
    return shift_like(points, list(crop_box[:2]))


def uncrop_masks(masks: ArrayLike, crop_box: Sequence[int], orig_h: int, orig_w: int) -> ArrayLike:
    """Put masks (..., h, w) of a crop into the image, (..., orig_h, orig_w), with 0 beyond the crop."""
    x0, y0, x1, y1 = crop_box
    if (x0, y0, x1, y1) == (0, 0, orig_w, orig_h):
        return masks
    shape = (*masks.shape[:-2], orig_h, orig_w)
    whole = masks.new_zeros(shape) if is_tensor(masks) else np.zeros(shape, masks.dtype)
    whole[..., y0:y1, x0:x1] = masks
    return whole


def remove_small_regions(mask: Mask, area_thresh: float, mode: str) -> tuple[Mask, bool]:
    """Fill the small ``holes`` of a mask (H, W), or drop its small ``islands``; and say whether there were any.

    Raises:
        ConfigAssertionError: for another mode.
    """
    if mode not in REGION_MODES:
        raise ConfigAssertionError(f"mode: is {mode!r}; must be one of {', '.join(REGION_MODES)}")
    cleaned, changed = REGION_MODES[mode](mask_to_rle(mask), math.ceil(area_thresh))
    return (runs_to_mask(cleaned), True) if changed else (mask, False)


def coco_encode_rle(uncompressed_rle: dict[str, Any]) -> dict[str, Any]:
    """Return a record of runs with ``counts`` as COCO's text."""
    return dict_to_rle(uncompressed_rle).to_dict()


def batched_mask_to_box(masks: ArrayLike) -> ArrayLike:
    """Return the tight boxes (..., 4) int64 of masks (..., H, W), far edges inclusive; zeros for an empty mask."""
    array = to_numpy(masks).astype(bool)
    height, width = array.shape[-2:]
    boxes = [
        inclusive(mask_to_box(mask)) for mask in array.reshape(math.prod(array.shape[:-2]), height, width)
    ]
    return array_like(np.array(boxes, np.int64).reshape(*array.shape[:-2], 4), masks)
