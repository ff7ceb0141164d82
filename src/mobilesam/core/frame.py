"""Where an image lies in a model's square input, and how to get from one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Size


@dataclass(frozen=True)
class Frame:
    """An image in the square that a model sees: scaled until its longer side fills it, at the upper left.

    Attributes:
        original_size: (height, width) of the image.
        input_size: (height, width) of the part of the square that shows the image.
        side: of the square, in the pixels that prompts are given in.

    Example:
        >>> Frame.fit((201, 2048), 1024).input_size
        (101, 1024)
    """

    original_size: Size
    input_size: Size
    side: int

    @classmethod
    def fit(cls, original_size: Size, side: int) -> Frame:
        """Place an image of (height, width) in a square; see :func:`input_size_of`."""
        height, width = original_size
        return cls((height, width), input_size_of(original_size, side), side)

    def to_input(self, coords: np.ndarray) -> np.ndarray:
        """Scale (..., 2) x and y from the image to the square, in float64."""
        (height, width), (new_height, new_width) = self.original_size, self.input_size
        return np.asarray(coords, np.float64) * [new_width / width, new_height / height]

    def boxes_to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Scale boxes (N, 4) xyxy from the square to the image, in float32."""
        (height, width), (new_height, new_width) = self.original_size, self.input_size
        return boxes * np.array([width / new_width, height / new_height] * 2, np.float32)

    def grid_size(self, cells: int) -> Size:
        """Return the (height, width) of the cells that show some of the image, in a square of ``cells`` a side."""
        height, width = (max(1, int(np.ceil(side * cells / self.side))) for side in self.input_size)
        return height, width


def input_size_of(original_size: Size, image_size: int) -> Size:
    """Return the (height, width) of an image whose longer side becomes ``image_size``.

    The rule is SAM's, ``int(x + 0.5)``, which differs from ``round`` at halves; a side
    is at least one pixel.

    Example:
        >>> input_size_of((201, 2048), 1024)
        (101, 1024)
    """
    height, width = original_size
    scale = image_size * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
