"""From an image to the model's input."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Image, Pixels
from mobilesam.core.geometry import input_size_of
from mobilesam.core.resize import resize_image

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # ImageNet's, in 0..255
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)


def preprocess(image: Image, image_size: int) -> Pixels:
    """Resize an image so that its longer side is ``image_size``, normalise and pad it.

    Args:
        image: (H, W, 3) uint8 RGB.
        image_size: side S of the model's square input.

    Returns:
        Pixels (1, 3, S, S) float32, with zeros right of the image or below it.
    """
    return normalise(resize_image(image, input_size_of(image.shape[:2], image_size)), image_size)


def normalise(image: Image, image_size: int) -> Pixels:
    """Normalise a resized image (h, w, 3) and pad it with zeros, right and below."""
    h, w = image.shape[:2]
    pixels = np.zeros((1, 3, image_size, image_size), np.float32)
    pixels[0, :, :h, :w] = ((image - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1)
    return pixels
