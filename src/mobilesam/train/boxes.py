"""Train a detector of objects from the boxes of human masks: ``mobilesam train boxes``.

A step draws photos (:class:`~mobilesam.train.data.BoxSamples`) and takes the loss of
:mod:`~mobilesam.train.objectness`. The loop over the steps is :mod:`~mobilesam.train.loop`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mobilesam.core.errors import ConfigError
from mobilesam.networks.detector import ObjectDetector
from mobilesam.train.data import BoxSamples, Drawn, split_sets
from mobilesam.train.loop import Report, Task, channels_last, mixed_precision, no_report, train
from mobilesam.train.objectness import head_loss, proposal_recalls
from mobilesam.train.options import RunOptions
from mobilesam.train.recipe import Recipe, Stage
from mobilesam.train.start import start_detector

HELD_OUT_STEPS = 24  # number of batches that are scored


def train_boxes(
    recipe: Recipe,
    data: Path,
    out: Path,
    options: RunOptions | None = None,
    report: Report = no_report,
) -> Path:
    """Train a detector by ``recipe``, or resume; see :func:`mobilesam.train.loop.train`.

    Raises:
        ConfigError: also if a stage trains masks, or does not train boxes.
    """
    for number, stage in enumerate(recipe.stages, 1):
        if stage.masks or not stage.boxes:
            raise ConfigError(
                f"stage {number}: a detector has boxes and no masks; write masks = false and boxes = 1.0"
            )
    return train(BOXES, recipe, data, out, options, report)


def step_loss(
    network: ObjectDetector, batch: dict[str, Tensor], recipe: Recipe, stage: Stage, step: int, device: str
) -> Tensor:
    """Return the loss of a step's batch."""
    with mixed_precision(device):
        boxes, logits = network(channels_last(batch["pixels"]))
    return stage.boxes * head_loss(network.head, boxes, logits, batch)


@torch.no_grad()
def score_held_out(
    network: ObjectDetector, recipe: Recipe, stage: Stage, held_out: list[Drawn], device: str
) -> dict[str, float]:
    """Return the mean recall of the objects in the held-out photos, the same crops every time."""
    samples = BoxSamples(held_out, recipe, stage, recipe.steps)
    recalls: list[Tensor] = []
    for number in range(HELD_OUT_STEPS):
        batch = {key: value.to(device) for key, value in samples[number].items()}
        with mixed_precision(device):
            recalls += proposal_recalls(*network.propose(channels_last(batch["pixels"])), batch)
    return {"box_recall": float(torch.cat(recalls).mean())} if recalls else {}


BOXES = Task(
    samples=BoxSamples,
    split=split_sets,
    plain=lambda recipe, weights: weights,
    start=start_detector,
    trained=lambda network, stage: [p for p in network.parameters() if p.requires_grad],
    step_loss=step_loss,
    score=score_held_out,
)
