"""From an image to the model's input."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Image, Pixels, Size
from mobilesam.core.frame import input_size_of
from mobilesam.core.resize import resize_image
from mobilesam.core.spec import NetworkSpec

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # ImageNet's, in 0..255
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)


def preprocess(image: Image, spec: NetworkSpec) -> Pixels:
    """Resize an image so that its longer side is that of a network's input, normalise and pad it.

    Args:
        image: (H, W, 3) uint8 RGB.
        spec: of the network, whose input has sides of S.

    Returns:
        Pixels (1, 3, S, S), or with one side shorter, float32, with zeros to the right of the image or below it.
    """
    resized = resize_image(image, input_size_of(image.shape[:2], spec.image_size))
    return normalise(resized, spec.image_size, spec.padded_to)


def normalise(image: Image, image_size: int, padded_to: int = 0) -> Pixels:
    """Normalise a resized image (h, w, 3) and pad it with zeros, right and below."""
    h, w = image.shape[:2]
    pixels = np.zeros((1, 3, *padded_size((h, w), image_size, padded_to)), np.float32)
    pixels[0, :, :h, :w] = ((image - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1)
    return pixels


def padded_size(size: Size, image_size: int, padded_to: int = 0) -> Size:
    """Return (height, width) of the input that an image of a size (h, w) is padded to.

    Args:
        size: of the resized image.
        image_size: side of the square input.
        padded_to: both sides become multiples of this, for networks that need no square; of
            ``image_size`` itself if 0.
    """
    step = padded_to or image_size
    height, width = (min(image_size, -(-side // step) * step) for side in size)
    return height, width
