"""A batch of prompts in segment_anything's tensors: what it may be, and how it becomes the decoder's inputs."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import ArrayLike, Size, to_numpy
from mobilesam.core.errors import LimitError, PromptError
from mobilesam.core.prompts import (
    BACKGROUND,
    BOX_CORNERS,
    FOREGROUND,
    LOW_RES_PER_GRID,
    MASK_LOGIT,
    MAX_POINTS,
    MAX_PROMPTS,
    PAD,
    FieldNames,
    as_array,
    as_numbers,
    check_box,
    finite_logits,
    truth_to_numbers,
)
from mobilesam.core.types import MULTIMASK, SINGLE_MASK, DecoderInputs


def validate_batch(
    point_coords: ArrayLike,
    point_labels: ArrayLike,
    boxes: ArrayLike,
    mask_input: ArrayLike,
    *,
    input_size: Size,
    grid: int,
    names: FieldNames,
) -> DecoderInputs:
    """Check a batch of prompts in segment_anything's form, and join them into decoder inputs.

    There may be none: boxes (0, 4) are no objects and give no masks.

    Their coordinates are already those of the model's input, and their labels may be more than ours: -1 is
    a pad, 2 and 3 are a box's corners.

    Args:
        point_coords: (B, N, 2) x and y, or None.
        point_labels: (B, N), or None.
        boxes: (B, 4) x0, y0, x1, y1, or (B, 1, 4) or (B, 2, 2), or None.
        mask_input: (B, 1, h, w) logits, (1, 1, h, w) for all, or None. Infinite ones are certain.
        input_size: (height, width) of the image in the model's input.
        grid: side of the image embedding's grid, for the mask prompt's size.
        names: what messages call the four.

    Raises:
        PromptError: names the argument, its value and what is allowed.
        LimitError: for too many prompts or points.
    """
    parts, counts = [], {}
    if np.shape(point_coords)[1:2] == (0,) and not (boxes is None and mask_input is None):
        point_coords = point_labels = None  # beside a box or a mask there may be no points
    if point_coords is not None:
        parts.append(_check_batch_points(point_coords, point_labels, input_size, names))
        counts[names.points] = len(parts[0][0])
    elif point_labels is not None:
        raise PromptError(f"{names.labels}: given without points; give one point for each label")
    if boxes is not None:
        parts.append(_check_batch_boxes(boxes, input_size, names.box))
        counts[names.box] = len(parts[-1][0])
    elif parts:
        b = len(parts[0][0])
        parts.append((np.zeros((b, 1, 2)), np.full((b, 1), PAD)))
    masks = None if mask_input is None else _check_batch_masks(mask_input, grid, names.mask)
    if masks is not None and (len(masks) != 1 or not parts):
        counts[names.mask] = len(masks)
    b = _common_count(counts, names.prompt)
    coords = np.concatenate([np.zeros((b, 0, 2)), *(part[0] for part in parts)], axis=1)
    labels = np.concatenate([np.zeros((b, 0)), *(part[1] for part in parts)], axis=1)
    empty = np.flatnonzero((labels == PAD).all(1))
    if masks is None and len(empty):
        raise PromptError(f"{names.labels}[{empty[0]}]: holds pads (-1) only; give a point, a box or a mask")
    if masks is not None and len(masks) != b:
        masks = np.repeat(masks, b, axis=0)  # one for all
    return DecoderInputs(coords.astype(np.float32), labels.astype(np.float32), masks)


def mask_tokens_of(multimask_output: object) -> tuple[int, ...]:
    """Return the mask tokens of segment_anything's switch between one mask and three."""
    if not isinstance(multimask_output, bool | np.bool_):
        raise PromptError(f"multimask_output: is {multimask_output!r}; must be True or False", code="U")
    return MULTIMASK if multimask_output else SINGLE_MASK


def certain(mask_input: ArrayLike) -> ArrayLike:
    """Return logits whose infinite ones, as in a mask without doubt, become at least as large as all others."""
    if mask_input is None or isinstance(mask_input, list | tuple):
        return mask_input
    logits = to_numpy(mask_input)
    if logits.dtype.kind != "f":
        return mask_input
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        logits = logits.astype(np.float32, copy=False)
    if not np.isinf(logits).any():
        return mask_input
    most = np.abs(logits[np.isfinite(logits)]).max(initial=MASK_LOGIT)
    return np.clip(logits, -most, most)  # NaN stays NaN


