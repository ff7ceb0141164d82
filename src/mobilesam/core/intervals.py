"""How sure a mean is: intervals from drawing the photos again (bootstrap)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
LEVEL = 0.95
SEED = 0  # so that the same values have the same interval


@dataclass(frozen=True)
class Mean:
    """A mean with its interval.

    Attributes:
        mean: over all values.
        low: lower end of the interval.
        high: upper end.
        n: how many values there are.
        groups: how many photos they come from.
    """

    mean: float
    low: float
    high: float
    n: int
    groups: int


def mean_of_groups(groups: Sequence[Sequence[float]], *, draws: int = DRAWS, level: float = LEVEL) -> Mean:
    """Return the mean of all values, with its interval when the groups are drawn again.

    The values of one photo depend on each other, so photos are drawn, not objects.

    Args:
        groups: values of each photo; photos without any are left out.
        draws: how often.
        level: share of the draws whose means lie in the interval.

    Example:
        >>> round(mean_of_groups([[0.5, 0.7], [0.9]]).mean, 3)
        0.7
    """
    filled = [list(group) for group in groups if len(group)]
    if not filled:
        return Mean(float("nan"), float("nan"), float("nan"), 0, 0)
    sums = np.array([sum(group) for group in filled], np.float64)
    counts = np.array([len(group) for group in filled], np.int64)
    picks = np.random.default_rng(SEED).integers(0, len(filled), (draws, len(filled)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    total = int(counts.sum())
    return Mean(float(sums.sum() / total), float(low), float(high), total, len(filled))
