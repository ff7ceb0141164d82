"""Hostile image files: each ends as documented, within its memory and time, whatever it claims."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from mobilesam.core.errors import ImageError, ImageWarning
from mobilesam.core.extras import install_line
from mobilesam.formats.image import read_image
from mobilesam.formats.webp_canvas import webp_canvas
from tests.hostile.image_files import CASES, EITHER, READ, TINY_HEIC, Case
from tests.hostile.image_parts import boxes, encoded, picture
from tests.pace import within

ROOT = Path(__file__).parents[2]
EXIT = {"I": 3, "L": 7, "U": 2}
DECODERS = {"Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP", "Avif"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What reading each case's file came to, and the arrays."""
    files, arrays = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("arrays")
    for case in CASES:
        (files / case.name).write_bytes(case.make())
    return measured(files, arrays)


def measured(files: Path, arrays: Path) -> dict:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is measured by /proc, which this system has not")
    command = [sys.executable, "-W", "error", "-m", "tests.hostile.measure_images", str(files), str(arrays)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) | {"arrays": arrays, "printed": done.stderr.splitlines()}


def test_I42_a_large_file_is_let_go_once_its_pixels_are_decoded(tmp_path: Path) -> None:
    """140 MiB of file, 190 of decoded pixels and 140 of image are never in memory at once."""
    files, arrays = tmp_path / "files", tmp_path / "arrays"
    files.mkdir()
    arrays.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    large = PillowImage.fromarray(np.tile(noise, (10, 10, 1)))
    for name in ("a.bmp", "a.tiff"):
        large.save(files / name)
    report = measured(files, arrays)
    for name in ("a.bmp", "a.tiff"):
        assert (files / name).stat().st_size > 140 * 2**20
        assert report[name]["shape"] == [7000, 7000, 3]
        assert report[name]["megabytes"] <= 400


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_file(case: Case, reports: dict) -> None:
    report = reports[case.name]
    assert "died" not in report, report
    code = report["code"]
    assert code in {READ: (None,), EITHER: (None, "I")}.get(case.outcome, (case.outcome,)), report
    assert re.search(case.says or "^$", report["says"]), report["says"]
    assert report["megabytes"] <= case.megabytes
    assert within(report["seconds"], case.seconds)
    if code is not None:
        assert report["exit"] == report["status"] == EXIT[code]
        assert_message(report["says"], case.name)
        assert any(line.startswith(f"error[{code}]: ") and case.name in line for line in reports["printed"])
    elif "same" in report:
        assert report["same"], "two readings differ"
    if case.like is not None:
        image = np.load(reports["arrays"] / f"{case.name}.npy").astype(int)
        assert image.shape == case.like.shape
        assert np.abs(image - case.like).mean() <= case.within


def assert_message(text: str, name: str) -> None:
    """A message is one short line: file, reason, what to do."""
    assert text.startswith(f"{name}: ")
    assert "; " in text or ", or " in text, text
    assert len(text) <= 200
    assert text.isprintable()


def test_I52_no_other_decoder_is_even_imported(reports: dict) -> None:
    for case in CASES:
        assert {d.removesuffix("ImagePlugin") for d in reports[case.name]["decoders"]} <= DECODERS


@pytest.mark.parametrize("brand", [b"heic", b"mif1"], ids=["I51-heic", "I51-mif1"])
def test_heic_without_its_extra(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    wanted = re.escape(
        f"a.heic: is HEIC, which needs packages that are not installed; {install_line('heif')}, or"
    )
    with pytest.raises(ImageError, match=wanted) as caught:
        read_image(boxes(brand, b"heic") + bytes(40), name="a.heic")
    assert caught.value.code == "I"


def test_I51_avif_by_a_pillow_that_was_built_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    wanted = r"a.avif: is AVIF, which this Pillow \d\S+ was built without; pip install --force-reinstall pillow, or"
    with pytest.raises(ImageError, match=wanted):
        read_image(boxes(b"avif"), name="a.avif")


def test_I51_heic_with_its_extra() -> None:
    image = read_image(TINY_HEIC)
    assert image.shape == picture().shape
    assert np.abs(image.astype(int) - picture()).mean() < 6
    for end in (40, 200, len(TINY_HEIC) - 20):
        with pytest.raises(ImageError, match="truncated or damaged HEIF"):
            read_image(TINY_HEIC[:end])


def test_frames_that_are_ignored_are_a_warning_of_the_library() -> None:
    data = next(case for case in CASES if case.name.startswith("I32-animation.png")).make()
    with pytest.warns(ImageWarning, match="image bytes: only the first of 4 frames is used; 3 ignored"):
        read_image(data)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_canvas_of_webp_is_read_from_its_header(mode: str, lossless: bool) -> None:
    data = encoded(PillowImage.new(mode, (70, 41), (9, 8, 7, 6)[: len(mode)]), "WEBP", lossless=lossless)
    assert webp_canvas(data) == (41, 70)
    assert webp_canvas(data[:18]) is None
