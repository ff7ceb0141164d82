"""Train a promptable network, and its head for objects, from human masks: ``mobilesam train masks``.

A step draws photos, objects and prompts (:mod:`~mobilesam.train.data`), decodes all four
masks, and takes the loss of :mod:`~mobilesam.train.losses`; some steps first decode without
gradient, once or more, click where that mask is wrong, and train on the corrected prompt. A
stage may train the head for objects (:mod:`~mobilesam.train.objectness`) along with the masks, or that
head and the masks' scores without the masks. The loop over the steps is :mod:`~mobilesam.train.loop`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mobilesam.core.errors import ConfigError
from mobilesam.core.views import WHOLE, Views
from mobilesam.networks.sam import Sam
from mobilesam.train.adapt import learns, plain_weights, start_adapted
from mobilesam.train.data import Drawn, Samples, split_sets
from mobilesam.train.loop import Report, Task, channels_last, mixed_precision, no_report, train
from mobilesam.train.losses import mask_ious, prompt_loss, score_loss
from mobilesam.train.objectness import head_loss, proposal_recalls
from mobilesam.train.options import RunOptions
from mobilesam.train.prompts import corrective_click
from mobilesam.train.recipe import Recipe, Stage

ALL_MASKS = (0, 1, 2, 3)
MOST_CLICKS = 4  # greatest number of corrections before a step trains
HELD_OUT_STEPS = 12  # number of batches that are scored
SCORE_PARTS = ("mask_decoder.iou_prediction_head.", "mask_decoder.evidence.")
OBJECT_PARTS = ("proposal_head.",)


def train_masks(
    recipe: Recipe,
    data: Path,
    out: Path,
    options: RunOptions | None = None,
    report: Report = no_report,
) -> Path:
    """Train a promptable network by ``recipe``, or resume; see :func:`mobilesam.train.loop.train`."""
    return train(MASKS, recipe, data, out, options, report)


def step_loss(
    network: Sam, batch: dict[str, Tensor], recipe: Recipe, stage: Stage, step: int, device: str
) -> Tensor:
    """Return the loss of a step's batch."""
    generator = torch.Generator(device).manual_seed((recipe.seed << 32) + step)
    with mixed_precision(device), torch.set_grad_enabled(stage.masks and learns(network.image_encoder)):
        embedding = network.encode(channels_last(batch["pixels"]))
    loss = torch.zeros((), device=device)
    if stage.masks or stage.scores:
        loss = loss + mask_loss(network, embedding, batch, recipe, stage, generator, device)
    if stage.boxes:
        loss = loss + stage.boxes * box_loss(network, embedding, batch, device)
    return loss


def mask_loss(
    network: Sam,
    embedding: dict[str, Tensor],
    batch: dict[str, Tensor],
    recipe: Recipe,
    stage: Stage,
    generator: torch.Generator,
    device: str,
) -> Tensor:
    """Correct a batch's prompts a random number of times, and return the loss of the last masks."""
    targets = batch["targets"]
    coords, labels, masks = batch["point_coords"], batch["point_labels"], batch.get("mask_input")
    embedding = for_prompts(network, embedding, len(targets), batch.get("windows"))
    shown = side_shown(network, embedding)
    for _ in range(draw_clicks(recipe.correct, generator) if masks is None else 0):
        with torch.no_grad(), mixed_precision(device):
            logits, quality = network.decode_view(embedding, coords, labels, masks, mask_tokens=ALL_MASKS)
        masks = chosen_logits(logits.float(), quality.float(), one_point(labels))
        click, label = corrective_click(masks[:, 0], targets, shown, generator)
        coords, labels = torch.cat([click, coords], 1), torch.cat([label, labels], 1)
    with mixed_precision(device):
        logits, quality = network.decode_view(embedding, coords, labels, masks, mask_tokens=ALL_MASKS)
    if not stage.masks:
        return score_loss(logits.float(), quality.float(), targets, one_point(labels))
    return prompt_loss(
        logits.float(),
        quality.float(),
        targets,
        one_point(labels),
        stage.focal,
        stage.boundary,
        stage.sharpness,
    )


def trained(network: Sam, stage: Stage) -> list[nn.Parameter]:
    """Return what a stage trains: everything, or only the parts that judge masks and find objects."""
    parts = SCORE_PARTS * stage.scores + OBJECT_PARTS * bool(stage.boxes)
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (stage.masks or name.startswith(parts))
    ]


