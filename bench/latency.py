"""How long a model takes: cold to the first mask, and warm per image and per prompt.

    python bench/latency.py                 # pocket, both runtimes
    python bench/latency.py --json > latency.json

Medians with the fastest and slowest of the runs, in milliseconds, and the machine. The runtimes take turns,
so that a busy moment hits both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mobilesam
from mobilesam.weights import ALIASES

FIRST_MASK = """
import sys, time
start = time.perf_counter()
import mobilesam
model = mobilesam.load("pocket")
result = model.segment(model.embed(sys.argv[1]), mobilesam.Prompt(box=[5, 0, 370, 295]))
result.mask
print((time.perf_counter() - start) * 1000)
"""


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()


def measure(actions: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Time each action ``runs`` times, in turns, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for run in range(runs + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if run:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def cold(photo: Path) -> float:
    """Milliseconds from an interpreter's start to the first mask, imports included."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_MASK, photo], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def actions_of(model: mobilesam.Model, image: np.ndarray, name: str) -> dict[str, Callable[[], object]]:
    """What is timed of one model."""
    embedding = model.embed(image)
    height, width = image.shape[:2]
    box = mobilesam.Prompt(box=[width * 0.1, height * 0.1, width * 0.9, height * 0.9])
    point = mobilesam.Prompt(points=[width * 0.5, height * 0.5])
    places = [(x, y) for x in (0.1, 0.3, 0.6, 0.8) for y in (0.2, 0.7)]
    small = [
        mobilesam.Prompt(box=[width * x, height * y, width * (x + 0.1), height * (y + 0.1)])
        for x, y in places
    ]
    return {
        f"{name} embed": lambda: model.embed(image),
        f"{name} box, 1": lambda: model.segment(embedding, box).mask,
        f"{name} point, 1": lambda: model.segment(embedding, point).mask,
        f"{name} small box, 1": lambda: model.segment(embedding, small[0]).mask,
        f"{name} small boxes, 8 at once": lambda: [r.mask for r in model.segment(embedding, small)],
        f"{name} box, 8 at once": lambda: [r.mask for r in model.segment(embedding, [box] * 8)],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--runtimes", default="onnx,torch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from skimage import data

    photo = Path(data.__file__).parent / "chelsea.png"
    image = mobilesam.read_image(photo)
    actions: dict[str, Callable[[], object]] = {}
    for runtime in options.runtimes.split(","):
        actions |= actions_of(mobilesam.load("pocket", runtime=runtime, device="cpu"), image, runtime)
    times = {"first mask, cold": [cold(photo) for _ in range(5)]} | measure(actions, options.runs)
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    rows = {n: {"median": statistics.median(t), "min": min(t), "max": max(t)} for n, t in times.items()}
    if options.json:
        print(
            json.dumps(
                {"machine": machine, "model": ALIASES["pocket"], "image": list(image.shape), "ms": rows}
            )
        )
        return
    print(f"{ALIASES['pocket']}, {image.shape[1]} x {image.shape[0]} photo, {machine}")
    for name, row in rows.items():
        print(f"{name:<30}{row['median']:8.1f} ms   ({row['min']:.1f} to {row['max']:.1f})")


if __name__ == "__main__":
    main()
