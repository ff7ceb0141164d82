"""Distillation by its modes, side by side: the recipes as they are, several seeds, the same photos.

    python bench/distillation.py runs/modes --data data --sets train/a train/b --scored eval/c
    python bench/distillation.py runs/modes --table      # what there is so far, as Markdown, and a picture
    python bench/distillation.py runs/encoders --kinds stride-1 pyramid --steps 500 …

The last compares two encoders instead: TinyViT of half the width, whose last stage is as fine as the one before
(MobileSAM), or half as fine and joined to it (EdgeSAM).

A stopped series goes on where it was. Every mode takes the same images in the same order. What a step costs is the
processor's time between two lines of the log, without those that have scores; a run is compared at equal compute by
the scores that it had when it had cost as much as the cheapest mode's whole run. The recipes' learning rate stays at
its height, so that a run may be read at any step. Scores are those of the log, of the averaged weights, on photos of
a set that no training saw, with the same prompts every time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.formats.datasets.photos import read_photos
from mobilesam.networks.build import NETWORKS
from mobilesam.networks.layer_norm import LayerNorm2d
from mobilesam.networks.pocket import EMBEDDING, ConvNorm, PocketEncoder, twice
from mobilesam.networks.pocket_nano import NanoEncoder
from mobilesam.networks.tiny_vit import TinyViT
from mobilesam.storage.atomic import write_bytes
from mobilesam.train.data import Drawn
from mobilesam.train.distill import DISTILL, score_held_out, start_student
from mobilesam.train.distill_data import DistillSamples
from mobilesam.train.distill_recipe import DistillRecipe, DistillStage, PhotoSet, read_distill_recipe
from mobilesam.train.finish import finish
from mobilesam.train.loop import Progress, train
from mobilesam.train.options import RunOptions
from mobilesam.train.store_options import StoreOptions
from mobilesam.train.teacher import make_store, read_facts

RECIPES = {"decoupled": "distill-smoke", "semi-coupled": "semi-coupled", "coupled": "coupled"}
ENCODERS = {"stride-1": {"last_stride": 1}, "pyramid": {"last_stride": 2, "fpn": True}}
KINDS = (*RECIPES, *ENCODERS)
HALF = {"embed_dims": (32, 64, 96, 160), "num_heads": (1, 2, 3, 5)}  # of TinyViT's width
RATE = 1e-3  # of the encoders: TinyViT's own for ImageNet
FOLDER = Path(__file__).parents[1] / "recipes"
SCORED = 16  # photos of a batch; six batches are scored
SEED = 0  # of the scored photos' order and prompts
OTHER = "other_"  # of scores on the set that no training saw
SHOWN = ("embedding_error", "teacher_box", "teacher_point", "box", "point")
SECONDS = "seconds.jsonl"
REFERENCE = "reference.json"


class TinyForPocket(nn.Module):
    """Pixels (B, 3, h, w) -> the arrays of ``pocket``'s ``EMBEDDING``: TinyViT, and two convolutions for the fine ones.

    Args:
        settings: of TinyViT.
    """

    stride = PocketEncoder.stride

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        coarse, fine, skip4, skip2 = EMBEDDING.values()
        self.vit = TinyViT(**HALF, **settings)
        self.stride2 = ConvNorm(3, skip2, 3, 2, 1, relu=True)
        self.stride4 = ConvNorm(skip2, skip4, 3, 2, 1, relu=True)
        self.coarse, self.fine = nn.Conv2d(256, coarse, 1), nn.Conv2d(256, fine, 1)
        self.coarse_norm, self.fine_norm = LayerNorm2d(coarse), LayerNorm2d(fine)
        self.skip4, self.skip2 = nn.Conv2d(skip4, skip4, 3, padding=1), nn.Conv2d(skip2, skip2, 3, padding=1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """See the class."""
        x, half = self.vit(pixels), self.stride2(pixels)
        return {
            "coarse_embedding": self.coarse_norm(self.coarse(x)),
            "image_embedding": self.fine_norm(twice(self.fine(x))),
            "skip_stride4": self.skip4(self.stride4(half)),
            "skip_stride2": F.relu(self.skip2(half)),
        }


def recipe_of(kind: str, seed: int, sets: list[str], store: Path, steps: int | None = None) -> DistillRecipe:
    """Return the recipe of a mode, or of an encoder, with another seed, other photos and their teacher's store."""
    recipe = read_distill_recipe(FOLDER / f"{RECIPES.get(kind, RECIPES['decoupled'])}.toml")
    stage = recipe.stages[0]
    if kind in ENCODERS:
        stage = replace(stage, learning_rate=RATE)
    stage = replace(stage, steps=steps or stage.steps)
    return replace(
        recipe, seed=seed, sets=tuple(map(PhotoSet, sets)), store=str(store.resolve()), stages=(stage,)
    )


