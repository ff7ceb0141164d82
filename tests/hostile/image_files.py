"""Hostile image files, rows I01 to I57: how each is made, and how reading it must end.

Every file is written here from NumPy, Pillow, zlib and struct, the same on each run.
"""

from __future__ import annotations

import base64
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.hostile.image_parts import (
    ASCII,
    LONG,
    ORIENTATION,
    PNG_START,
    SHORT,
    ZEROS,
    black_png,
    bmp,
    boxes,
    chunk,
    encoded,
    exif,
    flipped,
    gif,
    gif_frame,
    gif_screen,
    header,
    icc_profile,
    jpeg,
    jpeg_with_icc,
    picture,
    png,
    segments,
    tiff_image,
    tiff_pages,
    webp,
    webp_canvas,
    webp_pixels,
    with_bytes,
    with_frame_marker,
    with_segment,
    ycck_jpeg,
    zlib_zeros,
)

READ = "read"
EITHER = "read or I"
DAMAGED = "truncated or damaged"
PICTURE = picture()
HUGE = 50_000
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))
FLAT = np.full((16, 16), 128, np.uint8)
ZIP = b"PK\x05\x06" + bytes(18)

# The picture below, encoded once with libheif at quality 50, because Pillow does not write HEIC.
TINY_HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=I"
    "V*mgE07O6l0RRC200001p#T8@00000009jE001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}"
    "X>f9I0002pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP"
    "18@KU0|1Z!00RI30{|YNAb|yz>g1-"
    "mxCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000KmY&$KmY&$C}V74Z~y=RKmY&"
    "$0RR91FaQ7m0RR91000000{{R2@Bjb+0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7fdT^sga7~m6>Vf;bN~PW2`B-"
    "t6M*GF;9vcWAxlvEh-Z<u5DkdyMs%Fj=`Y>qC>JMfx*Pf^WUWW@h>1lj>kC&+HxTeDSlYiaf921_9IN%Qk6Q-"
    "&CwZ^d85w!yiftH2&sur#YXdOkt6<RzYm*r0rmS2Fu2pk}1BwWTNYf5$WEsV!{rS<w;&2=M*HQD|F74dzQs~4iuN{A`$QU5$*yT-"
    "oqNSBO9CMbkS@1~QOY16NP~4q~x0e-{yy=OU!U{v36!iWCj#UFtYB_-"
    ")&MRS`<**}w>%VI15z*d^$ud8e{BPG5nQ#+AL>FR_|A0xXL9im3dw%hrYHx=I$VGz3##2v=o7{Y0tqFlfBA{nhK41"
)


# What the runs below draw, from the lowest row up: a run, an empty row, single pixels, a move, a row that is cut.
RUN_ROWS = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 80, 80, 0, 0, 0, 0],
        [16, 32, 48, 64, 80, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [112, 112, 112, 112, 112, 112, 112, 112, 112],
    ],
    np.uint8,
)


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes:
        name: the row and what is odd, also the file's name.
        make: writes it.
        outcome: ``READ``, the code of an error, or ``EITHER``.
        says: what the error or the remark must say; None: no remark at all.
        like: what the image must look like, with the greatest mean difference.
        megabytes: bound on the memory that reading adds.
        seconds: bound on the processor's time.
    """

    name: str
    make: Callable[[], bytes]
    outcome: str = READ
    says: str | None = None
    like: np.ndarray | None = None
    within: float = 0.0
    megabytes: float = 20.0
    seconds: float = 0.5


def cut(data: bytes, part: float) -> bytes:
    return data[: int(len(data) * part)]


def grey3(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, 2)


def over_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    part = alpha[..., None] / 255
    return np.rint(image * part + 255 * (1 - part)).astype(np.uint8)


def stored(orientation: int) -> np.ndarray:
    """The picture as a camera stores it under an EXIF orientation."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    if orientation not in turns:
        return PICTURE
    return np.asarray(Image.fromarray(PICTURE).transpose(turns[orientation]))


def jpeg_exif(content: bytes) -> bytes:
    return with_segment(0xE1, b"Exif\0\0" + content)


