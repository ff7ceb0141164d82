"""How the pixels of a TIFF file are laid out, in the words of its tags, and which layouts have a meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.core.errors import ImageError, LimitError
from mobilesam.formats.jpeg_segments import most_scans
from mobilesam.formats.tiff_directory import MAX_CLAIMS, Directory, claims_too_much

# Tags, by TIFF's names for them.
IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, FILL_ORDER = (
    256,
    257,
    258,
    259,
    262,
    266,
)
STRIP_OFFSETS, ORIENTATION, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS = 273, 274, 277, 278, 279
PLANAR_CONFIGURATION, PREDICTOR, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS = 284, 317, 322, 323, 324
TILE_BYTE_COUNTS, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 325, 332, 338, 339, 530

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED, YCBCR = 0, 1, 2, 5, 6
USUAL_SUBSAMPLING = (2, 2)
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, SEPARATED: 4}  # samples that make a colour
CMYK_INKS = 1
PHOTOMETRICS = {
    **{
        0: "grey, white is zero",
        1: "grey",
        2: "RGB",
        3: "palette",
        4: "transparency mask",
        5: "CMYK",
        6: "YCbCr",
    },
    **{8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv", 51177: "depth map"},
}
SENSOR_VALUES = (32803, 34892)  # a colour filter array, linear raw
PREMULTIPLIED_ALPHA, ALPHA, COREL_ALPHA = 1, 2, 999
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
SAMPLE_FORMATS = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
NONE, PREDICTOR_NONE, PREDICTOR_DIFFERENCES = 1, 1, 2
DEFLATE = (8, 32946)
UNPACKED_BY_LIBTIFF = {5: "LZW", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
FOR_PILLOW = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 7: "JPEG", 32771: "CCITT", 50001: "WebP"}
PREVIEW_ONLY, SUB_DIRECTORIES, DNG_VERSION = 254, 330, 50706
JPEG = (6, 7)
START_OF_SCAN_MARKER = b"\xff\xda"
SHARED_BYTES = 4  # how many times a file's bytes its blocks may have together: equal ones may share them
MAX_BLOCKS = 100_000  # strips or tiles; at the usual size this many are more than a file may hold
LARGE_TILE = 2**24  # pixels of a tile up to which the size of its picture does not matter
MAX_BLOCK_BYTES = 192 * 2**20  # of one compressed strip or tile of each plane, once unpacked
SAVE_PLAINLY = "save it as grey, RGB or RGBA of 8 or 16 bits"


@dataclass(frozen=True)
class TiffLayout:
    """What the tags of a page say about its pixels.

    Attributes:
        height: rows as they are stored.
        width: columns as they are stored.
        orientation: EXIF's, as in the tag.
        samples: values of a pixel.
        bits: of each sample.
        formats: numbers of TIFF for each sample: unsigned, signed, float and so on.
        photometric: TIFF's number for what colours the samples are.
        compression: TIFF's number for how they are packed.
        predictor: TIFF's number for differences instead of values.
        planar: whether each sample lies in a plane of its own.
        bits_reversed: whether each byte's bits are in reverse order.
        extra: TIFF's numbers for what the samples beyond the colours are.
        inks: TIFF's number for the inks of a separated picture.
        block_size: (height, width) of a strip or tile.
        tiled: whether the blocks are tiles.
        subsampled: whether several pixels share their chroma.
    """

    height: int
    width: int
    orientation: int
    samples: int
    bits: tuple[int, ...]
    formats: tuple[int, ...]
    photometric: int
    compression: int
    predictor: int
    planar: bool
    bits_reversed: bool
    extra: tuple[int, ...]
    inks: int
    block_size: tuple[int, int]
    tiled: bool
    subsampled: bool

    @property
    def colours(self) -> int:
        """Samples that make a pixel's colour."""
        return COLOURS.get(self.photometric, self.samples)

    @property
    def alpha(self) -> int | None:
        """Which sample is the alpha, if one is."""
        kinds = (PREMULTIPLIED_ALPHA, ALPHA, COREL_ALPHA)
        return next((self.colours + i for i, kind in enumerate(self.extra) if kind in kinds), None)

    @property
    def premultiplied(self) -> bool:
        """Whether the colours are multiplied by the alpha."""
        return self.alpha is not None and self.extra[self.alpha - self.colours] == PREMULTIPLIED_ALPHA

    @property
    def planes(self) -> int:
        """Planes that are stored one after the other."""
        return self.samples if self.planar else 1

    @property
    def blocks_across(self) -> int:
        """Strips or tiles side by side."""
        return math.ceil(self.width / self.block_size[1])

    @property
    def blocks(self) -> int:
        """Strips or tiles that a page of this size has."""
        return math.ceil(self.height / self.block_size[0]) * self.blocks_across * self.planes

    @property
    def even(self) -> bool:
        """Whether all samples are whole bytes of one kind, so that they are an array."""
        return len({*self.bits}) == len({*self.formats}) == 1 and self.bits[0] in (8, 16, 32, 64)

    @property
    def words(self) -> str:
        """The layout in the words of messages."""
        bands = "" if self.samples == 1 else f"{self.samples} bands of "
        bits = " and ".join(map(str, dict.fromkeys(self.bits[:8])))
        kinds = " and ".join(
            SAMPLE_FORMATS.get(f, "unsigned integers") for f in dict.fromkeys(self.formats[:8])
        )
        colours = PHOTOMETRICS.get(self.photometric, f"photometric {self.photometric}")
        shared = ", chroma shared" if self.subsampled else ""
        return f"{bands}{bits}-bit {kinds} ({colours}{shared}{', in planes' if self.planar else ''})"