def take_encoder(kind: str, network: str) -> None:
    """Let a network's name stand for one with another encoder, or for itself, in this process."""
    encoder = partial(TinyForPocket, **ENCODERS[kind]) if kind in ENCODERS else NanoEncoder
    NETWORKS[network] = replace(NETWORKS[network], encoder=encoder)


def score_twice(
    student: Any,
    recipe: DistillRecipe,
    stage: DistillStage,
    held_out: list[Drawn],
    device: str,
    *,
    data: Path,
    others: list[Drawn],
) -> dict[str, float]:
    """Score the recipe's held-out photos, and some that no training saw."""
    scores = score_held_out(student, recipe, stage, held_out, device, data=data)
    return scores | score_others(student, recipe, stage, others, device, data=data)


def score_others(
    student: Any,
    recipe: DistillRecipe,
    stage: DistillStage,
    others: list[Drawn],
    device: str,
    *,
    data: Path,
) -> dict[str, float]:
    """Score photos with prompts that do not depend on the run's seed."""
    shown = replace(stage, images=SCORED)
    found = score_held_out(student, replace(recipe, seed=SEED), shown, others, device, data=data)
    return {OTHER + name: value for name, value in found.items()}


class Clock:
    """Writes what steps cost, from one line of the log to the next; called with each."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self.path, self.tell = path, tell
        self.last: tuple[int, float] | None = None

    def __call__(self, progress: Progress) -> None:
        """Take one line of the log."""
        now = time.process_time()
        if self.last is not None and progress.scores is None:
            step, then = self.last
            line = {"step": progress.step, "steps": progress.step - step, "seconds": now - then}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        self.last = progress.step, now
        if progress.scores is not None:
            known = (f"{name} {value:.3f}" for name, value in progress.scores.items())
            self.tell(f"step {progress.step}: loss {progress.loss:.3f}, {', '.join(known)}")


def run(out: Path, kind: str, recipe: DistillRecipe, data: Path, others: list[Drawn], every: int) -> None:
    """Train to the end, or go on."""
    take_encoder(kind, recipe.network)
    out.mkdir(parents=True, exist_ok=True)
    task = replace(
        DISTILL,
        samples=partial(DistillSamples, data=data),
        score=partial(score_twice, data=data, others=others),
    )
    options = RunOptions(threads=1, workers=0, device="cpu", report_every=10, save_every=every)
    newest = train(
        task, recipe, data, out, options, Clock(out / SECONDS, partial(print, out.name, flush=True))
    )
    if kind in RECIPES:  # no command knows the other networks
        finish(recipe, newest, out, DISTILL.plain)


def write_reference(out: Path, recipe: DistillRecipe, data: Path, others: list[Drawn]) -> None:
    """Score the teacher itself, and the student as it starts."""
    teacher = read_facts(Path(recipe.store)).network
    itself = replace(recipe, network=teacher, start=teacher, batch_norm="frozen")
    scores = {
        name: score_others(start_student(one, data), one, one.stages[0], others, "cpu", data=data)
        for name, one in (("teacher", itself), ("student, untrained", recipe))
    }
    write_bytes(out / REFERENCE, json.dumps(scores, indent=2).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSONL file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def cost_of(out: Path, mode: str) -> float:
    """Return the processor seconds of a mode's step, over all seeds."""
    lines = [line for path in out.glob(f"{mode}-seed*/{SECONDS}") for line in read_lines(path)]
    return sum(line["seconds"] for line in lines) / max(1, sum(line["steps"] for line in lines))


def scored_lines(out: Path, mode: str) -> list[list[dict[str, Any]]]:
    """Return the log's lines with scores, for each seed."""
    logs = [read_lines(path) for path in sorted(out.glob(f"{mode}-seed*/log.jsonl"))]
    return [[line for line in log if f"{OTHER}box" in line] for log in logs]


def cells(lines: list[dict[str, Any]]) -> str:
    """Return scores of several seeds: their mean, and least and greatest."""
    shown = []
    for name in SHOWN:
        values = [line[OTHER + name] for line in lines]
        spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
        shown.append(f"{np.mean(values):.3f}{spread}")
    return " | ".join(shown)


def scores_at(log: list[dict[str, Any]], step: float) -> dict[str, float]:
    """Return the scores of a log's lines at a step, between two lines in proportion."""
    steps = [line["step"] for line in log]
    return {
        OTHER + name: float(np.interp(step, steps, [line[OTHER + name] for line in log])) for name in SHOWN
    }


