"""Segment everything: our order of work beside the plain one, with the same masks required of both.

    python bench/everything.py                        # 32 x 32 points: minutes
    python bench/everything.py --points-per-side 8    # a quick look

The plain order is the published one: three masks of 64 prompts at a time, all enlarged to full size, then filtered by
predicted IoU and by the stability at full size, then boxes and runs; in PyTorch, with the decoder as published. Ours is
what Model.everything does, with ONNX Runtime. The weights are the tests' seeded ones, which say nothing about quality:
they are for timing, and for comparing record by record. Each side runs in a fresh process, whose peak memory is told,
and the seconds of all processor cores, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.machine import processor

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
POINTS_PER_BATCH = 64  # the published default
PHASES = ("encoder", "decoder", "enlarging")
MEGAPIXEL = (1225, 816)  # width and height
GOALS = {"seconds": 4.0, "processor": 4.0, "memory": 3.0}


@dataclass
class Stopwatch:
    """Sums up the seconds of each phase."""

    seconds: Counter = field(default_factory=Counter)

    def around(self, phase: str, function: Callable) -> Callable:
        """Return the function with its time added to a phase."""

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            self.seconds[phase] += time.perf_counter() - start
            return result

        return timed


def photo() -> np.ndarray:
    """A cup of coffee (400, 600, 3), CC0."""
    from skimage import data

    return data.coffee()


def search_plainly(weights: Path, settings: dict[str, Any], watch: Stopwatch) -> list[dict[str, Any]]:
    """Segment everything in the published order of work; return the records."""
    import torch
    from safetensors.numpy import load_file
    from torch.nn import functional as F

    from mobilesam.core.boxes import mask_to_box, non_maximum_suppression
    from mobilesam.core.frame import Frame
    from mobilesam.core.grids import build_point_grid
    from mobilesam.core.preprocess import preprocess
    from mobilesam.core.rle import mask_to_rle
    from mobilesam.networks.build import build_network
    from mobilesam.networks.checkpoints import load_tensors

    image = photo()
    network = load_tensors(build_network("vit_t"), load_file(weights), "seeded weights").eval()
    size, side = image.shape[:2], network.spec.image_size
    frame = Frame.fit(size, side)

    def decode(embedding: dict, points: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        coords = np.zeros((len(points), 2, 2), np.float32)
        coords[:, 0] = frame.to_input(points)
        labels = torch.tensor([1.0, -1.0]).expand(len(points), 2)
        return network.decode(embedding, torch.from_numpy(coords), labels, fold=False)

    def enlarge(low_res: torch.Tensor) -> torch.Tensor:
        padded = F.interpolate(low_res, (side, side), mode="bilinear", align_corners=False)
        visible = padded[..., : frame.input_size[0], : frame.input_size[1]]
        return F.interpolate(visible, size, mode="bilinear", align_corners=False)

    encode, decode, enlarge = (
        watch.around(phase, function)
        for phase, function in zip(PHASES, (network.encode, decode, enlarge), strict=True)
    )
    found = []
    with torch.inference_mode():
        embedding = encode(torch.from_numpy(preprocess(image, side)))
        grid = build_point_grid(settings["points_per_side"]) * [size[1], size[0]]
        for start in range(0, len(grid), POINTS_PER_BATCH):
            points = grid[start : start + POINTS_PER_BATCH]
            low_res, ious = decode(embedding, points)
            logits, ious = enlarge(low_res).flatten(0, 1), ious.flatten()
            good = ious > settings["pred_iou_thresh"]
            logits, ious, asked = logits[good], ious[good], np.repeat(points, 3, axis=0)[good.numpy()]
            inside, outside = ((logits > at).sum((-2, -1), dtype=torch.int64) for at in (1.0, -1.0))
            stability = inside / outside.clamp(min=1)
            good = stability >= settings["stability_score_thresh"]
            masks = (logits[good] > 0).numpy()
            asked = asked[good.numpy()]
            for mask, iou, stable, point in zip(masks, ious[good], stability[good], asked, strict=True):
                found.append((mask_to_rle(mask), mask_to_box(mask), float(iou), float(stable), point))
    boxes = np.array([box for _, box, *_ in found]) - [0, 0, 1, 1]
    kept = non_maximum_suppression(boxes, np.array([one[2] for one in found]), settings["box_nms_thresh"])
    return [record(*found[i]) for i in kept]


def search_ours(weights: Path, settings: dict[str, Any], watch: Stopwatch) -> list[dict[str, Any]]:
    """Segment everything as users do; return the records."""
    import mobilesam
    from mobilesam.segment.everything import masks

    model = mobilesam.load("mobile_sam", checkpoint=weights)
    model.runtime.encode = watch.around("encoder", model.runtime.encode)
    model.runtime.decode = watch.around("decoder", model.runtime.decode)
    masks.enlarge_window = watch.around("enlarging", masks.enlarge_window)
    found = model.everything(photo(), mobilesam.EverythingOptions(sampler="grid", **settings))
    return [record(m.rle, m.box, m.predicted_iou, m.stability_score, m.point) for m in found]


def record(rle: Any, box: tuple, iou: float, stability: float, point: Any) -> dict[str, Any]:
    """What the two sides must agree on."""
    return {"area": rle.area, "box": list(box), "iou": iou, "stability": stability, "point": list(point)}


def search_with_pocket(weights: Path, settings: dict[str, Any], watch: Stopwatch) -> list[dict[str, Any]]:
    """Segment everything in a photo of a megapixel with the shipped model and its own thresholds."""
    from PIL import Image

    import mobilesam

    image = np.asarray(Image.fromarray(photo()).resize(MEGAPIXEL, Image.Resampling.BICUBIC))
    model = mobilesam.load("pocket")
    options = mobilesam.EverythingOptions(sampler="grid", points_per_side=settings["points_per_side"])
    return [
        record(m.rle, m.box, m.predicted_iou, m.stability_score, m.point)
        for m in model.everything(image, options)
    ]


SIDES = {
    "plain": search_plainly,
    "ours": search_ours,
    "pocket": search_with_pocket,
}


def run_side(side: str, weights: Path, settings: dict[str, Any]) -> None:
    """Run one side in this process and print what came out as JSON: imports and loading count."""
    watch = Stopwatch()
    start, worked = time.perf_counter(), time.process_time()
    records = SIDES[side](weights, settings, watch)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    out = {"seconds": seconds, "processor": worked, "memory": peak_memory()}
    print(json.dumps(out | {"phases": watch.seconds, "records": records}))


def peak_memory() -> int:
    """Most MiB that this process has had in memory; ru_maxrss would be the parent's where that had more."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def in_fresh_process(side: str, weights: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--child", side, str(weights), json.dumps(settings)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def require_the_same(ours: list[dict], theirs: list[dict]) -> None:
    """Raise AssertionError unless both have the same records, but for the order of equally good ones."""
    assert len(ours) == len(theirs), f"{len(ours)} and {len(theirs)} records"
    assert np.allclose([one["iou"] for one in ours], [other["iou"] for other in theirs], atol=1e-5)
    ours, theirs = (sorted(records, key=lambda r: (r["point"], r["iou"])) for records in (ours, theirs))
    for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert np.allclose(one["point"], other["point"]), (i, one, other)
        assert abs(one["iou"] - other["iou"]) <= 1e-3, (i, one, other)
        assert abs(one["stability"] - other["stability"]) <= 1e-3, (i, one, other)
        assert abs(one["area"] - other["area"]) <= 1e-4 * other["area"] + 1, (i, one, other)
        assert np.abs(np.subtract(one["box"], other["box"])).max() <= 1, (i, one, other)


