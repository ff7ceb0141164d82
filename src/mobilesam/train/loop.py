"""The loop that every training run goes through, on one screen.

A step takes a batch and its task's loss, and moves the weights. What is kept is a running average of them, from
which the next stage starts. A run can be stopped at any moment and resumes bit for bit: its state is in
:mod:`~mobilesam.train.checkpoint`, and batches depend only on their number. Several processes may share the
batches (:mod:`~mobilesam.train.ranks`).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobilesam.core.errors import ConfigError, TrainingDiverged
from mobilesam.core.text import shortened
from mobilesam.networks.checkpoints import weights_channels_last
from mobilesam.runtimes.torch import choose_device, limit_threads
from mobilesam.storage.atomic import write_bytes
from mobilesam.train.board import Board
from mobilesam.train.checkpoint import Identity, State, fingerprint, load_state, save_state
from mobilesam.train.data import Drawn, Samples, batches, fingerprint_photos
from mobilesam.train.options import RunOptions
from mobilesam.train.ranks import Ranks, alike, joined_ranks
from mobilesam.train.recipe import Stage

TAUGHT = {"trunk": "trunk", "detector": "detector", "features": "detector"}  # module -> the recipe's key
NAMED = 8  # photos of a batch that a message lists


@dataclass(frozen=True)
class Task:
    """What a run trains.

    Attributes:
        samples: makes the batches.
        split: takes the recipe and the data folder; returns the photos to train on, and those held out.
        plain: takes the recipe and the trained weights; returns those that are used.
        start: takes the recipe and the data folder; returns the network with its starting weights.
        trained: takes the network and a stage; returns the parameters that the stage trains.
        step_loss: takes the network, a batch, the recipe, the stage, the step and the device; returns the loss.
        score: takes a network, the recipe, the stage, the held-out photos and the device; returns scores by name.
    """

    samples: Callable[..., Any]
    split: Callable[..., tuple[list[Drawn], list[Drawn]]]
    plain: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]
    start: Callable[[Any, Path], nn.Module]
    trained: Callable[..., list[nn.Parameter]]
    step_loss: Callable[..., Tensor]
    score: Callable[..., dict[str, float]]


@dataclass(frozen=True)
class Progress:
    """What a run reports as it goes.

    Attributes:
        step: steps done.
        steps: steps of the whole run.
        loss: mean training loss since the last report.
        seconds_left: estimate.
        scores: held-out scores by name, where they were just taken.
        doing: what is prepared before the first step, of which ``step`` of ``steps`` are done; empty for steps.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float
    scores: dict[str, float] | None = None
    doing: str = ""


Report = Callable[[Progress], None]


def no_report(progress: Progress) -> None:
    """Report nothing."""


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Treat the smallest numbers as 0 within this context, which is many times faster on a processor."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@denormals_flushed()
def train(
    task: Task,
    recipe: Any,
    data: Path,
    out: Path,
    options: RunOptions | None = None,
    report: Report = no_report,
) -> Path:
    """Train ``recipe`` to its end, or resume from the newest checkpoint in ``out``.

    Args:
        task: what is trained.
        recipe: a :class:`~mobilesam.train.recipe.Recipe`, or anything with the fields of it that are read here.
        data: folder that the recipe's sets are in.
        out: folder for checkpoints, ``log.jsonl`` and ``loss.png``.
        options: how it runs.
        report: called with each :class:`Progress`, by the first of several ranks.

    Returns:
        The newest checkpoint.

    Raises:
        ConfigError: if the sets are missing, or ``out`` belongs to another recipe or other data.
        TrainingDiverged: if the loss is not finite; names the batch, and the last checkpoint stays.
    """
    options = options or RunOptions()
    if options.threads:
        limit_threads(options.threads)
    device = choose_device(options.device).type
    with joined_ranks(device) as ranks:
        run = Run(task, recipe, out, options, device, ranks, report if ranks.first else no_report)
        return run.to_end(data)


