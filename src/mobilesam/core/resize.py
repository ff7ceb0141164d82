"""Resizing: Pillow's antialiased one for images, separable matrices for logits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import PIL.Image

from mobilesam.core.arrays import Image, Size


def resize_image(image: Image, size: Size) -> Image:
    """Resize to (height, width) as SAM does: Pillow's bilinear filter with antialiasing."""
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    picture = PIL.Image.fromarray(image)
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BILINEAR))


def bilinear_matrix(length: int, new_length: int) -> np.ndarray:
    """Return the (new_length, length) float32 matrix of bilinear resampling along one axis.

    Sample positions are pixel centres (``align_corners=False``), clamped at the ends;
    shrinking takes no average. That is PyTorch's ``interpolate``.
    """
    position = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    position = np.clip(position, 0, length - 1)
    low = np.minimum(position.astype(np.int64), length - 1)
    high = np.minimum(low + 1, length - 1)
    part = position - low
    matrix = np.zeros((new_length, length))
    rows = np.arange(new_length)
    np.add.at(matrix, (rows, low), 1 - part)
    np.add.at(matrix, (rows, high), part)
    return matrix.astype(np.float32)


@lru_cache(maxsize=16)
def enlarging_matrices(low_res: int, image_size: int, input_size: Size, original_size: Size) -> tuple:
    """Return (rows, columns) such that ``rows @ low_res_mask @ columns.T`` has the original size.

    SAM enlarges the logits to the model's input, cuts off the padding and resizes to
    the photograph: three linear maps along each axis, multiplied here once per size.
    """
    upscale = bilinear_matrix(low_res, image_size)
    matrices = []
    for inner, outer in zip(input_size, original_size, strict=True):
        matrix = bilinear_matrix(inner, outer) @ upscale[:inner]
        matrix.flags.writeable = False
        matrices.append(matrix)
    return tuple(matrices)
