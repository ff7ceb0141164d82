"""The main ratios and the quality on a few photos, beside the committed ones: ``make bench-quick``, in three minutes at most.

    python bench/quick.py            # prints
    python bench/quick.py --commit   # also writes bench/quick.json, on a quiet machine

Times depend on the machine and on what else it does; ratios of runs in turns hold better. Docs:
docs/explanation/benchmark.md. Nothing here fails: the tests guard the quality.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from skimage import data
from tests.conftest import SHARED
from tests.guard import CARD, quality_of

import mobilesam
from mobilesam.benchmark.measure import BenchmarkOptions, Candidate, measure_each
from mobilesam.core.machine import machine
from mobilesam.formats.image import image_to_png

COMMITTED = Path(__file__).parent / "quick.json"
PHASES = ("encoder", "decoder, 1 prompt", "decoder, 8 prompts", "post-processing")
OPTIONS = BenchmarkOptions(runs=10, seconds=5, macs=False, answer=120)


def measure() -> dict:
    """Time both small models on a photo, and score the committed photos where they are."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "coffee.png"
        photo.write_bytes(image_to_png(data.coffee()))
        names = ("pocket", "mobile_sam")
        rows = list(measure_each([Candidate(name, name) for name in names], photo, OPTIONS, PHASES))
    found = {
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "processor_ms": {
            row.label: {name: timing.to_dict()["processor_ms"] for name, timing in row.phases.items()}
            for row in rows
        },
        "mobile_sam : pocket": {name: round(value, 2) for name, value in rows[1].ratios.items()},
    }
    if (SHARED / "data").is_dir():
        quality = quality_of(mobilesam.load("pocket"), SHARED)
        found["iou"] = {row: round(value, 4) for row, value in quality.items()}
    return found


def show(found: dict, before: dict) -> None:
    """Print what was measured beside what is committed."""
    print(f"now: {found['machine']['processor']}, load {found['load']}")
    if before:
        print(f"committed: {before['machine']['processor']}, load {before['load']}")
    print(f"{'':<44}{'now':>10}{'committed':>12}")
    for label, times in found["processor_ms"].items():
        for name, value in times.items():
            old = before.get("processor_ms", {}).get(label, {}).get(name)
            line(f"{label}, {name}, processor ms", value, old, 1)
    for name, value in found["mobile_sam : pocket"].items():
        line(f"mobile_sam : pocket, {name}", value, before.get("mobile_sam : pocket", {}).get(name), 2)
    if "iou" not in found:
        print("quality: not scored, no evaluation data; MOBILESAM_SHARED names its folder")
    for row, value in found.get("iou", {}).items():
        line(f"IoU of pocket on {len(CARD['photos'])} photos, {row}", value, CARD["iou"][row], 4)


def line(name: str, now: float, before: float | None, digits: int) -> None:
    """Print one figure."""
    print(f"{name:<44}{now:>10.{digits}f}{'-' if before is None else f'{before:.{digits}f}':>12}")


if __name__ == "__main__":
    measured = measure()
    show(measured, json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {})
    if "--commit" in sys.argv:
        COMMITTED.write_text(json.dumps(measured, indent=1) + "\n")
