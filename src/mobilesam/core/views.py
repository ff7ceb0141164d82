"""Views: from which part of an input a prompt is decoded, for networks that see more than they decode at once.

``pocket``'s encoder gives a grid of 96 x 96 cells, and its decoder reads 64 x 64. View 0 is the whole input, its
arrays reduced; views 1 to 4 are the windows in its corners, as fine as the encoder saw them. A prompt whose object
is known to be small, by its box or its mask prompt, is decoded from a window: it gets more cells, and no prompt costs
more. What lies outside its window is not the object.

Above the decoder nobody knows of views: prompts and logits are those of the whole input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.prompts import BOX_CORNERS, FOREGROUND
from mobilesam.core.types import DecoderInputs

WHOLE = 0  # the view that shows everything
LARGEST = 0.5  # longer side of an object that is decoded from a window, in sides of the window
BEYOND = -10.0  # the logit of what a window does not show
REDUCED = "whole_"  # what begins the names of the arrays that view 0 has of its own


@dataclass(frozen=True)
class Views:
    """The views of a network's input.

    Args:
        image_size: side of the input.
        size: side of a view, in the same pixels of the input for a window.
    """

    image_size: int
    size: int

    @property
    def corners(self) -> np.ndarray:
        """Top left corners (4, 2) of the windows, x and y in pixels of the input."""
        far = self.image_size - self.size
        return np.array([(0, 0), (far, 0), (0, far), (far, far)])

    def choose(self, inputs: DecoderInputs) -> np.ndarray:
        """Return the view (B,) of each prompt.

        A window shows all points of a prompt, and its box or, without one, what its mask prompt holds.
        """
        low, high = extents(inputs, self.image_size)
        small = (high - low).max(1) <= LARGEST * self.size
        view = self.window_of(low, high)
        shows = self.contains(view, inputs)
        return np.where(small & shows, view, WHOLE)

    def window_of(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the window (B,), from 1, that leaves most room around boxes of corners (B, 2) and (B, 2)."""
        corners = self.corners  # (4, 2)
        before = np.where(corners > 0, low[:, None] - corners, np.inf)
        behind = np.where(corners == 0, corners + self.size - high[:, None], np.inf)
        return 1 + np.minimum(before, behind).min(2).argmax(1)

    def contains(self, view: np.ndarray, inputs: DecoderInputs) -> np.ndarray:
        """Whether all points and corners of each prompt lie in the window ``view`` (B,)."""
        offset = inputs.point_coords - self.corners[view - 1][:, None]
        inside = ((offset >= 0) & (offset <= self.size)).all(2)
        return (inside | (inputs.point_labels < 0)).all(1)

    def coords(self, point_coords: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return points (B, N, 2) of the input in the pixels of their views (B,)."""
        corners = np.concatenate([np.zeros((1, 2)), self.corners])[views]  # (B, 2)
        scale = np.where(views == WHOLE, self.size / self.image_size, 1.0)[:, None, None]
        return ((point_coords - corners[:, None] + 0.5) * scale - 0.5).astype(np.float32)

    def cut(self, array: Any, view: int) -> Any:
        """Return the part (..., h', w') that a view shows of an array or tensor (..., h, w) of the input."""
        if view == WHOLE:
            return array
        stride = self.image_size // array.shape[-1]
        x, y = self.corners[view - 1] // stride
        side = self.size // stride
        return array[..., y : y + side, x : x + side]

    def arrays(self, embedding: Mapping[str, Any], view: int) -> dict[str, Any]:
        """Return what the decoder reads of an image's arrays: those of the whole, or the parts in a window."""
        names = [name for name in embedding if not name.startswith(REDUCED)]
        if view == WHOLE:
            return {name: embedding.get(REDUCED + name, embedding[name]) for name in names}
        return {name: self.cut(embedding[name], view) for name in names}

    def inputs(self, inputs: DecoderInputs, views: np.ndarray) -> DecoderInputs:
        """Return prompts (B) as the decoder is asked them in their views (B,): all of them windows, or none."""
        mask = inputs.mask_input
        if mask is not None:
            mask = np.stack([self.cut(one, view) for one, view in zip(mask, views.tolist(), strict=True)])
        return DecoderInputs(self.coords(inputs.point_coords, views), inputs.point_labels, mask)

    def decode(
        self,
        embedding: Mapping[str, Any],
        inputs: DecoderInputs,
        decode_view: Callable[[dict[str, Any], DecoderInputs], tuple[Any, Any]],
        full: Callable[[tuple[int, ...], float], Any],
    ) -> tuple[Any, Any]:
        """Decode each prompt from its view, and return logits and IoU predictions of the whole input.

        Args:
            embedding: arrays or tensors of one image.
            inputs: B prompts.
            decode_view: from a view's arrays and prompts to logits (b, M, h, w) and IoU predictions (b, M).
            full: makes an array or tensor of a shape and a value.
        """
        views = self.choose(inputs)
        masks = ious = None
        for view in np.unique(views).tolist():
            chosen = np.flatnonzero(views == view)
            logits, quality = decode_view(
                self.arrays(embedding, view), self.inputs(inputs.take(chosen), views[chosen])
            )
            if len(chosen) == len(views) and view == WHOLE:
                return logits, quality
            if masks is None or ious is None:
                side = logits.shape[-1] * (self.image_size if view else self.size) // self.size
                masks = full((len(views), logits.shape[1], side, side), BEYOND)
                ious = full((len(views), logits.shape[1]), 0.0)
            self.cut(masks, view)[chosen] = logits
            ious[chosen] = quality
        return masks, ious


def extents(inputs: DecoderInputs, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the top left and bottom right (B, 2) of what each prompt says of its object, in pixels of the input.

    That is its box or, without one, what its mask prompt holds, and its foreground points. A prompt with neither box
    nor mask may mean anything, as large as the input.
    """
    coords, labels = inputs.point_coords.astype(np.float64), inputs.point_labels
    of_object = np.isin(labels, (FOREGROUND, *BOX_CORNERS))[..., None]
    low = np.where(of_object, coords, np.inf).min(1, initial=np.inf)
    high = np.where(of_object, coords, -np.inf).max(1, initial=-np.inf)
    unknown = ~(labels == BOX_CORNERS[0]).any(1)
    for i in np.flatnonzero(unknown):
        box = (0, 0, image_size, image_size)
        if inputs.mask_input is not None and (inside := inputs.mask_input[i, 0] > 0).any():
            box = np.array(mask_to_box(inside)) * (image_size / inside.shape[-1])
        low[i] = np.minimum(low[i], box[:2])
        high[i] = np.maximum(high[i], box[2:])
    return low, high
