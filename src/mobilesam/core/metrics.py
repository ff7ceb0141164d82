"""How good masks and their predicted quality are: the one place for every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.regions import distance_to_edge

BOUNDARY_WIDTH = 0.02  # of the picture's diagonal, as published
CALIBRATION_BINS = 10


def mask_iou(mask: Mask, truth: Mask) -> float:
    """Return the intersection over union of two masks (H, W); 1 for two empty ones."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_iou(mask: Mask, truth: Mask, *, width: float = BOUNDARY_WIDTH) -> float:
    """Return the IoU of two masks' inner borders (Cheng et al. 2021).

    Unlike the IoU of whole masks, it does not forgive a large object a coarse outline.

    Args:
        mask: (H, W).
        truth: (H, W).
        width: of the border, as a part of the picture's diagonal; at least one pixel.
    """
    pixels = max(1.0, round(width * float(np.hypot(*mask.shape))))
    borders = [one & (distance_to_edge(one) <= pixels) for one in (mask, truth)]
    return mask_iou(*borders)


def number_of_clicks(ious: Sequence[float], target: float) -> int:
    """Return how many clicks it took to reach an IoU, NoC@target; all of them if it was never reached.

    Example:
        >>> number_of_clicks([0.5, 0.7, 0.9], 0.85)
        3
    """
    return next((i for i, iou in enumerate(ious, start=1) if iou >= target), len(ious))


@dataclass(frozen=True)
class Reliability:
    """Predicted IoUs sorted into equal bins of 0..1, each (bins,), without those that are empty.

    Attributes:
        predicted: mean prediction of each bin.
        actual: mean of what came out.
        share: part of all predictions.
    """

    predicted: np.ndarray
    actual: np.ndarray
    share: np.ndarray


def reliability(
    predicted: Sequence[float], actual: Sequence[float], *, bins: int = CALIBRATION_BINS
) -> Reliability:
    """Compare predicted IoUs with those that came out."""
    predictions, outcomes = np.asarray(predicted, float), np.asarray(actual, float)
    place = np.clip((predictions * bins).astype(int), 0, bins - 1)
    filled = [place == number for number in np.unique(place)]
    return Reliability(
        predicted=np.array([predictions[inside].mean() for inside in filled]),
        actual=np.array([outcomes[inside].mean() for inside in filled]),
        share=np.array([inside.mean() for inside in filled]),
    )


def calibration_error(
    predicted: Sequence[float], actual: Sequence[float], *, bins: int = CALIBRATION_BINS
) -> float:
    """Return the expected calibration error of predicted IoUs.

    The differences of each bin's two means, weighted by the bin's share.

    Example:
        >>> round(calibration_error([0.9, 0.9, 0.2], [0.8, 0.9, 0.2]), 3)
        0.033
    """
    table = reliability(predicted, actual, bins=bins)
    return float((table.share * np.abs(table.predicted - table.actual)).sum())