def _common_count(counts: dict[str, int], prompt: str) -> int:
    """Return the number of objects in a batch, on which its parts must agree."""
    if not counts:
        raise PromptError(f"{prompt}: is empty; give points, boxes or masks")
    (first, b), *others = counts.items()
    for name, count in others:
        if count != b:
            raise PromptError(f"{name}: is for {count} objects, {first} for {b}; give one for each")
    if b > MAX_PROMPTS:
        raise LimitError(f"{first}: {b} prompts; at most {MAX_PROMPTS} are allowed in one call")
    return b


def _check_batch_points(
    points: ArrayLike, labels: ArrayLike, input_size: Size, names: FieldNames
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (B, N, 2) and labels (B, N)."""
    coords = as_numbers(points, names.points, "(B, N, 2) numbers, x and y of each point")
    if coords.ndim != 3 or coords.shape[2] != 2:
        raise PromptError(
            f"{names.points}: has shape {coords.shape}; must be (B, N, 2), x and y of each object's points",
            code="U",
        )
    if len(coords) and coords.shape[1] == 0:
        raise PromptError(f"{names.points}: is empty; give at least one point, or leave it out")
    if coords.shape[1] > MAX_POINTS:
        raise LimitError(
            f"{names.points}: {coords.shape[1]} points; at most {MAX_POINTS} are allowed for one object"
        )
    kinds = as_numbers(truth_to_numbers(labels), names.labels, "(B, N) numbers, one for each point")
    if kinds.shape != coords.shape[:2]:
        raise PromptError(
            f"{names.labels}: has shape {kinds.shape}; must be {coords.shape[:2]}, one for each point"
        )
    unknown = np.argwhere(~np.isin(kinds, (PAD, BACKGROUND, FOREGROUND, *BOX_CORNERS)))
    if len(unknown):
        i, j = unknown[0]
        raise PromptError(
            f"{names.labels}[{i}, {j}]: is {kinds[i, j]:g}; must be 1 (on the object), 0 (beside it), "
            "-1 (a pad), or 2 and 3 (a box's corners)"
        )
    sides = np.array(input_size[::-1])
    is_point = np.isin(kinds, (BACKGROUND, FOREGROUND))[..., None]
    low = np.where(is_point, 0, -sides)  # (B, N, 2); a box's corners may lie an image's size beyond
    high = np.where(is_point, sides, 2 * sides)  # a point just inside may be rounded to the edge
    wrong = np.argwhere(~((coords >= low) & (coords <= high)))  # NaN is neither
    if len(wrong):
        i, j, axis = at = tuple(wrong[0])
        raise PromptError(
            f"{names.points}[{i}, {j}].{'xy'[axis]}: is {coords[at]:g}; must be in "
            f"[{low[at]}, {high[at]}], in pixels of the resized image"
        )
    return coords, kinds


def _check_batch_boxes(boxes: ArrayLike, input_size: Size, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return corners (B, 2, 2) and their labels (B, 2)."""
    array = as_numbers(boxes, name, "(B, 4) numbers x0, y0, x1, y1")
    if array.shape[1:] in ((1, 4), (2, 2)):
        array = array.reshape(-1, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise PromptError(
            f"{name}: has shape {array.shape}; must be (B, 4), x0, y0, x1, y1 of each", code="U"
        )
    for i, box in enumerate(array):
        check_box(box, input_size, f"{name}[{i}]", [], clip=False)
    return array.reshape(-1, 2, 2), np.tile(BOX_CORNERS, (len(array), 1))


def _check_batch_masks(mask_input: ArrayLike, grid: int, name: str) -> np.ndarray:
    """Return logits (B, 1, h, w)."""
    side = grid * LOW_RES_PER_GRID
    wanted = f"float logits of (B, 1, {side}, {side})"
    array = certain(as_array(mask_input, name, wanted))
    if array.dtype.kind != "f":
        raise PromptError(f"{name}: has type {array.dtype}; must be {wanted}", code="U")
    if array.ndim != 4 or array.shape[1:] != (1, side, side):
        raise PromptError(f"{name}: has shape {array.shape}; must be {wanted}")
    return finite_logits(array, name)