def write_seeded_weights(path: Path) -> None:
    """Write the tests' seeded stand-in for mobile_sam's weights."""
    from safetensors.numpy import save_file

    sys.path.insert(0, str(ROOT))
    from tests.seeded import seeded_weights

    save_file(seeded_weights(json.loads((GOLDEN / "vit_t_state_dict.json").read_text())), path)


def told(values: list[float]) -> str:
    """Median, and the spread of several."""
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.median(values):8.1f}{spread}"


def print_side(name: str, runs: list[dict[str, Any]]) -> None:
    """Print a side's row."""
    total = [run["seconds"] for run in runs]
    phases = [[run["phases"].get(phase, 0.0) for run in runs] for phase in PHASES]
    rest = [t - sum(run["phases"].values()) for t, run in zip(total, runs, strict=True)]
    worked = [run["processor"] for run in runs]
    cells = [told(values) for values in (total, *phases, rest, worked)]
    print(f"{name:<22}" + "".join(f"{cell:>26}" for cell in cells) + f"{runs[0]['memory']:>10} MiB")


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        return run_side(sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3, help="of our side")
    parser.add_argument("--plain-runs", type=int, default=1, help="of the plain side, which takes minutes")
    options = parser.parse_args()
    golden = json.loads((GOLDEN / "automatic_masks_seed0.json").read_text())[0]["settings"]
    settings = golden | {"points_per_side": options.points_per_side, "box_nms_thresh": 1.0}
    runs: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": [], "pocket": []}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "seeded.safetensors"
        write_seeded_weights(weights)
        for i in range(max(options.runs, options.plain_runs)):
            for side, count in (
                ("plain", options.plain_runs),
                ("ours", options.runs),
                ("pocket", options.runs),
            ):
                if i < count:
                    runs[side].append(in_fresh_process(side, weights, settings))
                    print(side, {key: runs[side][-1][key] for key in GOALS}, file=sys.stderr, flush=True)
    height, width = photo().shape[:2]
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; {settings}")
    print(f"{width} x {height} photo, seeded weights, {len(runs['ours'][0]['records'])} masks")
    print(
        f"{'seconds':<22}"
        + "".join(f"{name:>26}" for name in ("total", *PHASES, "rest", "processor"))
        + f"{'peak memory':>14}"
    )
    print_side("plain, torch", runs["plain"])
    print_side("ours, onnx", runs["ours"])
    ratios = {
        key: statistics.median(r[key] for r in runs["plain"])
        / statistics.median(r[key] for r in runs["ours"])
        for key in GOALS
    }
    print(
        "plain : ours          "
        + ", ".join(f"{key} {ratios[key]:.1f} (goal {goal})" for key, goal in GOALS.items())
    )
    print(f"pocket, {MEGAPIXEL[0]} x {MEGAPIXEL[1]} photo, {len(runs['pocket'][0]['records'])} masks")
    print_side("pocket, onnx", runs["pocket"])
    for run in runs["ours"]:
        for plain in runs["plain"]:
            require_the_same(run["records"], plain["records"])
    print(f"{len(runs['ours'][0]['records'])} records are the same on both sides")


if __name__ == "__main__":
    main()
