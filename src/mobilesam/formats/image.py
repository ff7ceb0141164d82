"""Read any photograph as (H, W, 3) uint8 RGB, upright; write PNG.

Only the listed formats are parsed, the pixel limit is checked before pixels are
decoded, and a file is read whole before it is looked at, so that it cannot change
underneath. Orientation is applied, transparency lies over white, 16 bits are scaled
to 8, and of an animation only the first frame is read.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from mobilesam.core.arrays import ArrayLike, Image, Mask
from mobilesam.core.errors import ImageError, LimitError
from mobilesam.core.text import printable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 50_000_000
MAX_FILE_BYTES = 512 * 2**20
MAX_SIDE_RATIO = 1000  # beyond it the shorter side of the model's input would be less than a pixel
WHITE = (255, 255, 255)
LOSSY_BLACK, LOSSY_WHITE, LOSSY_BETWEEN = 40, 215, 0.05  # a JPEG mask has few values between
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    OverflowError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    AttributeError,
    struct.error,
    zlib.error,
)

# The first bytes of what people give by mistake, and what to say of it.
NOT_IMAGES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image; run: git lfs pull"),
    (b"<!doctype html", "an HTML page, not an image"),
    (b"<html", "an HTML page, not an image"),
    (b"<svg", "SVG, which is not a raster format; render it to PNG"),
    (b"<?xml", "XML, not a raster image; render it to PNG"),
    (b"%pdf", "a PDF; render the page to PNG"),
    (b"%!ps", "PostScript; render it to PNG"),
    (b"8bps", "a Photoshop file; export it as PNG"),
    (b"{", "text, not an image"),
    (b"\x1f\x8b", "a gzip file, not an image"),
    (b"pk\x03\x04", "a zip archive, not an image"),
)


def read_image(source: ArrayLike, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Image:
    """Return an upright RGB image (H, W, 3) uint8.

    Args:
        source: a path, the bytes of a file, a PIL image, or an array: (H, W, 3) uint8 RGB,
            (H, W) grey or (H, W, 4) with alpha, of uint8 or uint16.
        max_pixels: greatest height times width.
        name: what messages call the image; by default its path.

    Raises:
        ImageError: if it cannot be read or is not an image of a known form.
        LimitError: if it has too many pixels or bytes.

    Example:
        >>> read_image(np.zeros((2, 3), np.uint8)).shape
        (2, 3, 3)
    """
    if isinstance(source, str | os.PathLike):
        name = name or os.fspath(source)
        return decode_image(read_file(source, name=name), max_pixels=max_pixels, name=name)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), max_pixels=max_pixels, name=name or "image bytes")
    if isinstance(source, PillowImage.Image):
        return _pillow_to_rgb(source, name or "image", max_pixels)
    if hasattr(source, "__array__"):
        return array_to_rgb(np.asarray(source), name=name or "image", max_pixels=max_pixels)
    raise ImageError(
        f"{name or 'image'}: is a {type(source).__name__}; give a path, bytes, a PIL image or an array (H, W, 3) uint8"
    )


def read_file(path: str | os.PathLike, *, name: str) -> bytes:
    """Read an image file whole; pipes, devices and folders are refused, not waited for."""
    shown = printable(name)
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise ImageError(f"{shown}: {_open_reason(error)}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
        raise ImageError(f"{shown}: {what}; give an image file, or - for standard input")
    with os.fdopen(descriptor, "rb") as file:
        return read_limited(file, name)


def read_limited(file: BinaryIO, name: str) -> bytes:
    """Read a stream up to the limit on bytes.

    Raises:
        LimitError: if there is more.
    """
    try:
        data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ImageError(f"{printable(name)}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE_BYTES:
        raise LimitError(
            f"{printable(name)}: more than {MAX_FILE_BYTES >> 20} MiB, the limit for an image file"
        )
    return data


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, name: str = "image bytes") -> Image:
    """Decode the bytes of an image file; see :func:`read_image`."""
    with _open(data, printable(name), max_pixels) as picture:
        return _pillow_to_rgb(picture, printable(name), max_pixels)


def decode_mask(data: bytes, *, name: str = "mask bytes") -> Mask:
    """Decode the bytes of a mask file (H, W): what is not black, and not transparent, is the object.

    Values are looked at as they are stored, so label images of any depth work. A JPEG
    has no exact black; there the object is what is brighter than half.

    Raises:
        ImageError: if it cannot be read, or is a photograph rather than a mask.
    """
    name = printable(name)
    with _open(data, name, MAX_PIXELS) as picture:
        lossy = picture.format == "JPEG"
        picture = _loaded(picture, name, MAX_PIXELS)
        values = np.asarray(picture)
        bands = picture.getbands()
    if lossy:
        grey = values if values.ndim == 2 else values.mean(-1)
        if ((grey > LOSSY_BLACK) & (grey < LOSSY_WHITE)).mean() > LOSSY_BETWEEN:
            raise ImageError(
                f"{name}: is a photograph, not a mask; give a black and white image, best as PNG"
            )
        return np.asarray(grey > 127)
    if values.ndim == 2:
        return np.asarray(values != 0)
    coloured = values[..., : len(bands) - 1] if "A" in bands or "a" in bands else values
    mask = (coloured != 0).any(axis=-1)
    return np.asarray(mask & (values[..., -1] != 0)) if coloured is not values else np.asarray(mask)


def _open(data: bytes, name: str, max_pixels: int) -> PillowImage.Image:
    """Open an image without decoding its pixels, and check its size."""
    if not data:
        raise ImageError(f"{name}: empty file (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own remarks, on metadata and on sizes
        try:
            return PillowImage.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ImageError(f"{name}: {_guess(data)}") from error
        except PillowImage.DecompressionBombError as error:
            raise _too_many_pixels(name, max_pixels) from error
        except DECODING_ERRORS as error:
            raise ImageError(f"{name}: damaged ({_first_line(error)})") from error


def _loaded(picture: PillowImage.Image, name: str, max_pixels: int) -> PillowImage.Image:
    """Check a picture's size, decode its pixels and turn it upright."""
    _check_size(picture.height, picture.width, name, max_pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture.load()
            return ImageOps.exif_transpose(picture)
        except PillowImage.DecompressionBombError as error:
            raise _too_many_pixels(name, max_pixels) from error
        except MemoryError as error:
            raise LimitError(f"{name}: too large for this machine's memory") from error
        except DECODING_ERRORS as error:
            raise ImageError(f"{name}: damaged or truncated ({_first_line(error)})") from error


def _too_many_pixels(name: str, max_pixels: int) -> LimitError:
    limit = min(max_pixels, 2 * (PillowImage.MAX_IMAGE_PIXELS or max_pixels))  # Pillow has one of its own
    return LimitError(f"{name}: more than {limit:,} pixels, the limit; make it smaller")


def _pillow_to_rgb(picture: PillowImage.Image, name: str, max_pixels: int) -> Image:
    picture = _loaded(picture, name, max_pixels)
    if picture.mode.startswith("I;16"):
        return _repeat_grey(_halve_depth(np.asarray(picture).astype(np.uint16)))
    if picture.mode in ("I", "F"):
        array = np.asarray(picture)
        if picture.mode == "I" and array.min() >= 0 and array.max() <= 0xFFFF:
            return _repeat_grey(_halve_depth(array.astype(np.uint16)))
        raise ImageError(
            f"{name}: mode {picture.mode} (32 bits a pixel) has no fixed white; convert it to 8 or 16 bits"
        )
    try:
        if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            ground = PillowImage.new("RGBA", picture.size, (*WHITE, 255))
            picture = PillowImage.alpha_composite(ground, picture)
        return np.array(picture.convert("RGB"))
    except DECODING_ERRORS as error:
        raise ImageError(f"{name}: mode {picture.mode} cannot be turned into RGB") from error


def array_to_rgb(array: np.ndarray, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image:
    """Return an array as RGB; the caller's array is never changed.

    Raises:
        ImageError: for a type or shape whose meaning would be a guess.
    """
    wanted = "must be (H, W, 3) uint8 RGB, (H, W) grey or (H, W, 4) with alpha"
    if array.dtype.kind == "f":
        raise ImageError(f"{name}: has type {array.dtype}; {wanted}: 0..1 or 0..255 is not guessed")
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: has type {array.dtype}; {wanted}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"{name}: has shape {array.shape}; {wanted}")
    _check_size(array.shape[0], array.shape[1], name, max_pixels)
    if array.dtype == np.uint16:
        array = _halve_depth(array)
    if array.ndim == 2:
        return _repeat_grey(array)
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.uint16)
        over = array[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha)
        return ((over + 127) // 255).astype(np.uint8)
    return np.array(array)


def read_mask(path: str | os.PathLike, *, name: str | None = None) -> Mask:
    """Read a mask file; see :func:`decode_mask`."""
    name = name or os.fspath(path)
    return decode_mask(read_file(path, name=name), name=name)


def image_to_png(image: np.ndarray) -> bytes:
    """Encode (H, W), (H, W, 3) or (H, W, 4) uint8, or a boolean mask as black and white."""
    buffer = io.BytesIO()
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    PillowImage.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    if height * width > max_pixels:
        raise LimitError(
            f"{name}: {width} x {height} is {height * width:,} pixels, over the limit of {max_pixels:,}; make it smaller"
        )
    if max(height, width) > MAX_SIDE_RATIO * min(height, width):
        raise ImageError(f"{name}: {width} x {height} is too narrow; sides may differ {MAX_SIDE_RATIO}-fold")


def _halve_depth(array: np.ndarray) -> np.ndarray:
    """16 bits to 8 so that white stays white."""
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _repeat_grey(grey: np.ndarray) -> Image:
    return np.repeat(grey[..., None], 3, axis=2)


def _guess(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, what in NOT_IMAGES:
        if head.startswith(start):
            return f"is {what}"
    if data[4:12] in (b"ftypheic", b"ftypmif1", b"ftypheix", b"ftypavif", b"ftypavis"):
        return "is HEIC or AVIF, which is not supported; convert it to JPEG or PNG"
    allowed = ", ".join(FORMATS)
    if all(c in b"\t\r\n" or 32 <= c < 127 for c in data[:64]):
        return f"is text, not an image; allowed: {allowed}"
    return f"not an image of a known format, or damaged; allowed: {allowed}"


def _open_reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "not found"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened ({error.strerror})"
    return "not a valid path"


def _first_line(error: Exception) -> str:
    return printable(str(error).splitlines()[0][:120]) if str(error) else type(error).__name__


def suffix_is_image(path: Path) -> bool:
    """Whether a file's name ends as a known image format's does."""
    return path.suffix.lower() in SUFFIXES