def arithmetic_jpeg() -> bytes:
    """A flat grey JPEG marked as arithmetic-coded: such a decoder reads every scan as something."""
    parts, _ = segments(jpeg(FLAT))
    kept = b"".join(b"\xff\xc9" + p[2:] if m == 0xC0 else p for m, p in parts if m != 0xC4)
    return b"\xff\xd8" + kept + b"\xff\xd9"


def sixteen_bits() -> np.ndarray:
    return np.arange(48 * 64, dtype=np.uint32).reshape(48, 64).astype(np.uint16) * 21


def palette() -> Image.Image:
    return Image.fromarray(PICTURE).quantize(200)


def animation(kind: str, **options: object) -> bytes:
    frames = [Image.fromarray(np.roll(PICTURE, i, 1)) for i in range(4)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def transparent(mode: str) -> bytes:
    clear = np.dstack([PICTURE, np.zeros((48, 64), np.uint8)])
    if mode == "PA":
        image = palette()
        return encoded(image, "PNG", transparency=bytes(256))
    return encoded(Image.fromarray(clear).convert(mode), "PNG")


def half_clear_palette() -> np.ndarray:
    """The palette's picture with its first 100 colours clear, over white."""
    image = palette()
    return np.where(np.asarray(image)[..., None] < 100, 255, np.asarray(image.convert("RGB"))).astype(
        np.uint8
    )


def premultiplied() -> bytes:
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :10] = 0
    rgba = np.dstack([PICTURE * (alpha[..., None] > 0), alpha])
    return tiff_image(48, 64, rgba.tobytes(), channels=4, tags={338: (SHORT, [1])})


