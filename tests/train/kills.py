"""Kill a training run at random moments (SIGKILL), start it again, and compare it with one that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from mobilesam.train.checkpoint import read_metadata

KILLS = 20
FIRST = 0.4  # of the time that a whole run takes: before that, most runs have only just been loaded


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    """Start ``mobilesam`` with one thread, in a folder."""
    command = [
        sys.executable,
        "-m",
        "mobilesam",
        *arguments,
        "--threads",
        "1",
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def newest(folder: Path) -> Path:
    """Return a run's newest checkpoint."""
    return max(folder.glob("step-*.safetensors"))


def killed_and_whole(arguments: list[str], folder: Path) -> tuple[Path, Path]:
    """Train into ``whole``, and into ``broken`` with kills; return both folders.

    The moments are spread over the time that the whole run took, so that they lie in its start, its steps and its
    checkpoints; as each start loads everything again, a run gets only a little further.
    """
    before = time.monotonic()
    finish(start([*arguments, "--out", "whole"], folder))
    whole = time.monotonic() - before
    rng = np.random.default_rng(int(os.environ.get("MOBILESAM_SEED", "0")))
    reached = []
    for _ in range(KILLS):
        process = start([*arguments, "--out", "broken"], folder)
        time.sleep(float(rng.uniform(FIRST, 1)) * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        states = sorted((folder / "broken").glob("step-*.safetensors"))
        reached.append(states[-1].name if states else "")
    assert len(set(reached)) > 4, f"the kills met few states: {reached}"
    finish(start([*arguments, "--out", "broken"], folder))
    return folder / "whole", folder / "broken"


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that must succeed."""
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error.decode()


def assert_same_runs(one: Path, other: Path) -> None:
    """Weights, averaged weights, the optimiser's moments, losses, log and finished weights are the same bits."""
    assert newest(one).name == newest(other).name
    a, b = load_file(newest(one)), load_file(newest(other))
    assert a.keys() == b.keys()
    assert {name.split("/")[0] for name in a} == {"weights", "average", "optimizer"}
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert read_metadata(newest(one).read_bytes()) == read_metadata(newest(other).read_bytes())
    for name in ("log.jsonl", "log.csv", "weights.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
