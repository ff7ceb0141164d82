"""The one validator of prompts, and how they become the decoder's inputs.

Library, command line and every other surface come through :func:`validate_prompt`, so
the same mistake gives the same error everywhere.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import ArrayLike, Box, Labels, Logits, MaskInput, Points, Size, to_numpy
from mobilesam.core.errors import LimitError, PromptError
from mobilesam.core.frame import Frame
from mobilesam.core.phrases import check_label
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.core.schema import unknown_key
from mobilesam.core.types import DecoderInputs, Prompt

FOREGROUND, BACKGROUND, BOX_CORNERS, PAD = 1, 0, (2, 3), -1
MAX_POINTS = 1000  # of one object
MAX_PROMPTS = 10_000  # objects in one call
DEEPEST = 8  # depth to which nested lists are looked into; no prompt is as deep
MASK_LOGIT = 8.0  # size of the logits that a boolean mask prompt becomes
LOW_RES_PER_GRID = 4  # cells of a mask prompt for one of the image embedding, per side


@dataclass(frozen=True, eq=False)
class ValidPrompt:
    """A prompt that has passed the validator.

    Attributes:
        points: (N, 2), N may be 0.
        labels: (N,) 0 or 1; from segment_anything also -1, a pad.
        box: (4,) inside the image, or None.
        mask_input: (1, h, w) logits, or None.
        remarks: what is valid in it but may not be intended.
        label: what the object is called, or None.
    """

    points: Points
    labels: Labels
    box: Box | None
    mask_input: Logits | None
    remarks: tuple[str, ...] = ()
    label: str | None = None

    @property
    def slots(self) -> int:
        """Points that the decoder sees: SAM adds a pad to points without a box."""
        if self.box is not None:
            return len(self.points) + 2
        return len(self.points) + 1 if len(self.points) else 0

    @property
    def ambiguous(self) -> bool:
        """Whether the prompt is a single point, which may mean a part or the whole."""
        return len(self.points) == 1 and self.box is None and self.mask_input is None


@dataclass(frozen=True)
class FieldNames:
    """What messages call a prompt's parts."""

    prompt: str
    points: str
    labels: str
    box: str
    mask: str
    label: str = "label"


def names_with(prefix: str) -> FieldNames:
    """Return our own names after a prefix such as ``prompts[2].``."""
    return FieldNames(
        prefix.rstrip(".: ") or "prompt",
        *(f"{prefix}{part}" for part in ("points", "labels", "box", "mask", "label")),
    )


def to_prompt(value: object, name: str) -> Prompt:
    """Return a prompt that was given as one, or as a dict such as ``{"box": [120, 40, 380, 300]}``.

    Args:
        value: what was given.
        name: what messages call it.

    Raises:
        PromptError: for something else, or for a key that a prompt does not have.
    """
    if isinstance(value, Prompt):
        return value
    if not isinstance(value, dict):
        raise PromptError(f"{name}: is a {type(value).__name__}; give Prompt(points=..., box=...)", code="U")
    known = [one.name for one in dataclasses.fields(Prompt)]
    for key in value:
        if key not in known:
            raise PromptError(f"{name}: {unknown_key(str(key), known)}", code="U")
    return Prompt(**value)


def validate_prompt(
    prompt: Prompt,
    frame: Frame,
    *,
    grid: int,
    names: FieldNames | None = None,
    clip_box: bool = True,
) -> ValidPrompt:
    """Check one prompt against the image it is for.

    Args:
        prompt: as the user gave it; its arrays are not changed.
        frame: of the image.
        grid: side of the image embedding's grid, for the mask prompt's size.
        names: what messages call the prompt's parts, if not by our own names.
        clip_box: clip a box that reaches outside; segment_anything passes it on as it is, and allows pads (-1)
            among the labels, and points on the far edges, at the width or height.

    Raises:
        PromptError: names the argument, its value and what is allowed.
        LimitError: for too many points.
    """
    names = names or names_with("")
    remarks: list[str] = []
    points = _check_points(
        prompt.points, prompt.labels, frame.original_size, names, remarks, on_edge=not clip_box
    )
    labels = _check_labels(prompt.labels, len(points), names.labels, pads=not clip_box)
    box = None
    if prompt.box is not None:
        box = check_box(prompt.box, frame.original_size, names.box, remarks, clip=clip_box)
    mask_input = None
    if prompt.mask is not None:
        mask_input = _check_mask(prompt.mask, frame, grid, names.mask, remarks)
    if not len(points) and box is None and mask_input is None:
        raise PromptError(f"{names.prompt}: is empty; give points, a box or a mask")
    if len(points) and (labels == PAD).all() and box is None and mask_input is None:
        raise PromptError(f"{names.labels}: holds pads (-1) only; give a point, a box or a mask")
    if len(points) and not labels.any() and box is None and mask_input is None:
        remarks.append(f"{names.labels}: all points are background (0)")
    if _in_both(points, labels):
        remarks.append(f"{names.points}: the same point is said to be on the object (1) and beside it (0)")
    if box is not None and len(points):
        on_object = points[labels == FOREGROUND]
        if (on_object < box[:2]).any() or (on_object > box[2:]).any():
            remarks.append(f"{names.points}: a foreground point lies outside the box")
    label = check_label(prompt.label, names.label)
    return ValidPrompt(points, labels, box, mask_input, tuple(remarks), label)


