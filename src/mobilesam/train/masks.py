"""Train a promptable network, and its head for objects, from human masks: ``mobilesam train masks``.

The loop on one screen: a step draws photographs, objects and prompts
(:mod:`~mobilesam.train.data`), decodes all four masks, and takes the loss of
:mod:`~mobilesam.train.losses`; some steps first decode without gradient, once or several
times, click where that mask is wrong and train on the corrected prompt. A stage may train the head
for objects (:mod:`~mobilesam.train.objectness`) along with the masks, or alone. What is kept is a
running average of the weights.
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
from torch import Tensor

from mobilesam.core.boxes import non_maximum_suppression
from mobilesam.core.errors import ConfigError, TrainingDiverged
from mobilesam.networks.build import build_network
from mobilesam.networks.sam import Sam
from mobilesam.storage.atomic import write_bytes
from mobilesam.train.checkpoint import load_state, remove_leftovers, save_state
from mobilesam.train.data import Samples, batches, split_sets
from mobilesam.train.losses import mask_ious, prompt_loss
from mobilesam.train.objectness import objectness_loss, pairwise_ious
from mobilesam.train.prompts import corrective_click
from mobilesam.train.recipe import Recipe, Stage
from mobilesam.train.start import start_network

ALL_MASKS = (0, 1, 2, 3)
LAST_RATE = 0.01  # what the cosine leaves of the learning rate
AVERAGE_RAMP = 10  # the average forgets its start faster: decay min(d, (1 + t) / (RAMP + t))
MOST_CLICKS = 4  # corrections of a step's prompts before it trains
HELD_OUT_STEPS = 12  # batches that are scored
PROPOSALS = 100  # best boxes of an image that are scored
SAME = 0.7  # IoU above which two of them are one


@dataclass(frozen=True)
class Progress:
    """What a run reports while it goes on.

    Attributes:
        step: steps done.
        steps: steps of the whole run.
        loss: mean training loss since the last report.
        seconds_left: estimate.
        scores: held-out mean IoU by prompt, where they were just taken.
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
def train_masks(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    report_every: int = 50,
    save_every: int = 500,
    stop_after: float = math.inf,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train ``recipe`` to its end, or go on from the newest checkpoint in ``out``.

    Args:
        recipe: settings.
        data: folder that the recipe's sets lie in.
        out: folder for checkpoints, ``log.jsonl`` and ``loss.png``.
        device: ``cpu`` or ``cuda``.
        workers: processes that make samples.
        report_every: steps between two reports.
        save_every: steps between two checkpoints.
        stop_after: seconds after which the run saves its state and ends early.
        report: called with each :class:`Progress`.

    Returns:
        The newest checkpoint.

    Raises:
        ConfigError: if the sets are missing or ``out`` belongs to another recipe.
        TrainingDiverged: if the loss is not finite; the last checkpoint stays.
    """
    torch.manual_seed(recipe.seed)
    train, held_out = split_sets(recipe, data)
    network = start_network(recipe, data).to(device).to(memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizer = make_optimizer(network, recipe)
    step, losses = load_state(out, recipe, network, average, optimizer)
    cut_log(out / "log.jsonl", step)
    remove_leftovers(out)
    started, first = time.monotonic(), step
    newest = save_state(out, step, losses, recipe, network, average, optimizer)

    while step < recipe.steps:
        stage, done = recipe.stage_at(step)
        samples = Samples(train, recipe, stage, step - done)
        for batch in batches(samples, done, workers):
            set_rates(optimizer, stage, step - samples.first_step)
            loss = take_step(network, optimizer, batch, recipe, stage, step, device)
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"step {step}: the loss is {loss}; take a lower learning_rate, the state of {newest} stays"
                )
            update_average(average, network, recipe.ema_decay, step)
            losses.append(loss)
            step += 1
            late = time.monotonic() - started > stop_after
            ends = late or step == recipe.steps
            saves = ends or step % save_every == 0
            if ends or step % report_every == 0:
                scores = (
                    score_held_out(recipe, stage, average, held_out, device) if saves and held_out else None
                )
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


def make_optimizer(network: Sam, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with the trunks at their own rate, and no decay on gains, biases and tokens."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        taught = (recipe.trunk and ".trunk." in name) or (recipe.detector and ".detector." in name)
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
    rate = stage.learning_rate * rise * (LAST_RATE + (1 - LAST_RATE) * fall)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def take_step(
    network: Sam,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    recipe: Recipe,
    stage: Stage,
    step: int,
    device: str,
) -> float:
    """Train on one batch and return its loss. Batch normalisation keeps its statistics."""
    batch = {key: value.to(device) for key, value in batch.items()}
    generator = torch.Generator(device).manual_seed((recipe.seed << 32) + step)
    with mixed_precision(device), torch.set_grad_enabled(stage.masks):
        embedding = network.encode(channels_last(batch["pixels"]))
    loss = torch.zeros((), device=device)
    if stage.masks:
        loss = loss + mask_loss(network, embedding, batch, recipe, generator, device)
    if stage.boxes:
        loss = loss + stage.boxes * box_loss(network, embedding, batch, device)

    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimizer.step()
    return loss.item()


def mask_loss(
    network: Sam,
    embedding: dict[str, Tensor],
    batch: dict[str, Tensor],
    recipe: Recipe,
    generator: torch.Generator,
    device: str,
) -> Tensor:
    """Correct a batch's prompts as often as the generator says, and return the loss of the last masks."""
    targets = batch["targets"]
    image_size = batch["pixels"].shape[-1]
    coords, labels, masks = batch["point_coords"], batch["point_labels"], batch.get("mask_input")
    embedding = repeat(for_decoder(network, embedding), len(targets))
    for _ in range(draw_clicks(recipe.correct, generator) if masks is None else 0):
        with torch.no_grad(), mixed_precision(device):
            logits, quality = network.decode(embedding, coords, labels, masks, mask_tokens=ALL_MASKS)
        masks = chosen_logits(logits.float(), quality.float(), one_point(labels))
        click, label = corrective_click(masks[:, 0], targets, image_size, generator)
        coords, labels = torch.cat([click, coords], 1), torch.cat([label, labels], 1)
    with mixed_precision(device):
        logits, quality = network.decode(embedding, coords, labels, masks, mask_tokens=ALL_MASKS)
    return prompt_loss(logits.float(), quality.float(), targets, one_point(labels))


def box_loss(network: Sam, embedding: dict[str, Tensor], batch: dict[str, Tensor], device: str) -> Tensor:
    """Return the loss of the head for objects."""
    head = network.proposal_head
    if head is None:
        raise ConfigError("boxes: the recipe's network has no head for objects; leave it out of its stages")
    with mixed_precision(device):
        boxes, logits = head({name: embedding[name] for name in head.inputs})
    middles = head.middles(batch["pixels"].shape[-1])
    return objectness_loss(
        boxes.float(), logits.float(), middles, batch["boxes"], batch["counts"], batch["partial"]
    )


def draw_clicks(chance: float, generator: torch.Generator) -> int:
    """Draw how often a step corrects its prompts before it trains: each time with the same chance."""
    clicks = 0
    while clicks < MOST_CLICKS and torch.rand((), generator=generator, device=generator.device) < chance:
        clicks += 1
    return clicks


def one_point(labels: Tensor) -> Tensor:
    """Whether each prompt (B, N) is a single point."""
    return (labels != -1).sum(1) == 1


def chosen_logits(logits: Tensor, quality: Tensor, ambiguous: Tensor) -> Tensor:
    """Return (B, 1, s, s): the best of three for one point, the single mask otherwise."""
    best = 1 + quality[:, 1:].argmax(1)
    token = torch.where(ambiguous, best, torch.zeros_like(best))
    return logits[torch.arange(len(logits)), token][:, None]


def for_decoder(network: Sam, embedding: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the arrays that only the head for objects reads."""
    others = network.proposal_head.inputs if network.proposal_head else ()
    return {name: array for name, array in embedding.items() if name not in others}


def repeat(embedding: dict[str, Tensor], prompts: int) -> dict[str, Tensor]:
    """Repeat each image's arrays for each of its prompts."""
    return {name: array.repeat_interleave(prompts // len(array), 0) for name, array in embedding.items()}


def channels_last(pixels: Tensor) -> Tensor:
    """Lay pixels out so that convolutions are fast on a CPU."""
    return pixels.contiguous(memory_format=torch.channels_last)


def mixed_precision(device: str) -> AbstractContextManager:
    """bfloat16 for the products, float32 for the rest."""
    return torch.autocast(device, torch.bfloat16)


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: Sam, decay: float, step: int) -> None:
    """Move the averaged weights towards the network's."""
    decay = min(decay, (1 + step) / (AVERAGE_RAMP + step))
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)


@torch.no_grad()
def score_held_out(
    recipe: Recipe, stage: Stage, average: dict[str, Tensor], held_out: list, device: str
) -> dict[str, float]:
    """Score the averaged weights on the held-out photographs, the same prompts every time.

    Mean IoU at the resolution of the logits: of the single mask for a box, of the
    model's own choice and of the best of three for one point.
    """
    network = build_network(recipe.network).to(device)
    network.load_state_dict(average)
    network = network.to(memory_format=torch.channels_last)
    samples = Samples(held_out, recipe, stage, recipe.steps)
    found: dict[str, list[Tensor]] = {"box": [], "point_choice": [], "point_best": []}
    recalls: list[Tensor] = []
    for number in range(HELD_OUT_STEPS * 4):
        batch = samples[number]
        if batch["point_labels"].shape[1] != 2:
            continue
        batch = {key: value.to(device) for key, value in batch.items()}
        with mixed_precision(device):
            embedding = network.encode(channels_last(batch["pixels"]))
            if stage.boxes:
                recalls += proposal_recalls(*network.propose(embedding), batch)
            embedding = repeat(for_decoder(network, embedding), len(batch["targets"]))
            logits, quality = network.decode(
                embedding, batch["point_coords"], batch["point_labels"], mask_tokens=ALL_MASKS
            )
        ious = mask_ious(logits.float(), batch["targets"])
        point = one_point(batch["point_labels"])
        found["box"].append(ious[~point, 0])
        found["point_best"].append(ious[point, 1:].amax(1))
        choice = quality[point, 1:].argmax(1)
        found["point_choice"].append(ious[point, 1:].gather(1, choice[:, None])[:, 0])
        if len(found["box"]) == HELD_OUT_STEPS:
            break
    found |= {"box_recall": recalls} if recalls else {}
    return {key: float(torch.cat(values).mean()) for key, values in found.items()}


def proposal_recalls(boxes: Tensor, objectness: Tensor, batch: dict[str, Tensor]) -> list[Tensor]:
    """Return, for each image whose objects all have a mask, the recall of each by its best hundred boxes.

    An object's recall is the part of COCO's thresholds, IoU 0.5 to 0.95, that its best box passes.
    """
    thresholds = torch.arange(0.5, 1.0, 0.05)
    recalls = []
    for i in torch.nonzero(~batch["partial"])[:, 0].tolist():
        order = torch.from_numpy(
            non_maximum_suppression(
                boxes[i].float().numpy(force=True), objectness[i].float().numpy(force=True), SAME
            )
        )
        truth = batch["boxes"][i, : batch["counts"][i]]
        if len(truth):
            best = pairwise_ious(boxes[i].float()[order[:PROPOSALS]], truth).amax(0)
            recalls.append((best[:, None].cpu() >= thresholds).float().mean(1))
    return recalls


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
