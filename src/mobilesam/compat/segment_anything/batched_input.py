"""segment_anything's ``batched_input``: what it may hold, and how it becomes the decoder's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam.compat.segment_anything.batch_prompts import validate_batch
from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.core.prompts import FieldNames
from mobilesam.core.types import DecoderInputs
from mobilesam.networks.prompt_encoder import inputs_to_tensors

PROMPT_KEYS = ("point_coords", "point_labels", "boxes", "mask_inputs")


@dataclass(frozen=True, eq=False)
class CheckedRecord:
    """One image with its prompts.

    Attributes:
        image: (3, h, w) resized, not normalised.
        original_size: its (height, width) before resizing.
        input_size: (height, width) of the resized image.
        inputs: its prompts.
    """

    image: Tensor
    original_size: Size
    input_size: Size
    inputs: DecoderInputs

    def prompts(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return coordinates (B, N, 2), labels (B, N) and mask input (B, 1, h, w) or None, on a device."""
        return inputs_to_tensors(self.inputs, device)


def check_batched_input(
    records: Sequence[Mapping[str, Any]], *, image_size: int, grid: int
) -> list[CheckedRecord]:
    """Check every record before anything is computed.

    Args:
        records: see :meth:`.modeling.sam.Sam.forward`.
        image_size: side of the network's input.
        grid: side of its image embedding's grid.

    Raises:
        ConfigError: for no records, or a record without ``image`` or a valid ``original_size``.
        ImageError: for an image that is not a tensor (3, h, w), or is too large.
        PromptError: for prompts that are malformed or make no sense.
    """
    if not isinstance(records, list | tuple) or not records:
        raise ConfigError("batched_input: must be a list with at least one record")
    return [check_record(record, f"batched_input[{i}]", image_size, grid) for i, record in enumerate(records)]


def check_record(record: Mapping[str, Any], name: str, image_size: int, grid: int) -> CheckedRecord:
    """Check one record, which messages call ``name``."""
    for key in ("image", "original_size"):
        if not isinstance(record, Mapping) or key not in record:
            raise ConfigError(f"{name}.{key}: is missing; each record must have it")
    check_image(record["image"], f"{name}.image", image_size)
    check_size(record["original_size"], f"{name}.original_size")
    height, width = record["image"].shape[-2:]
    input_size = (height, width)
    inputs = validate_batch(
        *(record.get(key) for key in PROMPT_KEYS),
        input_size=input_size,
        grid=grid,
        names=FieldNames(name, *(f"{name}.{key}" for key in PROMPT_KEYS)),
    )
    return CheckedRecord(record["image"], record["original_size"], input_size, inputs)


def check_image(image: object, name: str, image_size: int) -> None:
    """Check a resized image: a tensor (3, h, w) that fits into the network's input."""
    wanted = f"a tensor (3, h, w) with sides of 1 to {image_size}"
    if not isinstance(image, Tensor):
        raise ImageError(f"{name}: is a {type(image).__name__}; must be {wanted}", code="U")
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel() or max(image.shape) > image_size:
        raise ImageError(f"{name}: has shape {tuple(image.shape)}; must be {wanted}", code="U")
    if not torch.isfinite(image).all():
        raise ImageError(f"{name}: holds NaN or infinite values; must be finite")


def check_size(size: object, name: str) -> None:
    """Check a (height, width)."""
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(isinstance(side, int | np.integer) and side >= 1 for side in size)
    ):
        raise ConfigError(f"{name}: is {size!r}; must be (height, width), two whole numbers from 1")
