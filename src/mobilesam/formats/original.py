"""What a result should keep of a photo's file besides its 8-bit pixels: all of 16 bits, and the colour profile."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from mobilesam.core.arrays import Size
from mobilesam.formats.image import SIDEWAYS, STORED_VIEWS, known_orientation, orientation_of
from mobilesam.formats.image_decoders import DECODING_ERRORS, OpenedPicture, open_picture, quiet
from mobilesam.formats.signatures import format_of

MOST_PROFILE_BYTES = 4 * 2**20
PROFILE_SPACE = slice(16, 20)  # of a profile's bytes: what colours it is for
HALVES = {
    "RGB;16B": "RGB;16L",
    "RGBA;16B": "RGBA;16L",
}  # the second reads the low byte of what the first reads high
WITH_PROFILES: dict[str, Callable] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}


@dataclass(frozen=True, eq=False)
class Original:
    """What a file has beyond 8-bit pixels.

    Attributes:
        samples: (H, W, 3) uint16 upright, or None if the file has 8 bits or transparency.
        profile: the ICC profile of its RGB colours, or None.
    """

    samples: np.ndarray | None = field(default=None, repr=False)
    profile: bytes | None = field(default=None, repr=False)


def read_original(data: bytes, name: str, size: Size) -> Original:
    """Return what should be kept of a file that was read before.

    Args:
        data: the whole file.
        name: what messages call it.
        size: (height, width) that it was read with; anything of another size is ignored.
    """
    try:
        with quiet():
            samples = _sixteen_bits(data, name)
    except DECODING_ERRORS:
        samples = None
    if samples is not None and samples.shape[:2] != tuple(size):
        samples = None
    return Original(samples, read_profile(data))


def read_profile(data: bytes) -> bytes | None:
    """Return the ICC profile of a file's RGB colours; None if there is none, or it is for other colours."""
    opener = WITH_PROFILES.get(format_of(data) or "")
    if opener is None:
        return None
    try:
        with quiet(), opener(io.BytesIO(data)) as picture:
            profile = picture.info.get("icc_profile")
    except DECODING_ERRORS:
        return None
    good = (
        isinstance(profile, bytes)
        and len(profile) <= MOST_PROFILE_BYTES
        and profile[PROFILE_SPACE] == b"RGB "
    )
    return profile if good else None


def _sixteen_bits(data: bytes, name: str) -> np.ndarray | None:
    opened = open_picture(data, name)
    if not isinstance(opened, OpenedPicture):
        return _of_tiff(opened)
    with opened.picture as picture:
        if not isinstance(picture, PngImagePlugin.PngImageFile):
            return None
        if picture.mode.startswith("I;16") or picture.mode == "I":
            grey = np.asarray(picture).astype(np.uint16)
            return _upright(np.repeat(grey[..., None], 3, axis=2), orientation_of(picture))
        raw = picture.tile[0].args
        if raw not in HALVES or "RGBA" in str(raw):
            return None
        orientation = orientation_of(picture)
        high = np.asarray(picture).astype(np.uint16)
    again = open_picture(data, name)
    assert isinstance(again, OpenedPicture)
    with again.picture as picture:
        assert isinstance(picture, PngImagePlugin.PngImageFile)
        # Pillow keeps one byte of the two; the name of the stored form says which one.
        picture.tile = [picture.tile[0]._replace(args=HALVES[raw])]
        picture.load()
        return _upright(high << 8 | np.asarray(picture), orientation)


def _of_tiff(pixels: object) -> np.ndarray | None:
    from mobilesam.formats.tiff_pixels import TiffPixels, unpack_samples

    assert isinstance(pixels, TiffPixels)
    samples = unpack_samples(pixels)
    return None if samples is None else _upright(samples, known_orientation(pixels.layout.orientation))


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    height, width = stored.shape[:2]
    size = (width, height) if orientation in SIDEWAYS else (height, width)
    upright = np.empty((*size, 3), np.uint16)
    STORED_VIEWS[orientation](upright)[:] = stored
    return upright