def box_loss(network: Sam, embedding: dict[str, Tensor], batch: dict[str, Tensor], device: str) -> Tensor:
    """Return the loss of the head for objects."""
    head = network.proposal_head
    if head is None:
        raise ConfigError("boxes: the recipe's network has no head for objects; leave it out of its stages")
    with mixed_precision(device):
        boxes, logits = head({name: embedding[name] for name in head.inputs})
    return head_loss(head, boxes, logits, batch)


def draw_clicks(chance: float, generator: torch.Generator) -> int:
    """Draw how many times a step corrects its prompts before it trains, each time with the same chance."""
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


def for_prompts(
    network: Sam, embedding: dict[str, Tensor], prompts: int, windows: Tensor | None = None
) -> dict[str, Tensor]:
    """Repeat each image's arrays for each of its prompts, without those that only the head for objects reads.

    Args:
        network: the network that they come from.
        embedding: arrays (I, ...) of the images.
        prompts: number of prompts; those of one image are adjacent.
        windows: (B, 4) of the prompts' views, all of the whole input or all of one size; None where the
            decoder reads the arrays in full.
    """
    others = network.proposal_head.inputs if network.proposal_head else ()
    embedding = {name: array for name, array in embedding.items() if name not in others}
    if windows is not None and network.views is not None:
        if windows.any():
            return cut_windows(network.views, embedding, windows.tolist())
        embedding = network.views.arrays(embedding, WHOLE)
    once = network.mask_decoder.PER_IMAGE
    return {
        name: array if name in once else array.repeat_interleave(prompts // len(array), 0)
        for name, array in embedding.items()
    }


def cut_windows(views: Views, embedding: dict[str, Tensor], chosen: list[list[int]]) -> dict[str, Tensor]:
    """Cut each prompt's window out of its image's arrays (I, ...)."""
    each = [
        views.arrays(
            {name: array[i * len(array) // len(chosen)] for name, array in embedding.items()}, window
        )
        for i, window in enumerate(chosen)
    ]
    return {name: torch.stack([arrays[name] for arrays in each]) for name in each[0]}


def side_shown(network: Sam, embedding: dict[str, Tensor]) -> int:
    """Return the side of what the decoder reads, in pixels of prompts."""
    return embedding["image_embedding"].shape[-1] * network.image_encoder.stride


@torch.no_grad()
def score_held_out(
    network: Sam,
    recipe: Recipe,
    stage: Stage,
    held_out: list[Drawn],
    device: str,
    batches: int = HELD_OUT_STEPS,
) -> dict[str, float]:
    """Score a network on the held-out photos as they are, with the same prompts every time.

    Mean IoU at the resolution of the logits: of the single mask for a box, of the
    model's own choice and of the best of three for one point.
    """
    plain = replace(
        stage, background=0.0, copy_paste=0.0, whole=Stage.whole, smallest_crop=Stage.smallest_crop
    )
    samples = Samples(held_out, recipe, plain, recipe.steps)
    found: dict[str, list[Tensor]] = {"box": [], "point_choice": [], "point_best": []}
    recalls: list[Tensor] = []
    for number in range(batches * 4):
        batch = samples[number]
        if batch["point_labels"].shape[1] != 2:
            continue
        batch = {key: value.to(device) for key, value in batch.items()}
        with mixed_precision(device):
            embedding = network.encode(channels_last(batch["pixels"]))
            if stage.boxes:
                recalls += proposal_recalls(*network.propose(embedding), batch)
            embedding = for_prompts(network, embedding, len(batch["targets"]), batch.get("windows"))
            logits, quality = network.decode_view(
                embedding, batch["point_coords"], batch["point_labels"], mask_tokens=ALL_MASKS
            )
        ious = mask_ious(logits.float(), batch["targets"])
        point = one_point(batch["point_labels"])
        found["box"].append(ious[~point, 0])
        found["point_best"].append(ious[point, 1:].amax(1))
        choice = quality[point, 1:].argmax(1)
        found["point_choice"].append(ious[point, 1:].gather(1, choice[:, None])[:, 0])
        if len(found["box"]) == batches:
            break
    found |= {"box_recall": recalls} if recalls else {}
    return {key: float(torch.cat(values).mean()) for key, values in found.items()}


MASKS = Task(
    samples=Samples,
    split=split_sets,
    plain=plain_weights,
    start=start_adapted,
    trained=trained,
    step_loss=step_loss,
    score=score_held_out,
)
