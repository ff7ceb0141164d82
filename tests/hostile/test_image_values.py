"""Images given as values, rows I70 and I71, and pictures that are hard for a model: I11, I12, I23, I35, I36, I38, I72."""

from __future__ import annotations

import base64
import io
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam import Prompt, read_image
from mobilesam.core.errors import ConfigError, ImageError, ImageWarning, LimitError
from mobilesam.core.metrics import mask_iou
from mobilesam.formats.image import decode_mask
from mobilesam.segment.model import Model
from tests.hostile.image_parts import (
    bmp,
    encoded,
    exif,
    gif,
    jpeg,
    picture,
    png,
    ycck_jpeg,
)
from tests.photos import cat
from tests.photos import jpeg as photo

PICTURE = picture()
ALPHA = np.dstack([PICTURE, np.full((48, 64), 255, np.uint8)])


def holds_itself() -> list:
    endless: list = [1]
    endless.append(endless)
    return endless


class Failing:
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("no array")


class FailingPath(os.PathLike):
    def __fspath__(self) -> str:
        raise RuntimeError("no path")


class FailingFile:
    def read(self, size: int = -1) -> bytes:
        raise RuntimeError("no luck")


class NoFile:
    def read(self, size: int = -1) -> None:
        return None


class Drops:
    """A stream, as of a connection, that gives a few bytes at a time and has no other method."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int = -1) -> bytes:
        drop, self.data = self.data[:100], self.data[100:]
        return drop


def closed_file() -> io.BytesIO:
    file = io.BytesIO(png())
    file.close()
    return file


# fmt: off
ARRAYS = {
    "rgb": (PICTURE, PICTURE),
    "negative-strides": (PICTURE[::-1, ::-1], PICTURE[::-1, ::-1]),
    "every-second": (PICTURE[::2, ::2], PICTURE[::2, ::2]),
    "fortran": (np.asfortranarray(PICTURE), PICTURE),
    "grey": (PICTURE[..., 0], PICTURE[..., :1].repeat(3, 2)),
    "one-channel": (PICTURE[..., :1], PICTURE[..., :1].repeat(3, 2)),
    "alpha": (ALPHA, PICTURE),
    "16-bit": (PICTURE.astype(np.uint16) * 257, PICTURE),
    "big-endian": ((PICTURE.astype(np.uint16) * 257).astype(">u2"), PICTURE),
    "list-like": (memoryview(png()), PICTURE),
}
REFUSED = {
    "float": (np.zeros((4, 4, 3)), r"has type float64; must be \(H, W, 3\) uint8 .*: 0..1 or 0..255 is not guessed"),
    "float-255": (PICTURE.astype(np.float32), "has type float32"),
    "nan": (np.full((4, 4, 3), np.nan), "has type float64"),
    "int64": (PICTURE.astype(np.int64), "has type int64"),
    "bool": (PICTURE > 9, "has type bool"),
    "complex": (PICTURE.astype(complex), "has type complex128"),
    "object": (PICTURE.astype(object), "has type object"),
    "text": (np.array([["a"]]), "has type <U1"),
    "channels-first": (PICTURE.transpose(2, 0, 1), r"has shape \(3, 48, 64\)"),
    "two-channels": (PICTURE[..., :2], r"has shape \(48, 64, 2\)"),
    "five-channels": (PICTURE.repeat(2, 2)[..., :5], r"has shape \(48, 64, 5\)"),
    "batch": (PICTURE[None], r"has shape \(1, 48, 64, 3\)"),
    "one-number": (np.uint8(3), r"has shape \(\)"),
    "nothing": (None, "is a NoneType; give a path"),
    "number": (3, "is a int; give a path"),
    "list": ([[1, 2], [3, 4]], "is a list; give a path"),
    "list-in-itself": (holds_itself(), "is a list; give a path"),
    "dict-in-itself": ({"image": holds_itself()}, "is a dict; give a path"),
    "class": (np.ndarray, "is the class ndarray; give a path"),
    "pil-class": (Image.Image, "is the class Image; give a path"),
    "records": (np.zeros((4, 4), [("a", np.uint8)]), "has type "),
    "array-that-fails": (Failing(), "is a Failing that cannot be made an array; give a path"),
    "path-that-fails": (FailingPath(), "is a FailingPath without a path; give a path"),
    "function": (len, "is a builtin_function_or_method; give a path"),
    "text-file": (io.StringIO("a"), r"read\(\) gives text, not bytes; open it with mode 'rb'"),
    "closed-file": (closed_file(), "cannot be read .*closed file.*; open it for reading bytes"),
    "file-that-fails": (FailingFile(), "cannot be read .*no luck.*; open it for reading bytes"),
    "file-of-nothing": (NoFile(), r"read\(\) gives a NoneType, not bytes"),
}
LIMITS = (float("nan"), float("inf"), -float("inf"), 0, -1, 1.5, None, "many", True, [5], holds_itself(), -(10**400), -(10**5000), Failing())
# fmt: on


@pytest.mark.parametrize(("given", "wanted"), ARRAYS.values(), ids=[f"I70-{name}" for name in ARRAYS])
def test_arrays_that_are_meant(given: np.ndarray, wanted: np.ndarray) -> None:
    before = bytes(given) if isinstance(given, memoryview) else given.copy()
    if isinstance(given, np.ndarray):
        given.flags.writeable = False
    image = read_image(given)
    np.testing.assert_array_equal(image, wanted)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.array_equal(bytes(given) if isinstance(given, memoryview) else given, before)


@pytest.mark.parametrize("limit", LIMITS, ids=[f"I70-{number}" for number in range(len(LIMITS))])
def test_a_limit_is_a_whole_number(limit: object) -> None:
    for read in (read_image, decode_mask):
        with pytest.raises(
            ConfigError, match=r"max_pixels: is .*; give a whole number of 1 or more"
        ) as caught:
            read(png(), max_pixels=limit)
        assert len(str(caught.value)) < 200


def test_a_limit_may_be_written_as_people_do() -> None:
    for limit in (5e7, np.int64(5000), np.float32(5000), 10**400):
        np.testing.assert_array_equal(read_image(png(), max_pixels=limit), PICTURE)


def test_I70_files_that_are_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with (
        path.open("rb") as file,
        path.open("rb", buffering=0) as raw,
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
    ):
        archive.writestr("a.png", png())
        for opened in (file, raw, io.BytesIO(png()), Drops(png()), archive.open("a.png")):
            np.testing.assert_array_equal(read_image(opened), PICTURE)
        with pytest.raises(ImageError, match=r"a.png: empty file \(0 bytes\)"):
            read_image(file)  # its end is reached
    with pytest.raises(ImageError, match="image: is an HTML page"):
        read_image(io.BytesIO(b"<html>"))


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=[f"I70-{name}" for name in REFUSED])
def test_arrays_whose_meaning_would_be_a_guess(given: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read_image(given)
    assert (caught.value.code, caught.value.exit_code) == ("U", 2)


def test_I70_a_view_that_repeats_one_value() -> None:
    with pytest.raises(LimitError, match="pixels, over the limit of 50,000,000"):
        read_image(np.broadcast_to(np.uint8(0), (2**20, 2**20, 3)))


def test_I70_an_empty_array() -> None:
    with pytest.raises(ImageError, match="has no pixels"):
        read_image(np.zeros((0, 4, 3), np.uint8))


def test_I71_a_closed_pil_image() -> None:
    opened = Image.open(io.BytesIO(png()))
    opened.close()
    with pytest.raises(ImageError, match="truncated or damaged image"):
        read_image(opened)


@pytest.mark.parametrize(
    "mode",
    ["L", "LA", "La", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "P", "1", "I", "I;16"],
    ids=lambda m: f"I22-{m}",
)
def test_every_mode_of_pil(mode: str) -> None:
    base = Image.fromarray(PICTURE)
    if mode in ("La", "RGBa"):
        base = base.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    grey = np.asarray(Image.fromarray(PICTURE).convert("L"))
    wanted = PICTURE if mode not in ("L", "LA", "La", "1", "I", "I;16") else grey[..., None].repeat(3, 2)
    if mode in ("I", "I;16"):
        given = Image.fromarray(grey.astype(np.uint16) * 257).convert(mode)
    else:
        given = base.convert(mode)
    image = read_image(given)
    if mode == "1":
        assert set(np.unique(image)) == {0, 255}
    else:
        assert np.abs(image.astype(int) - wanted).mean() <= (20 if mode == "P" else 5)


def test_I71_a_lazy_pil_image_is_checked_before_it_is_decoded() -> None:
    with pytest.raises(LimitError, match="over the limit of 1,000"):
        read_image(Image.open(io.BytesIO(png())), max_pixels=1000)
    with pytest.raises(ImageError, match="truncated or damaged image"):
        read_image(Image.open(io.BytesIO(png()[:1000])))


TEXT = base64.b64encode(png())


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        b" \n" + TEXT,
        TEXT[:-3],
        b"data:image/png;base64," + TEXT,
        base64.b64encode(jpeg()),
        TEXT * 30_000,
    ],
    ids=["I71-base64", "I71-spaces", "I71-padding", "I71-prefix", "I71-jpeg", "I71-100-MB"],
)
def test_base64_is_named(data: bytes) -> None:
    with pytest.raises(ImageError, match="is base64 text, not an image; decode it first") as caught:
        read_image(data)
    assert caught.value.code == "I"


BOX = [5, 0, 370, 295]


@pytest.fixture(scope="module")
def plain_mask(pocket: Model) -> np.ndarray:
    return pocket.segment(pocket.embed(photo(cat())), Prompt(box=BOX)).mask


@pytest.mark.parametrize(
    "data",
    [encoded(Image.fromarray(cat()).convert("CMYK"), "JPEG", quality=95), ycck_jpeg(cat())],
    ids=["I11-mask-of-cmyk", "I12-mask-of-ycck"],
)
def test_inks_give_the_mask_of_rgb(data: bytes, pocket: Model, plain_mask: np.ndarray) -> None:
    mask = pocket.segment(pocket.embed(data), Prompt(box=BOX)).mask
    assert mask_iou(mask, plain_mask) >= 0.95


def test_I23_prompts_and_masks_are_in_the_upright_frame(pocket: Model) -> None:
    turned = encoded(np.rot90(cat()), "PNG", exif=b"Exif\0\0" + exif(6))
    upright = pocket.segment(pocket.embed(encoded(cat(), "PNG")), Prompt(box=BOX))
    result = pocket.segment(pocket.embed(turned), Prompt(box=BOX))
    np.testing.assert_array_equal(result.mask, upright.mask)


NYQUIST = (np.indices((96, 128)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
PICTURES = {
    "I35-one-pixel": np.full((1, 1, 3), 9, np.uint8),
    "I36-at-the-limit": np.zeros((1, 1024, 3), np.uint8),
    "I36-at-the-limit-tall": np.zeros((1024, 1, 3), np.uint8),
    "I38-2x2": PICTURE[:2, :2],
    "I38-3x5": PICTURE[:5, :3],
    "I38-1023x1": np.zeros((1, 1023, 3), np.uint8),
    "I38-1025x1025": np.zeros((1025, 1025, 3), np.uint8),
    "I72-one-colour": np.full((96, 128, 3), 77, np.uint8),
    "I72-black": np.zeros((96, 128, 3), np.uint8),
    "I72-noise": np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8),
    "I72-chessboard": NYQUIST,
}


@pytest.mark.parametrize("image", PICTURES.values(), ids=PICTURES)
def test_masks_have_the_size_of_the_image_and_finite_scores(image: np.ndarray, pocket: Model) -> None:
    height, width = image.shape[:2]
    embedding = pocket.embed(image)
    point = Prompt(points=[[(width - 1) / 2, (height - 1) / 2]])
    for prompt in (point, Prompt(box=[0, 0, width, height])):
        result = pocket.segment(embedding, prompt)
        assert result.masks.shape[1:] == (height, width)
        assert np.isfinite(result.predicted_iou).all()
        assert np.isfinite(result.stability_score).all()
        assert np.isfinite(result.low_res_masks).all()


def test_I29_the_answer_tells_of_frames(pocket: Model) -> None:
    with pytest.warns(ImageWarning, match="image: only the first of 3 frames is used; 2 ignored"):
        embedding = pocket.embed(gif(3))
    assert embedding.remarks == ("only the first of 3 frames is used; 2 ignored",)


def test_no_filter_and_no_limit_is_changed() -> None:
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    for data in (png(), jpeg(), gif(1), bmp(4, 4, bytes(48)), png()[:99]):
        try:
            read_image(data)
        except ImageError:
            pass
    assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS) == (filters, limit)
    assert mobilesam.ImageWarning is ImageWarning
