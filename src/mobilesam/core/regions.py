"""Regions of a mask: how far inside a pixel lies, and where the middle is."""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Logits, Mask
from mobilesam.core.rle import Rle, mask_to_rle


def distance_to_edge(mask: Mask) -> np.ndarray:
    """Return each pixel's distance (H, W) to the nearest one outside the mask.

    Exact and Euclidean; everything beyond the image is outside. Distances along the
    columns come first, then, for each distance between columns, the nearer of the two sides.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    height, _ = padded.shape
    along = np.where(padded, np.inf, 0.0)
    for y in range(1, height):
        np.minimum(along[y], along[y - 1] + 1, out=along[y])
    for y in range(height - 2, -1, -1):
        np.minimum(along[y], along[y + 1] + 1, out=along[y])
    column = along**2
    squared = column.copy()
    apart = 1
    while apart**2 < squared.max():
        np.minimum(squared[:, apart:], column[:, :-apart] + apart**2, out=squared[:, apart:])
        np.minimum(squared[:, :-apart], column[:, apart:] + apart**2, out=squared[:, :-apart])
        apart += 1
    return np.sqrt(squared[1:-1, 1:-1])


def central_pixel(mask: Mask) -> tuple[int, int]:
    """Return the (x, y) of the pixel farthest from the mask's edge; of several, the first."""
    y, x = divmod(int(distance_to_edge(mask).argmax()), mask.shape[1])
    return x, y


def remove_small_regions(rle: Rle, smallest: int) -> tuple[Rle, bool]:
    """Fill the holes of a mask and drop its islands that are smaller than ``smallest`` pixels.

    Regions touch at corners too. If every island is small, the largest stays.

    Returns:
        The mask, and whether anything was changed.
    """
    filled, holes = fill_small_holes(rle, smallest)
    cleaned, islands = drop_small_islands(filled, smallest)
    return (cleaned, True) if holes or islands else (rle, False)


def fill_small_holes(rle: Rle, smallest: int) -> tuple[Rle, bool]:
    """Fill the holes that are smaller than ``smallest`` pixels; the mask, and whether there were any."""
    background, changed = _keep_regions(_invert(rle), smallest, keep_largest=False)
    return (_invert(background), True) if changed else (rle, False)


def fill_unsure_holes(mask: Mask, logits: Logits, *, certain: float, largest: float) -> Mask:
    """Return a mask (H, W) with those of its holes filled that are small and not intended.

    A hole is background that the mask surrounds, corners included.

    Args:
        mask: (H, W).
        logits: (H, W) that the mask was made from.
        certain: a hole with a logit below this is intended.
        largest: pixels of a hole that is still filled.
    """
    background = mask_to_rle(~mask)
    starts, ends, labels = label_runs(background, corners=False)
    if not len(starts):
        return mask
    height, width = mask.shape
    top, bottom, column = starts % height, (ends - 1) % height, starts // height
    at_border = (top == 0) | (bottom == height - 1) | (column == 0) | (column == width - 1)
    by_columns = np.append(logits.ravel(order="F"), np.inf)
    lowest = np.minimum.reduceat(by_columns, np.stack([starts, ends], 1).ravel())[::2]
    meant = np.bincount(labels, weights=at_border | (lowest < certain), minlength=len(labels)) > 0
    meant |= np.bincount(labels, weights=ends - starts, minlength=len(labels)) > largest
    filled = mask.ravel(order="F")
    for start, end in zip(starts[~meant[labels]], ends[~meant[labels]], strict=True):
        filled[start:end] = True
    return filled.reshape(mask.shape, order="F")


def drop_small_islands(rle: Rle, smallest: int) -> tuple[Rle, bool]:
    """Drop the islands that are smaller than ``smallest`` pixels; the mask, and whether there were any.

    If all are small, the largest stays.
    """
    return _keep_regions(rle, smallest, keep_largest=True)


def largest_regions(mask: Mask, count: int) -> Mask:
    """Return a mask (H, W) of the ``count`` regions that have the most pixels; of equal ones, the first.

    Pixels belong to one region if they share an edge.
    """
    starts, ends, labels = label_runs(mask_to_rle(mask), corners=False)
    sizes = np.bincount(labels, weights=ends - starts)
    kept = np.isin(labels, np.argsort(-sizes, kind="stable")[:count])
    change = np.zeros(mask.size + 1, np.int8)
    change[starts[kept]] += 1
    change[ends[kept]] -= 1
    return np.cumsum(change[:-1], dtype=np.int8).astype(bool).reshape(mask.shape, order="F")


