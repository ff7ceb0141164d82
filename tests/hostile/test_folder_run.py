"""A run over a folder of good and hostile images: the good are done, the bad are told, nothing of yours is touched."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from mobilesam.annotate.sources import find_sources
from mobilesam.formats.image import read_mask
from tests.bright import bright_run
from tests.hostile.image_files import CASES, EITHER, READ
from tests.hostile.image_parts import jpeg, picture

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
HOSTILE = [case for case in CASES if case.outcome not in (READ, EITHER)]
BOX = ["--box", "10%,10%,90%,90%"]


def fill(folder: Path, good: int, hostile: int) -> dict[str, str]:
    """Write images named as JPEG, good and hostile in turn; return the code that each hostile one must end with."""
    folder.mkdir()
    for i in range(good):
        (folder / f"{i:04}-good.jpg").write_bytes(jpeg(np.roll(picture(), i, axis=1)))
    codes = {}
    for i, case in enumerate(itertools.islice(itertools.cycle(HOSTILE), hostile)):
        path = folder / f"{i * max(1, good // hostile):04}-{case.name}.jpg"
        path.write_bytes(case.make())
        codes[path.name] = case.outcome
    return codes


def digests(folder: Path) -> dict[str, tuple]:
    """What must not change: contents, times and modes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[str(path)] = (content, status.st_mtime_ns, status.st_mode, status.st_size)
    return found


def run_over(folder: Path, good: int, codes: dict[str, str]) -> None:
    before = digests(folder)
    command = [sys.executable, "-m", "mobilesam", "segment", folder.name, *BOX, "--save", "mask", "--json"]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 5, done.stderr[-2000:]
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((REFERENCE / "results.schema.json").read_text()))
    assert len(document["images"]) == good
    errors = {Path(error["file"]).name: error for error in document["errors"]}
    assert {name: error["code"] for name, error in errors.items()} == codes
    for name, error in errors.items():
        assert error["message"].startswith(f"{folder.name}/{name}: ")
        assert f"error[{error['code']}]: {error['message']}\n" in done.stderr
    for image in document["images"]:
        assert image["file"].endswith("-good.jpg")
        mask = read_mask(folder.parent / image["objects"][0]["files"]["mask"])
        assert mask.shape == picture().shape[:2]
    assert "Traceback" not in done.stderr
    assert digests(folder) == before
    assert len(list((folder.parent / "mobilesam-out").rglob("*"))) == good


def test_a_small_folder(tmp_path: Path) -> None:
    codes = fill(tmp_path / "shots", 8, len(HOSTILE))
    os.mkfifo(tmp_path / "shots" / "pipe.jpg")
    (tmp_path / "shots" / "broken.jpg").symlink_to("gone.jpg")
    (tmp_path / "shots" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "shots" / "folder.jpg").mkdir()
    (tmp_path / "shots" / "note.txt").write_text("no image, and none of ours")
    run_over(tmp_path / "shots", 8, codes | dict.fromkeys(("pipe.jpg", "broken.jpg", "loop.jpg"), "I"))


@pytest.mark.long
def test_a_thousand_images(tmp_path: Path) -> None:
    """Prints the row of docs/explanation/long-series.md."""
    start = time.perf_counter()
    run_over(tmp_path / "shots", 940, fill(tmp_path / "shots", 940, 60))
    print(f"940 done, 60 told, inputs unchanged; {time.perf_counter() - start:.0f} s")


def test_a_small_folder_becomes_a_set(tmp_path: Path) -> None:
    codes = fill(tmp_path / "shots", 4, 25)
    before = digests(tmp_path / "shots")
    run = bright_run(tmp_path / "set", formats=("coco",))
    *_, last = run.over(find_sources([tmp_path / "shots"], beside=run.out).sources)
    assert len(last.dataset.photos) == 4
    lines = [json.loads(line) for line in (tmp_path / "set" / "errors.jsonl").read_text().splitlines()]
    assert {Path(line["path"]).name: line["code"] for line in lines} == codes
    assert all(line["reason"].startswith(line["path"]) for line in lines)
    assert digests(tmp_path / "shots") == before
