"""The PyTorch runtime: the networks themselves, for CUDA, for other precisions and for training."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from mobilesam.core.arrays import Logits, NamedArrays, Pixels
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened
from mobilesam.core.types import DecoderInputs
from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors, weights_channels_last
from mobilesam.networks.sam import Sam
from mobilesam.runtimes.base import Weights

DTYPES = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "bfloat16", "float16"),
    "mps": ("float32", "float16"),
}


class TorchRuntime:
    """See :class:`mobilesam.runtimes.base.Runtime`.

    Args:
        network: the network, already on its device, in eval or train mode as it is.
        dtype: of the products; everything else stays float32, as do all arrays in and out.

    Raises:
        ConfigError: for a dtype that the device has not.
    """

    name = "torch"
    batches_images = True

    def __init__(self, network: Sam, *, dtype: str = "float32") -> None:
        self.network = network
        self.device = network.device.type
        self.spec = network.spec
        if dtype not in DTYPES.get(self.device, ("float32",)):
            allowed = ", ".join(DTYPES.get(self.device, ("float32",)))
            raise ConfigError(f"dtype {dtype!r}: on {self.device} the torch runtime has {allowed}")
        self.dtype = dtype

    @classmethod
    def from_weights(
        cls,
        network: str,
        weights: Weights,
        *,
        device: str | None = None,
        dtype: str = "float32",
        what: str = "weights",
        rectangular: bool = False,
    ) -> TorchRuntime:
        """Build a network, give it its weights and put it on a device (CUDA where there is one)."""
        place = choose_device(device)
        built = load_tensors(build_network(network), weights, what)
        if rectangular:
            built.spec = built.spec.rectangular
        return cls(weights_channels_last(built.to(place)), dtype=dtype)

    def encode(self, pixels: Pixels) -> NamedArrays:
        tensors = self.encode_tensors(self._tensor(pixels))
        return {name: _array(tensor) for name, tensor in tensors.items()}

    def encode_tensors(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """:meth:`encode` for pixels on the network's device; the arrays are tensors that stay there."""
        with torch.no_grad(), self._precision():
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            # Views of small inputs read as much of them.
            tensors = self.network.encode(pixels, of_full_size=True)
            return tensors | self.network.prepare(tensors["image_embedding"])

    def decode(
        self, arrays: NamedArrays, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        tensors = {name: self._tensor(array) for name, array in arrays.items()}
        masks, ious = self.decode_tensors(tensors, inputs, mask_tokens)
        return _array(masks), _array(ious)

    def decode_tensors(
        self, tensors: dict[str, torch.Tensor], inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`decode` for what :meth:`encode_tensors` gave; logits and IoU predictions stay on the device."""
        mask = None if inputs.mask_input is None else self._tensor(inputs.mask_input)
        with torch.no_grad(), self._precision():
            return self.network.decode(
                tensors,
                self._tensor(inputs.point_coords),
                self._tensor(inputs.point_labels),
                mask,
                mask_tokens=mask_tokens,
            )

    def propose(self, arrays: NamedArrays) -> tuple[np.ndarray, np.ndarray]:
        head = self.network.proposal_head
        names = head.inputs if head is not None else ()
        with torch.inference_mode(), self._precision():
            boxes, objectness = self.network.propose({name: self._tensor(arrays[name]) for name in names})
        return _array(boxes)[0], _array(objectness)[0]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        if not array.flags.writeable:
            array = array.copy()
        return torch.from_numpy(array).to(self.network.device)

    def _precision(self) -> AbstractContextManager:
        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, getattr(torch, self.dtype))


def open_runtime(
    network: str,
    weights: Weights,
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    what: str = "weights",
    rectangular: bool = False,
) -> TorchRuntime:
    """Return a runtime; see :func:`mobilesam.runtimes.load.load_runtime`."""
    if threads is not None:
        raise ConfigError("threads: only for the onnx runtime; PyTorch's are set by torch.set_num_threads")
    return TorchRuntime.from_weights(
        network, weights, device=device, dtype=dtype or "float32", what=what, rectangular=rectangular
    )


def choose_device(device: str | None) -> torch.device:
    """Return the device asked for, or CUDA where there is one, or the processor.

    Raises:
        ConfigError: for a device that is unknown or not here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {shortened(device)}: unknown; choose cpu, cuda or mps") from error
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(place.type, False):
        there = ", ".join(name for name, available in here.items() if available)
        raise ConfigError(f"device {device!r}: not on this machine; there is {there}")
    return place


def limit_threads(threads: int) -> None:
    """Let PyTorch use so many processor threads."""
    torch.set_num_threads(threads)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy())
