"""How good masks and their predicted quality are: the one place for all metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.boxes import box_ious
from mobilesam.core.regions import distance_to_edge
from mobilesam.core.rle import Rle, rle_intersections

BOUNDARY_WIDTH = 0.02  # of the picture's diagonal, as published
CONTOUR_WIDTH = 0.008  # the same, for the tolerance of outlines in videos
CALIBRATION_BINS = 10

F_BETA_SQUARED = 0.3  # salient objects are scored with precision weighted more
F_LEVELS = 256

# Average recall as in COCO's evaluation.
RECALL_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoUs at which an object counts as found
RECALL_LIMITS = (10, 100, 1000)  # masks of a photo that may count, best first
OBJECT_SIZES = {  # least and greatest area in pixels, both inclusive
    "all": (0.0, np.inf),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, np.inf),
}


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


def boundary_f(mask: Mask, truth: Mask, *, width: float = CONTOUR_WIDTH) -> float:
    """Return the F-measure of two masks' outlines, as in DAVIS (Perazzi et al. 2016).

    A pixel of one outline is right if the other passes within a tolerance. 1 if both masks are empty, 0 if one is.

    Args:
        mask: (H, W).
        truth: (H, W).
        width: tolerance, as a part of the picture's diagonal; at least one pixel.
    """
    outlines = _outline(mask), _outline(truth)
    if not outlines[0].any() and not outlines[1].any():
        return 1.0
    if not outlines[0].any() or not outlines[1].any():
        return 0.0
    pixels = max(1, int(np.ceil(width * float(np.hypot(*mask.shape)))))
    near = [distance_to_edge(np.pad(~one, pixels + 1, constant_values=True)) for one in outlines]
    inside = [one[pixels + 1 : -pixels - 1, pixels + 1 : -pixels - 1] <= pixels for one in near]
    precision = np.count_nonzero(outlines[0] & inside[1]) / np.count_nonzero(outlines[0])
    recall = np.count_nonzero(outlines[1] & inside[0]) / np.count_nonzero(outlines[1])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _outline(mask: Mask) -> Mask:
    """Return the pixels (H, W) whose right, lower or lower right neighbour is on the other side."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


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
        share: share of all predictions.
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


