"""A result as a picture: masks, boxes and their names."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont, ImageShow

from mobilesam.core.arrays import Image, Mask
from mobilesam.core.errors import ConfigError, OutputError
from mobilesam.draw.overlay import COLOURS, draw_overlay, line_width

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
JPEG_QUALITY = 95
TEXT_PADDING = 2  # pixels around a label's text


def draw_result(
    image: Image,
    masks: Sequence[Mask],
    boxes: np.ndarray,
    labels: Sequence[str],
    *,
    width: int | None = None,
    font_size: float | None = None,
) -> Image:
    """Return an image with masks tinted and outlined, and boxes with their labels.

    Args:
        image: (H, W, 3) RGB.
        masks: (H, W) each.
        boxes: (N, 4) x0, y0, x1, y1, far edges exclusive; boxes without area are left out.
        labels: of each box, empty for none.
        width: of the boxes' lines in pixels; by default it depends on the image's size.
        font_size: of the labels in pixels; by default it depends on the image's size.
    """
    drawn = draw_overlay(image, masks) if masks else image
    picture = PillowImage.fromarray(np.ascontiguousarray(drawn))
    draw = ImageDraw.Draw(picture)
    width = width or line_width(image)
    font = ImageFont.load_default(font_size or max(10, max(image.shape[:2]) // 60))
    for i, ((x0, y0, x1, y1), label) in enumerate(zip(boxes.tolist(), labels, strict=True)):
        if x1 <= x0 or y1 <= y0:
            continue
        colour = COLOURS[i % len(COLOURS)]
        draw.rectangle([x0, y0, x1 - 1, y1 - 1], outline=colour, width=width)
        if label:
            _draw_label(draw, (x0, y0), label, colour, font)
    return np.asarray(picture)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write a label above a box's corner, or inside it at the image's upper edge."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x, y = corner
    height = bottom - top + 2 * TEXT_PADDING
    y = y - height if y >= height else y
    draw.rectangle([x, y, x + right - left + 2 * TEXT_PADDING, y + height], fill=colour)
    draw.text((x + TEXT_PADDING - left, y + TEXT_PADDING - top), text, fill=(0, 0, 0), font=font)


def encode_image(image: Image, suffix: str, name: str) -> bytes:
    """Return an image (H, W, 3) RGB as the bytes of a file whose name has this ending.

    Raises:
        ConfigError: for an ending that is not written.
    """
    if suffix.lower() not in FORMATS:
        raise ConfigError(f"{name}: ends in {suffix!r}; choose one of {', '.join(FORMATS)}")
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(image)).save(
        buffer, FORMATS[suffix.lower()], quality=JPEG_QUALITY
    )
    return buffer.getvalue()


def show_image(image: Image, title: str) -> None:
    """Open a window with an image (H, W, 3) RGB.

    Raises:
        OutputError: if there is no display or nothing to show pictures with.
    """
    windows = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    picture = PillowImage.fromarray(np.ascontiguousarray(image))
    if not windows or not ImageShow.show(picture, title=Path(title).name):
        raise OutputError(
            "show: there is no display here, or no program that shows pictures; "
            "write the picture with result.save('outlined.jpg'); in a notebook, the result shows itself"
        )