def read_layout(page: Directory, name: str) -> TiffLayout:
    """Return what a page's tags say about its pixels.

    Raises:
        ValueError: if sizes are missing or make no sense.
        LimitError: if the tags claim far more values than the file has.
    """
    if not page.whole:
        raise ValueError("its directory is cut off")
    if claims_too_much(page):
        raise LimitError(
            f"{name}: its tags claim {page.claimed:,} bytes, over the limit of {MAX_CLAIMS} times the file's "
            f"{len(page.data):,}; save it again"
        )
    height, width = page.number(IMAGE_LENGTH, -1), page.number(IMAGE_WIDTH, -1)
    if height < 0 or width < 0:
        raise ValueError("its size is missing")
    samples = page.number(SAMPLES_PER_PIXEL, max(1, len(page.numbers(BITS_PER_SAMPLE))))
    if samples < 1:
        raise ValueError(f"it has {samples} samples a pixel")
    formats = tuple(UNSIGNED if kind == UNDEFINED else kind for kind in page.numbers(SAMPLE_FORMAT))
    photometric = page.number(PHOTOMETRIC, RGB if samples >= 3 else BLACK_IS_ZERO)
    colours = COLOURS.get(photometric, samples)
    unnamed = _usual_extra(photometric, samples, EXTRA_SAMPLES in page.tags)
    extra = (page.numbers(EXTRA_SAMPLES) + unnamed)[: max(0, min(samples, 64) - colours)]
    tiled = TILE_OFFSETS in page.tags
    if tiled:
        block_size = page.number(TILE_LENGTH, 0), page.number(TILE_WIDTH, 0)
    else:
        block_size = min(page.number(ROWS_PER_STRIP, height), max(height, 1)), max(width, 1)
    if min(block_size) < 1:
        raise ValueError(f"its blocks have no size ({block_size[1]} x {block_size[0]})")
    if tiled and math.prod(block_size) > max(LARGE_TILE, 4 * height * width):
        raise ValueError(f"its tiles of {block_size[1]} x {block_size[0]} are far larger than the picture")
    return TiffLayout(
        height=height,
        width=width,
        orientation=page.number(ORIENTATION, 1),
        samples=samples,
        bits=_for_each(page.numbers(BITS_PER_SAMPLE), samples, 1),
        formats=_for_each(formats, samples, UNSIGNED),
        photometric=photometric,
        compression=page.number(COMPRESSION, NONE),
        predictor=page.number(PREDICTOR, PREDICTOR_NONE),
        planar=page.number(PLANAR_CONFIGURATION, 1) == 2 and samples > 1,
        bits_reversed=page.number(FILL_ORDER, 1) == 2,
        extra=extra,
        inks=page.number(INK_SET, CMYK_INKS),
        block_size=block_size,
        tiled=tiled,
        subsampled=photometric == YCBCR and (page.numbers(SUBSAMPLING, 2) or USUAL_SUBSAMPLING) != (1, 1),
    )


