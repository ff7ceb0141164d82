"""What a JPEG file says of itself before its pixels."""

from __future__ import annotations

from mobilesam.core.errors import LimitError

JPEG_FRAMES = {  # markers that say how the pixels are coded
    0xC0: "",
    0xC1: "extended ",
    0xC2: "progressive ",
    0xC3: "lossless ",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical "),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic-coded "),
    0xCB: "lossless arithmetic-coded ",
    **dict.fromkeys((0xCD, 0xCE, 0xCF), "hierarchical arithmetic-coded "),
}
MAX_SEGMENTS = 100_000  # real files have dozens; a decoder would go through millions one by one


def jpeg_kind(data: bytes, name: str) -> str:
    """Return ``JPEG file``, with how its pixels are coded before it where that is not the usual way.

    Raises:
        LimitError: for more segments than any honest file has.
    """
    position = 2
    for _ in range(MAX_SEGMENTS):
        start = data[position : position + 4]
        if len(start) < 4 or start[0] != 0xFF:
            return "JPEG file"
        if start[1] in JPEG_FRAMES:
            return JPEG_FRAMES[start[1]] + "JPEG file"
        filling = start[1] == 0xFF
        position += 1 if filling else 2 + int.from_bytes(start[2:], "big")
    raise LimitError(f"{name}: more than {MAX_SEGMENTS:,} segments, the limit for a JPEG file; save it anew")
