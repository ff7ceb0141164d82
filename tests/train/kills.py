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
LOADING = 5  # every so many kills one hits a run that is still being loaded
BETWEEN = 2.0  # checkpoints that a run makes in the time within which the others hit, after its first new one


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

    Kills hit while a run is loaded, and at random moments in its steps and checkpoints soon after it went on, so that
    they are spread over the whole of it, however fast the machine is.
    """
    finish(start([*arguments, "--out", "whole"], folder))
    broken = folder / "broken"
    times = [path.stat().st_mtime for path in sorted((folder / "whole").glob("step-*.safetensors"))]
    between = times[-1] - times[-2]
    loading = 0.0
    rng = np.random.default_rng(int(os.environ.get("MOBILESAM_SEED", "0")))
    reached = []
    for number in range(KILLS):
        before, began = states(broken), time.monotonic()
        process = start([*arguments, "--out", "broken"], folder)
        if number % LOADING == LOADING - 1:
            time.sleep(float(rng.uniform(0, loading)))
        else:
            while states(broken) == before and process.poll() is None:
                time.sleep(0.01)
            loading = time.monotonic() - began
            time.sleep(float(rng.uniform(0, BETWEEN)) * between)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached += states(broken)[-1:]
    assert len(set(reached)) > KILLS // 2, f"the kills met few states: {reached}"
    finish(start([*arguments, "--out", "broken"], folder))
    return folder / "whole", broken


def states(folder: Path) -> list[str]:
    """Return the names of a run's checkpoints in order."""
    return sorted(path.name for path in folder.glob("step-*.safetensors"))


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that must succeed."""
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error.decode()


def assert_same_runs(one: Path, other: Path) -> None:
    """Weights, averaged weights, the optimiser's moments, losses, log and finished weights are the same bits.

    The order of a file's metadata is safetensors' own, and another each time.
    """
    kinds = {name.split("/")[0] for name in load_file(newest(one))}
    assert kinds == {"weights", "average", "optimizer"}
    for name in (newest(one).name, "weights.safetensors"):
        a, b = (load_file(folder / name) for folder in (one, other))
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
        metadata = [read_metadata((folder / name).read_bytes()) for folder in (one, other)]
        assert metadata[0] == metadata[1]
    for name in ("log.jsonl", "log.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
