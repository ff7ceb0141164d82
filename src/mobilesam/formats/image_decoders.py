"""One way in for each format: a file's picture, opened but not decoded.

Pillow's own ``open`` is not used: it tries formats that nobody asked for, and its limit on
pixels is for the whole process.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage
from PIL import __version__ as PILLOW_VERSION

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ImageError, LimitError, Remedy
from mobilesam.core.extras import install_line
from mobilesam.core.text import printable
from mobilesam.formats.bmp_runs import without_runs
from mobilesam.formats.frames import MAX_COUNTED, gif_frames, tiff_pages
from mobilesam.formats.jpeg_segments import keep_pixel_segments
from mobilesam.formats.png_chunks import keep_pixel_chunks
from mobilesam.formats.signatures import format_of, what_else
from mobilesam.formats.tiff_directory import find_greedy_exif, first_directory
from mobilesam.formats.webp_canvas import webp_canvas

if TYPE_CHECKING:
    from mobilesam.formats.tiff_pixels import TiffPixels

MOST_ADVISED = 400_000_000  # pixels up to which a message says how to allow them: about 1.2 GB
MOST_WEBP_PIXELS = 25_000_000  # its decoder takes 16 bytes for each, even from a file of 34 bytes
# Bytes that AVIF's decoder takes for each pixel: 10 bits of three full planes, then two copies as 8 bits.
AVIF_PIXEL_BYTES = {"RGB": 12, "RGBA": 16}
MOST_DECODING_BYTES = 400 * 2**20
logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise what it logs is printed as it is
PHOTOMETRIC, YCBCR = 262, 6  # a TIFF tag, and one of its values
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
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class OpenedPicture:
    """A picture whose pixels are not yet decoded.

    Attributes:
        picture: it knows its size; ``load`` decodes it.
        remarks: what is worth saying about its file.
        kind: what messages call its file.
        stream: the file's bytes, no longer needed once pixels and metadata are read.
    """

    picture: PillowImage.Image
    remarks: tuple[str, ...] = ()
    kind: str = "image"
    stream: io.BytesIO = field(default_factory=io.BytesIO)


def open_picture(data: bytes, name: str) -> OpenedPicture | TiffPixels:
    """Look at an image file without decoding its pixels.

    Args:
        data: the whole file.
        name: what messages call it.

    Raises:
        ImageError: if it is empty, damaged or not in a format that is read.
        LimitError: if it holds more than an image file may.
    """
    if not data:
        raise ImageError(f"{name}: empty file (0 bytes); copy or download it again")
    kind = format_of(data)
    if kind is None:
        raise ImageError(f"{name}: is {what_else(data)}")
    with told_as_ours(name, f"is a truncated or damaged {kind} file"):
        return OPENERS[kind](data, name)


def _open_jpeg(data: bytes, name: str) -> OpenedPicture:
    jpeg = keep_pixel_segments(data, name)
    stream = io.BytesIO(jpeg.data)
    return OpenedPicture(JpegImagePlugin.JpegImageFile(stream), kind=jpeg.kind, stream=stream)


def _open_png(data: bytes, name: str) -> OpenedPicture:
    png = keep_pixel_chunks(data, name)
    remarks = _frames_remark(png.frames, "frames")
    if not png.whole:
        remarks += ("the file ends early; all its pixels are there",)
    stream = io.BytesIO(png.data)
    return OpenedPicture(PngImagePlugin.PngImageFile(stream), remarks, "PNG file", stream)


def _open_gif(data: bytes, name: str) -> OpenedPicture:
    remarks = _frames_remark(gif_frames(data, name), "frames")
    stream = io.BytesIO(data)
    return OpenedPicture(GifImagePlugin.GifImageFile(stream), remarks, "GIF file", stream)


def _open_tiff(data: bytes, name: str) -> OpenedPicture | TiffPixels:
    from mobilesam.formats import tiff_layout  # only TIFF files need it
    from mobilesam.formats.libtiff_messages import silence_libtiff
    from mobilesam.formats.tiff_pixels import TiffPixels

    silence_libtiff()
    page = first_directory(data, name)
    if tiff_layout.is_camera_raw(page):
        raise ImageError(f"{name}: is a camera's raw file (DNG or the like); develop it to JPEG or TIFF")
    layout = tiff_layout.read_layout(page, name)
    remarks = _frames_remark(tiff_pages(data), "pages") + tiff_layout.bands_remark(layout)
    if not tiff_layout.read_by_pillow(layout):
        return TiffPixels(page, layout, name, remarks)
    tiff_layout.check_bands(layout, name)
    tiff_layout.check_blocks(layout, page, name, read_all=True)
    stream = io.BytesIO(data)
    try:
        picture = _with_three_bands(TiffImagePlugin.TiffImageFile(stream))
        return OpenedPicture(picture, remarks, "TIFF file", stream)
    except SyntaxError as error:  # what Pillow raises for a layout that it does not know
        raise ImageError(
            f"{name}: is a TIFF of {layout.words}, which is not read; {tiff_layout.SAVE_PLAINLY}"
        ) from error


def _with_three_bands(picture: TiffImagePlugin.TiffImageFile) -> TiffImagePlugin.TiffImageFile:
    """Correct how Pillow before 13 reads uncompressed YCbCr: three bytes for a pixel, read as four."""
    uncompressed = picture.info.get("compression") == "raw"
    if uncompressed and picture.mode == "RGB" and picture.tag_v2.get(PHOTOMETRIC) == YCBCR:
        picture._mode = "YCbCr"
        strides = [tile.args[1:] for tile in picture.tile if isinstance(tile.args, tuple)]
        picture.tile = [
            tile._replace(args=("YCbCr", *stride)) for tile, stride in zip(picture.tile, strides, strict=True)
        ]
    return picture


def _open_bmp(data: bytes, name: str) -> OpenedPicture:
    stream = io.BytesIO(without_runs(data, name))
    return OpenedPicture(BmpImagePlugin.BmpImageFile(stream), kind="BMP file", stream=stream)


def too_many_pixels(name: str, size: Size, limit: int, *, fixed: bool = False) -> LimitError:
    """Return the error for an image of (height, width) with more pixels than ``limit``, which may be ``fixed``."""
    height, width = size
    message = f"{name}: {width} x {height} is {height * width:,} pixels, over the limit of {limit:,}; make it smaller"
    raisable = not fixed and height * width <= MOST_ADVISED
    return LimitError(
        message, remedy=Remedy("max_pixels", height * width, "to read it") if raisable else None
    )


def _open_webp(data: bytes, name: str) -> OpenedPicture:
    canvas = webp_canvas(data)
    if canvas is not None and canvas[0] * canvas[1] > MOST_WEBP_PIXELS:
        raise too_many_pixels(name, canvas, MOST_WEBP_PIXELS, fixed=True)
    picture = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    remarks = _frames_remark(picture.n_frames, "frames")
    return OpenedPicture(picture, remarks, "WebP file")


def _open_avif(data: bytes, name: str) -> OpenedPicture:
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise ImageError(
            f"{name}: is AVIF, which this Pillow {PILLOW_VERSION} was built without; "
            "pip install --force-reinstall pillow, or convert it to JPEG or PNG"
        )
    _check_exif(data, name)
    picture = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    most = MOST_DECODING_BYTES // AVIF_PIXEL_BYTES.get(picture.mode, 16)
    if picture.width * picture.height > most:
        raise too_many_pixels(name, (picture.height, picture.width), most, fixed=True)
    return OpenedPicture(picture, _frames_remark(picture.n_frames, "frames"), "AVIF file")


def _open_heif(data: bytes, name: str) -> OpenedPicture:
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(
            f"{name}: is HEIC, which needs packages that are not installed; {install_line('heif')}, "
            "or convert it to JPEG or PNG"
        ) from error
    _check_exif(data, name)
    return OpenedPicture(HeifImageFile(io.BytesIO(data)), kind="HEIF file")


def _check_exif(data: bytes, name: str) -> None:
    """Refuse greedy EXIF, which these formats' readers would read whole as soon as the file is opened."""
    if find_greedy_exif(data):
        raise LimitError(
            f"{name}: its EXIF claims far more bytes than the file has; save it without metadata"
        )


