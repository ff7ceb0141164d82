"""segment_anything's ``ResizeLongestSide``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilesam.core.arrays import ArrayLike, Image, Size
from mobilesam.core.frame import Frame, input_size_of
from mobilesam.core.resize import resize_image

if TYPE_CHECKING:
    from torch import Tensor


class ResizeLongestSide:
    """Resizes images to a given longer side, and moves coordinates with them.

    Args:
        target_length: of the longer side, in pixels.

    Example:
        >>> transform = ResizeLongestSide(1024)
        >>> transform.apply_coords(np.array([[320, 240]]), (480, 640)).tolist()
        [[512.0, 384.0]]
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: Image) -> Image:
        """Resize an image (H, W, 3) uint8 with Pillow's bilinear filter, with antialiasing."""
        return np.array(resize_image(image, self._size(image.shape[:2])))

    def apply_coords(self, coords: ArrayLike, original_size: Size) -> np.ndarray:
        """Move points (..., 2), x and y in an image of (height, width), to the resized image; float64."""
        return Frame(original_size, self._size(original_size), self.target_length).to_input(coords)

    def apply_boxes(self, boxes: ArrayLike, original_size: Size) -> np.ndarray:
        """Move boxes (B, 4), x0, y0, x1, y1, to the resized image; float64."""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize a tensor (B, C, H, W) on its device, with antialiasing; nearly as :meth:`apply_image`."""
        from torch.nn import functional

        height, width = image.shape[-2:]
        size = self._size((height, width))
        return functional.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def apply_coords_torch(self, coords: Tensor, original_size: Size) -> Tensor:
        """:meth:`apply_coords` for a tensor (..., 2), on its device; float32."""
        scale = self.apply_coords(np.ones(2), original_size)
        return coords.float() * coords.float().new_tensor(scale.tolist())

    def apply_boxes_torch(self, boxes: Tensor, original_size: Size) -> Tensor:
        """:meth:`apply_boxes` for a tensor (B, 4), on its device; float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> Size:
        """Return the (height, width) of a resized image."""
        return input_size_of((oldh, oldw), long_side_length)

    def _size(self, original_size: Size) -> Size:
        return self.get_preprocess_shape(*original_size, self.target_length)
