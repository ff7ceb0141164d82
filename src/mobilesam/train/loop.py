"""The loop that every training run goes through, on one screen.

A step takes a batch, the loss that its task gives it, and moves the weights. What is kept is a
running average of them, from which the next stage starts. A run is stopped at any moment and goes on bit for bit: the state is in
:mod:`~mobilesam.train.checkpoint`, the batches depend on their number alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobilesam.core.errors import TrainingDiverged
from mobilesam.networks.checkpoints import weights_channels_last
from mobilesam.storage.atomic import write_bytes
from mobilesam.train.checkpoint import load_state, save_state
from mobilesam.train.data import Samples, batches, split_sets
from mobilesam.train.recipe import Recipe, Stage

TAUGHT = {"trunk": "trunk", "detector": "detector", "features": "detector"}  # module -> the recipe's key


@dataclass(frozen=True)
class Task:
    """What a run trains.

    Attributes:
        samples: makes the batches.
        start: from the recipe and the data folder to the network with its starting weights.
        build: from a network's name to such a network, untrained.
        trained: from the network and a stage to the parameters that the stage trains.
        step_loss: from the network, a batch, the recipe, the stage, the step and the device to the loss.
        score: from a network, the recipe, the stage, the held-out photos and the device to scores by name.
    """

    samples: type[Samples]
    start: Callable[[Recipe, Path], nn.Module]
    build: Callable[[str], nn.Module]
    trained: Callable[..., list[nn.Parameter]]
    step_loss: Callable[..., Tensor]
    score: Callable[..., dict[str, float]]


@dataclass(frozen=True)
class Progress:
    """What a run reports while it goes on.

    Attributes:
        step: steps done.
        steps: steps of the whole run.
        loss: mean training loss since the last report.
        seconds_left: estimate.
        scores: held-out scores by name, where they were just taken.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float
    scores: dict[str, float] | None = None


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take the smallest numbers for 0, which is many times faster on a processor, and only in here."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@denormals_flushed()
def train(
    task: Task,
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    report_every: int = 50,
    save_every: int = 500,
    stop_after: float = math.inf,
    follow_symlinks: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train ``recipe`` to its end, or go on from the newest checkpoint in ``out``.

    Args:
        task: what is trained.
        recipe: settings.
        data: folder that the recipe's sets lie in.
        out: folder for checkpoints, ``log.jsonl`` and ``loss.png``.
        device: ``cpu`` or ``cuda``.
        workers: processes that make samples.
        report_every: steps between two reports.
        save_every: steps between two checkpoints.
        stop_after: seconds after which the run saves its state and ends early.
        follow_symlinks: read photos that links show of the world outside their set.
        report: called with each :class:`Progress`.

    Returns:
        The newest checkpoint.

    Raises:
        ConfigError: if the sets are missing or ``out`` belongs to another recipe.
        TrainingDiverged: if the loss is not finite; the last checkpoint stays.
    """
    torch.manual_seed(recipe.seed)
    photos, held_out = split_sets(recipe, data, follow_symlinks=follow_symlinks)
    network = weights_channels_last(task.start(recipe, data).to(device))
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizer = make_optimizer(network, recipe)
    step, losses = load_state(out, recipe, network, average, optimizer)
    cut_log(out / "log.jsonl", step)
    started, first = time.monotonic(), step
    newest = save_state(out, step, losses, recipe, network, average, optimizer)

    while step < recipe.steps:
        stage, done = recipe.stage_at(step)
        if done == 0:
            network.load_state_dict(average)
        samples = task.samples(photos, recipe, stage, step - done)
        for batch in batches(samples, done, workers):
            set_rates(optimizer, stage, step - samples.first_step)
            loss = take_step(task, network, optimizer, batch, recipe, stage, step, device)
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"step {step}: the loss is {loss}; take a lower learning_rate, the state of {newest} stays"
                )
            update_average(average, network, recipe.ema_decay, stage, step - samples.first_step)
            losses.append(loss)
            step += 1
            late = time.monotonic() - started > stop_after
            ends = late or step == recipe.steps
            saves = ends or step % save_every == 0
            if ends or step % report_every == 0:
                scores = None
                if saves and held_out:
                    averaged = with_weights(task, recipe, average, device)
                    scores = task.score(averaged, recipe, stage, held_out, device)
                left = (time.monotonic() - started) / (step - first) * (recipe.steps - step)
                progress = Progress(step, recipe.steps, float(np.mean(losses)), left, scores)
                append_log(out / "log.jsonl", progress, stage)
                report(progress)
                losses = []
            if saves:  # after the log, whose lines beyond the newest state are cut when a run goes on
                newest = save_state(out, step, losses, recipe, network, average, optimizer)
            if late:
                return newest
    return newest


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with the trunks at their own rate, and no decay on gains, biases and tokens."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        taught = any(getattr(recipe, key) and f".{part}." in f".{name}" for part, key in TAUGHT.items())
        rate = recipe.trunk_rate if taught else 1.0
        decay = recipe.weight_decay if parameter.ndim > 1 and "embed" not in name else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "scale": rate}
            for (rate, decay), parameters in groups.items()
        ],
        lr=1.0,
    )


def set_rates(optimizer: torch.optim.Optimizer, stage: Stage, done: int) -> None:
    """Set the learning rates for step ``done`` of a stage."""
    rise = min(1.0, (done + 1) / max(1, stage.warm_up))
    fall = (1 + math.cos(math.pi * done / stage.steps)) / 2
    rate = stage.learning_rate * rise * (stage.last_rate + (1 - stage.last_rate) * fall)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def take_step(
    task: Task,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    recipe: Recipe,
    stage: Stage,
    step: int,
    device: str,
) -> float:
    """Train on one batch and return its loss. Batch normalisation keeps its statistics."""
    batch = {key: value.to(device) for key, value in batch.items()}
    loss = task.step_loss(network, batch, recipe, stage, step, device)
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=task.trained(network, stage))
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimizer.step()
    return loss.item()


def with_weights(task: Task, recipe: Recipe, weights: dict[str, Tensor], device: str) -> nn.Module:
    """Return another network of the recipe's kind, with these weights."""
    network = task.build(recipe.network).to(device)
    network.load_state_dict(weights)
    return weights_channels_last(network)


def channels_last(pixels: Tensor) -> Tensor:
    """Lay pixels out so that convolutions are fast on a CPU."""
    return pixels.contiguous(memory_format=torch.channels_last)


def mixed_precision(device: str) -> AbstractContextManager:
    """bfloat16 for the products where the device computes with it, float32 for the rest.

    A processor without it (AVX2 alone, say) would emulate it, and a step take sixteen times as long.
    """
    native = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=native)


@torch.no_grad()
def update_average(
    average: dict[str, Tensor], network: nn.Module, most: float, stage: Stage, done: int
) -> None:
    """Move the averaged weights towards the network's after step ``done`` of a stage.

    The decay grows to ``most``, so that the average always covers the same part of the stage's steps so far.
    """
    decay = min(most, (1 + done) / (1 + 1 / stage.averaged + done))
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)


def append_log(path: Path, progress: Progress, stage: Stage) -> None:
    """Add one line to the run's log."""
    line = {"step": progress.step, "image_size": stage.image_size, "loss": progress.loss}
    line |= progress.scores or {}
    old = path.read_bytes() if path.exists() else b""
    write_bytes(path, old + json.dumps(line).encode() + b"\n")


def cut_log(path: Path, step: int) -> None:
    """Drop the log's lines after ``step``, which will be done again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
