"""Sets that are made on a real Ray cluster of this machine: the same files, whichever processes die on the way.

Ray listens to the network. So each run is in a network, and among processes, of its own, of which nothing stays.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mobilesam.annotate.set_run import ERRORS
from mobilesam.work.ray import MOST_DEATHS, WINDOW
from tests.annotate.test_set_run import ROOT, go, tree, write_photos
from tests.bright import bright_run
from tests.photos import cat, jpeg
from tests.ray_run import WORKERS

ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
COUNT = 30
# A cluster of two machines, as far as Ray can tell; the second, with all its processes, dies when ten photos were begun.
TWO_MACHINES = """
ip link set lo up
"$0" -m ray.scripts.scripts start --head --node-ip-address=127.0.0.1 --port=6399 --num-cpus=1 --include-dashboard=false
"$0" -m ray.scripts.scripts start --address=127.0.0.1:6399 --node-ip-address=127.0.0.1 --num-cpus=1
machine=$(pgrep -n -f '[r]aylet/raylet')
(until [ "$(wc -l < "$3")" -ge 10 ]; do sleep 0.1; done; kill -9 $(pgrep -P $machine) $machine; wc -l < "$3" > "$3.died") 2>&1 &
CLUSTER=127.0.0.1:6399 exec "$0" -m tests.ray_run "$1" "$2" "$3"
"""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 40 * "t"}


def alone(*command: str) -> list[str]:
    return [*ALONE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", *command]


def why_not() -> str:
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed"
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "has no unshare, so Ray would listen to the network"
    if subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode:
        return "may make no network of its own, so Ray would listen to this one"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "shots", COUNT)


@pytest.fixture
def wanted(photos: Path, tmp_path: Path) -> dict[str, bytes]:
    go(bright_run(tmp_path / "whole"), photos)
    return tree(tmp_path / "whole")


def on_ray(photos: Path, out: Path, *deaths: str) -> list[str]:
    return alone("tests.ray_run", str(photos), str(out), str(out.with_name("log")), *deaths)


def test_the_files_are_those_of_threads_though_a_process_dies(
    photos: Path, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    subprocess.run(on_ray(photos, tmp_path / "set", "004.jpg=1"), cwd=ROOT, check=True, capture_output=True)
    assert tree(tmp_path / "set") == wanted
    done = (tmp_path / "log").read_text().split()
    assert done.count("004.jpg") == 2
    assert len(done) <= COUNT + 2  # and the photo before it, whose answer may have died with the process


@pytest.mark.long
def test_a_photo_that_always_ends_its_process_is_an_error_of_its_own(
    photos: Path, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    """Later, with a labeller that survives it, the files are those of a run without deaths."""
    out = tmp_path / "set"
    deaths = ("002.jpg=999", "007.jpg=1", "008.jpg=1")
    subprocess.run(on_ray(photos, out, *deaths), cwd=ROOT, check=True, capture_output=True)
    errors = [json.loads(line) for line in (out / ERRORS).read_text().splitlines()]
    assert [Path(one["path"]).name for one in errors] == ["002.jpg", "broken.jpg"]
    assert errors[0]["code"] == "X"
    assert "002.jpg: the worker's process died of it 3 times" in errors[0]["reason"]
    deaths = (tmp_path / "log").read_text().split().count("002.jpg")
    assert deaths in (
        MOST_DEATHS,
        MOST_DEATHS + 1,
    )  # the first may have taken an earlier photo's answer with it
    found = {name: data for name, data in tree(out).items() if name.startswith("images/")}
    assert found == {
        name: data for name, data in wanted.items() if name.startswith("images/") and name != "images/002.jpg"
    }
    subprocess.run(on_ray(photos, out), cwd=ROOT, check=True, capture_output=True)
    assert tree(out) == wanted


@pytest.mark.long
def test_killed_whole_and_gone_on_with(photos: Path, wanted: dict[str, bytes], tmp_path: Path) -> None:
    """The run with all its processes is killed after its first photos, three times, and then let end."""
    command = on_ray(photos, tmp_path / "set")
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        before = int(process.stdout.readline())
        while int(process.stdout.readline() or COUNT) < before + 5:
            pass
        process.kill()
        process.communicate()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert tree(tmp_path / "set") == wanted
    begun = (tmp_path / "log").read_text().split()
    assert len(begun) <= COUNT + 3 * WORKERS * WINDOW


@pytest.mark.long
def test_a_machine_of_a_cluster_dies(photos: Path, wanted: dict[str, bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    command = [*ALONE, "sh", "-c", TWO_MACHINES, sys.executable, str(photos), str(tmp_path / "set"), str(log)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | TOKEN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "WorkerWarning: Ray: a worker's process died; what it had is begun again" in done.stderr
    assert int((tmp_path / "log.died").read_text()) < COUNT
    assert tree(tmp_path / "set") == wanted


@pytest.mark.long
def test_the_command_with_the_model_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    for i in range(8):
        (tmp_path / "shots" / f"{i}.jpg").write_bytes(jpeg(np.roll(cat(), 9 * i, axis=1)))
    command = ["mobilesam", "annotate", str(tmp_path / "shots"), "--format", "coco,yolo,png", "--out"]
    here = [sys.executable, "-m", *command, str(tmp_path / "here")]
    subprocess.run(here, cwd=ROOT, check=True, capture_output=True)
    there = alone(*command, str(tmp_path / "there"), "--engine", "ray", "--workers", str(WORKERS))
    subprocess.run(there, cwd=ROOT, check=True, capture_output=True)
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert json.loads((tmp_path / "here" / "instances.json").read_text())["annotations"]
