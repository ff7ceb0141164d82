"""The part of segment_anything's names that needs PyTorch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilesam.compat.errors import CheckpointNotFoundError, ImageAssertionError
from mobilesam.compat.segment_anything.batched_input import check_size as check_size
from mobilesam.compat.segment_anything.modeling.build import build_named, build_vit
from mobilesam.compat.segment_anything.modeling.pocket import arrays_to_embedding, embedding_to_arrays
from mobilesam.compat.segment_anything.modeling.sam import Sam, enlarge, normalise
from mobilesam.core.arrays import Image, NamedArrays, Pixels, to_numpy
from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.frame import Frame
from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD, padded_size
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.text import shortened
from mobilesam.core.types import DecoderInputs
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.runtimes.base import Runtime
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.segment.batches import prompts_at_once
from mobilesam.segment.model import Model
from mobilesam.weights import entry_of, read_tensors, read_weights

SHIPPED = "pocket"  # the network whose weights are in the package


def build_sam(name: str, checkpoint: str | Path | None) -> Sam:
    """Build a network in eval mode and load a checkpoint strictly, if one is given.

    Without one ``pocket`` has the weights of the package.

    Warns:
        UserWarning: if the weights are random, because the masks then mean nothing.

    Raises:
        ConfigError: for a checkpoint that is not a path.
        CheckpointNotFoundError: for a missing one.
        WeightsError: for one that cannot be read, or belongs to another network.
    """
    network = build_named(name)
    if checkpoint is None and name == SHIPPED:
        return load_tensors(network, read_weights(entry_of(SHIPPED)), SHIPPED)
    return load_checkpoint(network, name, checkpoint)


def build_sam_of_size(sizes: tuple[int, int, int, Sequence[int]], checkpoint: str | Path | None) -> Sam:
    """:func:`build_sam` for a ViT by its channels, blocks and heads, and the blocks that see everything."""
    return load_checkpoint(build_vit(*sizes), "ViT", checkpoint)


def load_checkpoint(network: Sam, name: str, checkpoint: str | Path | None) -> Sam:
    """Give a network a checkpoint's tensors, or say that it has none."""
    if checkpoint is None:
        warnings.warn(f"{name}: no checkpoint given, the weights are random", UserWarning, stacklevel=5)
        return network
    if not isinstance(checkpoint, str | os.PathLike):
        raise ConfigError(f"checkpoint: is {shortened(checkpoint)}; must be the path of a file, or None")
    try:
        return load_tensors(network, read_tensors(checkpoint), str(checkpoint))
    except WeightsError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointNotFoundError(str(error)) from error
        raise


def network_to_model(network: Sam) -> Model:
    """Wrap a network; it stays the caller's, on its device."""
    return Model(TorchRuntime(network), name=f"PyTorch network {id(network):x}")


