"""Where the time of segmenting everything goes, by sampler: MobileSAMv2's Table 1, and our hybrid.

    python bench/samplers.py                        # both models: minutes
    python bench/samplers.py --models pocket

Rows: grids of 32 x 32 and 64 x 64 points, the paper's object-aware boxes, and the hybrid. Columns: the image encoder;
finding the prompts (for objects the detector, with pocket's encoder where another model segments); the mask decoder;
everything after it. mobile_sam has the tests' seeded weights, which say nothing about quality: its thresholds are set
so that every sampler leaves 200 masks. One row runs after the other, several times in turns; medians, with the
fastest and the slowest.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from everything import MEGAPIXEL, Stopwatch, photo, write_seeded_weights
from PIL import Image

import mobilesam
from mobilesam import EverythingOptions, Model
from mobilesam.core.machine import processor
from mobilesam.detectors.load import detector_for

PHASES = ("encoder", "finding", "decoder")
MOST_BOXES = "objects, 320 boxes"
SURVIVORS = 200  # masks that each search leaves where weights are for timing only
GOAL = 16.0  # times faster than the 32 x 32 grid, in the phases of prompts and decoder
HEAD_GOAL = 0.1  # of the encoder's time


class Timed:
    """A model whose phases are timed, with its detector."""

    def __init__(self, model: Model) -> None:
        self.watch = Stopwatch()
        self.prompts = 0
        self.ious: list[np.ndarray] = []
        self.model = model
        self.detector = detector_for(model.runtime, model.name)
        decode = self.watch.around("decoder", model.runtime.decode)
        self.detector.find = self.watch.around("finding", self.detector.find)
        model.runtime.encode = self.watch.around("encoder", model.runtime.encode)

        def decode_and_count(arrays: Any, inputs: Any, tokens: Any) -> Any:
            low_res, ious = decode(arrays, inputs, tokens)
            self.prompts += len(ious)
            self.ious.append(ious)
            return low_res, ious

        model.runtime.decode = decode_and_count

    def search(self, image: np.ndarray, options: EverythingOptions) -> dict[str, Any]:
        """Search once and tell what took how long."""
        self.watch.seconds.clear()
        self.prompts, self.ious = 0, []
        start = time.perf_counter()
        found = self.model.everything(image, options, detector=self.detector)
        total = time.perf_counter() - start
        phases = {phase: self.watch.seconds[phase] for phase in PHASES}
        rest = total - sum(phases.values())
        return phases | {"rest": rest, "total": total, "prompts": self.prompts, "masks": len(found)}


def searches_of(timed: Timed, image: np.ndarray, *, same: bool) -> dict[str, EverythingOptions]:
    """Return what is compared; with ``same``, so that each leaves ``SURVIVORS`` masks."""
    searches = {
        "grid 32 x 32": EverythingOptions(sampler="grid"),
        "grid 64 x 64": EverythingOptions(sampler="grid", points_per_side=64),
        MOST_BOXES: EverythingOptions.paper(confidence=0.0),
        "hybrid, 256 prompts": EverythingOptions(),
    }
    if same:
        searches = {search: with_survivors(timed, image, options) for search, options in searches.items()}
    return searches | {"objects, the paper's": EverythingOptions.paper()}


def with_survivors(timed: Timed, image: np.ndarray, options: EverythingOptions) -> EverythingOptions:
    """Return a search whose only filter is a predicted IoU that ``SURVIVORS`` of its masks reach."""
    off = replace(options, box_nms_thresh=1.0, mask_nms_thresh=1.0, stability_score_thresh=0.0)
    timed.search(image, replace(off, pred_iou_thresh=1.0))
    ious = np.sort(np.concatenate([ious.ravel() for ious in timed.ious]).clip(0, 1))
    guess = len(ious) - 1 - SURVIVORS
    if options.sampler != "hybrid":
        return replace(off, pred_iou_thresh=float(ious[guess]))
    first, last = 0, guess  # what a hybrid keeps decides what it asks
    while first < last:
        masks = timed.search(image, replace(off, pred_iou_thresh=float(ious[guess])))["masks"]
        if masks == SURVIVORS:
            break
        first, last = (guess + 1, last) if masks > SURVIVORS else (first, guess)
        guess = (first + last) // 2
    return replace(off, pred_iou_thresh=float(ious[guess]))


def told(values: list[float]) -> str:
    """Median of milliseconds, with the spread of several."""
    spread = f" ({min(values) * 1000:.0f}-{max(values) * 1000:.0f})" if len(values) > 1 else ""
    return f"{statistics.median(values) * 1000:.0f}{spread}"


def compare(name: str, model: Model, image: np.ndarray, runs: int, *, same: bool) -> None:
    """Measure every sampler with one model and print the table."""
    timed = Timed(model)
    searches = searches_of(timed, image, same=same)
    rows: dict[str, list[dict[str, Any]]] = {search: [] for search in searches}
    for run in range(runs + 1):
        for search, options in searches.items():
            if not run and "grid" in search:
                continue  # what is short warms every part up
            result = timed.search(image, options)
            if run:
                rows[search].append(result)
    print(f"\n{name}, {image.shape[1]} x {image.shape[0]} photo; milliseconds")
    print(f"{'':<22}{'prompts':>9}{'masks':>7}" + "".join(f"{p:>20}" for p in (*PHASES, "rest", "total")))
    for search, results in rows.items():
        cells = [told([result[phase] for result in results]) for phase in (*PHASES, "rest", "total")]
        print(
            f"{search:<22}{results[0]['prompts']:>9}{results[0]['masks']:>7}"
            + "".join(f"{cell:>20}" for cell in cells)
        )

    asked = {
        search: statistics.median(result["finding"] + result["decoder"] for result in results)
        for search, results in rows.items()
    }
    for search in asked:
        if search.startswith("objects"):
            ratio = asked["grid 32 x 32"] / asked[search]
            print(
                f"{search}, against the 32 x 32 grid, prompts and decoder: {ratio:.1f} x faster (goal {GOAL:g})"
            )


def measure_head(runs: int) -> None:
    """Print the shared head's time beside its encoder's."""
    model = mobilesam.load("pocket")
    embedding = model.embed(photo())
    side = model.runtime.spec.image_size
    pixels = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    actions: dict[str, Callable] = {
        "encoder": lambda: model.runtime.encode(pixels),
        "head": lambda: model.runtime.propose(embedding.arrays),
    }
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for run in range(runs + 3):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if run >= 3:
                seconds[name].append(time.perf_counter() - start)
    encoder, head = (statistics.median(seconds[name]) for name in actions)
    print(
        f"\npocket: encoder {encoder * 1000:.1f} ms, shared head {head * 1000:.1f} ms: "
        f"{head / encoder:.1%} of it (goal {HEAD_GOAL:.0%})"
    )


def measure_stream(image: np.ndarray, runs: int) -> None:
    """Print when pocket's first masks of a photo come, and when all are there."""
    model = mobilesam.load("pocket")
    firsts, totals = [], []
    for run in range(runs + 1):
        start = time.perf_counter()
        stream = model.stream_everything(image)
        next(stream)
        first = time.perf_counter() - start
        count = 1 + sum(1 for _ in stream)
        if run:
            firsts.append(first)
            totals.append(time.perf_counter() - start)
    print(
        f"pocket, {image.shape[1]} x {image.shape[0]}, hybrid: first masks after {told(firsts)} ms, "
        f"all {count} after {told(totals)} ms"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="pocket,mobile_sam")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, ONNX Runtime")
    image = np.asarray(Image.fromarray(photo()).resize(MEGAPIXEL, Image.Resampling.BICUBIC))
    if "pocket" in options.models:
        compare("pocket", mobilesam.load("pocket"), image, options.runs, same=False)
        measure_head(30)
        measure_stream(image, options.runs)
    if "mobile_sam" in options.models:
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "seeded.safetensors"
            write_seeded_weights(weights)
            model = mobilesam.load("mobile_sam", checkpoint=weights)
        compare("mobile_sam, seeded weights", model, image, 1, same=True)


if __name__ == "__main__":
    sys.exit(main())
