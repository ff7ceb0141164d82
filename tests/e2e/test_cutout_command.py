"""``mobilesam cutout`` as users run it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from mobilesam.cli.main import run
from mobilesam.formats.image import read_image
from mobilesam.formats.original import read_original
from mobilesam.formats.picture_file import encode_picture
from tests.photos import jpeg

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shots").mkdir()
    small = data.coffee()[::2, ::2]
    (tmp_path / "cup.jpg").write_bytes(jpeg(small))
    for name in ("a", "b"):
        (tmp_path / "shots" / f"{name}.jpg").write_bytes(jpeg(small))
    return tmp_path


def alpha_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.getchannel("A"))


def test_the_subject_without_any_option(here: Path) -> None:
    assert run(["cutout", "cup.jpg"]) == 0
    alpha = alpha_of(here / "mobilesam-out/cup_cutout.png")
    assert alpha.shape == (200, 300)
    assert alpha[100, 130] == 255
    assert alpha[5, 5] == 0


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.tiff"])
def test_the_name_says_the_kind(here: Path, name: str) -> None:
    assert run(["cutout", "cup.jpg", "--box", "45,10,210,195", "-o", name]) == 0
    with Image.open(here / name) as picture:
        assert picture.size == (300, 200)
        assert (picture.mode == "RGBA") == (not name.endswith("jpg"))


def test_points_join_boxes_and_others_are_taken_away(here: Path) -> None:
    boxes = ["--box", "45,10,210,195", "--point", "150,60", "--point", "5,5,0"]
    assert run(["cutout", "cup.jpg", *boxes, "-o", "both.png"]) == 0
    assert run(["cutout", "cup.jpg", *boxes, "--without-box", "175,65,215,155", "-o", "less.png"]) == 0
    assert (alpha_of(here / "less.png") > 127).sum() < (alpha_of(here / "both.png") > 127).sum()
    assert (
        run(
            [
                "cutout",
                "cup.jpg",
                *boxes,
                "--without-point",
                "195,110",
                "--crop",
                "--full-size",
                "-o",
                "p.png",
            ]
        )
        == 0
    )
    without = alpha_of(here / "p.png")
    assert without.shape == (200, 300)
    assert without[110, 195] == 0 < (without > 127).sum()


def test_a_point_to_take_away_must_be_on_something(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["cutout", "cup.jpg", "--without-point", "5,5,0"]) == 2
    assert "--without-point: all are off the object" in capsys.readouterr().err


def test_a_folder_with_prompts_of_each_photo(here: Path) -> None:
    prompts = {
        "version": 1,
        "photos": {
            "a.jpg": {"objects": [{"box": [45, 10, 210, 195]}], "subtract": [{"box": [175, 65, 215, 155]}]}
        },
    }
    jsonschema.validate(prompts, json.loads((REFERENCE / "cutouts.schema.json").read_text()))
    (here / "p.json").write_text(json.dumps(prompts))
    assert run(["cutout", "shots", "--prompts", "p.json", "--out", "cut", "--format", "webp", "--json"]) == 0
    assert sorted(one.name for one in (here / "cut").iterdir()) == ["a_cutout.webp", "b_cutout.webp"]
    assert (alpha_of(here / "cut/a_cutout.webp") != alpha_of(here / "cut/b_cutout.webp")).any()


def test_json_fits_the_schema(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["cutout", "cup.jpg", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads((REFERENCE / "results.schema.json").read_text()))
    assert printed["images"][0]["files"] == {"cutout": "mobilesam-out/cup_cutout.png"}


def test_orientation_profile_and_sixteen_bits_survive(here: Path) -> None:
    deep = data.coffee()[::2, ::2].astype(np.uint16) * 257 + 7
    (here / "deep.png").write_bytes(encode_picture(deep, ".png", PROFILE))
    assert run(["cutout", "deep.png", "-o", "out.tiff", "--background", "black"]) == 0
    written = (here / "out.tiff").read_bytes()
    original = read_original(written, "out", (200, 300))
    assert original.profile == PROFILE
    assert original.samples is not None
    assert original.samples[100, 130].tolist() == deep[100, 130].tolist()
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(data.coffee()[::2, ::2]).save(buffer, "JPEG", exif=exif)
    (here / "turned.jpg").write_bytes(buffer.getvalue())
    assert run(["cutout", "turned.jpg", "-o", "turned.png"]) == 0
    assert read_image(here / "turned.png").shape == (300, 200, 3)


def test_pipes(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mobilesam", "cutout", "-", "-o", "-", "--only-mask"],
        input=(here / "cup.jpg").read_bytes(),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as mask:
        assert (mask.format, mask.mode) == ("PNG", "L")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of a process of its own")
def test_a_watched_folder(here: Path) -> None:
    command = [sys.executable, "-m", "mobilesam", "cutout", "in", "--out", "cut", "--watch"]
    (here / "in").mkdir()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
    ) as process:
        try:
            time.sleep(1)
            (here / "in/new.jpg").write_bytes((here / "cup.jpg").read_bytes())
            end = time.monotonic() + 100
            while not (here / "cut/new_cutout.png").exists() and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert alpha_of(here / "cut/new_cutout.png").max() == 255
    assert process.returncode == 130, told


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["-o", "x.gif"], 2, "cut-outs end in .png"),
        (["-o", "x.pgn"], 2, "write x.pgn/ for a folder of that name"),
        (["-o", "x.jpg", "--format", "png"], 2, "leave out --format"),
        (["--background", "nothing"], 2, "is neither a colour nor a file"),
        (["--format", "bmp"], 2, "--format: bmp is not written"),
        (["--prompts", "p.json", "--box", "1,1,9,9"], 2, "put all into the file"),
        (["--point", "1,1,0"], 2, "give one that is on it"),
        (["--watch"], 2, "--watch: takes folders"),
        (["--prompts", "gone.json"], 2, "gone.json"),
        (["--grow", "9999"], 7, "grow: is 9999"),
    ],
)
def test_mistakes_are_told(
    here: Path, capsys: pytest.CaptureFixture, arguments: list[str], status: int, told: str
) -> None:
    assert run(["cutout", "cup.jpg", *arguments]) == status
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_results_do_not_go_into_the_watched_folder(here: Path, capsys: pytest.CaptureFixture) -> None:
    before = sorted(here.rglob("*"))
    assert run(["cutout", ".", "--out", str(here), "--watch"]) == 2
    assert "--out: is a folder that is watched" in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_an_unclear_subject_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "moon.jpg").write_bytes(jpeg(np.asarray(data.moon())))
    assert run(["cutout", "moon.jpg"]) == 0
    assert "it is not clear what the subject is" in capsys.readouterr().err
