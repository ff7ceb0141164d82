"""A thing with short strands over a ground, and its true alpha."""

from __future__ import annotations

import numpy as np

ORANGE, BLUE = np.array([230.0, 120, 30]), np.array([30.0, 60, 160])


def strands(side: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """A disc with short strands, orange on blue, and its true alpha (H, W) in 0..1."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[: side * 2, : side * 2] / (side * 2) - 0.5
    angle, away = np.arctan2(y, x), np.hypot(y, x)
    length = np.interp(angle, np.linspace(-np.pi, np.pi, 160), random.uniform(0.28, 0.33, 160))
    fine = (away < length).astype(float)
    alpha = fine.reshape(side, 2, side, 2).mean((1, 3))
    image = ORANGE * alpha[..., None] + BLUE * (1 - alpha[..., None])
    return np.rint(image).astype(np.uint8), alpha


def coarse(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask and logits that a network of few cells would give."""
    cells = alpha.reshape(30, 8, 30, 8).mean((1, 3))
    logits = ((cells - 0.5) * 12).repeat(8, 0).repeat(8, 1)
    return logits > 0, logits


def error(alpha: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(alpha / 255 - truth).sum())
