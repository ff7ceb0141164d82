"""The size of a WebP file's canvas, read from its header, before a decoder takes memory for it.

The layouts are those of RFC 9649 (WebP), and of RFC 6386 for the frame header of lossy images.
"""

from __future__ import annotations

from mobilesam.core.arrays import Size

CHUNK, CONTENT = 12, 20  # where the first chunk begins, after RIFF's header, and where its content begins
LOSSY_START = b"\x9d\x01\x2a"
LOSSLESS_START = 0x2F
SIDE_BITS = 14


def webp_canvas(data: bytes) -> Size | None:
    """Return (height, width); None if the header is not that of a WebP file."""
    kind, content = data[CHUNK : CHUNK + 4], data[CONTENT : CONTENT + 10]
    if len(content) < 10:
        return None
    mask = (1 << SIDE_BITS) - 1
    if kind == b"VP8X":
        return int.from_bytes(content[7:10], "little") + 1, int.from_bytes(content[4:7], "little") + 1
    if kind == b"VP8L" and content[0] == LOSSLESS_START:
        bits = int.from_bytes(content[1:5], "little")
        return (bits >> SIDE_BITS & mask) + 1, (bits & mask) + 1
    if kind == b"VP8 " and content[3:6] == LOSSY_START:
        return int.from_bytes(content[8:10], "little") & mask, int.from_bytes(content[6:8], "little") & mask
    return None
