"""Every common form of picture arrives as the same upright RGB."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mobilesam.core.errors import ImageError, ImageWarning, LimitError
from mobilesam.formats.image import decode_mask, image_to_png, read_image, read_mask
from tests.photos import cat, jpeg


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats(kind: str) -> None:
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(cat()), kind)), cat())


def test_path_bytes_pil_and_array_agree(tmp_path) -> None:
    data = jpeg(cat())
    (tmp_path / "cat.jpg").write_bytes(data)
    wanted = read_image(data)
    np.testing.assert_array_equal(read_image(tmp_path / "cat.jpg"), wanted)
    np.testing.assert_array_equal(read_image(str(tmp_path / "cat.jpg")), wanted)
    np.testing.assert_array_equal(read_image(Image.open(io.BytesIO(data))), wanted)
    np.testing.assert_array_equal(read_image(wanted), wanted)


TURNED = {  # what a camera stores under each EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize(("orientation", "turn"), TURNED.items())
def test_exif_orientation(orientation: int, turn: Image.Transpose | None) -> None:
    picture = Image.fromarray(cat())
    stored = picture if turn is None else picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(encode(stored, "PNG", exif=exif)), cat())


def test_grey_palette_one_bit_and_cmyk() -> None:
    picture = Image.fromarray(cat())
    grey = np.asarray(picture.convert("L"))
    for got in (read_image(encode(picture.convert("L"), "PNG")), read_image(grey)):
        np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, 2))
    palette = picture.quantize(256)
    np.testing.assert_array_equal(read_image(encode(palette, "PNG")), np.asarray(palette.convert("RGB")))
    assert set(np.unique(read_image(encode(picture.convert("1"), "PNG")))) == {0, 255}
    cmyk = read_image(encode(picture.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - cat()).mean() < 8


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = (np.arange(256 * 256, dtype=np.uint32)).astype(np.uint16).reshape(256, 256)
    image = read_image(encode(Image.fromarray(grey), "PNG"))
    assert image[0, 0, 0] == 0
    assert image[-1, -1, 0] == 255
    assert abs(image.mean() - 127.5) < 1
    np.testing.assert_array_equal(read_image(grey), image)


def test_transparency_lies_over_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255
    for got in (read_image(encode(Image.fromarray(rgba), "PNG")), read_image(rgba)):
        assert (got[:2] == 0).all()
        assert (got[2:] == 255).all()


def test_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(cat()).quantize(64), Image.new("P", (451, 300))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(ImageWarning, match="first of 2 frames"):
        image = read_image(data)
    assert np.abs(image.astype(int) - cat()).mean() < 20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"\xff", "not an image"),
        (jpeg(cat())[:2000], "truncated"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"<svg xmlns=''>", "not a raster"),
        (b"%PDF-1.7", "PDF"),
        (b"just a note", "text, not an image"),
        (b"\x00\x00\x00\x18ftypheic....", "HEI[CF]"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(data)


def test_formats_that_are_not_wanted_reach_no_decoder() -> None:
    data = encode(Image.fromarray(cat()), "PPM")
    with pytest.raises(ImageError, match="give JPEG, PNG"):
        read_image(data)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    data = encode(Image.new("1", (9000, 9000)), "PNG")
    with pytest.raises(LimitError, match="81,000,000 pixels, over the limit of 50,000,000"):
        read_image(data)
    with pytest.raises(LimitError, match="over the limit of 1,000"):
        read_image(cat(), max_pixels=1000)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "0..1 or 0..255 is not guessed"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((3, 40, 40), np.uint8), r"shape \(3, 40, 40\)"),
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((1, 5000, 3), np.uint8), "too narrow"),
    ],
)
def test_arrays_are_not_guessed(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_views_and_readonly_arrays_are_taken_and_left_alone() -> None:
    image = cat()[::-1, ::-1]
    image.flags.writeable = False
    np.testing.assert_array_equal(read_image(image), image)


def test_paths_that_are_no_files(tmp_path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, message in [
        ("absent.jpg", "not found"),
        ("", "is a directory"),
        ("pipe", "not a regular file"),
        ("loop", "symbolic link loop"),
        ("x" * 5000, "cannot be opened"),
        ("nul\0", "not a valid path"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_image(f"{tmp_path}/{name}")
    with pytest.raises(ImageError, match="regular file"):
        read_image("/dev/zero")


def test_mask_files_are_read_as_stored() -> None:
    truth = np.zeros((50, 60), bool)
    truth[10:30, 20:50] = True
    rgba = np.zeros((50, 60, 4), np.uint8)
    rgba[truth] = (9, 0, 0, 255)
    labels = Image.fromarray(truth.astype(np.uint8) * 3)
    labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 0])  # label 3 is black in the palette
    forms = [
        encode(Image.fromarray(truth), "PNG"),
        encode(Image.fromarray(truth.astype(np.uint8)), "PNG"),
        encode(Image.fromarray(truth.astype(np.uint16) * 5), "PNG"),
        encode(Image.fromarray(truth.astype(np.uint8) * 255), "JPEG", quality=80),
        encode(Image.fromarray(rgba), "PNG"),
        encode(labels, "PNG"),
    ]
    for data in forms:
        mask = decode_mask(data)
        assert (mask != truth).mean() < 0.005
    with pytest.raises(ImageError, match="is a photo, not a mask"):
        decode_mask(jpeg(cat()))


def test_an_image_is_the_callers_no_more() -> None:
    image = cat().copy()
    read = read_image(image)
    image[:] = 0
    np.testing.assert_array_equal(read, cat())


def test_what_does_not_fit_into_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mobilesam.formats.image.open_picture", fail)
    for read in (read_image, decode_mask):
        with pytest.raises(LimitError, match="too large for this machine's memory; make it smaller"):
            read(jpeg(cat()))


def test_masks_round_trip_through_png(tmp_path) -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    (tmp_path / "mask.png").write_bytes(image_to_png(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask)
