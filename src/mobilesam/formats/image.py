"""Read any photo as (H, W, 3) uint8 RGB, upright; write PNG.

Only the listed formats reach a decoder, the pixel limit is checked before pixels are
decoded, and a file is read whole before it is looked at, so that it cannot change in
the meantime. Orientation is applied, transparency lies over white, 16 bits are scaled
to 8, and only the first frame of an animation is read. The table in
docs/reference/images.md says what is read how.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from mobilesam.core.arrays import ArrayLike, Image, Mask, Size
from mobilesam.core.errors import ConfigError, ImageError, ImageWarning, LimitError
from mobilesam.formats.image_bytes import read_file, read_limited, shown, shown_value
from mobilesam.formats.image_decoders import (
    DECODING_ERRORS,
    OpenedPicture,
    open_picture,
    quiet,
    told_as_ours,
    too_many_pixels,
)
from mobilesam.formats.sample_depth import any_sample, sixteen_to_eight
from mobilesam.formats.signatures import what_else
from mobilesam.formats.tiff_directory import exif_claims_too_much

if TYPE_CHECKING:
    from mobilesam.formats.tiff_pixels import TiffPixels

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif"),
)
MAX_PIXELS = 50_000_000
MAX_SIDE_RATIO = 1024  # beyond it the shorter side of the model's input would be less than a pixel
STRIP_PIXELS = 2**20  # turned into RGB at a time, so that a picture is in memory once, not three times
Remarks = tuple[str, ...]  # what was read but may not be intended
WHITE = (255, 255, 255)
LOSSY_BLACK, LOSSY_WHITE, LOSSY_BETWEEN = 40, 215, 0.05  # a JPEG mask has few values between
EXIF_ORIENTATION = 0x0112
FULLY_TRANSPARENT = "is fully transparent; all of it is white"
DAMAGED_TIFF = "is a truncated or damaged TIFF file"
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
# The picture as stored is this view of the upright one (H, W, 3), by EXIF orientation.
STORED_VIEWS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}
SIDEWAYS = (5, 6, 7, 8)
WANTED = "give a path, bytes, a file open for reading, a PIL image or an array (H, W, 3) uint8"


def read_image(
    source: ArrayLike,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Image:
    """Return an upright RGB image (H, W, 3) uint8.

    Args:
        source: a path, the bytes of a file, a file open for reading (anything with ``read()``
            that returns bytes), a PIL image, or an array: (H, W, 3) uint8 RGB, (H, W) grey or
            (H, W, 4) with alpha, of uint8 or uint16.
        max_pixels: greatest height times width.
        name: what messages call the image; by default its path.

    Raises:
        ImageError: if it cannot be read or is not an image of a known form.
        LimitError: if it has too many pixels or bytes.
        ConfigError: if ``max_pixels`` is not a whole number above 0.

    Warns:
        ImageWarning: for what is read but may not be intended, such as frames that are ignored.

    Example:
        >>> read_image(np.zeros((2, 3), np.uint8)).shape
        (2, 3, 3)
    """
    name = shown(name or _name_of(source))
    image, remarks = read_with_remarks(source, max_pixels=max_pixels, name=name)
    for remark in remarks:
        warnings.warn(f"{name}: {remark}", ImageWarning, stacklevel=2)
    return image


def read_with_remarks(
    source: ArrayLike, *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> tuple[Image, Remarks]:
    """Return what :func:`read_image` returns, and what it would warn about."""
    name = shown(name or _name_of(source))
    max_pixels = whole_number(max_pixels, "max_pixels")
    try:
        return _source_to_rgb(source, name, max_pixels)
    except MemoryError as error:
        raise _too_large(name) from error


def read_size(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Return the (height, width) of a photo as :func:`read_image` would return it, without decoding its pixels.

    Raises:
        ImageError: if it cannot be opened.
        LimitError: if it is too large.
    """
    name = shown(os.fsdecode(path))
    return size_of_bytes(read_file(path, name=name), name, max_pixels=max_pixels)


