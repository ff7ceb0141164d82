"""The parts of a JPEG file that its pixels need, and how much work its decoder would have."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mobilesam.core.errors import LimitError
from mobilesam.formats.tiff_directory import exif_claims_too_much

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
# A scan goes over the whole picture again, and may be only a few bytes. Encoders write 12 at most.
USUAL_SCANS, MAX_SCANS = 12, 200
MAX_SCANNED_PIXELS = 500_000_000
# For a picture in several scans, all coefficients, of two bytes, are in memory before its first pixel, of four.
COEFFICIENT_BYTES, PIXEL_BYTES, MOST_DECODING_BYTES = 2, 4, 400 * 2**20
COMMENT, APP1, APPLICATION, JFIF_AND_ADOBE = 0xFE, 0xE1, range(0xE0, 0xF0), (0xE0, 0xEE)
EXIF = b"Exif\0\0"
METADATA = (EXIF, b"http://ns.adobe.com/xap/")  # both may hold the orientation
WITHOUT_LENGTH = (0x01, 0xD8, END_OF_IMAGE)
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # none that occurs among a scan's values


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file without what its pixels and orientation do not need.

    Attributes:
        data: the rest, still a JPEG file.
        kind: ``JPEG file``, preceded by how its pixels are coded if that is unusual.
    """

    data: bytes
    kind: str


def keep_pixel_segments(data: bytes, name: str) -> Jpeg:
    """Leave out all segments before the pixels that Pillow would collect but nobody needs.

    Raises:
        LimitError: for more segments or scans than any honest file has.
    """
    view = memoryview(data)
    kept, kind, scans, most = [view[:2]], "JPEG file", 0, USUAL_SCANS
    seen: set[bytes] = set()
    frame = b""
    for number, (marker, start, end) in enumerate(_segments(data)):
        if number == MAX_SEGMENTS:
            raise LimitError(
                f"{name}: more than {MAX_SEGMENTS:,} segments, the limit for a JPEG file; save it again"
            )
        if marker == END_OF_IMAGE and scans:
            break
        if marker in JPEG_FRAMES and not scans:
            kind = JPEG_FRAMES[marker] + "JPEG file"
            frame = data[start + 5 : end].ljust(5, b"\0")
            most = most_scans(*struct.unpack_from(">HH", frame))
        if not scans and _is_wanted(view[start:end], seen):
            kept.append(view[start:end])
        if marker == START_OF_SCAN:
            if not scans:
                kept.append(view[end:])
            scans += 1
            if scans > most:
                raise LimitError(
                    f"{name}: more than {most} scans, the limit for a JPEG of its size; save it again"
                )
    if scans > 1:
        _check_memory(frame, name)
    left_out = sum(map(len, kept)) != len(data)
    return Jpeg(b"".join(kept) if left_out else data, kind)


def _check_memory(frame: bytes, name: str) -> None:
    """Refuse a picture in several scans whose coefficients and pixels take too much memory together.

    Args:
        frame: what its header says, from its height on.
        name: what messages call it.
    """
    height, width, components = struct.unpack_from(">HHB", frame)
    factors = [
        frame[at] for at in range(6, min(len(frame), 5 + 3 * components), 3)
    ]  # 16 times across, and down
    samples = [(factor >> 4) * (factor & 15) for factor in factors]
    largest = max((factor >> 4 for factor in factors), default=1) * max(
        (factor & 15 for factor in factors), default=1
    )
    pixel_bytes = PIXEL_BYTES + COEFFICIENT_BYTES * sum(samples) / max(largest, 1)
    most = int(MOST_DECODING_BYTES / pixel_bytes)
    if height * width > most:
        raise LimitError(
            f"{name}: {width} x {height} is {height * width:,} pixels, over the limit of {most:,} for a JPEG "
            "that is progressive or in several scans; save it as baseline, or make it smaller"
        )


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each segment's marker, beginning and end; what lies between them is skipped, as decoders do."""
    position = 2
    while (found := NEXT_MARKER.search(data, position)) is not None:
        start, marker = found.end() - 2, data[found.end() - 1]
        length = 0 if marker in WITHOUT_LENGTH else int.from_bytes(data[start + 2 : start + 4], "big")
        position = start + 2 + length
        yield marker, start, position


def _is_wanted(segment: memoryview, seen: set[bytes]) -> bool:
    """Whether a segment has to do with pixels or orientation; only the first of each kind of metadata."""
    marker, content = segment[1], bytes(segment[4:40])
    if marker == COMMENT or (marker in APPLICATION and marker not in (*JFIF_AND_ADOBE, APP1)):
        return False
    if marker != APP1:
        return True
    start = next((start for start in METADATA if content.startswith(start)), None)
    if start is None or start in seen:
        return False
    seen.add(start)
    return start != EXIF or not exif_claims_too_much(bytes(segment[4 + len(EXIF) :]))


def most_scans(height: int, width: int) -> int:
    """Return how many scans a picture of a size may have, so that their work is bounded."""
    return max(USUAL_SCANS, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, height * width)))