class Run:
    """One run of :func:`train`, with the same arguments."""

    def __init__(
        self,
        task: Task,
        recipe: Any,
        out: Path,
        options: RunOptions,
        device: str,
        ranks: Ranks,
        report: Report,
    ) -> None:
        self.task, self.recipe, self.out, self.options = task, recipe, out, options
        self.device, self.ranks, self.report = device, ranks, report
        self.started = time.monotonic()

    def to_end(self, data: Path) -> Path:
        """Continue from the folder's state; return the newest checkpoint."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        self.photos, self.held_out = self.task.split(
            recipe, data, follow_symlinks=self.options.follow_symlinks
        )
        self.identity = Identity(fingerprint(recipe), fingerprint_photos([*self.photos, *self.held_out]))
        network = weights_channels_last(self.task.start(recipe, data).to(self.device))
        alike(network.state_dict(), self.ranks)
        average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.state = state = State(network, average, make_optimizer(network, recipe))
        load_state(self.out, state, self.identity, force=self.options.force)
        self.first_step = state.step
        if self.ranks.first:
            cut_log(self.out / "log.jsonl", state.step)
        self.board = Board(self.out, state.step) if self.options.tensorboard and self.ranks.first else None
        self.save()
        while state.step < recipe.steps and not self.stage():
            pass
        return self.newest

    def stage(self) -> bool:
        """Train the rest of the stage that the state is in; return whether the time is up."""
        state, recipe, options = self.state, self.recipe, self.options
        stage, done = recipe.stage_at(state.step)
        if done == 0:
            state.network.load_state_dict(state.average)
        samples = self.task.samples(self.photos, recipe, stage, state.step - done)
        samples.ranks = self.ranks
        for batch in batches(samples, done, options.workers):
            done = state.step - samples.first_step
            set_rates(state.optimizer, stage, done)
            loss, late = self.step(batch, samples, stage)
            update_average(state.average, state.network, recipe.ema_decay, stage, done)
            state.losses.append(loss)
            state.step += 1
            ends = late or state.step == recipe.steps
            saves = ends or state.step % options.save_every == 0
            if ends or state.step % options.report_every == 0:
                self.tell(stage, scored=saves)
            if saves:  # after the log: its lines beyond the newest state are cut when a run resumes
                self.save()
            if late:
                return True
        return False

    def step(self, batch: dict[str, Tensor], samples: Samples, stage: Stage) -> tuple[float, bool]:
        """Train on one batch; return its loss, and whether the time is up.

        Batch normalisation keeps its statistics, unless a task lets them learn.
        """
        state, network = self.state, self.state.network
        trained = self.task.trained(network, stage)
        state.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for part in in_parts(batch, self.options.accumulate):
            part = {key: tensor.to(self.device) for key, tensor in part.items()}
            loss = self.task.step_loss(network, part, self.recipe, stage, state.step, self.device)
            (loss / self.options.accumulate).backward(inputs=trained)
            value += loss.item() / self.options.accumulate
        late = time.monotonic() - self.started > self.options.minutes * 60
        value, late = self.ranks.agree(trained, value, late)
        if not math.isfinite(value):
            raise self.diverged(value, samples)
        torch.nn.utils.clip_grad_norm_(network.parameters(), self.recipe.clip_norm)
        state.optimizer.step()
        return value, late

    def diverged(self, loss: float, samples: Samples) -> TrainingDiverged:
        """Return the error for a loss that is not a number, naming its batch."""
        step = self.state.step
        names = samples.photos_of(step - samples.first_step)
        told = ", ".join(shortened(name) for name in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return TrainingDiverged(
            f"step {step}: the loss is {loss} on {told}{more}; lower learning_rate or look at these "
            f"photos; the state of {self.newest} stays"
        )

    def tell(self, stage: Stage, *, scored: bool) -> None:
        """Write a line to the log and report it, with held-out scores if ``scored``."""
        state, recipe = self.state, self.recipe
        if self.ranks.first:
            scores = None
            if scored and self.held_out:
                averaged = with_weights(state.network, state.average)
                scores = self.task.score(averaged, recipe, stage, self.held_out, self.device)
            passed = time.monotonic() - self.started
            left = passed / (state.step - self.first_step) * (recipe.steps - state.step)
            progress = Progress(state.step, recipe.steps, float(np.mean(state.losses)), left, scores)
            append_log(self.out / "log.jsonl", progress, stage)
            if self.board is not None:
                self.board.write(state.step, {"loss": progress.loss} | (scores or {}))
            self.report(progress)
        state.losses = []

    def save(self) -> None:
        """Put the state on disk; the other ranks wait for it."""
        if self.ranks.first:
            self.newest = save_state(self.out, self.state, self.identity)
        self.ranks.wait()
        if not self.ranks.first:
            self.newest = max(self.out.glob("step-*.safetensors"))


def in_parts(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """Split a batch into parts of equally many images; every tensor has the same number of rows for each image.

    Raises:
        ConfigError: if the images cannot be shared out evenly.
    """
    images = min(map(len, batch.values()))  # some tensors have several rows for each
    if images % parts:
        raise ConfigError(f"accumulate: is {parts}; must divide the {images} images that a step takes here")
    split = {key: tensor.chunk(parts) for key, tensor in batch.items()}
    return [{key: tensors[part] for key, tensors in split.items()} for part in range(parts)]


def make_optimizer(network: nn.Module, recipe: Any) -> torch.optim.AdamW:
    """Return AdamW with the trunks at their own rate, and no decay on gains, biases and tokens."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        taught = any(getattr(recipe, key, "") and f".{part}." in f".{name}" for part, key in TAUGHT.items())
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


def with_weights(network: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Return a copy of a network with these weights."""
    other = copy.deepcopy(network)
    other.load_state_dict(weights)
    return weights_channels_last(other)


def channels_last(pixels: Tensor) -> Tensor:
    """Lay out pixels so that convolutions are fast on a processor."""
    return pixels.contiguous(memory_format=torch.channels_last)


def mixed_precision(device: str) -> AbstractContextManager:
    """Use bfloat16 for matrix products where the device computes with it, float32 for the rest.

    A processor without it (with AVX2 only, say) would emulate it, and a step would take sixteen times as long.
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
    """Drop the log's lines after ``step``, whose steps will be done again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