def bomb_header(kind: str) -> bytes:
    """A file of a few bytes that claims 50,000 x 50,000 pixels."""
    if kind == "PNG":
        return PNG_START + header(HUGE, HUGE) + chunk(b"IDAT", zlib_zeros(100)) + chunk(b"IEND", b"")
    if kind == "JPEG":
        data = jpeg(FLAT)
        return with_bytes(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", HUGE, HUGE))
    if kind == "WEBP":
        inner = webp_pixels(encoded(PICTURE, "WEBP"))
        frame = (
            bytes(6) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little") + bytes(4) + webp(inner)[12:]
        )
        return webp(webp_canvas(HUGE, HUGE, 2), (b"ANIM", bytes(6)), (b"ANMF", frame), (b"ANMF", frame))
    if kind == "BMP":
        return bmp(HUGE, HUGE, bytes(100))
    if kind == "TIFF":
        return tiff_image(HUGE, HUGE, bytes(100))
    return gif_screen(HUGE, HUGE) + gif_frame(0, 0, HUGE, HUGE) + b";"


def extended_canvas() -> bytes:
    """A GIF whose second frame reaches far out of the first."""
    return gif(1)[:-1] + gif_frame(65000, 65000, 65535, 65535) + b";"


def compressed_bomb(compression: int) -> bytes:
    """A TIFF of 48 x 64 whose strip expands to 256 MiB."""
    size = 2**28
    if compression == 8:
        strip = zlib_zeros(size)
    elif compression == 34925:
        strip = lzma.compress(bytes(size), preset=0)
    else:
        strip = b"\x81\0" * (size // 128)
    return tiff_image(48, 64, strip, compression=compression)


def tiles(width: int, height: int, compression: int) -> bytes:
    """A TIFF in tiles of a size that does not fit into memory or into 32 bits."""
    tags = {322: (LONG, [width]), 323: (LONG, [height]), 324: (LONG, [8]), 325: (LONG, [2**32 - 1])}
    return tiff_image(48, 64, bytes(64), tags=tags, compression=compression)


def raw_photo() -> bytes:
    """What DNG looks like: a small preview first, the sensor's values elsewhere."""
    tags = {254: (LONG, [1]), 50706: (1, [1, 4, 0, 0]), 330: (LONG, [8])}
    return tiff_image(48, 64, PICTURE.tobytes(), tags=tags)


def icon(content: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 48, 0, 0, 1, 32, len(content), 22) + content


def wrong_sequence() -> bytes:
    """An APNG whose frames say that they come in another order."""
    data = animation("PNG")
    at = data.rindex(b"fcTL")
    content = struct.pack(">I", 7) + data[at + 8 : at + 30]
    return data[: at - 4] + chunk(b"fcTL", content) + data[at + 34 :]


def thumbnail() -> bytes:
    """EXIF with a black thumbnail in its second directory."""
    small = jpeg(np.zeros((8, 8, 3), np.uint8))
    first = exif(1, following=8 + 2 + 12 + 4)
    start = len(first) + 2 + 24 + 4
    second = struct.pack("<HHHIIHHIII", 2, 513, LONG, 1, start, 514, LONG, 1, len(small), 0)
    return first + second + small


def svg(inside: str = "") -> bytes:
    return f'<?xml version="1.0"?>{inside}<svg xmlns="http://www.w3.org/2000/svg"/>'.encode()


MAGIC = {
    "jpeg": b"\xff\xd8\xff",
    "png": PNG_START,
    "gif": b"GIF89a",
    "bmp": b"BM",
    "tiff": b"II*\0",
    "webp": b"RIFF\x10\0\0\0WEBP",
    "avif": boxes(b"avif"),
}
SMALL = {  # one valid small file of each format
    "jpeg": jpeg,
    "png": png,
    "gif": lambda: encoded(palette(), "GIF"),
    "bmp": lambda: encoded(PICTURE, "BMP"),
    "tiff": lambda: encoded(PICTURE[::2, ::2], "TIFF", compression="tiff_lzw"),
    "webp": lambda: encoded(PICTURE, "WEBP"),
    "avif": lambda: encoded(PICTURE, "AVIF"),
}


def case(name: str, make: Callable[[], bytes] | bytes, outcome: str = READ, **rest: object) -> Case:
    return Case(name, (lambda: make) if isinstance(make, bytes) else make, outcome, **rest)


def like(image: np.ndarray, within: float = 0.0) -> dict:
    return {"like": image, "within": within}


# fmt: off
CASES: list[Case] = [
    case("I01-empty.jpg", b"", "I", says=r"empty file \(0 bytes\)"),
    case("I02-one-byte.jpg", b"\xff", "I", says="not an image of a known format"),
    *(case(f"I03-magic.{k}", m, "I", says=DAMAGED) for k, m in MAGIC.items()),
    *(case(f"I04-cut-{p}.jpg", lambda p=p: cut(jpeg(), p / 100), "I", says=f"{DAMAGED} JPEG") for p in (10, 50, 90, 99)),
    case("I05-cut-in-pixels.png", lambda: cut(png(), 0.6), "I", says="IDAT is cut off"),
    case("I06-no-end.png", lambda: png(end=False), says="ends early; all its pixels are there", **like(PICTURE)),
    case("I07-size-checksum.png", lambda: png(right=(False, True)), "I", says="IHDR .* checksum is wrong"),
    case("I07-pixels-checksum.png", lambda: png(right=(True, False)), "I", says="IDAT .* checksum is wrong"),
    case("I07-text-checksum.png", lambda: png(before=chunk(b"tEXt", b"a\0b", right=False)), **like(PICTURE)),
    case("I08-with-a-zip.jpg", lambda: jpeg() + ZIP, **like(PICTURE, 4)),
    *(case(f"I09-bits-{s}.jpg", lambda s=s: flipped(jpeg(), s, 8, 700), EITHER, says=f"{DAMAGED}|^$") for s in range(6)),
    case("I10-progressive.jpg", lambda: jpeg(progressive=True), **like(PICTURE, 4)),
    case("I10-arithmetic.jpg", arithmetic_jpeg, EITHER, says="arithmetic-coded JPEG|^$"),
    case("I10-twelve-bits.jpg", lambda: with_bytes(jpeg(), jpeg().index(b"\xff\xc0") + 4, b"\x0c"), "I", says="12-bit"),
    case("I10-lossless.jpg", lambda: with_frame_marker(jpeg(), 0xC3), "I", says="lossless JPEG"),
    case("I11-cmyk.jpg", lambda: jpeg(Image.fromarray(PICTURE).convert("CMYK")), **like(PICTURE, 8)),
    case("I12-ycck.jpg", lambda: ycck_jpeg(PICTURE), **like(PICTURE, 8)),
    case("I13-grey.png", lambda: encoded(GREY, "PNG"), **like(grey3(GREY))),
    case("I14-one-bit.png", lambda: encoded(Image.fromarray(GREY > 120), "PNG"), **like(grey3((GREY > 120) * np.uint8(255)))),
    case("I15-grey-16.png", lambda: encoded(sixteen_bits(), "PNG"), **like(grey3(np.rint(sixteen_bits() / 257).astype(np.uint8)))),
    case("I15-grey-16.tiff", lambda: encoded(sixteen_bits(), "TIFF"), **like(grey3(np.rint(sixteen_bits() / 257).astype(np.uint8)))),
    case("I16-rgb-16.png", lambda: png(PICTURE.astype(np.uint16) * 257), **like(PICTURE, 1)),
    case("I17-float.tiff", lambda: encoded(np.full((48, 64), np.nan, np.float32), "TIFF"), "I", says="32-bit floats .* no fixed black and white"),
    case("I17-int.tiff", lambda: encoded(np.full((48, 64), 70000, np.int32), "TIFF"), "I", says="32-bit integers outside 0 to 65,535, .* no fixed white"),
    case("I18-palette.png", lambda: encoded(palette(), "PNG"), **like(np.asarray(palette().convert("RGB")))),
    case("I19-palette-alpha.png", lambda: encoded(palette(), "PNG", transparency=bytes(100) + b"\xff" * 100), **like(half_clear_palette())),
    *(case(f"I20-clear-{m}.png", lambda m=m: transparent(m), says="fully transparent", **like(np.full_like(PICTURE, 255))) for m in ("RGBA", "LA", "PA")),
    case("I21-premultiplied.tiff", premultiplied, **like(over_white(PICTURE, np.where(np.arange(64) < 10, 0, 255) * np.ones((48, 1))), 1)),
    case("I22-lab.tiff", lambda: encoded(Image.fromarray(PICTURE).convert("LAB"), "TIFF"), **like(PICTURE, 4)),
    case("I22-ycbcr.tiff", lambda: encoded(Image.fromarray(PICTURE).convert("YCbCr"), "TIFF"), **like(PICTURE, 4)),
    *(case(f"I23-turned-{n}.png", lambda n=n: encoded(stored(n), "PNG", exif=b"Exif\0\0" + exif(n)), **like(PICTURE)) for n in range(1, 9)),
    *(case(f"I23-turned-{n}.jpg", lambda n=n: jpeg(stored(n), exif=b"Exif\0\0" + exif(n)), **like(PICTURE, 4)) for n in (3, 6)),
    case("I23-turned-6.webp", lambda: encoded(stored(6), "WEBP", lossless=True, exif=exif(6)), **like(PICTURE)),
    case("I23-turned-6.tiff", lambda: tiff_image(64, 48, stored(6).tobytes(), tags={ORIENTATION: (SHORT, [6])}), **like(PICTURE)),
    *(case(f"I24-orientation-{n}.png", lambda n=n: png(before=chunk(b"eXIf", exif(n))), **like(PICTURE)) for n in (0, 9, 65535)),
    case("I24-orientation-text.png", lambda: png(before=chunk(b"eXIf", exif((ASCII, b"6\0")))), **like(PICTURE)),
    case("I24-orientation-many.png", lambda: png(before=chunk(b"eXIf", exif((SHORT, [6, 6, 6])))), **like(np.rot90(PICTURE, -1))),
    case("I25-exif-circle.jpg", lambda: jpeg_exif(exif(following=8, extra={0x8769: (LONG, [8])})), **like(PICTURE, 4)),
    case("I25-exif-junk.jpg", lambda: jpeg_exif(b"II*\0\x08\0\0\0" + np.random.default_rng(0).bytes(65000)), **like(PICTURE, 4)),
    case("I25-exif-noise.jpg", lambda: jpeg_exif(np.random.default_rng(1).bytes(65000)), **like(PICTURE, 4)),
    case("I25-exif-outside.jpg", lambda: jpeg_exif(b"II*\0\xff\xff\xff\x7f"), **like(PICTURE, 4)),
    case("I25-exif-shared.jpg", lambda: jpeg_exif(shared_values()), megabytes=40, seconds=1, **like(PICTURE, 4)),
    case("I26-thumbnail.jpg", lambda: jpeg_exif(thumbnail()), **like(PICTURE, 4)),
    case("I27-wide-gamut.jpg", lambda: jpeg_with_icc(icc_profile()), **like(PICTURE, 4)),
    case("I27-wide-gamut.png", lambda: png(before=chunk(b"iCCP", b"wide\0\0" + zlib.compress(icc_profile()))), **like(PICTURE)),
    case("I28-broken-profile.jpg", lambda: jpeg_with_icc(b"no profile at all"), **like(PICTURE, 4)),
    case("I28-profile-of-10-MB.jpg", lambda: jpeg_with_icc(np.random.default_rng(0).bytes(10_000_000)), megabytes=64, **like(PICTURE, 4)),
    case("I29-300-frames.gif", lambda: gif(300, size=2000), says="first of 300 frames is used; 299 ignored", megabytes=64, seconds=0.5),
    case("I30-far-frame.gif", extended_canvas, says="first of 2 frames"),
    case("I31-no-screen.gif", lambda: gif_screen(0, 0) + gif_frame(0, 0, 0, 0) + b";", "I", says="no pixels|damaged"),
    case("I31-flat-frame.gif", lambda: gif_screen(48, 64) + gif_frame(0, 0, 64, 0) + b";", "I", says="no pixels|damaged"),
    case("I31-thin-frame.gif", lambda: gif_screen(48, 64) + gif_frame(0, 0, 0, 48) + b";", "I", says="no pixels|damaged"),
    case("I32-animation.webp", lambda: animation("WEBP", lossless=True), says="first of 4 frames", **like(PICTURE)),
    case("I32-animation.png", lambda: animation("PNG"), says="first of 4 frames", **like(PICTURE)),
    case("I32-animation.avif", lambda: animation("AVIF"), says="first of 4 frames", **like(PICTURE, 8)),
    case("I33-wrong-sequence.png", wrong_sequence, says="first of 4 frames", **like(PICTURE)),
    case("I33-default-apart.png", lambda: animation("PNG", default_image=True), says="first of 3 frames", **like(PICTURE)),
    case("I34-1000-pages.tiff", lambda: tiff_pages(1000), says="first of 1,000 pages is used; 999 ignored", **like(PICTURE)),
    case("I34-loop.tiff", lambda: tiff_pages(3, loop=True), says="first of 3 pages", **like(PICTURE)),
    case("I35-one-pixel.png", lambda: png(PICTURE[:1, :1]), **like(PICTURE[:1, :1])),
    case("I36-flat.png", lambda: black_png(1, 100_000), "I", says="100000 x 1 is too narrow"),
    case("I36-tall.png", lambda: black_png(100_000, 1), "I", says="1 x 100000 is too narrow"),
    case("I37-no-height.png", lambda: PNG_START + header(0, 5) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), "I", says="no pixels"),
    case("I37-no-width.bmp", lambda: bmp(5, 0, bytes(60)), "I", says="no pixels"),
    case("I37-no-height.jpg", lambda: with_bytes(jpeg(FLAT), jpeg(FLAT).index(b"\xff\xc0") + 5, b"\0\0"), "I", says="no pixels"),
    case("I37-no-width.tiff", lambda: tiff_image(5, 0, bytes(60)), "I", says="no pixels|damaged"),
    *(case(f"I38-{w}x{h}.png", lambda h=h, w=w: black_png(h, w), megabytes=30, **like(np.zeros((h, w, 3), np.uint8))) for h, w in ((2, 2), (5, 3), (1, 1023), (1025, 1025))),
    *(case(f"I39-huge.{k.lower()}", lambda k=k: bomb_header(k), "L", says="2,500,000,000 pixels, over the limit of (50,000,000|25,000,000|178,956,970); make it smaller", seconds=0.1) for k in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")),
    case("I40-side.png", lambda: PNG_START + header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "L", says="over the limit"),
    case("I40-side.bmp", lambda: bmp(2**31 - 1, 2**31 - 1, bytes(60)), "L", says="over the limit"),
    case("I40-side.tiff", lambda: tiff_image(2**31 - 1, 2**31 - 1, bytes(60)), "L", says="over the limit"),
    case("I41-black.png", lambda: black_png(13_300, 13_300), "L", says="176,890,000 pixels, over the limit", seconds=0.1),
    case("I42-just-under.png", lambda: black_png(7000, 7000), megabytes=400, seconds=10),
    case("I43-zTXt.png", lambda: png(before=chunk(b"zTXt", b"a\0\0" + zlib_zeros(2**28))), **like(PICTURE)),
    case("I43-iTXt.png", lambda: png(before=chunk(b"iTXt", b"a\0\1\0\0\0" + zlib_zeros(2**28))), **like(PICTURE)),
    case("I43-iCCP.png", lambda: png(before=chunk(b"iCCP", b"a\0\0" + zlib_zeros(2**28))), **like(PICTURE)),
    case("I43-80-zTXt.png", lambda: png(before=chunk(b"zTXt", b"a\0\0" + zlib_zeros(ZEROS)) * 80), **like(PICTURE)),
    case("I44-segments.jpg", lambda: jpeg()[:2] + b"\xff\xef\0\2" * 1_000_000 + jpeg()[2:], "L", says="more than 100,000 segments", seconds=1),
    case("I44-filling.jpg", lambda: jpeg()[:2] + b"\xff" * 2_000_000 + jpeg()[2:], **like(PICTURE, 4)),
    case("I44-blocks.gif", lambda: gif_screen(48, 64) + b"\x21\xfe\1a\0" * 1_000_000 + gif_frame(0, 0, 64, 48), "L", says="more than 100,000 blocks", seconds=1),
    case("I44-chunks.png", lambda: png(before=chunk(b"IDAT", b"") * 1_000_000), "L", says="more than 100,000 chunks", megabytes=40, seconds=1),
    *(case(f"I45-bomb-{n}.tiff", lambda c=c: compressed_bomb(c), EITHER, says=f"{DAMAGED}|^$", megabytes=64, seconds=1) for n, c in (("deflate", 8), ("lzma", 34925), ("packbits", 32773))),
    *(case(f"I46-tile-{w}x{h}-{c}.tiff", lambda w=w, h=h, c=c: tiles(w, h, c), "I", says=DAMAGED) for c in (1, 8) for w, h in ((2**31 - 1, 2**31 - 1), (2**32 - 16, 16), (65536, 65536), (0, 0))),
    case("I47-canvas.webp", lambda: webp(webp_canvas(200, 300), webp_pixels(encoded(PICTURE, "WEBP"))), "I", says=DAMAGED),
    case("I48-run-overrun.bmp", lambda: bmp(4, 4, b"\xff\x01" * 3, depth=8, compression=1), "I", says=DAMAGED),
    case("I48-40-bits.bmp", lambda: bmp(4, 4, bytes(100), depth=40), "I", says=f"{DAMAGED} BMP"),
    case("I48-top-down.bmp", lambda: bmp(-48, 64, PICTURE[..., ::-1].tobytes()), **like(PICTURE)),
    case("I49-bmp.ico", lambda: icon(encoded(PICTURE, "BMP")), "I", says=r"icon \(ICO\)"),
    case("I49-video.avi", lambda: b"RIFF\x24\0\0\0AVI LIST", "I", says="a video; follow objects in it with mobilesam track"),
    case("I49-video.mp4", lambda: b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "I", says="a video; follow objects in it with mobilesam track"),
    case("I49-video.mkv", lambda: b"\x1aE\xdf\xa3\x93B\x82\x88matroska", "I", says="a video; follow objects in it with mobilesam track"),
    case("I49-icon.ico", lambda: icon(icon(encoded(PICTURE, "PNG"))), "I", says=r"icon \(ICO\)"),
    case("I50-drawing.svg", lambda: svg(), "I", says="SVG, which is not a raster format"),
    case("I50-drawing.svgz", lambda: b"\x1f\x8b" + zlib.compress(svg()), "I", says="gzip"),
    case("I50-entity.svg", lambda: svg('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'), "I", says="SVG"),
    case("I52-figure.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "I", says="PostScript"),
    case("I52-binary.eps", b"\xc5\xd0\xd3\xc6" + bytes(40), "I", says="PostScript"),
    case("I52-page.pdf", b"%PDF-1.7\n", "I", says="PDF"),
    case("I52-layers.psd", b"8BPS\0\1" + bytes(40), "I", says="Photoshop"),
    case("I52-stars.fits", b"SIMPLE  =                    T".ljust(2880), "I", says="FITS"),
    case("I52-scan.dcm", bytes(128) + b"DICM" + bytes(40), "I", says="DICOM"),
    case("I53-boxes.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "I", says="JPEG 2000"),
    case("I53-stream.j2k", b"\xff\x4f\xff\x51" + bytes(40), "I", says="JPEG 2000"),
    case("I53-stream.jxl", b"\xff\x0a" + bytes(40), "I", says="JPEG XL"),
    case("I53-boxes.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "I", says="JPEG XL"),
    case("I54-raw.dng", raw_photo, "I", says="camera's raw file"),
    case("I54-raw.cr3", lambda: boxes(b"crx "), "I", says="camera's raw file"),
    case("I54-raw.raf", b"FUJIFILMCCD-RAW 0201" + bytes(40), "I", says="camera's raw file"),
    case("I55-png-named.jpg", png, **like(PICTURE)),
    case("I56-page.jpg", b"\n<!DOCTYPE html><html>", "I", says="HTML page, not an image"),
    case("I56-answer.jpg", b'{"error": "not found"}', "I", says="text, not an image"),
    case("I56-note.jpg", b"see the other folder", "I", says="text, not an image"),
    case("I57-pointer.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "I", says="Git LFS pointer, .*git lfs pull"),
    case("I25-exif-greedy.png", lambda: png(before=chunk(b"eXIf", greedy_exif(2_000_000))), **like(PICTURE)),
    case("I25-exif-greedy.webp", lambda: encoded(PICTURE, "WEBP", lossless=True, exif=greedy_exif(2_000_000)), **like(PICTURE)),
    case("I25-exif-greedy.avif", lambda: greedy_avif(), "L", says="its EXIF claims far more"),
    case("I25-exif-many.jpg", lambda: jpeg()[:2] + with_segment(0xE1, b"Exif\0\0" + bytes(65_000))[2:65_012] * 1000 + jpeg()[2:], megabytes=70, **like(PICTURE, 4)),
    case("I42-progressive-444.jpg", lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True, subsampling=0), "L", says=r"49,000,000 pixels, over the limit of 41,943,040 for a JPEG that is progressive or in several scans; save it as baseline"),
    case("I42-progressive-420.jpg", lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True, subsampling=2), megabytes=400, seconds=4),
    case("I42-baseline-444.jpg", lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", subsampling=0), megabytes=400, seconds=4),
    case("I42-rgba.avif", lambda: encoded(Image.new("RGBA", (5300, 5000), (9, 9, 9, 99)), "AVIF", speed=10), "L", says="26,500,000 pixels, over the limit of 26,214,400"),
    case("I42-canvas.webp", lambda: encoded(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True, method=0), "L", says="49,000,000 pixels, over the limit of 25,000,000"),
    case("I42-mask-rgba.png", lambda: black_png(7000, 7000, 6, 4), megabytes=400, seconds=4),
    case("I42-mask-huge.png", lambda: black_png(13_300, 13_300), "L", says="176,890,000 pixels, over the limit"),
    *(case(f"I44-scans-{n}.jpg", lambda b=b: many_scans(7000, b), "L", says="more than 12 scans, the limit for a JPEG of its size") for n, b in (("bare", b""), ("after-junk", b"junk"), ("after-filling", b"\xff\xff"))),
    case("I44-scans-small.jpg", lambda: many_scans(300), "L", says="more than 200 scans"),
    case("I44-scans.tiff", lambda: jpeg_in_strips(3000), "L", says="more scans than the 125"),
    case("I44-ends-of-rows.bmp", lambda: bmp(1400, 1400, b"\0\0" * 8_000_000, depth=8, compression=1), megabytes=40, seconds=1, **like(np.zeros((1400, 1400, 3), np.uint8))),
    case("I44-runs.bmp", lambda: bmp(2000, 2000, b"\1\1" * 8_000_000, depth=8, compression=1), "L", says="more than 1,000,000 runs", megabytes=40, seconds=2),
    case("I44-tiny-parts.gif", lambda: gif(1)[:-1] + b"\x21\xfe" + b"\1a" * 8_000_000 + b"\0;", megabytes=40, seconds=1.5),
    case("I48-runs.bmp", lambda: run_bmp(8), **like(grey3(RUN_ROWS))),
    case("I48-half-byte-runs.bmp", lambda: run_bmp(4), **like(grey3(RUN_ROWS))),
    case("I48-runs-cut.bmp", lambda: run_bmp(8)[:-6], "I", says=f"{DAMAGED} BMP .*its runs end early"),
    case("I54-raw.cr2", lambda: tiff_image(48, 64, b"\xff\xd8" + bytes(40), compression=6).replace(b"II*\0\x08\0\0\0", b"II*\0\x10\0\0\0CR\x02\0" + bytes(4)), "I", says="camera's raw file"),
    case("I54-raw.nef", lambda: tiff_image(48, 64, bytes(40), tags={254: (LONG, [1]), 330: (LONG, [8])}), "I", says="camera's raw file"),
    case("I54-sensor.tif", lambda: tiff_image(48, 64, bytes(48 * 64), channels=1, tags={262: (SHORT, [32803])}), "I", says="camera's raw file"),
]
# fmt: on


def run_bmp(depth: int) -> bytes:
    """``RUN_ROWS`` in runs of bytes or half bytes; the palette's colour n is the grey of 16 n."""
    if depth == 8:
        single = bytes((0, 5, 1, 2, 3, 4, 5, 0))
    else:
        single = bytes((0, 5, 0x12, 0x34, 0x50, 0))
    five = 5 if depth == 8 else 0x55
    seven = 7 if depth == 8 else 0x77
    runs = bytes((9, seven, 0, 0, 0, 0)) + single + bytes((0, 0, 0, 2, 3, 0, 2, five, 0, 0)) + bytes((0, 1))
    palette = b"".join(bytes((16 * n % 256,)) * 3 + b"\0" for n in range(2**depth))
    data = bmp(5, 9, runs, depth=depth, compression=2 - depth // 8)
    offset = 54 + len(palette)
    head = struct.pack("<I", offset).join((data[:10], data[14:54]))
    return head[:46] + struct.pack("<I", 2**depth) + head[50:] + palette + runs


def many_scans(side: int, between: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan of a few bytes is repeated 3,000 times."""
    data = encoded(np.zeros((side, side, 3), np.uint8), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + (between + last) * 3000 + data[-2:]


def jpeg_in_strips(scans: int) -> bytes:
    """A TIFF of one strip that is such a JPEG."""
    side = 2000
    strip = many_scans(side)
    at = strip.rindex(b"\xff\xda")
    strip = strip[:at] + strip[at:-2] * scans + strip[-2:]
    return tiff_image(side, side, strip, compression=7, tags={262: (SHORT, [6])})


def greedy_exif(size: int) -> bytes:
    """EXIF of which 4,000 tags claim the same bytes."""
    tags = b"".join(struct.pack("<HHII", 1000 + tag, 7, size // 2, 20) for tag in range(4000))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", 4000) + tags).ljust(size, b"\0")


def greedy_avif() -> bytes:
    """Its EXIF is put in afterwards, because Pillow reads what it writes."""
    modest = b"II*\0\x08\0\0\0".ljust(2_000_000, b"\0")
    return encoded(PICTURE, "AVIF", exif=modest).replace(modest, greedy_exif(len(modest)))


def shared_values() -> bytes:
    """EXIF of which many tags claim the same 40,000 bytes."""
    tags = b"".join(struct.pack("<HHII", tag, 7, 40_000, 20_000) for tag in range(40_000, 41_500))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", 1500) + tags).ljust(65_000, b"\0")
