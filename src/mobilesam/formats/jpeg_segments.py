"""What a JPEG file says of itself before its pixels."""

from __future__ import annotations

import re

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
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# A scan goes over the whole picture again, and may be a few bytes. Encoders write 12 at most.
USUAL_SCANS, MAX_SCANS = 12, 200
MAX_SCANNED_PIXELS = 500_000_000
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # none that stands within a scan's values


def jpeg_kind(data: bytes, name: str) -> str:
    """Return ``JPEG file``, with how its pixels are coded before it where that is not the usual way.

    Raises:
        LimitError: for more segments or scans than any honest file has.
    """
    position, kind, scans, most = 2, "JPEG file", 0, USUAL_SCANS
    for _ in range(MAX_SEGMENTS):
        start = data[position : position + 4]
        if len(start) < 4 or start[0] != 0xFF or start[1] == END_OF_IMAGE:
            return kind
        length = 1 if start[1] == 0xFF else 2 + int.from_bytes(start[2:], "big")
        if start[1] in JPEG_FRAMES and not scans:
            kind = JPEG_FRAMES[start[1]] + "JPEG file"
            most = most_scans(
                *(int.from_bytes(data[position + at : position + at + 2], "big") for at in (5, 7))
            )
        position += length
        if start[1] == START_OF_SCAN:
            scans += 1
            if scans > most:
                raise LimitError(
                    f"{name}: more than {most} scans, the limit for a JPEG of its size; save it anew"
                )
            marker = NEXT_MARKER.search(data, position)
            position = len(data) if marker is None else marker.end() - 2
    raise LimitError(f"{name}: more than {MAX_SEGMENTS:,} segments, the limit for a JPEG file; save it anew")


def most_scans(height: int, width: int) -> int:
    """Return how many scans a picture of a size may have: the work that they make is bounded."""
    return max(USUAL_SCANS, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, height * width)))
