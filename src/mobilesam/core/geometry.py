"""Sizes and coordinates between a photograph and the model's square input."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Size


def input_size_of(original_size: Size, image_size: int) -> Size:
    """Return the (height, width) of an image whose longer side is made ``image_size``.

    The rule is SAM's, ``int(x + 0.5)``, which differs from ``round`` at halves; a side
    is at least one pixel.

    Example:
        >>> input_size_of((201, 2048), 1024)
        (101, 1024)
    """
    height, width = original_size
    scale = image_size * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def to_input_frame(coords: np.ndarray, original_size: Size, input_size: Size) -> np.ndarray:
    """Scale (..., 2) x and y from the photograph to the model's input, in float64."""
    (height, width), (new_height, new_width) = original_size, input_size
    return np.asarray(coords, np.float64) * [new_width / width, new_height / height]