def label_runs(rle: Rle, *, corners: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the runs of a mask, cut at the columns' ends, with the number of the region of each.

    Args:
        rle: the mask.
        corners: whether pixels touch at their corners too (8-connectivity), or only at edges.

    Returns:
        Starts and ends (N,) of the runs in the mask read by columns, and labels (N,): two
        runs have the same if a path of touching pixels joins them.
    """
    height = rle.size[0]
    edges = np.cumsum(rle.counts)
    starts, ends = _cut_at_columns(edges[0:-1:2], edges[1::2], height)
    column, top, bottom = starts // height, starts % height, (ends - 1) % height
    labels = np.arange(len(starts))
    a, b = _touching(column, top, bottom, reach=1 if corners else 0)
    while (
        a.size
    ):  # a label is the number of a run that has itself as its label: the first of its region so far
        np.minimum.at(labels, a, b)
        np.minimum.at(labels, b, a)
        while (labels[labels] != labels).any():
            labels = labels[labels]
        a, b = labels[a], labels[b]
        a, b = a[a != b], b[a != b]
    return starts, ends, labels


def _cut_at_columns(starts: np.ndarray, ends: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    pieces = (ends - 1) // height - starts // height + 1
    which = np.repeat(np.arange(len(starts)), pieces)
    column = starts[which] // height + np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return np.maximum(starts[which], column * height), np.minimum(ends[which], (column + 1) * height)


def _touching(
    column: np.ndarray, top: np.ndarray, bottom: np.ndarray, *, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of runs in neighbouring columns that touch; with a reach of 1, at corners too."""
    tall = int(bottom.max(initial=0)) + 3
    # In the next column, the runs from the first that ends late enough to the last that starts early enough.
    first = np.searchsorted(column * tall + bottom + reach, (column + 1) * tall + top, side="left")
    last = np.searchsorted(column * tall + top, (column + 1) * tall + bottom + reach, side="right")
    many = np.maximum(last - first, 0)
    a = np.repeat(np.arange(len(column)), many)
    b = np.repeat(first, many) + np.arange(len(a)) - np.repeat(np.cumsum(many) - many, many)
    return a, b


def _keep_regions(rle: Rle, smallest: int, *, keep_largest: bool) -> tuple[Rle, bool]:
    """Keep the regions that are not small."""
    starts, ends, labels = label_runs(rle)
    areas = np.bincount(labels, weights=ends - starts)
    small = (areas > 0) & (areas < smallest)
    if not small.any():
        return rle, False
    if keep_largest and not (areas >= smallest).any():
        largest = np.flatnonzero(areas[labels] == areas.max())
        column, row = np.divmod(starts[largest], rle.size[0])
        small[labels[largest[np.lexsort((column, row))[0]]]] = False  # the topmost of equals
    stays = ~small[labels]
    edges = np.stack([starts[stays], ends[stays]], 1).ravel()
    pixels = rle.size[0] * rle.size[1]
    counts = np.diff(np.concatenate([[0], edges, [pixels]]))
    return _join(rle.size, counts), True


def _join(size: tuple[int, int], counts: np.ndarray) -> Rle:
    """Join runs that touch, and drop an empty end."""
    starts = np.cumsum(counts)
    inner = np.flatnonzero(counts[2:-1:2] == 0) * 2 + 2  # a gap of nothing between two runs
    edges = np.delete(starts, np.concatenate([inner - 1, inner]))
    counts = np.diff(np.concatenate([[0], edges]))
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return Rle(size, counts.astype(np.int64))


def _invert(rle: Rle) -> Rle:
    """Swap object and background."""
    counts = (
        rle.counts[1:] if rle.counts[0] == 0 and len(rle.counts) > 1 else np.concatenate([[0], rle.counts])
    )
    return Rle(rle.size, counts.astype(np.int64))


def regions_touching(mask: Mask, places: Mask) -> Mask:
    """Return those regions of a mask (H, W), joined at edges, that have a pixel of ``places`` (H, W)."""
    starts, ends, labels = label_runs(mask_to_rle(mask), corners=False)
    covered = np.concatenate([[0], np.cumsum((mask & places).ravel(order="F"), dtype=np.int64)])
    touched = np.bincount(labels, weights=covered[ends] - covered[starts], minlength=len(starts)) > 0
    chosen = np.zeros(mask.size, bool)
    for start, end in zip(starts[touched[labels]], ends[touched[labels]], strict=True):
        chosen[start:end] = True
    return chosen.reshape(mask.shape, order="F")
