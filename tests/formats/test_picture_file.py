"""Cut-outs as files: depth and colour profile come back as they went in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from mobilesam.formats.image import read_image
from mobilesam.formats.original import read_original, read_profile
from mobilesam.formats.picture_file import PICTURE_SUFFIXES, encode_picture
from tests.photos import cat

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def deep(samples: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (21, 30, samples)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_come_back(suffix: str) -> None:
    picture = deep()
    data = encode_picture(picture, suffix, PROFILE)
    original = read_original(data, "photo", (21, 30))
    assert original.samples is not None
    assert (original.samples == picture).all()
    assert original.profile == PROFILE
    assert (
        np.abs(read_image(data) * 257.0 - picture).max() <= 257
    )  # Pillow keeps the high byte of a PNG's two


def test_sixteen_bits_with_alpha_are_what_others_read() -> None:
    picture = deep(4)
    tifffile = pytest.importorskip("tifffile")
    assert (
        tifffile.imread(io.BytesIO(encode_picture(picture, ".tif"))).reshape(picture.shape) == picture
    ).all()
    with Image.open(io.BytesIO(encode_picture(picture, ".png"))) as read:
        assert read.mode == "RGBA"
        assert (np.asarray(read) == picture >> 8).all()  # Pillow keeps the high byte


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bits_lie_upright_as_the_image_does(orientation: int) -> None:
    grey = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(buffer, "PNG", exif=exif)
    image = read_image(buffer.getvalue())
    original = read_original(buffer.getvalue(), "photo", image.shape[:2])
    assert original.samples is not None
    assert np.abs(original.samples / 257 - image).max() <= 0.5


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_every_kind_of_file_keeps_the_profile_and_size(suffix: str) -> None:
    data = encode_picture(cat(), suffix, PROFILE)
    assert read_profile(data) == PROFILE
    assert read_image(data).shape == cat().shape


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_masks_are_written_as_grey(suffix: str) -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[5:9] = 255
    read = read_image(encode_picture(alpha, suffix, PROFILE))[..., 0].astype(int)
    assert np.abs(read - alpha).max() < 40


def test_transparency_is_white_in_jpeg() -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    assert read_image(encode_picture(rgba, ".jpg")).min() > 250


def test_a_profile_of_other_colours_is_left_out() -> None:
    buffer = io.BytesIO()
    grey = bytearray(PROFILE)
    grey[16:20] = b"GRAY"
    Image.new("L", (4, 4)).save(buffer, "PNG", icc_profile=bytes(grey))
    assert read_profile(buffer.getvalue()) is None
    assert read_profile(b"nothing") is None
