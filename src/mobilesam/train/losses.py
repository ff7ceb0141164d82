"""Mask losses: focal and dice on the logits, squared error on the predicted IoU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FOCUS = 2.0  # exponent of the focal loss
SECONDARY = 0.3  # weight of the mask tokens that are not meant for a prompt
EDGE = 7  # cells a side; an edge is where their mean differs from the middle one by EDGE_STEP
EDGE_STEP = 0.02


def mask_losses(
    logits: Tensor, target: Tensor, focal: float = 20.0, boundary: float = 0.0, sharpness: float = 1.0
) -> Tensor:
    """Return focal + dice loss (B, M) of logits (B, M, s, s) against parts of pixels (B, s, s).

    Args:
        logits: logits of M masks.
        target: what each mask should be.
        focal: weight of the focal loss.
        boundary: how much more the focal loss of a pixel near the target's edge counts.
        sharpness: sharpness of the sigmoid in the dice loss; at 1 a pixel counts by its
            probability, above that more and more by which side of the threshold it is on.
    """
    target = target[:, None]
    weight = 1 + boundary * edges(target) if boundary else 1.0
    target = target.expand_as(logits)
    probability = logits.sigmoid()
    focus = (probability - target).abs().pow(FOCUS)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    each = (weight * focus * entropy).mean((-2, -1))
    inside = (sharpness * logits).sigmoid()
    overlap = (inside * target).sum((-2, -1))
    total = inside.sum((-2, -1)) + target.sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return focal * each + dice


def edges(target: Tensor) -> Tensor:
    """Return 1 where an edge of a target (B, 1, s, s) is near, 0 elsewhere."""
    mean = F.avg_pool2d(target, EDGE, stride=1, padding=EDGE // 2, count_include_pad=False)
    return ((mean - target).abs() > EDGE_STEP).to(target.dtype)


@torch.no_grad()
def mask_ious(logits: Tensor, target: Tensor) -> Tensor:
    """Return the IoU (B, M) of the thresholded masks."""
    mask, truth = logits > 0, (target > 0.5)[:, None]
    overlap = (mask & truth).sum((-2, -1))
    union = (mask | truth).sum((-2, -1))
    return overlap / union.clamp(min=1)


def prompt_loss(
    logits: Tensor,
    iou_predictions: Tensor,
    target: Tensor,
    ambiguous: Tensor,
    focal: float = 20.0,
    boundary: float = 0.0,
    sharpness: float = 1.0,
) -> Tensor:
    """Return the mean loss of a batch of prompts.

    One point is ambiguous: it trains the best of the three masks. Any other prompt
    trains the single mask. The other tokens are trained along with less weight, so
    that asking for three masks of a box, or for one of a point, is never undefined.

    Args:
        logits: (B, 4, s, s), the single mask first.
        iou_predictions: (B, 4).
        target: (B, s, s).
        ambiguous: (B,) whether the prompt is one point.
        focal: see :func:`mask_losses`.
        boundary: see :func:`mask_losses`.
        sharpness: see :func:`mask_losses`.
    """
    losses = mask_losses(logits, target, focal, boundary, sharpness)  # (B, 4)
    single, best = losses[:, 0], losses[:, 1:].amin(1)
    mask = torch.where(ambiguous, best + SECONDARY * single, single + SECONDARY * best)
    return mask.mean() + score_loss(logits, iou_predictions, target, ambiguous)


def score_loss(logits: Tensor, iou_predictions: Tensor, target: Tensor, ambiguous: Tensor) -> Tensor:
    """Return the mean squared error of predicted IoUs, mostly of the masks that are meant for the prompt.

    The arguments are those of :func:`prompt_loss`.
    """
    errors = (iou_predictions - mask_ious(logits, target)).square()
    single, three = errors[:, 0], errors[:, 1:].mean(1)
    return torch.where(ambiguous, three + SECONDARY * single, single + SECONDARY * three).mean()
