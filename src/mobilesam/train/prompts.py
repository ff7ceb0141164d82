"""Prompts drawn from a ground-truth mask: jittered boxes, points, coarse masks, corrective clicks."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor

from mobilesam.core.prompts import MASK_LOGIT
from mobilesam.core.regions import central_pixel

BOX_JITTER = 0.06  # standard deviation of a corner, in sides of the box
TOUCHED = 0.1  # least part of a cell that an object covers where its box begins
COARSE_SHIFT = 0.02  # greatest shift of a drawn mask prompt, in sides of the input
CENTRAL = 0.35  # part of the points that lie on the object's most central pixel


def draw_prompt(
    target: np.ndarray,
    kind: str,
    slots: int,
    image_size: int,
    rng: np.random.Generator,
    loose_boxes: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``slots`` decoder inputs, coordinates (slots, 2) and labels (slots,), for one object.

    Args:
        target: (s, s) part of each pixel that is object, 0..1.
        kind: ``box``, ``point``, ``points``, ``box_and_points`` or ``mask``; slots that a box leaves over are points,
            and a prompt without a box ends with a pad, as in SAM's prompt encoder.
        slots: number of slots.
        image_size: side of the model input that ``target`` shows.
        rng: source of all draws.
        loose_boxes: part of the boxes whose corners are jittered; the others are tight.
    """
    coords = np.zeros((slots, 2), np.float32)
    labels = np.full(slots, -1, np.float32)
    if kind == "mask":
        return coords, labels
    scale = image_size / target.shape[0]
    points = slots - 1
    if kind in ("box", "box_and_points"):
        coords[:2] = draw_box(target, rng, loose_boxes).reshape(2, 2) * scale
        labels[:2] = 2, 3
        points = slots - 2
    first = slots - points - (0 if labels[0] == 2 else 1)
    for i in range(first, first + points):
        negative = i > first and rng.random() < 0.3
        spot, label = draw_point(target, rng, negative=negative)
        coords[i] = spot * scale - 0.5
        labels[i] = label
    return coords, labels


def draw_box(target: np.ndarray, rng: np.random.Generator, loose: float) -> np.ndarray:
    """Return the object's box (x0, y0, x1, y1), whose corners are jittered with chance ``loose``."""
    box = tight_box(target)
    if rng.random() < loose:
        width, height = box[2] - box[0], box[3] - box[1]
        jitter = rng.normal(0, BOX_JITTER, 4).clip(-0.15, 0.15) * [width, height, width, height]
        box = (box + jitter).clip(0, target.shape[0])
    return box.astype(np.float32)


def tight_box(target: np.ndarray) -> np.ndarray:
    """Return an object's tight box, which enters its outermost cells as far as they are covered.

    A box of whole cells would be off by up to half a cell, which is a lot for a small object.
    """
    ends = []
    for covered in (target.max(0), target.max(1)):
        cells = np.flatnonzero(covered >= min(TOUCHED, covered.max()))
        first, last = cells[0], cells[-1]
        if first == last:  # a single cell does not say where in it the object lies
            ends.append((first, last + 1))
        else:
            ends.append((first + 1 - covered[first], last + covered[last]))
    (x0, x1), (y0, y1) = ends
    return np.array([x0, y0, x1, y1], np.float32)


def draw_point(
    target: np.ndarray, rng: np.random.Generator, *, negative: bool = False
) -> tuple[np.ndarray, int]:
    """Return a pixel centre (x, y) and its label: inside the object, or near it but outside."""
    inside = target > 0.5
    if not inside.any():
        inside = target >= target.max()
    if negative:
        near = gaussian_filter(inside.astype(np.float32), target.shape[0] / 24) > 0.02
        candidates = np.flatnonzero(near & (target < 0.2))
        if candidates.size:
            return _centre(rng.choice(candidates), target.shape), 0
    if rng.random() < CENTRAL:
        return np.array(central_pixel(inside), np.float32) + 0.5, 1
    return _centre(rng.choice(np.flatnonzero(inside)), target.shape), 1


def draw_coarse_mask(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return mask-prompt logits (s, s): the object blurred, shifted and thresholded."""
    s = target.shape[0]
    far = int(s * COARSE_SHIFT)
    moved = shift(target, rng.integers(-far, far + 1, 2), order=0)
    soft = gaussian_filter(moved, rng.uniform(0.5, max(0.5, s / 40)))
    if rng.random() < 0.5:
        return np.where(soft > 0.5, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)
    return ((soft - 0.5) * 2 * MASK_LOGIT).astype(np.float32)


def corrective_click(
    logits: Tensor, target: Tensor, image_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Click where a mask is wrong, anywhere in the error with equal chance.

    Args:
        logits: (B, s, s) of the mask to correct.
        target: (B, s, s) part of each pixel that is object.
        image_size: side of what the masks show, in the prompts' pixels.
        generator: source of the draws.

    Returns:
        Coordinates (B, 1, 2) in these pixels and labels (B, 1).
    """
    b, s = logits.shape[0], logits.shape[-1]
    wrong = ((logits > 0) != (target > 0.5)).flatten(1)
    chance = torch.rand(wrong.shape, generator=generator, device=logits.device) + wrong
    spot = chance.argmax(1)
    x, y = spot % s, spot // s
    scale = image_size / s
    coords = (torch.stack([x, y], -1)[:, None] + 0.5) * scale - 0.5
    labels = (target.flatten(1).gather(1, spot[:, None]) > 0.5).to(coords.dtype)
    return coords.view(b, 1, 2), labels


def _centre(index: int, shape: tuple[int, ...]) -> np.ndarray:
    y, x = divmod(int(index), shape[1])
    return np.array([x + 0.5, y + 0.5], np.float32)
