"""Writers of image files that need not be right: what Pillow refuses to write is put together here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2  # colour types of PNG
BYTE, ASCII, SHORT, LONG = 1, 2, 3, 4  # types of a TIFF value
ORIENTATION = 0x0112
TIFF_RGB = 2
ZEROS = 2**20  # raw bytes in one block of a bomb


def picture() -> np.ndarray:
    """A smooth upright picture (48, 64, 3) with a disc; no two corners are alike."""
    rows, columns = np.mgrid[:48, :64]
    image = np.stack([columns * 3 + 30, rows * 4 + 20, 200 - rows - columns], -1).astype(np.uint8)
    image[(rows - 20) ** 2 + (columns - 40) ** 2 < 144] = (230, 60, 40)
    return image


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    """A file that Pillow writes."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(image: np.ndarray | Image.Image | None = None, **options: object) -> bytes:
    return encoded(picture() if image is None else image, "JPEG", quality=95, **options)


def segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """A JPEG's segments up to the scan's header, each with its marker, and the rest."""
    position, found = 2, []
    while not found or found[-1][0] != 0xDA:
        length = struct.unpack_from(">H", data, position + 2)[0] + 2
        found.append((data[position + 1], data[position : position + length]))
        position += length
    return found, data[position:]


def with_segment(marker: int, content: bytes, data: bytes | None = None) -> bytes:
    """A JPEG with one more segment in front."""
    data = data or jpeg()
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def with_frame_marker(data: bytes, marker: int) -> bytes:
    """A JPEG that says that its pixels are coded in another way."""
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([marker]) + data[at + 2 :]


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def flipped(data: bytes, seed: int, count: int, start: int) -> bytes:
    """The file with some bits turned over after ``start``."""
    rng = np.random.default_rng(seed)
    array = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(start, len(array), count)
    array[at] ^= (1 << rng.integers(0, 8, count)).astype(np.uint8)
    return array.tobytes()


def chunk(kind: bytes, content: bytes, *, right: bool = True) -> bytes:
    """A PNG chunk, with a right or a wrong checksum."""
    checksum = zlib.crc32(kind + content) ^ (0 if right else 1)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def header(height: int, width: int, colour: int = RGB, depth: int = 8, *, right: bool = True) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0), right=right)


def png(
    image: np.ndarray | None = None,
    *,
    before: bytes = b"",
    after: bytes = b"",
    end: bool = True,
    right: Sequence[bool] = (True, True),
) -> bytes:
    """A PNG file of (H, W, 3) uint8 or uint16, with chunks of one's own before and after the pixels."""
    image = picture() if image is None else image
    depth = image.dtype.itemsize
    rows = image.astype(f">u{depth}").reshape(len(image), -1).view(np.uint8)
    raw = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1).tobytes()
    return b"".join(
        (
            PNG_START,
            header(*image.shape[:2], depth=8 * depth, right=right[0]),
            before,
            chunk(b"IDAT", zlib.compress(raw), right=right[1]),
            after,
            chunk(b"IEND", b"") if end else b"",
        )
    )


def zlib_zeros(count: int) -> bytes:
    """A zlib stream of so many zeros, made of one compressed block repeated."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = coder.compress(bytes(ZEROS)) + coder.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = rest.compress(bytes(count % ZEROS)) + rest.flush(zlib.Z_FINISH)
    return b"\x78\xda" + block * (count // ZEROS) + last + struct.pack(">I", (count % 65521) << 16 | 1)


def black_png(height: int, width: int, colour: int = RGB, channels: int = 3) -> bytes:
    """A large PNG in few bytes."""
    raw = zlib_zeros(height * (1 + channels * width))
    return PNG_START + header(height, width, colour) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


def tiff(
    tags: dict[int, tuple[int, Sequence[int] | bytes]], *, body: bytes = b"", following: int | None = 0
) -> bytes:
    """A little-endian TIFF of one directory at byte 8; ``body`` comes after it and its values.

    ``following`` is where the next directory lies; None: in the body.
    """
    directory, values = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    size = sum(len(_packed(kind, value)) for kind, value in tags.values() if len(_packed(kind, value)) > 4)
    for tag in sorted(tags):
        kind, value = tags[tag]
        packed = _packed(kind, value)
        if len(packed) > 4:
            field, values = struct.pack("<I", start + len(values)), values + packed
        else:
            field = packed.ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, kind, len(value)) + field
    following = start + size if following is None else following
    return b"".join(
        (
            b"II*\0\x08\0\0\0",
            struct.pack("<H", len(tags)),
            directory,
            struct.pack("<I", following),
            values,
            body,
        )
    )


def _packed(kind: int, value: Sequence[int] | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    return struct.pack(f"<{len(value)}{ ({BYTE: 'B', SHORT: 'H', LONG: 'I'}[kind]) }", *value)


def tiff_image(
    height: int,
    width: int,
    strip: bytes,
    *,
    compression: int = 1,
    tags: dict[int, tuple[int, Sequence[int] | bytes]] | None = None,
    channels: int = 3,
    following: int = 0,
) -> bytes:
    """A TIFF of one strip, with tags of one's own over the usual ones."""
    usual: dict[int, tuple[int, Sequence[int] | bytes]] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8] * channels),
        259: (SHORT, [compression]),
        262: (SHORT, [TIFF_RGB]),
        273: (LONG, [0]),
        277: (SHORT, [channels]),
        278: (LONG, [height]),
        279: (LONG, [len(strip)]),
    }
    usual |= tags or {}
    without = tiff(usual, following=following)
    if 273 in (tags or {}):
        return without + strip
    return tiff(usual | {273: (LONG, [len(without)])}, body=strip, following=following)


