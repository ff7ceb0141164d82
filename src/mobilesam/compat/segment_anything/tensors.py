"""Between NumPy and PyTorch, without loading PyTorch for those who have no tensors."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import ArrayLike, is_tensor


def array_like(array: np.ndarray, example: ArrayLike) -> ArrayLike:
    """Return an array as ``example`` is: a tensor on its device, or left as it is."""
    if not is_tensor(example):
        return array
    import torch

    return torch.as_tensor(array, device=example.device)


def shift_like(values: ArrayLike, offset: list[int]) -> ArrayLike:
    """Add an offset (C,) to an array or tensor (..., C), on its device."""
    return values + array_like(np.asarray(offset), values)
