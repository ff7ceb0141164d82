"""What a runtime is: three functions on arrays. Everything else is written once, above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mobilesam.core.arrays import Logits, NamedArrays, Pixels
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.types import DecoderInputs

SECONDS = 60.0  # that one run of a file of somebody else's may take
Weights = dict[str, np.ndarray]  # by the names of the published checkpoint


class Runtime(Protocol):
    """Runs a network: NumPy arrays in, NumPy arrays out. Safe to call from several threads.

    Attributes:
        name: ``onnx``, ``openvino``, ``torch``, ``litert``, ``executorch`` or ``ncnn``.
        device: ``cpu``, ``cuda`` or ``mps``.
        spec: what network it runs.
        batches_images: whether ``encode`` takes several images; the ONNX graphs take one.
    """

    name: str
    device: str
    spec: NetworkSpec
    batches_images: bool

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