def _check_points(
    points: ArrayLike,
    labels: ArrayLike,
    original_size: Size,
    names: FieldNames,
    remarks: list[str],
    *,
    on_edge: bool,
) -> Points:
    name = names.points
    if points is None:
        if labels is not None:
            raise PromptError(f"{names.labels}: given without points; give one point for each label")
        return np.zeros((0, 2))
    array = as_numbers(points, name, "(N, 2) numbers, x and y of each point")
    if array.shape == (2,):
        array = array[None]
    if array.size == 0:
        raise PromptError(f"{name}: is empty; give at least one point, or leave it out")
    if array.ndim != 2 or array.shape[1] != 2:
        raise PromptError(f"{name}: has shape {array.shape}; must be (N, 2), x and y of each point", code="U")
    if len(array) > MAX_POINTS:
        raise LimitError(f"{name}: {len(array)} points; at most {MAX_POINTS} are allowed for one object")
    height, width = original_size
    for axis, (letter, side) in enumerate((("x", width), ("y", height))):
        for i, value in enumerate(array[:, axis]):
            if not np.isfinite(value):
                raise PromptError(f"{name}[{i}].{letter}: is {value}; must be a finite number")
            if not 0 <= value < side and not (on_edge and value == side):
                x, y = array[i]
                hint = "; the order is x, y" if 0 <= y < width and 0 <= x < height else ""
                raise PromptError(
                    f"{name}[{i}].{letter}: is {value:g}, outside the image of {width} x {height}; "
                    f"must be in [0, {side}){hint}"
                )
    if _look_normalised(array, original_size):
        remarks.append(f"{name}: all coordinates lie in 0..1; they are taken as pixels")
    return array


def _check_labels(labels: ArrayLike, count: int, name: str, *, pads: bool) -> Labels:
    if labels is None:
        return np.ones(count, np.int64)
    array = as_numbers(truth_to_numbers(labels), name, "one number, 0 or 1, for each point").reshape(-1)
    if len(array) != count:
        raise PromptError(f"{name}: {len(array)} labels for {count} points; give one for each")
    bad = ~np.isin(array, (BACKGROUND, FOREGROUND, PAD) if pads else (BACKGROUND, FOREGROUND))
    if bad.any():
        i = int(bad.argmax())
        allowed = (
            "1 (on the object), 0 (beside it) or -1 (a pad)" if pads else "1 (on the object) or 0 (beside it)"
        )
        raise PromptError(f"{name}[{i}]: is {array[i]:g}; must be {allowed}")
    return array.astype(np.int64)


def truth_to_numbers(labels: ArrayLike) -> ArrayLike:
    """Return labels that are all true or false as 1 and 0, the only thing they can mean."""
    if isinstance(labels, list | tuple):
        return [int(v) for v in labels] if all(isinstance(v, bool | np.bool_) for v in labels) else labels
    array = to_numpy(labels) if hasattr(labels, "__array__") else labels
    is_truth = isinstance(array, np.ndarray) and array.dtype == bool and not _is_masked(array)
    return array.astype(np.int64) if is_truth else labels