def _usual_extra(photometric: int, samples: int, told: bool) -> tuple[int, ...]:
    """What samples beyond the colours are if no tag says so: the fourth beside RGB is taken as alpha."""
    return (0,) * 64 if told or photometric != RGB or samples != 4 else (ALPHA,)


def _for_each(values: tuple[int, ...], samples: int, default: int) -> tuple[int, ...]:
    """One value for each sample; a single one holds for all."""
    values = values or (default,)
    return values * min(samples, 64) if len(values) == 1 else values[:samples]


def is_camera_raw(page: Directory) -> bool:
    """Whether a TIFF is a camera's raw file, whose first page is a preview at best."""
    preview = page.number(PREVIEW_ONLY, 0) == 1 and SUB_DIRECTORIES in page.tags
    sensor = page.number(PHOTOMETRIC, 0) in SENSOR_VALUES
    return DNG_VERSION in page.tags or preview or sensor or page.data[8:10] == b"CR"


def read_by_pillow(layout: TiffLayout) -> bool:
    """Whether a layout is left to Pillow, which reads it correctly or says that it does not know it."""
    if layout.compression in FOR_PILLOW:
        return True
    packed = len({*layout.bits}) == 1 and layout.bits[0] < 8
    together = not layout.planar and not (layout.subsampled and layout.compression == NONE)
    other_colours = layout.photometric not in COLOURS and {*layout.bits} == {8} and together
    twelve = layout.bits == (12,)
    return {*layout.formats} == {UNSIGNED} and (other_colours or ((packed or twelve) and layout.samples == 1))


def check_opened_by_pillow(tags: Mapping[int, Any], name: str) -> None:
    """Refuse a TIFF that the caller opened with Pillow if Pillow makes other pixels from it.

    Args:
        tags: Pillow's ``tag_v2``.
        name: what messages call the image.

    Raises:
        ImageError: says to give the file instead.
    """
    sixteen, planar = 16 in tags.get(BITS_PER_SAMPLE, ()), tags.get(PLANAR_CONFIGURATION, 1) == 2
    photometric, extra = tags.get(PHOTOMETRIC), tags.get(EXTRA_SAMPLES, ())
    wrong = {
        "16 bits in planes": sixteen and planar and tags.get(SAMPLES_PER_PIXEL, 1) > 1,
        "16 bits with white as zero": sixteen and photometric == WHITE_IS_ZERO,
        "signed integers": SIGNED in tags.get(SAMPLE_FORMAT, ()),
        "several bands of grey": photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and 0 in extra,
    }
    if any(wrong.values()):
        what = next(what for what, is_so in wrong.items() if is_so)
        raise ImageError(
            f"{name}: is a TIFF of {what}, which Pillow reads as other pixels; give its path or bytes",
            code="U",
        )


def check_blocks(layout: TiffLayout, page: Directory, name: str, *, read_all: bool) -> None:
    """Refuse more strips or tiles than a page of its size can use.

    Raises:
        LimitError: if there are more.
    """
    offsets = page.tags.get(TILE_OFFSETS if layout.tiled else STRIP_OFFSETS)
    kind = "tiles" if layout.tiled else "strips"
    if offsets is None or not offsets.count:
        raise ValueError(f"it has no {kind}")
    if layout.blocks > MAX_BLOCKS:
        raise LimitError(
            f"{name}: {layout.blocks:,} {kind}, over the limit of {MAX_BLOCKS:,} for a TIFF file; save it with larger ones"
        )
    if read_all and offsets.count > layout.blocks:
        raise LimitError(
            f"{name}: {offsets.count:,} {kind}, over the {layout.blocks:,} that its size can use; save it again"
        )
    if read_all and layout.compression in JPEG:
        _check_scans(layout, page, name)


def _check_scans(layout: TiffLayout, page: Directory, name: str) -> None:
    """Refuse strips or tiles of JPEG whose scans make more work than the picture is worth."""
    sizes = page.array(TILE_BYTE_COUNTS if layout.tiled else STRIP_BYTE_COUNTS, layout.blocks)
    shared = int(sizes.astype(np.uint64).sum()) > SHARED_BYTES * len(page.data)
    most = layout.blocks * most_scans(layout.height, layout.width)
    if shared or page.data.count(START_OF_SCAN_MARKER) > most:
        raise LimitError(
            f"{name}: more scans than the {most:,} that a JPEG of its size may have; save it again"
        )


