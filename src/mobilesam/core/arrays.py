"""Names for the arrays that pass between modules, with their shapes.

The shapes are checked in the tests, which load jaxtyping first; elsewhere the
names stand for plain NumPy types.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]  # (H, W, 3) RGB
    Pixels = NDArray[np.float32]  # (B, 3, h, w) normalised and padded
    Mask = NDArray[np.bool_]  # (H, W)
    Masks = NDArray[np.bool_]  # (M, H, W)
    Logits = NDArray[np.float32]  # (..., h, w)
    Points = NDArray[np.float64]  # (N, 2) x and y
    Labels = NDArray[np.int64]  # (N,)
    Box = NDArray[np.float64]  # (4,) x0, y0, x1, y1
    PointCoords = NDArray[np.float32]  # (B, N, 2)
    PointLabels = NDArray[np.float32]  # (B, N)
    MaskInput = NDArray[np.float32]  # (B, 1, h, w)
elif "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float32, Float64, Int64, UInt8

    # "_" is any length: one call may see the same kind of array in two sizes.
    Image = UInt8[np.ndarray, "_ _ 3"]
    Pixels = Float32[np.ndarray, "_ 3 _ _"]
    Mask = Bool[np.ndarray, "_ _"]
    Masks = Bool[np.ndarray, "_ _ _"]
    Logits = Float32[np.ndarray, "*_ _ _"]
    Points = Float64[np.ndarray, "_ 2"]
    Labels = Int64[np.ndarray, " _"]
    Box = Float64[np.ndarray, " 4"]
    PointCoords = Float32[np.ndarray, "_ _ 2"]
    PointLabels = Float32[np.ndarray, "_ _"]
    MaskInput = Float32[np.ndarray, "_ 1 _ _"]
else:
    Image = Pixels = Mask = Masks = Logits = Points = Labels = Box = np.ndarray
    PointCoords = PointLabels = MaskInput = np.ndarray

NamedArrays = dict[str, np.ndarray]
Size = tuple[int, int]  # (height, width)
ArrayLike = Any  # list, tuple, array or tensor, as users give it


def is_tensor(value: object) -> bool:
    """Whether a value is one of PyTorch's tensors, found out without loading PyTorch."""
    return hasattr(value, "detach") and hasattr(value, "is_floating_point")


def to_numpy(value: ArrayLike) -> np.ndarray:
    """Return an array from whatever holds one, even a tensor that needs gradients or lies on a device."""
    if not is_tensor(value):
        return np.asarray(value)
    tensor = value.detach().cpu()
    return (
        tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    ).numpy()  # NumPy has no bfloat16


def sum_of_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """Return one SHA-256 of named arrays: it is the same whatever file they came from, and in any order."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        whole.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        whole.update(tensor.data)
    return whole.hexdigest()