class TensorRuntime:
    """A PyTorch runtime whose arrays are tensors, which stay on the network's device.

    Args:
        runtime: what runs the network.
    """

    name = "torch"

    def __init__(self, runtime: TorchRuntime) -> None:
        self.runtime = runtime
        self.network = runtime.network
        self.spec = runtime.spec

    @property
    def device(self) -> torch.device:
        """Where the network is now."""
        return self.runtime.network.device

    def encode(self, pixels: Pixels | Tensor) -> dict[str, Tensor]:
        """See :meth:`mobilesam.runtimes.base.Runtime.encode`."""
        return self.runtime.encode_tensors(torch.as_tensor(pixels, device=self.device))

    def prepare(self, image_embedding: Tensor) -> dict[str, Tensor]:
        """Return the arrays of an image embedding (1, C, h, w) that was kept.

        Raises:
            ConfigError: for ``pocket``, if it does not come from its image encoder.
        """
        network = self.network
        with torch.no_grad():
            kept = torch.as_tensor(image_embedding, device=self.device)
            arrays = embedding_to_arrays(kept, self.spec)
            if network.views is not None:
                arrays |= network.reduce(arrays, network.views)
            return arrays | network.prepare(arrays["image_embedding"])

    def features(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the one tensor of an image from which :meth:`prepare` makes its arrays."""
        return arrays_to_embedding(arrays, self.spec)

    def pixels(self, resized: Tensor) -> Tensor:
        """Normalise and pad a resized image (1, 3, h, w) as the network does it."""
        if isinstance(self.network, Sam):
            return self.network.preprocess_one(resized)
        return resized_to_pixels(resized, self.spec)

    def decode(
        self, tensors: dict[str, Tensor], inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`mobilesam.runtimes.base.Runtime.decode`."""
        low_res, ious = self.runtime.decode_tensors(tensors, inputs, mask_tokens)
        return low_res.float(), ious.float()


def model_to_tensor_runtime(model: Model) -> TensorRuntime:
    """Return the runtime of a PyTorch model with its arrays as tensors."""
    assert isinstance(model.runtime, TorchRuntime)  # callers ask for its name first
    return TensorRuntime(model.runtime)


def image_to_tensor(image: Image) -> Tensor:
    """Return an image (H, W, 3) as (1, 3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def check_resized(image: Tensor, spec: NetworkSpec) -> None:
    """Check a resized image.

    Raises:
        ImageAssertionError: for another shape, or values that are not finite.
    """
    wanted = f"a tensor (1, 3, h, w) whose longer side is {spec.image_size}"
    if not isinstance(image, Tensor):
        raise ImageAssertionError(
            f"transformed_image: is a {type(image).__name__}; must be {wanted}", code="U"
        )
    if (
        image.ndim != 4
        or image.shape[:2] != (1, 3)
        or max(image.shape[2:]) != spec.image_size
        or not image.numel()
    ):
        raise ImageAssertionError(
            f"transformed_image: has shape {tuple(image.shape)}; must be {wanted}", code="U"
        )
    if not torch.isfinite(image).all():
        raise ImageAssertionError("transformed_image: holds NaN or infinite values; must be finite")


def resized_to_pixels(image: Tensor, spec: NetworkSpec) -> Tensor:
    """Normalise and pad a resized image (1, 3, h, w), as :func:`mobilesam.core.preprocess.preprocess` does."""
    mean, std = (
        torch.tensor(values, device=image.device)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD)
    )
    height, width = image.shape[-2:]
    return normalise(image, mean, std, padded_size((height, width), spec.image_size, spec.padded_to))


@dataclass(frozen=True)
class Enlarger:
    """Makes masks from logits.

    Attributes:
        frame: of the image.
        threshold: logits above are in the mask; None for logits instead of masks.
    """

    frame: Frame
    threshold: float | None

    def __call__(self, low_res: Tensor) -> Tensor:
        """Return the masks (B, M, H, W) of logits (B, M, h, w)."""
        logits = enlarge(low_res, self.frame)
        return logits if self.threshold is None else logits > self.threshold


def array_decoder(
    runtime: Runtime | TensorRuntime, arrays: NamedArrays | dict[str, Tensor], mask_tokens: Sequence[int]
) -> Callable[[DecoderInputs], tuple[Tensor, Tensor]]:
    """Return what decodes prompts on an image's arrays: logits and IoU predictions, always as tensors."""
    if isinstance(runtime, TensorRuntime):
        tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
        return lambda inputs: runtime.decode(tensors, inputs, mask_tokens)
    numpy_arrays = {name: to_numpy(array) for name, array in arrays.items()}

    def decode(inputs: DecoderInputs) -> tuple[Tensor, Tensor]:
        low_res, ious = runtime.decode(numpy_arrays, inputs, mask_tokens)
        return torch.as_tensor(low_res), torch.as_tensor(ious)

    return decode


def decode_batch(
    runtime: Runtime | TensorRuntime,
    arrays: NamedArrays | dict[str, Tensor],
    inputs: DecoderInputs,
    mask_tokens: Sequence[int],
    enlarger: Enlarger,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode and enlarge in batches of the fastest size: masks, IoU predictions and low-resolution logits."""
    inner = runtime.runtime if isinstance(runtime, TensorRuntime) else runtime
    step = prompts_at_once(inner, inputs.point_coords.shape[1])
    decode = array_decoder(runtime, arrays, mask_tokens)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(inputs.point_coords), step):
        low_res, ious = decode(inputs.take(slice(start, start + step)))
        parts.append((enlarger(low_res), ious, low_res))
    if not parts:
        return _no_masks(arrays["image_embedding"], len(mask_tokens), enlarger)
    masks, ious, low_res = (torch.cat(part) for part in zip(*parts, strict=True))
    return masks, ious, low_res


def _no_masks(
    embedding: np.ndarray | Tensor, count: int, enlarger: Enlarger
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :func:`decode_batch` returns for no objects, in the shapes that some would have."""
    side = max(embedding.shape[-2:]) * LOW_RES_PER_GRID
    like = torch.as_tensor(embedding)
    kind = like.dtype if enlarger.threshold is None else torch.bool
    masks = like.new_zeros((0, count, *enlarger.frame.original_size), dtype=kind)
    return masks, like.new_zeros((0, count)), like.new_zeros((0, count, side, side))
