"""The pixels of a TIFF file, whatever the order of its bytes, planes, strips and tiles.

Pillow takes the pixels of 16-bit planes twice, forgets that white is zero, shifts signed
numbers and silently drops bands. So only the unpacking of a block is left to libtiff,
through Pillow, and to zlib; where a block's values belong is decided here.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from mobilesam.core.arrays import Image, Mask
from mobilesam.core.errors import ImageError
from mobilesam.formats import tiff_layout
from mobilesam.formats.sample_depth import any_sample, sixteen_to_eight
from mobilesam.formats.tiff_directory import Directory
from mobilesam.formats.tiff_layout import TiffLayout, sample_type

PIECE_BYTES = 2**18  # put in place at a time: a picture is in memory once, a piece in the processor's cache
GROUP_BYTES = 2**22  # of strips that libtiff unpacks at a time
PACKED_PIECE = 2**16
SLACK, SLACK_BYTES = 2, 1024  # a block's packed bytes beyond twice its values are ignored
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
LONG, SHORT = 4, 3


@dataclass(frozen=True)
class TiffPixels:
    """The pixels of a TIFF's page, not yet unpacked.

    Attributes:
        page: the page's tags.
        layout: what they say about its pixels.
        name: what messages call the file.
        remarks: what is worth saying about the file.
    """

    page: Directory
    layout: TiffLayout
    name: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Block:
    """A strip or tile: where its bytes lie, and where its values belong."""

    number: int
    start: int
    packed_size: int
    top: int
    left: int
    plane: int
    height: int
    row_bytes: int

    @property
    def size(self) -> int:
        return self.height * self.row_bytes


@dataclass(frozen=True)
class _Piece:
    """Some rows of a block, as the samples of its plane (h, w, S), within the picture."""

    rows: slice
    columns: slice
    plane: int
    values: np.ndarray


def unpack_rgb(pixels: TiffPixels, stored: Image) -> bool:
    """Write the picture into ``stored`` (H, W, 3), and return whether any of it is visible.

    Raises:
        ValueError: if pixels are missing or damaged.
        ImageError: if they have no fixed white.
    """
    layout, seen = pixels.layout, False
    wanted = _samples_that_count(layout)
    for piece in _planes_together(pixels, wanted) if layout.planar else _pieces(pixels, {0}):
        samples = piece.values if layout.planar else piece.values[..., wanted]
        stored[piece.rows, piece.columns], visible = _samples_to_rgb(_eight_bits(samples, pixels), layout)
        seen = seen or visible
    return seen


def unpack_samples(pixels: TiffPixels) -> np.ndarray | None:
    """Return a 16-bit grey or RGB picture without alpha as it is stored, (H, W, 3) uint16; None for any other.

    Raises:
        ValueError: if pixels are missing or damaged.
    """
    layout = pixels.layout
    plain = layout.photometric in (tiff_layout.BLACK_IS_ZERO, tiff_layout.RGB)
    unsigned = set(layout.formats) <= {tiff_layout.UNSIGNED} and set(layout.bits) == {16}
    if not (plain and unsigned) or layout.alpha is not None:
        return None
    stored = np.empty((layout.height, layout.width, 3), np.uint16)
    wanted = _samples_that_count(layout)
    for piece in _planes_together(pixels, wanted) if layout.planar else _pieces(pixels, {0}):
        stored[piece.rows, piece.columns] = piece.values if layout.planar else piece.values[..., wanted]
    return stored


def _planes_together(pixels: TiffPixels, wanted: list[int]) -> Iterator[_Piece]:
    """Yield the same rows of all planes as one piece, so that each part of the picture is written once.

    Planes are unpacked side by side: zlib lets other threads go on.
    """
    planes = [_pieces(pixels, {plane}) for plane in wanted]
    with ThreadPoolExecutor(len(planes)) as pool:
        while pieces := [piece for piece in pool.map(next, planes, repeat(None)) if piece is not None]:
            values = np.concatenate([piece.values for piece in pieces], axis=-1)
            yield replace(pieces[0], values=values)


def unpack_mask(pixels: TiffPixels, stored: Mask) -> None:
    """Write into ``stored`` (H, W) what is neither black nor transparent.

    Raises:
        ValueError: if pixels are missing or damaged.
        ImageError: if they are not numbers.
    """
    layout, stored[:] = pixels.layout, False
    wanted = _samples_that_count(layout)
    for piece in _pieces(pixels, set(wanted) if layout.planar else {0}):
        values = piece.values
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ImageError(
                f"{pixels.name}: holds values that are not numbers, so it is not a mask; save it as grey of 8 bits"
            )
        place = piece.rows, piece.columns
        if layout.planar:
            lit = _nonzero(values, layout, colour=piece.plane < layout.colours)[..., 0]
            stored[place] = stored[place] & lit if piece.plane == layout.alpha else stored[place] | lit
            continue
        lit = any_sample(_nonzero(values[..., : layout.colours], layout, colour=True))
        stored[place] = lit if layout.alpha is None else lit & (values[..., layout.alpha] != 0)


def _samples_that_count(layout: TiffLayout) -> list[int]:
    return [*range(layout.colours), *([] if layout.alpha is None else [layout.alpha])]


def _nonzero(values: np.ndarray, layout: TiffLayout, *, colour: bool) -> np.ndarray:
    inverted = colour and layout.photometric == tiff_layout.WHITE_IS_ZERO
    return (values != np.iinfo(values.dtype).max) if inverted else (values != 0)


def _eight_bits(values: np.ndarray, pixels: TiffPixels) -> np.ndarray:
    """Return samples (h, w, S) as 8 bits, with zero as black."""
    layout = pixels.layout
    if values.dtype.itemsize == 4:
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ImageError(
                f"{pixels.name}: holds 32-bit integers outside 0 to 65,535, which have no fixed white; convert it to 16 bits"
            )
        values = values.astype(np.uint16)
    if values.dtype.itemsize == 2:
        values = sixteen_to_eight(values)
    if layout.photometric == tiff_layout.WHITE_IS_ZERO:
        values = values.copy()
        values[..., : layout.colours] = ~values[..., : layout.colours]
    return values


def _samples_to_rgb(samples: np.ndarray, layout: TiffLayout) -> tuple[np.ndarray, bool]:
    """Return colours over white, grey ones (h, w, 1), and whether any is visible."""
    colours = samples[..., : layout.colours]
    if layout.photometric == tiff_layout.SEPARATED:
        inks = np.ascontiguousarray(colours)
        picture = PillowImage.frombuffer("CMYK", inks.shape[1::-1], inks.tobytes(), "raw", "CMYK", 0, 1)
        return np.asarray(picture.convert("RGB")), True
    if layout.alpha is None:
        return colours, True
    if samples[..., -1].min() == 255:
        return colours, True
    alpha = samples[..., -1:].astype(np.uint16)
    if layout.premultiplied:
        return np.minimum(colours + (255 - alpha), 255).astype(np.uint8), bool(alpha.any())
    over = colours * alpha + 255 * (255 - alpha) + 127
    return ((over + 1 + (over >> 8)) >> 8).astype(np.uint8), bool(alpha.any())  # divided by 255


def _pieces(pixels: TiffPixels, planes: set[int]) -> Iterator[_Piece]:
    """Yield the picture's samples, some rows of a block at a time, without what reaches beyond it."""
    layout, page = pixels.layout, pixels.page
    dtype, width = sample_type(layout, page.order), layout.block_size[1]
    for block, first, packed in _unpacked(pixels, _blocks(pixels, planes)):
        values = np.ascontiguousarray(packed).view(dtype).reshape(len(packed), width, -1)
        values = values.astype(dtype.newbyteorder("="), copy=False)
        if layout.predictor == tiff_layout.PREDICTOR_DIFFERENCES:
            values = _summed(values)
        top, left = block.top + first, block.left
        bottom, right = min(top + len(values), layout.height), min(left + width, layout.width)
        if top < bottom:
            inside = values[: bottom - top, : right - left]
            yield _Piece(slice(top, bottom), slice(left, right), block.plane, inside)


