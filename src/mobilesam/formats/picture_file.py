"""Pictures as files: PNG, TIFF, WebP and JPEG, with a colour profile, PNG and TIFF with 16 bits too."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image as PillowImage

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
SIXTEEN_BITS = (".png", ".tif", ".tiff")
WITHOUT_ALPHA = (".jpg", ".jpeg")
JPEG_QUALITY, WEBP_QUALITY = 92, 90
PNG_COLOURS = {1: 0, 3: 2, 4: 6}  # PNG's number for each count of samples per pixel
COMPRESSION = 4
WHITE = 255


def encode_picture(picture: np.ndarray, suffix: str, profile: bytes | None = None) -> bytes:
    """Return a picture as a file's bytes.

    Args:
        picture: (H, W), (H, W, 3) or (H, W, 4) with alpha, uint8 or uint16. JPEG has no alpha: what is transparent
            becomes white. JPEG and WebP have 8 bits.
        suffix: one of ``PICTURE_SUFFIXES``.
        profile: the colours' ICC profile; grey pictures have none.
    """
    suffix = suffix.lower()
    if picture.dtype == np.uint16 and suffix in SIXTEEN_BITS:
        deep = picture if picture.ndim == 3 else picture[..., None]
        return _png16(deep, profile) if suffix == ".png" else _tiff16(deep, profile)
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if suffix in WITHOUT_ALPHA and picture.ndim == 3 and picture.shape[2] == 4:
        share = picture[..., 3:].astype(np.uint16)
        over = picture[..., :3].astype(np.uint16) * share + WHITE * (WHITE - share)
        picture = ((over + 127) // WHITE).astype(np.uint8)
    options: dict[str, Any] = {} if profile is None or picture.ndim == 2 else {"icc_profile": profile}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        ".png": ("PNG", {"compress_level": COMPRESSION}),
        ".jpg": ("JPEG", {"quality": JPEG_QUALITY}),
        ".jpeg": ("JPEG", {"quality": JPEG_QUALITY}),
        ".webp": ("WEBP", {"quality": WEBP_QUALITY}),
        ".tif": ("TIFF", {"compression": "tiff_deflate"}),
        ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    }
    kind, more = kinds[suffix]
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(picture)).save(buffer, kind, **(options | more))
    return buffer.getvalue()


def _png16(picture: np.ndarray, profile: bytes | None) -> bytes:
    """Return (H, W, 1, 3 or 4) uint16 as PNG: Pillow does not write 16-bit colours."""
    height, width, samples = picture.shape
    rows = np.ascontiguousarray(picture, ">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # each row as its difference from the one above
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    chunks = [(b"IHDR", struct.pack(">2I5B", width, height, 16, PNG_COLOURS[samples], 0, 0, 0))]
    if profile is not None and samples > 1:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(profile)))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), COMPRESSION)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _tiff16(picture: np.ndarray, profile: bytes | None) -> bytes:
    """Return (H, W, 1, 3 or 4) uint16 as TIFF of one deflated strip; Pillow does not write 16-bit colours."""
    height, width, samples = picture.shape
    packed = zlib.compress(np.ascontiguousarray(picture, "<u2").tobytes(), COMPRESSION)
    short, long, undefined = 3, 4, 7
    entries = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [16] * samples),
        (259, short, [8]),
        (262, short, [1 if samples == 1 else 2]),
        (273, long, [0]),
        (277, short, [samples]),
        (278, long, [height]),
        (279, long, [len(packed)]),
        (284, short, [1]),
    ]
    if samples == 4:
        entries.append((338, short, [2]))  # alpha that the colours are not multiplied by
    if profile is not None and samples > 1:
        entries.append((34675, undefined, list(profile)))
    directory = 8
    behind = directory + 2 + 12 * len(entries) + 4
    body, extra = b"", b""
    start = behind + sum(
        size + size % 2 for _, kind, values in entries if (size := _tiff_size(kind, len(values))) > 4
    )
    for tag, kind, values in entries:
        values = [start] if tag == 273 else values
        packed_values = struct.pack(f"<{len(values)}{ {3: 'H', 4: 'I', 7: 'B'}[kind] }", *values)
        if len(packed_values) > 4:
            place = struct.pack("<I", behind + len(extra))
            extra += packed_values + b"\0" * (len(packed_values) % 2)
        else:
            place = packed_values.ljust(4, b"\0")
        body += struct.pack("<HHI", tag, kind, len(values)) + place
    head = b"II*\0" + struct.pack("<I", directory) + struct.pack("<H", len(entries))
    return head + body + b"\0" * 4 + extra + packed


def _tiff_size(kind: int, count: int) -> int:
    return {3: 2, 4: 4, 7: 1}[kind] * count
