"""What a file is, going by its first bytes."""

from __future__ import annotations

SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
CHARACTERS = bytes(range(32, 127)) + b"\t\r\n"

# What people give by mistake, by its first bytes in lower case, and what to say about it.
VIDEO = (
    "a video; follow objects in it with mobilesam track VIDEO --box X0,Y0,X1,Y1, see docs/how-to/video.md, "
    "or save a frame as a photo (ffmpeg -i VIDEO -frames:v 1 frame.png)"
)
BASE64 = "base64 text, not an image; decode it first"
OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image; run: git lfs pull"),
    (b"<!doctype html", "an HTML page, not an image; save the image itself"),
    (b"<html", "an HTML page, not an image; save the image itself"),
    (b"%pdf", "a PDF; render the page to PNG"),
    (b"%!ps", "PostScript; render it to PNG"),
    (b"\xc5\xd0\xd3\xc6", "PostScript; render it to PNG"),
    (b"8bps", "a Photoshop file; export it as PNG"),
    (b"simple  =", "a FITS file; convert it to PNG or TIFF"),
    (b"\0\0\0\x0cjp  ", "JPEG 2000, which is not read; convert it to PNG"),
    (b"\xffo\xffq", "JPEG 2000, which is not read; convert it to PNG"),
    (b"\0\0\0\x0cjxl ", "JPEG XL, which is not read; convert it to PNG"),
    (b"\xff\x0a", "JPEG XL, which is not read; convert it to PNG"),
    (b"\0\0\1\0", "an icon (ICO), which is not read; convert it to PNG"),
    (b"\0\0\2\0", "a cursor (CUR), which is not read; convert it to PNG"),
    (b"fujifilmccd-raw", "a camera's raw file; develop it to JPEG or TIFF"),
    (b"iiro", "a camera's raw file; develop it to JPEG or TIFF"),
    (b"iiu\0", "a camera's raw file; develop it to JPEG or TIFF"),
    (b"\x1ae\xdf\xa3", VIDEO),  # Matroska and WebM
    (b"flv\x01", VIDEO),
    (b"oggs", VIDEO),
    (b"\0\0\1\xba", VIDEO),  # MPEG
    (b"\x1f\x8b", "a gzip file, not an image; unpack it"),
    (b"pk\x03\x04", "a zip archive, not an image; unpack it"),
    (b"data:image/", BASE64),
    (b"ivborw0kggo", BASE64),
    (b"/9j/", BASE64),
)


def format_of(data: bytes) -> str | None:
    """Return JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF or HEIF, or None for anything else."""
    for start, kind in SIGNATURES:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    brands = _brands(data)
    if any(brand in AVIF_BRANDS for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in HEIF_BRANDS for brand in brands) else None


def what_else(data: bytes) -> str:
    """Say what a file in none of those formats is, and what to do with it."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, what in OTHERS:
        if head.startswith(start):
            return what
    if b"<svg" in head:
        return "SVG, which is not a raster format; render it to PNG"
    if data[128:132] == b"DICM":
        return "a DICOM file; convert it to PNG or TIFF"
    if data[4:11] == b"ftypcrx":
        return "a camera's raw file; develop it to JPEG or TIFF"
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return VIDEO
    if data and not data[:64].strip(CHARACTERS):
        return "text, not an image; give a JPEG, PNG or the like"
    return "not an image of a known format, or damaged; give JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF"


def _brands(data: bytes) -> list[bytes]:
    """Return the brands of a file of ISO boxes, its own first."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), 256)
    return [data[8:12], *(data[i : i + 4] for i in range(16, end - 3, 4))]