OPENERS: dict[str, Callable[[bytes, str], OpenedPicture | TiffPixels]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "WEBP": _open_webp,
    "BMP": _open_bmp,
    "TIFF": _open_tiff,
    "GIF": _open_gif,
    "AVIF": _open_avif,
    "HEIF": _open_heif,
}


def _frames_remark(frames: int, what: str) -> tuple[str, ...]:
    if frames < 2:
        return ()
    if frames > MAX_COUNTED:
        return (f"only the first of more than {MAX_COUNTED:,} {what} is used",)
    return (f"only the first of {frames:,} {what} is used; {frames - 1:,} ignored",)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the decoders' own warnings, on metadata and the like."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pi_heif)\.")
        yield


@contextmanager
def told_as_ours(name: str, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into our errors.

    Args:
        name: what messages call the image.
        what: what they say about it.

    Raises:
        ImageError: for a decoder's error.
        LimitError: for one of its limits.
    """
    try:
        with quiet():
            yield
    except (ImageError, LimitError):
        raise
    except PillowImage.DecompressionBombError as error:
        size, limit = re.findall(r"\d+", str(error))[:2]
        raise LimitError(
            f"{name}: {int(size):,} pixels, over the limit of {int(limit):,}; make it smaller"
        ) from error
    except DECODING_ERRORS as error:
        raise ImageError(f"{name}: {what} ({_first_line(error)}); save or copy it again") from error


def _first_line(error: Exception) -> str:
    text = printable(str(error).splitlines()[0][:120]) if str(error) else type(error).__name__
    return text.replace("not identified by this driver", "no pixels, or pixels of an unknown kind")