def check_colours(layout: TiffLayout, name: str) -> None:
    """Refuse samples that have no colour as an image: a guess would make it another image.

    Raises:
        ImageError: says what the file holds and what to do.
    """
    _check_form(layout, name)
    what, whole = (
        f"{name}: is a TIFF of {layout.words}",
        layout.formats[0] == UNSIGNED and layout.bits[0] <= 16,
    )
    signed_but_wide = layout.bits[0] == 32 and layout.formats[0] in (UNSIGNED, SIGNED)
    if not whole and not (signed_but_wide and layout.samples == 1 and layout.photometric == BLACK_IS_ZERO):
        raise ImageError(f"{what}, which have no fixed black and white; convert it to unsigned 8 or 16 bits")
    check_bands(layout, name)


def check_bands(layout: TiffLayout, name: str) -> None:
    """Refuse grey with more bands than its alpha: none of them is more the picture than another.

    Raises:
        ImageError: says what the file holds and what to do.
    """
    grey = layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    if grey and layout.samples - (layout.alpha is not None) > 1:
        save = (
            "save the one that is meant as grey"
            if layout.samples == 2
            else "save one as grey or three as RGB"
        )
        raise ImageError(f"{name}: is a TIFF of {layout.words}, whose colours are not stated; {save}")


def bands_remark(layout: TiffLayout) -> tuple[str, ...]:
    """Mention bands besides the colours and the alpha, which are ignored."""
    ignored = layout.samples - layout.colours - (layout.alpha is not None)
    if ignored < 1 or layout.photometric not in (RGB, SEPARATED):
        return ()
    return (f"only the colours of its {layout.samples} bands are used; {ignored} ignored",)


def _check_form(layout: TiffLayout, name: str) -> None:
    what, save = f"{name}: is a TIFF of {layout.words}", SAVE_PLAINLY
    known = layout.photometric in COLOURS and (layout.photometric != SEPARATED or layout.inks == CMYK_INKS)
    if not known or not layout.even or layout.samples < layout.colours or len(layout.bits) != layout.samples:
        raise ImageError(f"{what}, which is not read; {save}")
    if layout.compression not in (NONE, *DEFLATE, *UNPACKED_BY_LIBTIFF):
        raise ImageError(
            f"{what} in compression {layout.compression}, which is not read; save it with LZW or without"
        )
    if layout.predictor not in (PREDICTOR_NONE, PREDICTOR_DIFFERENCES):
        raise ImageError(
            f"{what} with predictor {layout.predictor}, which is not read; save it without a predictor"
        )
    block_bytes = (
        math.prod(layout.block_size) * layout.samples * layout.bits[0] // 8
    )  # of all planes together
    if layout.compression in UNPACKED_BY_LIBTIFF and block_bytes > MAX_BLOCK_BYTES:
        raise LimitError(
            f"{name}: a block of {block_bytes:,} bytes, over the limit of {MAX_BLOCK_BYTES:,} for one packed by {UNPACKED_BY_LIBTIFF[layout.compression]}; "
            "save it in smaller strips"
        )


def check_mask(layout: TiffLayout, name: str) -> None:
    """Refuse samples whose zero is not clearly the background of a mask.

    Raises:
        ImageError: says what the file holds and what to do.
    """
    _check_form(layout, name)
    what = f"{name}: is a TIFF of {layout.words}"
    if layout.formats[0] not in (UNSIGNED, SIGNED, FLOAT) or (
        layout.formats[0] == FLOAT and layout.bits[0] == 8
    ):
        raise ImageError(f"{what}, not a mask; save it as grey of 8 bits")
    if layout.photometric == WHITE_IS_ZERO and layout.formats[0] != UNSIGNED:
        raise ImageError(f"{what}, whose black is not known; save it as grey of 8 bits")
    if layout.photometric == SEPARATED:
        raise ImageError(f"{what}, not a mask; save it as grey of 8 bits")
    check_bands(layout, name)


def sample_type(layout: TiffLayout, order: str) -> np.dtype:
    """Return the samples' type in NumPy."""
    kind = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[layout.formats[0]]
    return np.dtype(f"{order}{kind}{layout.bits[0] // 8}")
