"""What a cut-out is laid on: a colour, a picture, or the photo itself out of focus."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageColor, ImageFilter, ImageOps

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened
from mobilesam.formats.image import read_image

NONE, TRANSPARENT, BLUR = "none", "transparent", "blur"
BLUR_PART = 0.02  # of the longer side: the radius of the blur
BLUR_SIDE = 1024  # the greatest size at which the blur is worked out


def check_background(background: str) -> str:
    """Return a background in its plain form: none, blur, a colour, or a picture's file.

    ``transparent`` means none, ``255,136,0`` is a colour, and case makes no difference except in a file's name.

    Raises:
        ConfigError: says what is allowed.
    """
    if not isinstance(background, str):
        raise ConfigError(
            f"background: is a {type(background).__name__}; give its colour or its file's path as text"
        )
    word = background.strip().lower()
    if word in (NONE, TRANSPARENT):
        return NONE
    if word == BLUR:
        return BLUR
    if _colour(background) is not None or os.path.isfile(background):
        return background
    raise ConfigError(
        f"background: {shortened(background)} is neither a colour nor a file; give a colour such as white, #ff8800 "
        "or 255,136,0, a picture's file, blur, or none"
    )


def as_ground(background: str, photo: Image, alpha: np.ndarray) -> np.ndarray | None:
    """Return the ground (H, W, 3) or (3,) with the photo's depth; None for a transparent ground.

    A picture is scaled and cropped until it fills the photo's size.
    """
    if background == NONE:
        return None
    unit = np.iinfo(photo.dtype).max // 255
    colour = _colour(background)
    if colour is not None:
        return (np.array(colour) * unit).astype(photo.dtype)
    height, width = alpha.shape
    if background == BLUR:
        return out_of_focus(photo, alpha)
    check_background(background)
    picture = PillowImage.fromarray(read_image(background))
    fitted = np.asarray(ImageOps.fit(picture, (width, height), PillowImage.Resampling.BICUBIC))
    return fitted.astype(photo.dtype) * photo.dtype.type(unit)


def lay_over(image: Image, alpha: np.ndarray, ground: np.ndarray) -> Image:
    """Return an image (H, W, 3) over a ground (H, W, 3) or (3,), with the image's depth."""
    laid = np.empty_like(image)
    for row in range(0, len(image), 256):  # in strips, so that floats of the whole do not lie in memory
        rows = slice(row, row + 256)
        share = alpha[rows, :, None].astype(np.float32) / 255
        below = ground if ground.ndim == 1 else ground[rows]
        laid[rows] = np.rint(image[rows] * share + below * (1 - share)).astype(image.dtype)
    return laid


def out_of_focus(photo: Image, alpha: np.ndarray) -> Image:
    """Return the photo (H, W, 3) blurred, without the object bleeding into what is around it."""
    height, width = alpha.shape
    scale = min(1.0, BLUR_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    eight = photo if photo.dtype == np.uint8 else (photo >> 8).astype(np.uint8)
    radius = BLUR_PART * max(size)
    share = PillowImage.fromarray(255 - alpha).resize(size, PillowImage.Resampling.BOX)
    small = np.asarray(PillowImage.fromarray(eight).resize(size, PillowImage.Resampling.BOX), np.float32)
    weight = np.asarray(share, np.float32)[..., None] / 255 + 1e-3
    blurred = [
        np.asarray(
            PillowImage.fromarray(np.rint(one).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
        )
        for one in (small * np.minimum(weight, 1), np.repeat(np.minimum(weight, 1) * 255, 3, axis=2))
    ]
    ground = np.clip(blurred[0] / np.maximum(blurred[1], 4.0) * 255, 0, 255).astype(np.uint8)
    large = np.asarray(PillowImage.fromarray(ground).resize((width, height), PillowImage.Resampling.BICUBIC))
    unit = np.iinfo(photo.dtype).max // 255
    return large.astype(photo.dtype) * photo.dtype.type(unit)


def is_colour(text: str) -> bool:
    """Whether a text is a colour such as ``white`` or ``#ff8800``."""
    return _colour(text) is not None


def _colour(text: str) -> tuple[int, int, int] | None:
    for form in (text.strip(), f"rgb({text})"):
        try:
            red, green, blue = ImageColor.getrgb(form)[:3]
        except ValueError:
            continue
        if max(red, green, blue) <= 255:
            return red, green, blue
    return None