def size_of_bytes(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Return what :func:`read_size` does, of a file's bytes; ``name`` is what messages call them."""
    opened = open_picture(data, name)
    if isinstance(opened, OpenedPicture):
        with opened.picture as picture:
            width, height = picture.size
            orientation = orientation_of(picture)
    else:
        height, width = opened.layout.height, opened.layout.width
        orientation = known_orientation(opened.layout.orientation)
    check_size(height, width, name, max_pixels)
    return (width, height) if orientation in SIDEWAYS else (height, width)


def _too_large(name: str) -> LimitError:
    return LimitError(f"{name}: too large for this machine's memory; make it smaller")


def _name_of(source: ArrayLike) -> str:
    """What messages call an image without a name."""
    if isinstance(source, str):
        return source
    if isinstance(source, os.PathLike):
        return os.fsdecode(_path_of(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return "image bytes"
    name = getattr(source, "name", None) if hasattr(source, "read") else None
    return name if isinstance(name, str) and name else "image"


def _path_of(source: os.PathLike) -> str | bytes:
    try:
        return os.fspath(source)
    except Exception as error:  # it is the caller's class and may raise anything
        raise ImageError(f"image: is a {type(source).__name__} without a path; {WANTED}", code="U") from error


def _source_to_rgb(source: ArrayLike, name: str, max_pixels: int) -> tuple[Image, Remarks]:
    if isinstance(source, str) and source.startswith("data:image/"):
        raise ImageError(f"{name}: is {what_else(b'data:image/')}", code="U")
    if isinstance(source, str | os.PathLike):
        return _bytes_to_rgb(read_file(source, name=name), name, max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _bytes_to_rgb(bytes(source), name, max_pixels)
    if isinstance(source, TiffImagePlugin.TiffImageFile):
        from mobilesam.formats.tiff_layout import check_opened_by_pillow

        check_opened_by_pillow(source.tag_v2, name)
    if isinstance(source, PillowImage.Image):
        return _picture_to_rgb(OpenedPicture(source), name, max_pixels)
    if isinstance(source, type):
        raise ImageError(f"{name}: is the class {source.__name__}; {WANTED}", code="U")
    if callable(getattr(source, "read", None)):
        return _bytes_to_rgb(read_limited(source, name), name, max_pixels)
    if hasattr(source, "__array__"):
        return array_to_rgb(_as_array(source, name), name=name, max_pixels=max_pixels), ()
    raise ImageError(f"{name}: is a {type(source).__name__}; {WANTED}", code="U")


def _as_array(source: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(source)
    except MemoryError:
        raise
    except Exception as error:  # it is the caller's class and may raise anything
        raise ImageError(
            f"{name}: is a {type(source).__name__} that cannot be made an array; {WANTED}", code="U"
        ) from error


def whole_number(value: Any, name: str) -> int:
    """Return a limit as a whole number above 0; 5e7 is allowed, NaN is not."""
    whole = isinstance(value, int | np.integer) or (
        isinstance(value, float | np.floating) and value.is_integer()
    )
    if not whole or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}: is {shown_value(value)}; give a whole number of 1 or more")
    return int(value)


def _bytes_to_rgb(data: bytes, name: str, max_pixels: int) -> tuple[Image, Remarks]:
    opened = open_picture(data, name)
    del data  # a file that nobody else holds is freed once its pixels are decoded
    if not isinstance(opened, OpenedPicture):
        return _tiff_to_rgb(opened, name, max_pixels)
    with opened.picture:
        return _picture_to_rgb(opened, name, max_pixels)


def _tiff_to_rgb(pixels: TiffPixels, name: str, max_pixels: int) -> tuple[Image, Remarks]:
    from mobilesam.formats.tiff_layout import check_blocks, check_colours  # only TIFF files need it
    from mobilesam.formats.tiff_pixels import unpack_rgb

    layout = pixels.layout
    check_size(layout.height, layout.width, name, max_pixels)
    check_colours(layout, name)
    with told_as_ours(name, DAMAGED_TIFF):
        check_blocks(layout, pixels.page, name, read_all=False)
        orientation = known_orientation(layout.orientation)
        upright = _empty_upright((layout.height, layout.width, 3), orientation, np.uint8)
        seen = unpack_rgb(pixels, STORED_VIEWS[orientation](upright))
    return upright, pixels.remarks + (() if seen else (FULLY_TRANSPARENT,))


def _tiff_to_mask(pixels: TiffPixels, name: str, max_pixels: int) -> Mask:
    from mobilesam.formats.tiff_layout import check_blocks, check_mask
    from mobilesam.formats.tiff_pixels import unpack_mask

    layout = pixels.layout
    check_size(layout.height, layout.width, name, max_pixels)
    check_mask(layout, name)
    with told_as_ours(name, DAMAGED_TIFF):
        check_blocks(layout, pixels.page, name, read_all=False)
        orientation = known_orientation(layout.orientation)
        upright = _empty_upright((layout.height, layout.width), orientation, np.bool_)
        unpack_mask(pixels, STORED_VIEWS[orientation](upright))
    return upright


def decode_mask(data: bytes, *, name: str = "mask bytes", max_pixels: int = MAX_PIXELS) -> Mask:
    """Decode the bytes of a mask file (H, W): what is neither black nor transparent is the object.

    Values are looked at as they are stored, so label images of any depth work. A JPEG
    has no exact black, so there the object is what is brighter than half.

    Args:
        data: the whole file.
        name: what messages call it.
        max_pixels: greatest height times width.

    Raises:
        ImageError: if it cannot be read, or is a photo rather than a mask.
        LimitError: if it has too many pixels.
    """
    name, max_pixels = shown(name), whole_number(max_pixels, "max_pixels")
    try:
        opened = open_picture(data, name)
        if not isinstance(opened, OpenedPicture):
            return _tiff_to_mask(opened, name, max_pixels)
        with opened.picture:
            _load(opened, name, max_pixels)
            return _picture_to_mask(opened, name)
    except MemoryError as error:
        raise _too_large(name) from error


def _picture_to_mask(opened: OpenedPicture, name: str) -> Mask:
    """Turn a decoded picture into an upright mask, strip by strip."""
    picture = opened.picture
    lossy, orientation = picture.format == "JPEG", orientation_of(picture)
    width, height = picture.size
    upright = _empty_upright((height, width), orientation, np.bool_)
    stored, between, alpha = STORED_VIEWS[orientation](upright), 0, picture.getbands()[-1] in ("A", "a")
    for top, strip in _strips(picture):
        values = np.asarray(strip)
        rows = slice(top, top + len(values))
        if lossy:
            grey = values if values.ndim == 2 else values.mean(-1)
            between += int(((grey > LOSSY_BLACK) & (grey < LOSSY_WHITE)).sum())
            stored[rows] = grey > 127
        elif values.ndim == 2:
            stored[rows] = values != 0
        elif alpha:
            stored[rows] = any_sample(values[..., :-1]) & (values[..., -1] != 0)
        else:
            stored[rows] = any_sample(values)
    if between > LOSSY_BETWEEN * height * width:
        raise ImageError(f"{name}: is a photo, not a mask; give a black and white image, best as PNG")
    return upright


def _strips(picture: PillowImage.Image) -> Iterator[tuple[int, PillowImage.Image]]:
    """Yield a picture in strips with their first rows."""
    width, height = picture.size
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, picture.crop((0, top, width, min(top + rows, height)))


def _load(opened: OpenedPicture, name: str, max_pixels: int) -> None:
    """Decode a picture's pixels after checking its size."""
    picture = opened.picture
    check_size(picture.height, picture.width, name, max_pixels)
    with told_as_ours(name, f"is a truncated or damaged {opened.kind}"):
        picture.load()
    check_size(picture.height, picture.width, name, max_pixels)  # decoding may show another


def orientation_of(picture: PillowImage.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if there is none or it makes no sense."""
    try:
        exif = picture.info.get("exif")
        if isinstance(exif, bytes) and exif_claims_too_much(exif.removeprefix(b"Exif\0\0")):
            return 1
        with quiet():
            orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
    except DECODING_ERRORS:
        return 1
    return known_orientation(orientation)


def known_orientation(value: object) -> int:
    """Return an EXIF orientation, 1 (upright) for anything else."""
    return value if isinstance(value, int) and value in STORED_VIEWS else 1


def _empty_upright(stored_shape: tuple[int, ...], orientation: int, dtype: DTypeLike) -> np.ndarray:
    height, width, *channels = stored_shape
    size = (width, height) if orientation in SIDEWAYS else (height, width)
    return np.empty((*size, *channels), dtype)


def _picture_to_rgb(opened: OpenedPicture, name: str, max_pixels: int) -> tuple[Image, Remarks]:
    """Decode a picture and write it upright, strip by strip."""
    _load(opened, name, max_pixels)
    picture = opened.picture
    _check_depth(picture, name)
    width, height = picture.size
    orientation = orientation_of(picture)
    opened.stream.close()
    upright = _empty_upright((height, width, 3), orientation, np.uint8)
    stored = STORED_VIEWS[orientation](upright)
    seen = False
    with told_as_ours(name, f"has mode {picture.mode}, which cannot be turned into RGB"):
        for top, strip in _strips(picture):
            stored[top : top + strip.height], opaque = _strip_to_rgb(strip)
            seen = seen or opaque
    return upright, opened.remarks + (() if seen else (FULLY_TRANSPARENT,))


def _check_depth(picture: PillowImage.Image, name: str) -> None:
    """Refuse what has no fixed white: floats, and whole numbers beyond 16 bits."""
    if picture.mode not in ("I", "F"):
        return
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(
            f"{name}: mode {picture.mode} (32 bits a pixel) has no fixed white; convert it to 8 or 16 bits"
        )


def _strip_to_rgb(strip: PillowImage.Image) -> tuple[np.ndarray, bool]:
    """Return a strip as RGB or grey (h, w, 3 or 1), and whether any of it is visible."""
    if strip.mode == "I" or strip.mode.startswith("I;16"):
        return sixteen_to_eight(np.asarray(strip))[..., None], True
    if strip.mode == "La":
        strip = strip.convert("LA")
    if strip.mode in WITH_ALPHA or "transparency" in strip.info:
        strip = strip.convert("RGBA")
        seen = strip.getchannel("A").getbbox() is not None
        return np.asarray(PillowImage.alpha_composite(_white(strip.size), strip))[..., :3], seen
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB")), True


def _white(size: tuple[int, int]) -> PillowImage.Image:
    return PillowImage.new("RGBA", size, (*WHITE, 255))


def array_to_rgb(
    array: np.ndarray,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    max_ratio: float = MAX_SIDE_RATIO,
) -> Image:
    """Return an array as RGB; the caller's array is never changed.

    Raises:
        ImageError: for a type or shape whose meaning would be a guess.
    """
    wanted = "must be (H, W, 3) uint8 RGB, (H, W) grey or (H, W, 4) with alpha"
    if array.dtype.kind == "f":
        raise ImageError(f"{name}: has type {array.dtype}; {wanted}: 0..1 or 0..255 is not guessed", code="U")
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ImageError(f"{name}: has type {array.dtype}; {wanted}", code="U")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"{name}: has shape {array.shape}; {wanted}", code="U")
    check_size(array.shape[0], array.shape[1], name, max_pixels, max_ratio)
    if array.dtype.itemsize == 2:
        array = sixteen_to_eight(array)
    if array.ndim == 2:
        return _repeat_grey(array)
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.uint16)
        over = array[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha)
        return ((over + 127) // 255).astype(np.uint8)
    return np.array(array)


def read_mask(path: str | os.PathLike, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Mask:
    """Read a mask file; see :func:`decode_mask`."""
    name = name or os.fsdecode(path)
    return decode_mask(read_file(path, name=name), name=name, max_pixels=max_pixels)


def image_to_png(image: np.ndarray) -> bytes:
    """Encode (H, W), (H, W, 3) or (H, W, 4) uint8, (H, W) uint16, or a boolean mask as black and white."""
    buffer = io.BytesIO()
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    PillowImage.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def check_size(
    height: int, width: int, name: str, max_pixels: int, max_ratio: float = MAX_SIDE_RATIO
) -> None:
    """Refuse an image with no pixels, too many, or sides that differ too much."""
    if height < 1 or width < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height}); give another image")
    if height * width > max_pixels:
        raise too_many_pixels(name, (height, width), max_pixels)
    if max(height, width) > max_ratio * min(height, width):
        raise ImageError(
            f"{name}: {width} x {height} is too narrow, sides may differ {max_ratio}-fold; cut it into parts"
        )


def _repeat_grey(grey: np.ndarray) -> Image:
    return np.repeat(grey[..., None], 3, axis=2)


def suffix_is_image(path: Path) -> bool:
    """Whether a file's name has the ending of a known image format."""
    return path.suffix.lower() in SUFFIXES