def _summed(differences: np.ndarray) -> np.ndarray:
    """Return the values whose differences the rows hold; they wrap around."""
    whole = differences.view(f"u{differences.dtype.itemsize}")
    return np.cumsum(whole, axis=1, dtype=whole.dtype).view(differences.dtype)


def _blocks(pixels: TiffPixels, planes: set[int]) -> Iterator[_Block]:
    """Yield the strips or tiles of some planes in the order of the file's list."""
    layout, page = pixels.layout, pixels.page
    offsets, sizes = _places(pixels)
    high, wide = layout.block_size
    across, in_a_plane = layout.blocks_across, layout.blocks // layout.planes
    row_bytes = wide * (layout.samples // layout.planes) * layout.bits[0] // 8
    for number in range(layout.blocks):
        plane, place = divmod(number, in_a_plane)
        if plane not in planes:
            continue
        top, left = place // across * high, place % across * wide
        height = high if layout.tiled else min(high, layout.height - top)
        start = int(offsets[number])
        packed_size = height * row_bytes
        if layout.compression != tiff_layout.NONE:
            given = int(sizes[number]) if len(sizes) else len(page.data) - start
            packed_size = min(given, SLACK * packed_size + SLACK_BYTES)
        if packed_size < 1 or start < 1 or start + packed_size > len(page.data):
            raise ValueError(
                f"{'tile' if layout.tiled else 'strip'} {number + 1} of {layout.blocks} is not all there"
            )
        yield _Block(number, start, packed_size, top, left, plane, height, row_bytes)


def _places(pixels: TiffPixels) -> tuple[np.ndarray, np.ndarray]:
    """Return where each block begins, and its packed bytes if the file states them."""
    layout, page = pixels.layout, pixels.page
    starts, lengths = tiff_layout.STRIP_OFFSETS, tiff_layout.STRIP_BYTE_COUNTS
    if layout.tiled:
        starts, lengths = tiff_layout.TILE_OFFSETS, tiff_layout.TILE_BYTE_COUNTS
    offsets, sizes = page.array(starts, layout.blocks), page.array(lengths, layout.blocks)
    if len(offsets) < layout.blocks or 0 < len(sizes) < layout.blocks:
        raise ValueError(f"only {min(len(offsets), len(sizes)):,} of its {layout.blocks:,} blocks are there")
    return offsets, sizes


def _unpacked(pixels: TiffPixels, blocks: Iterable[_Block]) -> Iterator[tuple[_Block, int, np.ndarray]]:
    """Yield blocks with the number of one of their rows, and the bytes (h, row_bytes) from there on."""
    compression = pixels.layout.compression
    if compression == tiff_layout.NONE:
        for block in blocks:
            yield from _in_rows(
                block, np.frombuffer(_packed(pixels, block), np.uint8).reshape(-1, block.row_bytes)
            )
    elif compression in tiff_layout.DEFLATE:
        for block in blocks:
            yield from _inflated(block, _packed(pixels, block))
    else:
        for group in _groups(blocks, pixels.layout.block_size[0]):
            yield from _unpacked_by_libtiff(pixels, group)


def _packed(pixels: TiffPixels, block: _Block) -> memoryview:
    packed = memoryview(pixels.page.data)[block.start : block.start + block.packed_size]
    return memoryview(bytes(packed).translate(REVERSED)) if pixels.layout.bits_reversed else packed


def _rows_of_a_piece(block: _Block) -> int:
    return max(1, PIECE_BYTES // block.row_bytes)


def _in_rows(block: _Block, array: np.ndarray) -> Iterator[tuple[_Block, int, np.ndarray]]:
    for first in range(0, block.height, step := _rows_of_a_piece(block)):
        yield block, first, array[first : first + step]


def _inflated(block: _Block, packed: memoryview) -> Iterator[tuple[_Block, int, np.ndarray]]:
    """Unpack deflate piece by piece, so that a strip of any size takes little memory; its checksum must be right."""
    coder, position = zlib.decompressobj(), 0
    waiting: bytes | memoryview = b""

    def take(count: int) -> bytes:
        nonlocal position, waiting
        parts: list[bytes] = []
        while count > 0 and not coder.eof and (waiting or position < len(packed)):
            if not waiting:
                waiting = packed[position : position + PACKED_PIECE]
                position += PACKED_PIECE
            parts.append(coder.decompress(waiting, count))
            waiting, count = coder.unconsumed_tail, count - len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    for first in range(0, block.height, step := _rows_of_a_piece(block)):
        rows = min(step, block.height - first)
        taken = take(rows * block.row_bytes)
        if len(taken) < rows * block.row_bytes:
            raise ValueError(f"block {block.number + 1} ends early")
        yield block, first, np.frombuffer(taken, np.uint8).reshape(rows, -1)
    take(1)  # reads the checksum, which zlib compares


def _groups(blocks: Iterable[_Block], usual_height: int) -> Iterator[list[_Block]]:
    """Gather blocks into groups that libtiff unpacks in one go; only the last of a group may have fewer rows."""
    group: list[_Block] = []
    for block in blocks:
        group.append(block)
        if block.height < usual_height or len(group) * block.size >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _unpacked_by_libtiff(pixels: TiffPixels, group: list[_Block]) -> Iterator[tuple[_Block, int, np.ndarray]]:
    """Unpack blocks as the strips of a grey picture whose pixels are their bytes."""
    strips = [bytes(_packed(pixels, block)) for block in group]
    file = _grey_tiff(strips, group, pixels.layout.compression)
    picture = TiffImagePlugin.TiffImageFile(io.BytesIO(file))
    del strips, file
    picture.load()
    top = 0
    for block in group:
        for first in range(0, block.height, step := _rows_of_a_piece(block)):
            rows = min(step, block.height - first)
            part = picture.crop((0, top + first, block.row_bytes, top + first + rows))
            yield block, first, np.asarray(part)
        top += block.height


def _grey_tiff(strips: list[bytes], group: list[_Block], compression: int) -> bytes:
    """Return a TIFF file of 8-bit grey with these strips."""
    count, sizes = len(strips), [len(strip) for strip in strips]
    tags = 9
    lists = 8 + 2 + 12 * tags + 4
    pixels = lists + 8 * count
    starts = [pixels + before for before in np.cumsum([0, *sizes[:-1]]).tolist()]
    inline = count == 1
    entries = (
        (tiff_layout.IMAGE_WIDTH, LONG, 1, group[0].row_bytes),
        (tiff_layout.IMAGE_LENGTH, LONG, 1, sum(block.height for block in group)),
        (tiff_layout.BITS_PER_SAMPLE, SHORT, 1, 8),
        (tiff_layout.COMPRESSION, SHORT, 1, compression),
        (tiff_layout.PHOTOMETRIC, SHORT, 1, tiff_layout.BLACK_IS_ZERO),
        (tiff_layout.STRIP_OFFSETS, LONG, count, starts[0] if inline else lists),
        (tiff_layout.SAMPLES_PER_PIXEL, SHORT, 1, 1),
        (tiff_layout.ROWS_PER_STRIP, LONG, 1, group[0].height),
        (tiff_layout.STRIP_BYTE_COUNTS, LONG, count, sizes[0] if inline else lists + 4 * count),
    )
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    places = struct.pack(f"<{2 * count}I", *starts, *sizes)
    return b"".join((b"II*\0\x08\0\0\0", struct.pack("<H", tags), directory, bytes(4), places, *strips))
