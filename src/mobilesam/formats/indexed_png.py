"""Numbers of objects as pictures: PNG files with a palette, as in DAVIS."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage

from mobilesam.formats.image import image_to_png

LARGEST_INDEX = 255


def index_to_png(ids: np.ndarray) -> bytes:
    """Encode the object of each pixel (H, W) uint16; up to 255 with a palette for viewing, above that as 16 bits."""
    if ids.max(initial=0) > LARGEST_INDEX:
        return image_to_png(ids)
    picture = PillowImage.fromarray(ids.astype(np.uint8)).convert("P")
    picture.putpalette(davis_palette())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def davis_palette() -> list[int]:
    """Return 256 colours: the bits of a number, dealt out to red, green and blue, as PASCAL VOC first did."""
    colours = []
    for number in range(256):
        for channel in range(3):
            bits = [(number >> (3 * i + channel)) & 1 for i in range(3)]
            colours.append(sum(bit << (7 - i) for i, bit in enumerate(bits)))
    return colours
