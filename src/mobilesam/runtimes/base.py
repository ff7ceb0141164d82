"""What a runtime is: three functions on arrays. Everything else is written once, above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mobilesam.core.arrays import Logits, NamedArrays, Pixels
from mobilesam.core.types import DecoderInputs
from mobilesam.runtimes.working_set import WorkingSet

Weights = dict[str, np.ndarray]  # by the names of the published checkpoint


class Runtime(Protocol):
    """Runs a network: NumPy arrays in, NumPy arrays out. Safe to call from several threads.

    Attributes:
        name: ``onnx`` or ``torch``.
        device: ``cpu``, ``cuda`` or ``mps``.
        image_size: side of the network's square input.
        padded_to: an input's shorter side is padded to a multiple of this; to the longer one where 0.
        prompt_size: side of the square whose pixels prompts are given in; EfficientViT-SAM
            looks at 512 pixels and is asked in 1024.
        proposes: whether the network has a head for objects, so that ``propose`` works.
        batches_images: whether ``encode`` takes several images; the ONNX graphs take one.
        working_set: bytes that the two functions take.
    """

    name: str
    device: str
    image_size: int
    padded_to: int
    prompt_size: int
    proposes: bool
    batches_images: bool
    working_set: WorkingSet

    def encode(self, pixels: Pixels) -> NamedArrays:
        """Return what depends on each image alone: ``image_embedding`` (B, C, h, w) and more."""
        ...

    def decode(
        self, arrays: NamedArrays, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        """Return logits (B, M, 4h, 4w) and IoU predictions (B, M) of the mask tokens asked for.

        ``arrays`` are those of one image.
        """
        ...

    def propose(self, arrays: NamedArrays) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4) xyxy in pixels of the input, and how likely each holds an object (N,)."""
        ...
