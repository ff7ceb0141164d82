"""How many pictures an image file holds, counted without decoding any of them."""

from __future__ import annotations

import struct

from mobilesam.core.errors import LimitError

MAX_COUNTED = 100_000  # counting stops here: a file could hold millions of empty frames
MAX_STEPS = 2_500_000  # parts of blocks; this many full ones are more than a file may hold
GIF_IMAGE, GIF_EXTENSION = 0x2C, 0x21


def gif_frames(data: bytes, name: str) -> int:
    """Return the number of pictures in a GIF, as far as its blocks can be followed in a moment.

    Raises:
        LimitError: for more blocks before the first picture than any honest file has.
    """
    frames = blocks = steps = 0
    try:
        position = 13 + _colour_table(data[10])
        while frames <= MAX_COUNTED and data[position] in (GIF_IMAGE, GIF_EXTENSION):
            if data[position] == GIF_IMAGE:
                frames += 1
                position += 11 + _colour_table(data[position + 9])
            else:
                position += 2
            blocks += 1
            if blocks > MAX_COUNTED and not frames:
                raise LimitError(
                    f"{name}: more than {MAX_COUNTED:,} blocks before the picture, the limit for a GIF file; "
                    "save it again"
                )
            while data[position] and steps <= MAX_STEPS:
                position += data[position] + 1
                steps += 1
            if steps > MAX_STEPS:
                return frames
            position += 1
    except IndexError:
        pass  # cut off; the decoder judges what is there
    return frames


def tiff_pages(data: bytes) -> int:
    """Return the number of pages in a TIFF; a chain that runs in a circle is followed once."""
    order, big = ("<" if data[:2] == b"II" else ">"), data[2:4] in (b"+\0", b"\0+")
    start, count, entry, following = (8, "Q", 20, "Q") if big else (4, "H", 12, "I")
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + following, data, start)
        while offset and offset not in seen and len(seen) <= MAX_COUNTED:
            (entries,) = struct.unpack_from(order + count, data, offset)
            after = offset + struct.calcsize(order + count) + entry * entries
            seen.add(offset)
            (offset,) = struct.unpack_from(order + following, data, after)
    except struct.error:
        pass  # the chain leads out of the file
    return len(seen)


def _colour_table(flags: int) -> int:
    """Bytes of the colour table that a GIF's flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
