"""What a run leaves for its users: weights, and a picture of how it went."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from safetensors.numpy import save
from safetensors.torch import load as load_tensors
from torch import Tensor

from mobilesam.storage.atomic import write_bytes
from mobilesam.train.adapt import plain_weights
from mobilesam.train.checkpoint import fingerprint, read_metadata
from mobilesam.weights.reading import FORMAT_SINCE, NEEDS_KEY

Tensors = dict[str, Tensor]
STARTS = (
    "start",
    "teacher",
    "store",
    "trunk",
    "detector",
)  # fields of recipes that name what a run starts from
# The scores of held-out photos in the log, and what the picture calls them.
SCORES = {
    "box": "box",
    "point_choice": "point, own choice",
    "point_best": "point, best of 3",
    "box_recall": "recall of 100 boxes",
    "point": "point",
    "teacher_box": "box, the teacher's mask",
    "teacher_point": "point, the teacher's mask",
    "subject": "the subject, coarse",
}


def finish(
    recipe: Any, checkpoint: Path, out: Path, plain: Callable[[Any, Tensors], Tensors] = plain_weights
) -> list[Path]:
    """Write ``weights.safetensors``, ``loss.png`` and ``log.csv`` from a checkpoint and the log; return their paths.

    Args:
        recipe: the run's recipe.
        checkpoint: its newest checkpoint.
        out: its folder.
        plain: turns the recipe and the trained weights into those that are used.
    """
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    weights, plot, table = out / "weights.safetensors", out / "loss.png", out / "log.csv"
    write_bytes(weights, average_to_weights(checkpoint.read_bytes(), recipe, log, plain))
    write_bytes(plot, plot_log(log))
    write_bytes(table, log_to_csv(log))
    return [weights, plot, table]


def average_to_weights(
    checkpoint: bytes, recipe: Any, log: list[dict], plain: Callable[[Any, Tensors], Tensors]
) -> bytes:
    """Return a checkpoint's averaged weights as float16 safetensors that say where they come from."""
    prefix = "average/"
    averaged = {n[len(prefix) :]: t for n, t in load_tensors(checkpoint).items() if n.startswith(prefix)}
    tensors = {name: t.numpy() for name, t in plain(recipe, averaged).items()}
    tensors = {name: t.astype(np.float16) if t.dtype == np.float32 else t for name, t in tensors.items()}
    starts = [getattr(recipe, key, "") for key in STARTS]
    step = int(read_metadata(checkpoint)["step"])
    scores = [line for line in scored_lines(log) if line["step"] <= step]
    metadata = {
        NEEDS_KEY: FORMAT_SINCE,
        "network": recipe.network,
        "recipe": fingerprint(recipe),
        "steps": str(step),
        "trained_on": "; ".join(f"{Path(s.path).name} ({s.terms})" for s in recipe.sets),
        "started_from": ", ".join(Path(p).stem for p in starts if p) or "random weights",
        "held_out": json.dumps(scores[-1]) if scores else "",
    }
    return save(tensors, metadata)


def scored_lines(log: list[dict]) -> list[dict]:
    """Return the lines of a log that have scores."""
    return [line for line in log if SCORES.keys() & line.keys()]


def log_to_csv(log: list[dict]) -> bytes:
    """Return a log as CSV: a column for each figure, empty where a line lacks it."""
    text = StringIO()
    names = dict.fromkeys(name for line in log for name in line)
    table = csv.DictWriter(text, list(names), lineterminator="\n")
    table.writeheader()
    table.writerows(log)
    return text.getvalue().encode()


def plot_log(log: list[dict]) -> bytes:
    """Return a PNG of training loss and held-out scores over the steps."""
    buffer = BytesIO()
    draw_log(log).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_log(log: list[dict]) -> Figure:
    """Draw training loss and held-out scores over the steps."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    loss, score = figure.subplots(1, 2)
    loss.plot([line["step"] for line in log], [line["loss"] for line in log])
    loss.set(xlabel="step", ylabel="training loss", title="Loss")
    scored = scored_lines(log)
    for key, label in SCORES.items():
        if any(key in line for line in scored):
            values = [line.get(key, np.nan) for line in scored]
            score.plot([line["step"] for line in scored], values, label=label)
    score.set(xlabel="step", ylabel="mean IoU, recall", title="Held out", ylim=(0, 1))
    if scored:
        figure.legend(loc="outside lower right", ncols=len(SCORES))  # below, where it covers no line
    score.grid(alpha=0.3)
    return figure