def table(out: Path) -> str:
    """Return the runs at equal images, then at equal compute."""
    rows = ["| | steps | processor minutes | " + " | ".join(f"`{name}`" for name in SHOWN) + " |"]
    rows += ["|---" * (3 + len(SHOWN)) + "|"]
    reference = json.loads((out / REFERENCE).read_text())
    rows += [f"| {name} | | | {cells([scores])} |" for name, scores in reference.items()]
    logs = {mode: [log for log in scored_lines(out, mode) if log] for mode in KINDS}
    logs = {mode: seeds for mode, seeds in logs.items() if seeds}
    costs = {mode: cost_of(out, mode) for mode in logs}
    whole = {mode: min(log[-1]["step"] for log in seeds) for mode, seeds in logs.items()}
    budget = min(costs[mode] * whole[mode] for mode in logs)
    for what, wanted in (
        ("equal images", {mode: min(whole.values()) for mode in logs}),
        ("equal compute", {mode: budget / costs[mode] for mode in logs}),
    ):
        for mode, seeds in logs.items():
            step = wanted[mode]
            lines = [scores_at(log, step) for log in seeds]
            rows.append(f"| {what}: `{mode}` | {step:.0f} | {step * costs[mode] / 60:.1f} | {cells(lines)} |")
    return "\n".join(rows)


def picture(out: Path) -> bytes:
    """Return a PNG of loss and scores over the processor's time, a line for each seed."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    titles = {
        "loss": "Training loss, relative to the first",
        "embedding_error": "Error of embeddings",
        "teacher_box": "Boxes: IoU with the teacher's masks",
        "teacher_point": "Points: IoU with the teacher's masks",
        "box": "Boxes: IoU with human masks",
        "point": "Points: IoU with human masks",
    }
    reference = json.loads((out / REFERENCE).read_text())["teacher"]
    for axis, (name, title) in zip(axes.flat, titles.items(), strict=True):
        axis.set(title=title, xlabel="processor minutes")
        axis.grid(alpha=0.3)
        if name in ("box", "point"):
            axis.axhline(reference[OTHER + name], color="grey", linestyle=":", label="teacher")
        for colour, mode in enumerate(KINDS):
            for path in sorted(out.glob(f"{mode}-seed*/log.jsonl")):
                log = read_lines(path)
                key = name if name == "loss" else OTHER + name
                points = [(line["step"] * cost_of(out, mode) / 60, line[key]) for line in log if key in line]
                if not points:
                    continue
                x, y = np.array(points).T
                y = y / y[0] if name == "loss" else y
                first = path.parent.name.endswith("seed1")
                axis.plot(x, y, f"C{colour}", label=mode if first else None, linestyle="-" if first else "--")
    axes[1, 1].legend(loc="lower right")
    figure.savefig(out / "modes.png", dpi=100)
    return (out / "modes.png").read_bytes()


def main() -> None:
    """Run what is not done yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="+", help="in the data folder: to learn from")
    parser.add_argument(
        "--scored", help="in the data folder: a set that neither teacher nor student learnt from"
    )
    parser.add_argument("--teacher", default="pocket")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(RECIPES))
    parser.add_argument("--steps", type=int, help="of each run; by default the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--save-every", type=int, default=50, help="steps between two scores")
    parser.add_argument("--table", action="store_true", help="only print what there is")
    options = parser.parse_args()
    if not options.table:
        series(options)
    print(table(options.out))
    print("seeds:", *sorted(path.name for path in options.out.glob("*-seed*")))
    picture(options.out)


def series(options: argparse.Namespace) -> None:
    """Make the store, and train by each mode with each seed."""
    data, out = options.data, options.out
    out.mkdir(parents=True, exist_ok=True)
    size = read_distill_recipe(FOLDER / "distill-smoke.toml").stages[0].image_size
    store = out / f"{options.teacher}-{size}"
    for path in (*options.sets, options.scored):
        make_store(data / path, store, StoreOptions(options.teacher, image_size=size, threads=1), print)
    others = [Drawn(photo, 1.0, False) for photo in read_photos(data / options.scored)]
    if not (out / REFERENCE).is_file():
        take_encoder(options.kinds[0], recipe_of("coupled", SEED, options.sets, store).network)
        write_reference(out, recipe_of("coupled", SEED, options.sets, store), data, others)
    for seed in options.seeds:
        for kind in options.kinds:
            recipe = recipe_of(kind, seed, options.sets, store, options.steps)
            run(out / f"{kind}-seed{seed}", kind, recipe, data, others, options.save_every)


if __name__ == "__main__":
    main()