def tiff_pages(count: int, *, loop: bool = False) -> bytes:
    """A TIFF of many pages that share their pixels; the last leads nowhere, or to the first."""
    strip = picture().tobytes()
    first = tiff_image(48, 64, strip)
    directory = first[8 : 8 + 2 + 12 * 9]
    start = len(first) + len(first) % 2
    size = len(directory) + 4
    pages = [first.ljust(start, b"\0")]
    for i in range(count - 1):
        last = i == count - 2
        after = (8 if loop else 0) if last else start + (i + 1) * size
        pages.append(directory + struct.pack("<I", after))
    at = 8 + len(directory)
    return with_bytes(b"".join(pages), at, struct.pack("<I", start if count > 1 else (8 if loop else 0)))


def exif(orientation: object = None, *, following: int = 0, extra: dict | None = None) -> bytes:
    """EXIF as a TIFF's directory: an orientation of any type, and more."""
    tags: dict = dict(extra or {})
    if isinstance(orientation, int):
        tags[ORIENTATION] = (SHORT, [orientation])
    elif orientation is not None:
        tags[ORIENTATION] = orientation
    return tiff(tags, following=following)


def gif(frames: int = 1, *, size: int = 64) -> bytes:
    """An animated GIF of equal frames, written once and repeated."""
    one = encoded(Image.fromarray(np.full((size, size), 90, np.uint8)), "GIF")
    start = 13 + (3 << ((one[10] & 7) + 1))
    return one[:start] + one[start:-1] * frames + b";"


def gif_frame(left: int, top: int, width: int, height: int) -> bytes:
    """One GIF frame of a place and size; its pixels are few."""
    return struct.pack("<BHHHHB", 0x2C, left, top, width, height, 0) + b"\x02\x02\x44\x01\x00"


def gif_screen(height: int, width: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)


def bmp(height: int, width: int, pixels: bytes, *, depth: int = 24, compression: int = 0) -> bytes:
    """A BMP file; a negative height means that its rows run from top to bottom."""
    palette = bytes(1024) if depth == 8 else b""
    offset = 14 + 40 + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(pixels), 0, 0, 256 if palette else 0, 0
    )
    size = struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    return b"BM" + size + info + palette + pixels


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of RIFF chunks."""
    body = b"".join(k + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for k, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_canvas(height: int, width: int, flags: int = 0) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def webp_pixels(data: bytes) -> tuple[bytes, bytes]:
    """The chunk of pixels of a simple WebP file."""
    return data[12:16], data[20 : 20 + struct.unpack_from("<I", data, 16)[0]]


def boxes(brand: bytes, *others: bytes) -> bytes:
    """The first box of HEIC, AVIF and the like."""
    content = brand + bytes(4) + b"".join(others)
    return struct.pack(">I", len(content) + 8) + b"ftyp" + content


def icc_profile() -> bytes:
    """A small matrix profile with primaries far wider than sRGB's."""

    def fixed(values: Iterable[float]) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(values)

    curve = b"curv" + struct.pack(">IIH", 0, 1, int(2.2 * 256)) + bytes(2)
    text = b"text\0\0\0\0wide\0\0\0\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"wide\0" + bytes(79),
        b"cprt": text,
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.7977, 0.2880, 0.0),
        b"gXYZ": xyz(0.1352, 0.7119, 0.0),
        b"bXYZ": xyz(0.0313, 0.0001, 0.8249),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = start + len(content)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12)
    head += b"acsp" + bytes(28) + fixed((0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + table + content


def jpeg_with_icc(profile: bytes) -> bytes:
    """A JPEG with a profile of any size, in as many segments as it needs."""
    parts = [profile[i : i + 65000] for i in range(0, len(profile), 65000)]
    data = jpeg()
    for number in range(len(parts), 0, -1):
        content = b"ICC_PROFILE\0" + bytes([number, len(parts)]) + parts[number - 1]
        data = with_segment(0xE2, content, data)
    return data


def ycck_jpeg(image: np.ndarray) -> bytes:
    """A JPEG as Photoshop writes CMYK: inverted, and its first three inks as luma and colours."""
    luma = np.asarray(Image.fromarray(255 - image).convert("YCbCr"))
    stored = np.concatenate([luma, np.full((*image.shape[:2], 1), 255, np.uint8)], -1)
    data = jpeg(Image.frombytes("CMYK", image.shape[1::-1], (255 - stored).tobytes()))
    at = data.index(b"Adobe")
    return with_bytes(data, at + 11, b"\x02")
