"""BMP pictures packed in runs, unpacked within bounds.

Pillow goes through each code in Python, does not count an empty row, and fills rows up
pixel by pixel: a file of nothing but ends of rows keeps it busy in proportion to its length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mobilesam.core.errors import LimitError

RUNS_OF_BYTES, RUNS_OF_HALF_BYTES = 1, 2  # BMP's numbers for how pixels are packed
END_OF_ROW, END_OF_PICTURE, MOVE = 0, 1, 2
FIRST_HEADER_WITH_RUNS = 40
MAX_RUNS = 1_000_000  # 2 MB of codes; a photo has more, and is not packed in runs
MOST_PIXELS = 178_956_970  # every caller refuses more, so no memory is taken for them


@dataclass(frozen=True)
class _Picture:
    """What a BMP's header says about its runs."""

    width: int
    height: int
    half_bytes: bool
    pixels: int

    @property
    def row_bytes(self) -> int:
        return -(-self.width // 4) * 4


def without_runs(data: bytes, name: str) -> bytes:
    """Return a BMP whose pixels are packed in runs as one with a byte for each pixel; any other is left as it is.

    Pixels that no run sets get the palette's first colour.

    Raises:
        ValueError: if the runs end before the picture does.
        LimitError: for more runs than a file of this kind may have.
    """
    picture = _header(data)
    if picture is None or not 0 < picture.width * picture.height <= MOST_PIXELS:
        return data
    plain = bytearray(picture.pixels + picture.row_bytes * picture.height)
    plain[: picture.pixels] = data[: picture.pixels]
    colours = struct.unpack_from("<I", data, 46)[0] or (16 if picture.half_bytes else 256)
    struct.pack_into("<HII", plain, 28, 8, 0, 0)
    struct.pack_into("<I", plain, 46, colours)
    _unpack(data, plain, picture, name)
    return bytes(plain)


def _header(data: bytes) -> _Picture | None:
    if len(data) < 54:
        return None
    (pixels,) = struct.unpack_from("<I", data, 10)
    size, width, height = struct.unpack_from("<Iii", data, 14)
    depth, packing = struct.unpack_from("<HI", data, 28)
    runs = {(8, RUNS_OF_BYTES): False, (4, RUNS_OF_HALF_BYTES): True}
    if size < FIRST_HEADER_WITH_RUNS or (depth, packing) not in runs or not 54 <= pixels <= len(data):
        return None
    return _Picture(width, abs(height), runs[depth, packing], pixels)


def _unpack(data: bytes, plain: bytearray, picture: _Picture, name: str) -> None:
    """Set the pixels of all runs; what reaches beyond a row is left out."""
    width, height, row_bytes, start = picture.width, picture.height, picture.row_bytes, picture.pixels
    position, x, y = picture.pixels, 0, 0
    fills = [bytes((i >> 4, i & 15) if picture.half_bytes else (i,)) * 255 for i in range(256)]
    for _ in range(MAX_RUNS):
        if y >= height or (y == height - 1 and x >= width):
            return
        if position + 2 > len(data):
            raise ValueError("its runs end early")
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            values = fills[value]
        elif value == END_OF_ROW:
            x, y = 0, y + 1
            continue
        elif value == END_OF_PICTURE:
            return
        elif value == MOVE:
            x, y = x + data[position], y + data[position + 1]
            position += 2
            continue
        else:
            count, packed = value, -(-value // 2) if picture.half_bytes else value
            values = data[position : position + packed]
            if len(values) < packed:
                raise ValueError("its runs end early")
            position += packed + packed % 2
            if picture.half_bytes:
                values = bytes(half for byte in values for half in (byte >> 4, byte & 15))
        if x < width:
            inside = count if x + count <= width else width - x
            place = start + y * row_bytes + x
            plain[place : place + inside] = values[:inside]
        x += count
    raise LimitError(f"{name}: more than {MAX_RUNS:,} runs, the limit for a BMP file; save it as PNG")
