"""What runtimes have in common whose files have fixed shapes: a square of pixels, one prompt at a time, so many slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mobilesam.core.arrays import Logits, NamedArrays, Pixels
from mobilesam.core.errors import LimitError
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.types import DecoderInputs
from mobilesam.core.views import Views

SLOTS = 8  # points, corners and pads of a prompt; with the network's own tokens few enough to fold
NO_SLOT = -2.0  # the label of a slot that holds nothing
DECODER, WINDOW_DECODER = "decoder", "decoder_window"  # of the whole, and of a window, where there are views
DECODED = ("low_res_masks", "iou_predictions")
ALL_MASKS = (0, 1, 2, 3)  # what a decoder gives
CELL_OF_WHOLE = 2  # pixels of the input to a logit of the whole
LARGEST_ONLY = (1.0,)  # sides of windows, in those of the largest: each other one would be one more file


def fixed_views(spec: NetworkSpec) -> Views | None:
    """Return the views for which there are decoders, or None where everything is read at once."""
    return spec.views and replace(spec.views, sides=LARGEST_ONLY)


def square(spec: NetworkSpec) -> NetworkSpec:
    """Return the spec of the same network for square inputs alone."""
    return replace(spec, padded_to=0, fixed_size=True)


class FixedRuntime(ABC):
    """See :class:`mobilesam.runtimes.base.Runtime`. Who derives from it runs a part's file in :meth:`run`.

    Args:
        spec: of the network that the files hold.
    """

    name: str
    device = "cpu"
    batches_images = False

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = square(spec)
        self._views = fixed_views(spec)

    @abstractmethod
    def run(self, part: str, feed: NamedArrays) -> NamedArrays:
        """Return the named outputs of a part for its named inputs, of which there may be more."""

    def encode(self, pixels: Pixels) -> NamedArrays:
        return self.run("encoder", {"pixels": pixels})

    def propose(self, arrays: NamedArrays) -> tuple[np.ndarray, np.ndarray]:
        out = self.run("proposals", arrays)
        return out["boxes"][0], out["objectness"][0]

    def decode(
        self, arrays: NamedArrays, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        slots = inputs.point_labels.shape[1]
        if slots > SLOTS:
            raise LimitError(
                f"prompt: {slots} points, corners and pads; the {self.name} runtime takes {SLOTS}; "
                "leave some out, or pass runtime='onnx'"
            )

        def decode_view(shown: NamedArrays, inputs: DecoderInputs) -> tuple[Logits, np.ndarray]:
            return self._decode_view(shown, inputs, list(mask_tokens))

        if self._views is None:
            return decode_view(arrays, inputs)
        full = partial(np.full, dtype=np.float32)
        return self._views.decode(arrays, inputs, decode_view, full, np.concatenate)

    def _decode_view(
        self, arrays: NamedArrays, inputs: DecoderInputs, mask_tokens: list[int]
    ) -> tuple[Logits, np.ndarray]:
        """Decode prompts one by one, each from its own arrays or all from those of one view."""
        count, slots = inputs.point_labels.shape
        coords = np.zeros((count, SLOTS, 2), np.float32)
        labels = np.full((count, SLOTS), NO_SLOT, np.float32)
        coords[:, :slots], labels[:, :slots] = inputs.point_coords, inputs.point_labels
        side = max(
            array.shape[-1] * (LOW_RES_PER_GRID if self._views is None else 1) for array in arrays.values()
        )
        is_window = self._views is not None and side < self.spec.image_size // CELL_OF_WHOLE
        mask = inputs.mask_input
        feed = arrays | {
            "point_coords": coords,
            "point_labels": labels,
            "mask_input": np.zeros((1, 1, side, side), np.float32) if mask is None else mask,
            "has_mask_input": np.full(1, mask is not None, np.float32),
        }
        masks, ious = [], []
        for i in range(count):
            of_prompt = {name: a if len(a) == 1 else a[i : i + 1] for name, a in feed.items()}
            out = self.run(WINDOW_DECODER if is_window else DECODER, of_prompt)
            masks.append(out["low_res_masks"][:, mask_tokens])
            ious.append(out["iou_predictions"][:, mask_tokens])
        return np.concatenate(masks), np.concatenate(ious)
