"""A teacher's store made on a real Ray cluster of this machine: the bytes of one process, whatever dies on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mobilesam.storage import shards
from mobilesam.train.teacher import CHECKED, make_store
from mobilesam.work.ray import WINDOW
from tests.annotate.test_ray import ROOT, alone, why_not
from tests.annotate.test_set_run import tree
from tests.photos import cat, jpeg
from tests.ray_run import WORKERS
from tests.teacher_run import OPTIONS

COUNT = 30
pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    for i in range(COUNT):
        (folder / f"{i:03}.jpg").write_bytes(jpeg(np.roll(cat(), 9 * i, axis=1)))
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.is_file() else []


@pytest.mark.long
def test_the_command_writes_the_store_of_one_process(photos: Path, tmp_path: Path) -> None:
    command = [
        "mobilesam",
        "train",
        "teacher",
        str(photos),
        "--image-size",
        "192",
        "--device",
        "cpu",
        "--out",
    ]
    here = [sys.executable, "-m", *command, str(tmp_path / "here"), "--threads", "1"]
    subprocess.run(here, cwd=ROOT, check=True, capture_output=True)
    there = alone(*command, str(tmp_path / "there"), "--engine", "ray", "--workers", str(WORKERS))
    subprocess.run(there, cwd=ROOT, check=True, capture_output=True)
    wanted = tree(tmp_path / "here")
    assert {"store.json", "decoder.safetensors", "shards.jsonl", "shard-00000.safetensors"} <= wanted.keys()
    assert tree(tmp_path / "there") == wanted


@pytest.mark.long
def test_processes_die_and_the_run_is_killed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo ends one process; then the run with all its processes is killed, twice, and let end."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    make_store(photos, tmp_path / "wanted", OPTIONS)
    out, log = tmp_path / "store", tmp_path / "log"
    command = alone("tests.teacher_run", str(photos), str(out), str(log), "012.jpg=1")
    for _ in range(2):
        before = len(lines(out / shards.INDEX))
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(lines(out / shards.INDEX)) < before + 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert len(lines(out / shards.INDEX)) < COUNT
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert tree(out) == tree(tmp_path / "wanted")
    begun = lines(log)
    assert set(begun) == {path.name for path in photos.iterdir()}
    again = 2 * WORKERS * WINDOW + 2  # in flight when the run was killed, or with the process that died
    assert len(begun) <= CHECKED + COUNT + again, (begun, done.stderr)


@pytest.mark.long
def test_a_photo_that_always_ends_its_process_is_named(photos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "store", tmp_path / "log"
    command = alone("tests.teacher_run", str(photos), str(out), str(log))
    failed = subprocess.run([*command, "015.jpg=99"], cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode
    assert "015.jpg: the worker's process died of it 3 times" in failed.stderr
    assert "leave the photo out" in failed.stderr
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert len(lines(out / shards.INDEX)) == COUNT
