"""Views: the part of an input that a prompt is decoded from, for networks that see more than they decode at once.

``pocket``'s encoder gives a grid of up to 96 x 96 cells, and its decoder reads up to 64 x 64. A prompt may mean
anything as large as the input: it is decoded from the whole, whose arrays are reduced. But one whose object is known
to be small, by its box or its mask prompt, is decoded from a window around it, as fine as the encoder saw it, and no
larger than the object needs. What lies outside its window is not the object.

An input may also be no larger than what the decoder reads: then the whole is not reduced.

Above the decoder nobody knows of views: prompts and logits are those of the whole input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.prompts import BOX_CORNERS, FOREGROUND, PAD
from mobilesam.core.types import DecoderInputs

WHOLE = (0, 0, 0, 0)  # the window of a view that shows everything
LARGEST = 0.5  # longer side of an object that is decoded from a window, in sides of the largest window
AROUND = 1.0  # what a window shows beyond an object on each side, in the object's longer side,
LEAST_AROUND = 1 / 8  # but at least this, in sides of the largest window
SIDES = (
    3 / 8,
    1 / 2,
    3 / 4,
    1.0,
)  # of windows, in sides of the largest: few, so that prompts can be decoded together
STEP = 16  # pixels of the input; windows begin at multiples
BEYOND = -10.0  # the logit of what a view does not show
REDUCED = "whole_"  # prefix of the arrays that only the view of the whole has


@dataclass(frozen=True)
class Views:
    """The views of a network's input.

    A window is given as (x, y, width, height) in pixels of the input; one without a width is the whole.

    Args:
        image_size: longer side of a full input, from which the whole is reduced; a smaller one has ``size``.
        size: side of the largest window, and longer side of the whole as the decoder sees it.
        sides: of windows, in sides of the largest, from the smallest.
        stride: pixels of the input to a cell of the image embedding.
    """

    image_size: int
    size: int
    sides: tuple[float, ...] = SIDES
    stride: int = 8

    def choose(self, inputs: DecoderInputs, shape: Size) -> np.ndarray:
        """Return the window (B, 4) of each prompt whose object is small, and the whole for others.

        A window shows all points of its prompt, and its box or, without one, what its mask prompt covers.

        Args:
            inputs: B prompts.
            shape: (height, width) of the input.
        """
        low, high = extents(inputs, shape)
        least, most = reach(inputs, low, high, shape)
        windows = self._around(low, high, least, most, shape, self.sides)
        corner, size = windows[:, :2], windows[:, 2:]
        fits = (corner <= least) & (most <= corner + size) & (high - low <= LARGEST * self.size)
        return np.where(fits.all(1, keepdims=True), windows, WHOLE)

    def largest_windows(self, inputs: DecoderInputs, shape: Size) -> np.ndarray:
        """Return a window (B, 4) of the largest size for each prompt, large or small; otherwise as :meth:`choose`."""
        low, high = extents(inputs, shape)
        return self._around(low, high, *reach(inputs, low, high, shape), shape, SIDES[-1:])

    def _around(
        self,
        low: np.ndarray,
        high: np.ndarray,
        least: np.ndarray,
        most: np.ndarray,
        shape: Size,
        sides: Sequence[float],
    ) -> np.ndarray:
        """Return the smallest windows (B, 4) that show enough, with the objects in their middle if possible.

        Args:
            low: top left corners (B, 2) of the objects.
            high: their bottom right corners.
            least: top left corners of all that the windows should show.
            most: their bottom right corners.
            shape: (height, width) of the input.
            sides: of windows, in sides of the largest, from the smallest.
        """
        longer = (high - low).max(1)
        around = np.maximum(AROUND * longer, LEAST_AROUND * self.size)
        wanted = np.maximum(longer + 2 * around, (most - least).max(1) + STEP)
        lengths = np.array(sides) * self.size
        side = lengths[np.minimum(np.searchsorted(lengths, wanted), len(lengths) - 1)]
        size = np.minimum(side[:, None], shape[::-1])
        corner = np.clip((low + high - size) / 2, most - size, least)
        corner = np.clip(np.floor(corner / STEP) * STEP, 0, shape[::-1] - size)
        return np.concatenate([corner, size], 1).astype(np.int64)

    def shape_of(self, embedding: Mapping[str, Any]) -> Size:
        """Return (height, width) of the input that arrays or tensors come from; its longer side is always full."""
        height, width = embedding["image_embedding"].shape[-2:]
        return height * self.stride, width * self.stride

    def coords(self, point_coords: np.ndarray, windows: np.ndarray, shape: Size) -> np.ndarray:
        """Return points (B, N, 2) of an input of (height, width) in the pixels of their views: windows (B, 4)."""
        scale = np.where(windows[:, 2] > 0, 1.0, self.size / max(shape))[:, None, None]
        return ((point_coords - windows[:, None, :2] + 0.5) * scale - 0.5).astype(np.float32)

    def cut(self, array: Any, window: Sequence[int], shape: Size) -> Any:
        """Return the part (..., h', w') that a view shows of an array or tensor (..., h, w) of an input.

        Args:
            array: of an input of that shape, or of the square whose upper left part it is.
            window: one of them.
            shape: (height, width) of the input.
        """
        stride = max(shape) // max(array.shape[-2:])
        x, y, width, height = window if window[2] else (0, 0, *shape[::-1])
        rows, columns = (
            slice(start // stride, (start + length) // stride) for start, length in ((y, height), (x, width))
        )
        return array[..., rows, columns]

    def arrays(self, embedding: Mapping[str, Any], window: Sequence[int]) -> dict[str, Any]:
        """Return what the decoder reads of an image's arrays: those of the whole, or the parts in a window."""
        names = [name for name in embedding if not name.startswith(REDUCED)]
        shape = self.shape_of(embedding)
        if not window[2]:
            reduced = REDUCED if max(shape) > self.size else ""
            return {name: embedding.get(reduced + name, embedding[name]) for name in names}
        return {name: self.cut(embedding[name], window, shape) for name in names}

    def inputs(self, inputs: DecoderInputs, windows: np.ndarray, shape: Size) -> DecoderInputs:
        """Return prompts (B) as the decoder gets them in their views, which all have one size."""
        mask = inputs.mask_input
        if mask is not None:
            mask = np.stack(
                [self.cut(one, window, shape) for one, window in zip(mask, windows.tolist(), strict=True)]
            )
        return DecoderInputs(self.coords(inputs.point_coords, windows, shape), inputs.point_labels, mask)

    def decode(
        self,
        embedding: Mapping[str, Any],
        inputs: DecoderInputs,
        decode_view: Callable[[dict[str, Any], DecoderInputs], tuple[Any, Any]],
        full: Callable[[tuple[int, ...], float], Any],
        join: Callable[[list[Any]], Any],
    ) -> tuple[Any, Any]:
        """Decode each prompt from its view, and return logits and IoU predictions of the whole, square input.

        Args:
            embedding: arrays or tensors of one image.
            inputs: B prompts.
            decode_view: turns views' arrays (1 or b, ...) and their prompts into logits (b, M, h, w) and IoU
                predictions (b, M).
            full: makes an array or tensor of one shape and value.
            join: concatenates arrays or tensors along their first axis.
        """
        shape = self.shape_of(embedding)
        windows = self.choose(inputs, shape)
        masks = ious = None
        for size in sorted({(wide, high) for _, _, wide, high in windows.tolist()}):
            chosen = np.flatnonzero((windows[:, 2:] == size).all(1))
            arrays = self.arrays(embedding, WHOLE)
            if any(size):
                each = [self.arrays(embedding, window) for window in windows[chosen].tolist()]
                arrays = {name: join([one[name] for one in each]) for name in arrays} if each[1:] else each[0]
            logits, quality = decode_view(arrays, self.inputs(inputs.take(chosen), windows[chosen], shape))
            if masks is None or ious is None:
                stride = (size[0] or shape[1]) // logits.shape[-1]
                side = max(shape) // stride
                masks = full((len(windows), logits.shape[1], side, side), BEYOND)
                ious = full((len(windows), logits.shape[1]), 0.0)
            for number, mask, iou in zip(chosen.tolist(), logits, quality, strict=True):
                self.cut(masks[number], windows[number].tolist(), shape)[:] = mask
                ious[number] = iou
        self._go_on_below(masks, shape)
        return masks, ious

    def _go_on_below(self, masks: Any, shape: Size) -> None:
        """Repeat the last row or column of logits once in the padding: enlarging looks one further than the image."""
        height, width = (side * masks.shape[-1] // max(shape) for side in shape)
        masks[..., height : height + 1, :] = masks[..., height - 1 : height, :]
        masks[..., width : width + 1] = masks[..., width - 1 : width]


def extents(inputs: DecoderInputs, shape: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the top left and bottom right (B, 2) of what each prompt says about its object, in pixels of the input.

    That is its box or, without one, what its mask prompt covers, and its foreground points, as far as they lie in
    ``shape``, (height, width) of the input. A prompt with neither box nor mask may mean anything, as large as the
    input.
    """
    labels = inputs.point_labels
    low, high = bounds(points_in(shape, inputs), np.isin(labels, (FOREGROUND, *BOX_CORNERS)))
    boxed = np.stack([(labels == corner).any(1) for corner in BOX_CORNERS]).all(0)
    for i in np.flatnonzero(~boxed):
        box = np.array((0, 0, *shape[::-1]))
        if inputs.mask_input is not None:
            pixels = max(shape) / inputs.mask_input.shape[-1]  # of the input, to a logit
            rows, columns = (int(side / pixels) for side in shape)
            if (inside := inputs.mask_input[i, 0, :rows, :columns] > 0).any():
                box = np.array(mask_to_box(inside)) * pixels
        low[i] = np.minimum(low[i], box[:2])
        high[i] = np.maximum(high[i], box[2:])
    return low, high


def reach(
    inputs: DecoderInputs, low: np.ndarray, high: np.ndarray, shape: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Return the top left and bottom right (B, 2) of all points of each prompt and its object from ``low`` to ``high``."""
    least, most = bounds(points_in(shape, inputs), inputs.point_labels != PAD)
    return np.minimum(low, least), np.maximum(high, most)


def points_in(shape: Size, inputs: DecoderInputs) -> np.ndarray:
    """Return the points (B, N, 2) of prompts, with those beyond an input of (height, width) moved to its edge."""
    return np.clip(inputs.point_coords.astype(np.float64), 0, shape[::-1])


def bounds(coords: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the greatest x and y (B, 2) of the chosen (B, N) of points (B, N, 2)."""
    low = np.where(chosen[..., None], coords, np.inf).min(1, initial=np.inf)
    high = np.where(chosen[..., None], coords, -np.inf).max(1, initial=-np.inf)
    return low, high
