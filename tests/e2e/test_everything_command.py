"""``mobilesam everything`` on real photos: what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mobilesam.cli.main import run
from mobilesam.cli.progress import ImagesProgress, describe, time_left
from mobilesam.formats.image import read_mask
from mobilesam.segment.model import Model
from tests.photos import cat, jpeg

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "everything.schema.json").read_text())
FEW = ("--sampler", "grid", "--points-per-side", "6")
PHOTO = jpeg(cat())


@pytest.fixture
def command(pocket: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command in this process, with the model that is loaded already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.everything.load_model", lambda *_, **__: pocket)
    Path("cat.jpg").write_bytes(PHOTO)
    return lambda *arguments: run(["everything", *arguments])


def picture(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_a_first_run(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(PHOTO)
    process = [sys.executable, "-m", "mobilesam", "everything", "cat.jpg", *FEW]
    done = subprocess.run(process, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert re.fullmatch(r"cat.jpg: 451 x 300, [1-9]\d* masks from 36 prompts in \d+\.\d s", first)
    assert second == "  overlay: mobilesam-out/cat_everything.png"
    out = tmp_path / "mobilesam-out"
    assert sorted(p.name for p in out.iterdir()) == ["cat_everything.png", "cat_everything_sa1b.json"]
    assert picture(out / "cat_everything.png").shape == (300, 451, 3)
    assert (tmp_path / "cat.jpg").read_bytes() == PHOTO


def test_every_kind_of_output_says_the_same(command: Callable, capsys: pytest.CaptureFixture) -> None:
    low = ("--pred-iou-thresh", "0.2", "--stability-score-thresh", "0.2")
    save = ("--save", "overlay,id-map,coco,sa1b,masks", "--out", "o")
    assert command("cat.jpg", *FEW, *low, *save, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    (image,) = document["images"]
    assert image["prompts"] == 36
    assert image["files"]["id-map"] == str(Path("o") / "cat_everything_id-map.png")
    coco = json.loads(Path(image["files"]["coco"]).read_text())
    sa1b = json.loads(Path(image["files"]["sa1b"]).read_text())
    ids = picture(image["files"]["id-map"])
    assert ids.dtype == np.uint16
    files = sorted(Path(image["files"]["masks"]).iterdir())
    assert len(files) == len(image["masks"]) == len(coco["annotations"]) == len(sa1b["annotations"]) > 2
    assert coco["images"][0]["file_name"] == sa1b["image"]["file_name"] == "cat.jpg"
    for i, (file, mask) in enumerate(zip(files, image["masks"], strict=True)):
        pixels = read_mask(file)
        assert file.name == f"{i + 1:04}.png"
        assert (
            mask["area"] == pixels.sum() == coco["annotations"][i]["area"] == sa1b["annotations"][i]["area"]
        )
        for runs in (mask, coco["annotations"][i], sa1b["annotations"][i]):
            np.testing.assert_array_equal(coco_mask.decode(runs["segmentation"]), pixels)
        x0, y0, x1, y1 = mask["box"]
        assert coco["annotations"][i]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert set(np.unique(ids[~pixels])).isdisjoint({i + 1})
    smallest = min(range(len(files)), key=lambda i: image["masks"][i]["area"])
    assert (ids[read_mask(files[smallest])] == smallest + 1).all()


def test_a_folder_with_a_bad_file_goes_on(command: Callable, capsys: pytest.CaptureFixture) -> None:
    Path("shots/sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg"):
        (Path("shots") / name).write_bytes(PHOTO)
    Path("shots/bad.jpg").write_bytes(PHOTO[:3000])
    before = {p: p.read_bytes() for p in Path("shots").rglob("*") if p.is_file()}
    assert command("shots", "--sampler", "grid", "--points-per-side", "2", "--json") == 5
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    jsonschema.validate(document, SCHEMA)
    assert len(document["images"]) == 2
    assert [(e["file"], e["code"]) for e in document["errors"]] == [(str(Path("shots/bad.jpg")), "I")]
    assert "error[I]: shots/bad.jpg: " in captured.err
    assert Path("mobilesam-out/sub/b_everything.png").is_file()
    assert {p: p.read_bytes() for p in Path("shots").rglob("*") if p.is_file()} == before
    assert command("shots", "--sampler", "grid", "--points-per-side", "2", "--overwrite") == 5
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["2 of 3 photos done; results in mobilesam-out"]


def test_nothing_is_overwritten_unasked(command: Callable, capsys: pytest.CaptureFixture) -> None:
    save = ("--save", "overlay,masks")
    assert command("cat.jpg", *FEW, *save) == 0
    many = sorted(Path("mobilesam-out/cat_everything_masks").iterdir())
    Path("mobilesam-out/cat_everything.png").write_bytes(b"mine")
    assert command("cat.jpg", "--sampler", "grid", "--points-per-side", "1", *save) == 0
    assert Path("mobilesam-out/cat_everything.png").read_bytes() == b"mine"
    assert Path("mobilesam-out/cat_2_everything.png").is_file()
    assert sorted(Path("mobilesam-out/cat_everything_masks").iterdir()) == many
    assert command("cat.jpg", "--sampler", "grid", "--points-per-side", "1", "--recall", "-o", "one.png") == 0
    assert Path("one.png").read_bytes() == Path("mobilesam-out/cat_2_everything.png").read_bytes()
    capsys.readouterr()
    assert command("cat.jpg", *save, "-o", "one.png") == 2
    assert "takes one kind of result" in capsys.readouterr().err
    Path("mobilesam-out/cat_everything_masks/note.txt").write_text("mine")
    assert command("cat.jpg", "--sampler", "grid", "--points-per-side", "1", *save, "--overwrite") == 0
    few = sorted(p.name for p in Path("mobilesam-out/cat_everything_masks").iterdir())
    assert len(few) - 1 < len(many)
    assert few == [*(f"{i + 1:04}.png" for i in range(len(few) - 1)), "note.txt"]


def test_out_of_time(command: Callable, capsys: pytest.CaptureFixture) -> None:
    assert (
        command("cat.jpg", "--sampler", "grid", "--points-per-side", "256", "--seconds", "2", "--json") == 0
    )
    captured = capsys.readouterr()
    (image,) = json.loads(captured.out)["images"]
    assert 0 < image["prompts"] < 256 * 256
    told = f"after 2 s {image['prompts']:,} of 65,536 prompts had been asked"
    assert told in captured.err
    assert told in image["warnings"][0]
    assert command("cat.jpg", "--seconds", "1e-9", "--out", "none") == 0
    error = capsys.readouterr().err
    assert "after 1e-09 s no prompt had been asked" in error
    assert "no mask passed the thresholds" in error
    assert picture("none/cat_everything.png").shape == (300, 451, 3)


def test_standard_streams(tmp_path: Path) -> None:
    process = [sys.executable, "-m", "mobilesam", "everything", "-", "--out", "-", "--save", "sa1b", *FEW]
    done = subprocess.run(process, cwd=tmp_path, capture_output=True, input=PHOTO, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image"]["width"] == 451
    assert not list(tmp_path.iterdir())


# fmt: off
FAILURES = [
    (["none.jpg"], 3, r"error\[I\]: none.jpg: not found"),
    (["cat.jpg", "--save", "mask"], 2, r"error\[U\]: --save: 'mask' is unknown; choose some of overlay,id-map"),
    (["cat.jpg", "--save", ""], 2, r"error\[U\]: --save: is empty"),
    (["cat.jpg", "--out", "-", "--json"], 2, r"error\[U\]: --out -"),
    (["cat.jpg", "--out", "-", "--save", "masks"], 2, r"error\[U\]: standard output: takes one file, and the result is a folder"),
    (["cat.jpg", "--out", "cat.jpg/x", "--sampler", "grid", "--points-per-side", "1"], 6, r"error\[O\]"),
    (["cat.jpg", "--max-pixels", "100"], 7, r"error\[L\]: cat.jpg: 451 x 300 is 135,300 pixels"),
    (["cat.jpg", "--point", "1,2"], 2, r"error\[U\]: No such option"),
    ([], 2, r"error\[U\]: Missing argument"),
]
# fmt: on


@pytest.mark.parametrize(("arguments", "code", "message"), FAILURES, ids=[" ".join(f[0]) for f in FAILURES])
def test_failures(
    command: Callable, capsys: pytest.CaptureFixture, arguments: list, code: int, message: str
) -> None:
    assert command(*arguments) == code
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert [p.name for p in Path.cwd().iterdir()] == ["cat.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_files(tmp_path: Path, number: int, code: int) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.jpg").write_bytes(PHOTO)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mobilesam",
            "everything",
            "many",
            "--sampler",
            "grid",
            "--points-per-side",
            "4",
            "--save",
            "masks,coco",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a run in the background ignores Ctrl-C
    )
    out = tmp_path / "mobilesam-out"
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert b"Traceback" not in error
    assert all(json.loads(path.read_text())["annotations"] for path in out.glob("*.json"))
    assert all(picture(path).size for path in out.rglob("*.png"))
    assert not list(out.rglob("*.tmp"))
    assert all(path.read_bytes() == PHOTO for path in folder.iterdir())


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    moments = iter(range(0, 1000, 10))
    monkeypatch.setattr("mobilesam.cli.progress.time.monotonic", lambda: float(next(moments)))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ImagesProgress(2) as progress:
        progress.of("a.jpg")(512, 1024)
        progress.clear()
        progress.image = 1
        progress.of("\x1b[31m.jpg")(256, 1024)
    error = capsys.readouterr().err
    assert "1 of 2, a.jpg: 512 of 1,024 prompts, 30 s left" in error  # a quarter after 10 s
    assert r"2 of 2, \x1b[31m.jpg: 256 of 1,024 prompts, 18 s left" in error
    assert error.endswith(" \r")
    assert time_left(61.2) == "1 min 1 s left"
    assert describe("x", 1_000_000, 3_000_000, 1_000_000, 2) == "x: 1.0 of 3.0 MB, 0.5 MB/s, 4 s left"


def test_an_overlay_alone_is_tidy(command: Callable, capsys: pytest.CaptureFixture) -> None:
    """A picture to look at has the surer masks; data has all."""
    counts = {}
    for name, arguments in {
        "alone": ["--save", "overlay"],
        "tidy": ["--tidy"],
        "recall": ["--recall", "--save", "overlay"],
        "data": [],
    }.items():
        assert command("cat.jpg", "--max-prompts", "24", "--out", name, "--json", *arguments) == 0
        counts[name] = len(json.loads(capsys.readouterr().out)["images"][0]["masks"])
    assert counts["alone"] == counts["tidy"] < counts["recall"] == counts["data"]