def mask_ious(masks: Sequence[Rle], truths: Sequence[Rle]) -> np.ndarray:
    """Return the IoU (N, M) of each of ``masks`` with each of ``truths``; 0 for two empty ones.

    Exact, from the runs alone.

    Raises:
        ConfigError: if a mask has another size than the rest.
    """
    shared = rle_intersections(masks, truths)
    areas = np.array([rle.area for rle in masks], np.int64)
    union = areas[:, None] + np.array([rle.area for rle in truths], np.int64) - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def boxes_ious(boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Return the IoU (N, M) of each of ``boxes`` (N, 4) with each of ``truths`` (M, 4), x0, y0, x1, y1."""
    return np.stack([np.zeros(len(boxes)), *(box_ious(truth, boxes) for truth in truths)], axis=1)[:, 1:]


@dataclass(frozen=True, eq=False)
class RecallCounts:
    """How many objects were found; the counts of several photos add up.

    Attributes:
        found: (sizes, thresholds, limits) int64, for each of ``OBJECT_SIZES``,
            ``RECALL_THRESHOLDS`` and ``RECALL_LIMITS``.
        objects: (sizes,) int64 objects there are.
    """

    found: np.ndarray
    objects: np.ndarray

    def __add__(self, other: RecallCounts) -> RecallCounts:
        return RecallCounts(self.found + other.found, self.objects + other.objects)

    def to_dict(self) -> dict[str, list]:
        """The counts as JSON has them."""
        return {"found": self.found.tolist(), "objects": self.objects.tolist()}

    @classmethod
    def from_dict(cls, content: dict[str, list]) -> RecallCounts:
        """The counts that :meth:`to_dict` returned."""
        return cls(np.array(content["found"], np.int64), np.array(content["objects"], np.int64))

    def average_recall(self) -> dict[str, dict[int, float]]:
        """Return AR by size of object and limit: the share found, averaged over the thresholds.

        NaN where there is no object of a size.
        """
        mean = self.found.mean(1)
        objects = np.broadcast_to(self.objects[:, None], mean.shape)
        recall = np.divide(mean, objects, out=np.full(mean.shape, np.nan), where=objects > 0)
        return {
            size: dict(zip(RECALL_LIMITS, row, strict=True))
            for size, row in zip(OBJECT_SIZES, recall.tolist(), strict=True)
        }


def count_found(ious: np.ndarray, areas: np.ndarray) -> RecallCounts:
    """Match what was found in a photo with its objects as COCO's evaluation does, and count.

    The masks come by falling score. Each takes the object with the highest IoU among those
    that no mask before it has taken; of several, the last.

    Args:
        ious: (N, M) of masks or boxes, by falling score, with the objects.
        areas: (M,) pixels of the objects' masks, by which they are small, medium or large.

    Example:
        >>> counts = count_found(np.array([[0.72, 0.1], [0.82, 0.0]]), np.array([500, 20000]))
        >>> counts.average_recall()["small"][10], counts.objects.tolist()
        (0.7, [2, 1, 0, 1])
    """
    bounds = np.array(list(OBJECT_SIZES.values()))
    # Objects of other sizes are left out from the start: COCO's evaluation lets a mask take
    # one of those only where it could take none of the size asked for.
    free = (areas >= bounds[:, :1]) & (areas <= bounds[:, 1:])  # (sizes, M)
    found = _taken_by(ious, free)[..., None] < np.array(RECALL_LIMITS)  # (sizes, thresholds, M, limits)
    return RecallCounts(found.sum(2, dtype=np.int64), free.sum(1))


def recall_of_objects(ious: np.ndarray) -> np.ndarray:
    """Return for each object and limit the share of the thresholds at which it is found, (M, limits).

    The mean over the objects of a set is its average recall over objects of every size.

    Args:
        ious: (N, M) as :func:`count_found` takes it.

    Example:
        >>> recall_of_objects(np.array([[0.72, 0.1], [0.82, 0.0]]))[:, 0].tolist()
        [0.7, 0.0]
    """
    ranks = _taken_by(ious, np.ones((1, ious.shape[1]), bool))[0]
    return (ranks[..., None] < np.array(RECALL_LIMITS)).mean(0)


def _taken_by(ious: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the rank of what takes each free object (sizes, M) at each threshold; one past the last if nothing."""
    free = np.repeat(free[:, None], len(RECALL_THRESHOLDS), axis=1)  # (sizes, thresholds, M)
    ranks = np.full(free.shape, max(RECALL_LIMITS), np.int64)
    good = ious[: max(RECALL_LIMITS)].max(1, initial=0) >= RECALL_THRESHOLDS[0]
    for rank in np.flatnonzero(good):
        takes = free & (ious[rank] >= RECALL_THRESHOLDS[:, None])
        size, threshold = np.nonzero(takes.any(-1))
        worth = np.where(takes, ious[rank], 0)[size, threshold]
        best = worth.shape[1] - 1 - worth[:, ::-1].argmax(1)
        free[size, threshold, best] = False
        ranks[size, threshold, best] = rank
    return ranks


def max_f_measure(likely: np.ndarray, truth: Mask) -> float:
    """Return the greatest F-measure of probabilities (H, W) over 256 thresholds (Achanta et al. 2009).

    Example:
        >>> max_f_measure(np.array([[0.9, 0.6, 0.2]]), np.array([[True, True, False]]))
        1.0
    """
    level = np.clip((likely * (F_LEVELS - 1)).round().astype(np.int64), 0, F_LEVELS - 1)
    hits = np.bincount(level[truth], minlength=F_LEVELS)[::-1].cumsum()
    found = np.bincount(level.ravel(), minlength=F_LEVELS)[::-1].cumsum()
    precision, recall = hits / np.maximum(found, 1), hits / max(1, np.count_nonzero(truth))
    weighted = F_BETA_SQUARED * precision + recall
    f = np.divide(
        (1 + F_BETA_SQUARED) * precision * recall, weighted, out=np.zeros(F_LEVELS), where=weighted > 0
    )
    return float(f.max())


def structure_measure(likely: np.ndarray, truth: Mask) -> float:
    """Return the structure measure of probabilities (H, W): the mean of one for the object and one for four regions.

    Source: Fan et al. 2017, Structure-measure.
    """
    part = float(truth.mean())
    if part in (0.0, 1.0):
        return float(likely.mean() if part else 1 - likely.mean())
    of_object = part * _object_similarity(likely[truth]) + (1 - part) * _object_similarity(1 - likely[~truth])
    rows, columns = np.nonzero(truth)
    y, x = round(float(rows.mean())) + 1, round(float(columns.mean())) + 1
    of_regions = 0.0
    for down in (slice(None, y), slice(y, None)):
        for across in (slice(None, x), slice(x, None)):
            region = truth[down, across]
            of_regions += region.size / truth.size * _region_similarity(likely[down, across], region)
    return float(max(0.0, (of_object + of_regions) / 2))


def _object_similarity(values: np.ndarray) -> float:
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation)


def _region_similarity(likely: np.ndarray, truth: Mask) -> float:
    """Return the structural similarity of one region as a whole."""
    if truth.size < 2:
        return 1.0 if truth.size == 0 else float(1 - abs(float(likely.mean()) - float(truth.mean())))
    x, y = float(likely.mean()), float(truth.mean())
    covariance = np.cov(likely.ravel(), truth.ravel().astype(np.float64))
    above = 4 * x * y * covariance[0, 1]
    below = (x**2 + y**2) * (covariance[0, 0] + covariance[1, 1])
    if above != 0:
        return float(above / below)
    return 1.0 if below == 0 else 0.0