def check_box(box: ArrayLike, original_size: Size, name: str, remarks: list[str], *, clip: bool) -> Box:
    """Check a box against an image of (height, width); what may not be intended is added to the remarks."""
    array = as_numbers(box, name, "4 numbers x0, y0, x1, y1")
    if array.size == 4 and array.shape[-1] == 4:
        array = array.reshape(4)
    if array.shape != (4,):
        raise PromptError(f"{name}: has shape {array.shape}; must be 4 numbers x0, y0, x1, y1", code="U")
    for value, letter in zip(array, ("x0", "y0", "x1", "y1"), strict=True):
        if not np.isfinite(value):
            raise PromptError(f"{name}.{letter}: is {value}; must be a finite number")
    x0, y0, x1, y1 = array
    shown = ", ".join(f"{v:g}" for v in array)
    for low, high, letter in ((x0, x1, "x"), (y0, y1, "y")):
        if low > high:
            raise PromptError(
                f"{name}: {shown} has {letter}0 > {letter}1; must be x0, y0, x1, y1: did you pass x, y, w, h?"
            )
    height, width = original_size
    if clip:
        array = _widened(array, name, shown, remarks)
        x0, y0, x1, y1 = array
    if _is_beyond(x0, x1, width) or _is_beyond(y0, y1, height):
        raise PromptError(f"{name}: {shown} lies outside the image of {width} x {height}")
    if x0 < -width or y0 < -height or x1 > 2 * width or y1 > 2 * height:
        raise PromptError(
            f"{name}: {shown} reaches more than an image beyond the image of {width} x {height}; "
            "give pixels of the image"
        )
    if _look_normalised(array, original_size):
        remarks.append(f"{name}: all coordinates lie in 0..1; they are taken as pixels")
    if not clip:
        return array
    clipped = np.array([max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)])
    if (clipped != array).any():
        remarks.append(
            f"{name}: {shown} reaches outside the image of {width} x {height} and is clipped; the order is x0, y0, x1, y1"
        )
    return clipped


def _widened(box: Box, name: str, shown: str, remarks: list[str]) -> Box:
    """Return a box that is only a line as the row or column of pixels it means.

    If boxes include their far edge, as those of COCO's tools and SAM do, an object
    one pixel wide has x1 = x0.
    """
    flat = box[:2] == box[2:]
    if flat.all():
        x, y = box[:2]
        raise PromptError(f"{name}: {shown} is a single point; give it as points, [[{x:g}, {y:g}]]")
    if not flat.any():
        return box
    side, letter = ("width", "x") if flat[0] else ("height", "y")
    remarks.append(f"{name}: {shown} has no {side} ({letter}0 = {letter}1); it is taken as one pixel")
    low = np.where(flat, np.floor(box[:2]), box[:2])
    return np.concatenate([low, np.where(flat, low + 1, box[2:])])


def _is_beyond(low: float, high: float, side: int) -> bool:
    """Whether no part of an extent lies in 0..side; one without length may touch an edge."""
    if low == high:
        return bool(low < 0 or low > side)
    return bool(low >= side or high <= 0)


def _in_both(points: Points, labels: Labels) -> bool:
    """Whether a foreground point is also a background point."""
    on_object, beside = points[labels == FOREGROUND], points[labels == BACKGROUND]
    return bool((on_object[:, None] == beside).all(-1).any())


def _look_normalised(coords: np.ndarray, original_size: Size) -> bool:
    """Whether coordinates may be meant as parts of the image's sides."""
    return bool(min(original_size) > 2 and coords.max() <= 1 and coords.min() >= 0 and (coords % 1).any())


def _check_mask(mask: ArrayLike, frame: Frame, grid: int, name: str, remarks: list[str]) -> Logits:
    original_size, side = frame.original_size, grid * LOW_RES_PER_GRID
    wanted = f"a boolean mask of {original_size} or float logits of ({side}, {side})"
    if isinstance(mask, Rle):  # a mask of another size is not even decoded
        if mask.size != tuple(original_size):
            raise PromptError(f"{name}: has shape {mask.size}; must be {wanted}")
        mask = rle_to_mask(mask)
    array = as_array(mask, name, wanted)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind == "f":
        if array.shape != (side, side):
            raise PromptError(f"{name}: float logits of shape {array.shape}; must be {wanted}")
        return finite_logits(array, name)[None]
    if array.dtype.kind not in "bui":
        raise PromptError(f"{name}: has type {array.dtype}; must be {wanted}", code="U")
    if array.shape != tuple(original_size):
        raise PromptError(f"{name}: has shape {array.shape}; must be {wanted}")
    if array.dtype.kind != "b" and not np.isin(np.unique(array), (0, 1, 255)).all():
        raise PromptError(f"{name}: holds values other than 0, 1 and 255; threshold it to a boolean mask")
    inside = array != 0
    if not inside.any() or inside.all():
        remarks.append(f"{name}: {'covers the whole image' if inside.any() else 'is empty'}")
    return mask_to_logits(inside, side, frame)


def mask_to_logits(mask: np.ndarray, side: int, frame: Frame) -> Logits:
    """Turn a boolean mask of the image (H, W) into mask-prompt logits (1, side, side).

    Each cell's logit says how much of it is object, from -8 to 8; the padding is -8.
    """
    height, width = frame.grid_size(side)
    part = (
        _area_matrix(mask.shape[0], height) @ mask.astype(np.float32) @ _area_matrix(mask.shape[1], width).T
    )
    logits = np.full((1, side, side), -MASK_LOGIT, np.float32)
    logits[0, :height, :width] = (2 * part - 1) * MASK_LOGIT
    return logits


