"""Training a head for objects: which cells answer for an object, their loss, and how many objects are found.

Cells are assigned as in TOOD (Feng et al. 2021) and YOLOv8: an object gets those inside its box
whose own box and objectness already fit it best, and each learns to say how well it fits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.core.boxes import non_maximum_suppression
from mobilesam.networks.objectness import ObjectnessHead

ANSWERS = 10  # cells for each object
OBJECTNESS_POWER, OVERLAP_POWER = 0.5, 6.0  # exponents of the two in a cell's fitness
LEAST_SIDE = 16.0  # of a box when finding the cells inside it, in pixels: small ones need some too
BOX_WEIGHT = 2.0  # of the boxes' loss relative to the objectness
TINY = 1e-9
PROPOSALS = 100  # best boxes of an image that are scored
SAME = 0.7  # IoU above which two of them count as one


def pairwise_ious(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU (N, M) of boxes (N, 4) and others (M, 4)."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others)]
    return overlap / (areas[0][:, None] + areas[1][None] - overlap).clamp(min=TINY)


def generalised_ious(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised IoU (N,) of boxes (N, 4) with the same number of others (Rezatofighi et al. 2019)."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (others[:, 2:] - others[:, :2]).prod(-1) - overlap
    low, high = torch.minimum(boxes[:, :2], others[:, :2]), torch.maximum(boxes[:, 2:], others[:, 2:])
    around = (high - low).prod(-1).clamp(min=TINY)
    return overlap / union.clamp(min=TINY) - (around - union) / around


@torch.no_grad()
def assign(boxes: Tensor, objectness: Tensor, middles: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return each cell's target objectness (N,) and the number of its object (N,).

    Args:
        boxes: (N, 4) the cells' boxes.
        objectness: (N,) in 0..1.
        middles: (N, 2) the cells' middles, in pixels.
        truth: (M, 4) the objects' boxes, at least one.
    """
    size = (truth[:, 2:] - truth[:, :2]).clamp(min=LEAST_SIDE)
    middle = (truth[:, 2:] + truth[:, :2]) / 2
    inside = ((middles[:, None] - middle[None]).abs() < size[None] / 2).all(-1)  # (N, M)
    ious = pairwise_ious(boxes, truth)
    fitness = inside * objectness[:, None].pow(OBJECTNESS_POWER) * ious.pow(OVERLAP_POWER)
    least = fitness.topk(min(ANSWERS, len(fitness)), 0).values[-1]
    chosen = (fitness >= least) & (fitness > 0)
    ious = ious * chosen
    owner = ious.argmax(1)  # a cell wanted by several objects answers for the one it fits best
    chosen &= F.one_hot(owner, len(truth)).bool()
    fitness = fitness * chosen
    best = (ious * chosen).amax(0)
    target = (fitness / fitness.amax(0).clamp(min=TINY) * best).amax(1)
    return target, owner


def head_loss(head: ObjectnessHead, boxes: Tensor, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of a head's answers to a batch of :mod:`mobilesam.train.data`."""
    middles = head.middles(batch["pixels"].shape[-1])
    return objectness_loss(
        boxes.float(), logits.float(), middles, batch["boxes"], batch["counts"], batch["partial"]
    )


def objectness_loss(
    boxes: Tensor, logits: Tensor, middles: Tensor, truth: Tensor, counts: Tensor, partial: Tensor
) -> Tensor:
    """Return the loss of a batch of images.

    Args:
        boxes: (B, N, 4) in pixels.
        logits: (B, N).
        middles: (N, 2) the cells' middles, in pixels.
        truth: (B, M, 4) the objects' boxes, padded.
        counts: (B,) how many of them there are.
        partial: (B,) whether an image has objects that are not among them; if so, a cell without
            an object does not learn that there is none.
    """
    total, weight = boxes.new_zeros(()), boxes.new_zeros(())
    for i, count in enumerate(counts.tolist()):
        target, owner = boxes.new_zeros(boxes.shape[1]), None
        if count:
            target, owner = assign(boxes[i], logits[i].sigmoid(), middles, truth[i, :count])
        entropy = F.binary_cross_entropy_with_logits(logits[i], target, reduction="none")
        total = total + (entropy[target > 0] if partial[i] else entropy).sum()
        if owner is not None:
            answers = target > 0
            away = 1 - generalised_ious(boxes[i][answers], truth[i, owner[answers]])
            total = total + BOX_WEIGHT * (away * target[answers]).sum()
        weight = weight + target.sum()
    return total / weight.clamp(min=1)


def proposal_recalls(boxes: Tensor, objectness: Tensor, batch: dict[str, Tensor]) -> list[Tensor]:
    """Return, for each image whose objects all have a mask, the recall of each by its best hundred boxes.

    An object's recall is the share of COCO's thresholds, IoU 0.5 to 0.95, that its best box passes.
    """
    thresholds = torch.arange(0.5, 1.0, 0.05)
    recalls = []
    for i in torch.nonzero(~batch["partial"])[:, 0].tolist():
        found, scores = boxes[i].float(), objectness[i].float()
        order = non_maximum_suppression(
            found.numpy(force=True), scores.numpy(force=True), SAME, most=PROPOSALS
        )
        truth = batch["boxes"][i, : batch["counts"][i]]
        if len(truth):
            best = pairwise_ious(found[torch.from_numpy(order)], truth).amax(0)
            recalls.append((best[:, None].cpu() >= thresholds).float().mean(1))
    return recalls
