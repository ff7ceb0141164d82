"""The parts of a PNG file that its pixels need.

Text and colour profiles may be compressed a thousandfold, and one broken comment makes
Pillow refuse a whole picture. So its decoder only gets the chunks that pixels depend on.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from mobilesam.core.errors import LimitError

SIGNATURE_BYTES, FRAME_BYTES = 8, 12  # a chunk is framed by its length, kind and checksum
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
ORIENTATION_CHUNK = b"eXIf"
MAX_CHUNKS = 100_000  # at 8 KiB each, as encoders write them, this many are more than a file may hold


@dataclass(frozen=True)
class Png:
    """A PNG file without what its pixels do not need.

    Attributes:
        data: the rest, still a PNG file.
        frames: pictures in it; above 1 for an animation.
        whole: whether the file has its end.
    """

    data: bytes
    frames: int
    whole: bool


def keep_pixel_chunks(data: bytes, name: str) -> Png:
    """Leave out all chunks but those of the first picture's pixels and orientation.

    Raises:
        ValueError: if a chunk that matters is cut off or its checksum is wrong.
        LimitError: for more chunks than any honest file has.
    """
    view = memoryview(data)
    kept, position, frames, whole = [view[:SIGNATURE_BYTES]], SIGNATURE_BYTES, 1, False
    for _ in range(MAX_CHUNKS):
        if whole or position + FRAME_BYTES > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + FRAME_BYTES + length
        if kind == b"acTL" and length == 8 and end <= len(data):
            (frames,) = struct.unpack_from(">I", data, position + 8)
        if kind in PIXEL_CHUNKS or (kind == ORIENTATION_CHUNK and _intact(view[position:end], length)):
            if not _intact(view[position:end], length):
                raise ValueError(f"chunk {kind.decode()} is cut off or its checksum is wrong")
            kept.append(view[position:end])
            whole = kind == b"IEND"
        position = end
    else:
        raise LimitError(f"{name}: more than {MAX_CHUNKS:,} chunks, the limit for a PNG file; save it again")
    left_out = sum(map(len, kept)) != len(data)
    return Png(b"".join(kept) if left_out else data, frames, whole)


def _intact(chunk: memoryview, length: int) -> bool:
    whole = len(chunk) == FRAME_BYTES + length
    return whole and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