def _area_matrix(length: int, new_length: int) -> np.ndarray:
    """Return the (new_length, length) matrix that averages over each new cell."""
    edges = np.linspace(0, length, new_length + 1)
    index = np.arange(length)
    overlap = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


def prompts_to_decoder_inputs(prompts: Sequence[ValidPrompt], frame: Frame) -> DecoderInputs:
    """Join prompts with the same number of slots, all with a mask or all without, into one batch.

    The order within a prompt is SAM's: points, then a pad if there is no box, then the
    box's corners.
    """
    b, n = len(prompts), prompts[0].slots
    coords = np.zeros((b, n, 2))
    labels = np.full((b, n), PAD, np.float32)
    for i, prompt in enumerate(prompts):
        count = len(prompt.points)
        coords[i, :count] = frame.to_input(prompt.points)
        labels[i, :count] = prompt.labels
        if prompt.box is not None:
            coords[i, count:] = frame.to_input(prompt.box.reshape(2, 2))
            labels[i, count:] = BOX_CORNERS
    masks: MaskInput | None = None
    if prompts[0].mask_input is not None:
        masks = np.stack([p.mask_input for p in prompts if p.mask_input is not None]).astype(np.float32)
    return DecoderInputs(coords.astype(np.float32), labels, masks)


def points_to_decoder_inputs(points: Points, frame: Frame) -> DecoderInputs:
    """Return the prompts of single points (N, 2), each an object with a pad, as SAM does it without a box."""
    coords = np.zeros((len(points), 2, 2), np.float32)
    coords[:, 0] = frame.to_input(points)
    return DecoderInputs(coords, np.tile(np.array([FOREGROUND, PAD], np.float32), (len(points), 1)))


def boxes_to_decoder_inputs(boxes: np.ndarray, frame: Frame) -> DecoderInputs:
    """Return the prompts of boxes (N, 4) xyxy."""
    coords = frame.to_input(boxes.reshape(-1, 2, 2)).astype(np.float32)
    return DecoderInputs(coords, np.tile(np.array(BOX_CORNERS, np.float32), (len(coords), 1)))


def finite_logits(array: np.ndarray, name: str) -> np.ndarray:
    """Return logits as float32, or say that some are not finite."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        logits = array.astype(np.float32)
    if not np.isfinite(logits).all():
        raise PromptError(f"{name}: holds NaN or infinite logits; must be finite")
    return logits


def as_numbers(value: ArrayLike, name: str, wanted: str) -> np.ndarray:
    """Return float64 numbers, or say what is wrong with ``value``."""
    if isinstance(value, list | tuple) and _holds_truth(value):
        raise PromptError(f"{name}: holds true or false; must be {wanted}", code="U")
    array = as_array(value, name, wanted)
    if array.dtype.kind not in "uif":
        raise PromptError(f"{name}: is {_kind(value)} of {array.dtype}; must be {wanted}", code="U")
    return array.astype(np.float64)


def _is_masked(value: object) -> bool:
    """Whether this is one of NumPy's masked arrays, whose module is only loaded where there are some."""
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(value, masked.MaskedArray)


def as_array(value: ArrayLike, name: str, wanted: str) -> np.ndarray:
    """Return an array of any type, or say what is wrong with ``value``."""
    if _is_masked(value):
        raise PromptError(f"{name}: is a masked array; fill it first, must be {wanted}", code="U")
    if not isinstance(value, list | tuple) and not hasattr(value, "__array__"):
        raise PromptError(f"{name}: is {_kind(value)}; must be {wanted}", code="U")
    try:
        array = to_numpy(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise PromptError(f"{name}: is ragged or not numeric; must be {wanted}", code="U") from error
    if array.dtype == object:  # numbers beyond int64, or no numbers
        array = _big_numbers(array, name, wanted)
    return array


def _big_numbers(array: np.ndarray, name: str, wanted: str) -> np.ndarray:
    if all(isinstance(v, int) and not isinstance(v, bool) for v in array.ravel().tolist()):
        limit = sys.float_info.max
        return np.array([float(max(min(v, limit), -limit)) for v in array.ravel().tolist()]).reshape(
            array.shape
        )
    raise PromptError(f"{name}: is not numeric; must be {wanted}", code="U")


def _holds_truth(value: list | tuple, depth: int = DEEPEST) -> bool:
    """Whether a nested list holds a bool, which NumPy would take as 0 or 1 among numbers."""
    return depth > 0 and any(
        _holds_truth(v, depth - 1) if isinstance(v, list | tuple) else isinstance(v, bool | np.bool_)
        for v in value
    )


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"
