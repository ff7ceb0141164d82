"""Run-length encoding of masks as COCO defines it: column by column, first run background.

``counts`` are the lengths of alternating runs of 0 and 1 of the mask read column by
column; ``size`` is [height, width]. The compressed form writes the counts as text,
each as its difference from the count before the last one, in groups of five bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.text import shortened

FIRST_CHARACTER = 48  # "0"
GROUP_BITS = 5
MORE = 0x20  # a further group follows
SIGN = 0x10  # sign bit of the last group
MAX_AREA = 2**32 - 1  # of a mask: COCO's runs have 32 bits
MAX_GROUPS = 12  # of one run, which then has 60 bits
POLYGON_SCALE = 5  # steps of a polygon's boundary per pixel, COCO's number
MAX_STEPS = 20_000_000  # of a boundary, which are held in memory


@dataclass(frozen=True, eq=False)
class Rle:
    """A mask as runs.

    Attributes:
        size: (height, width).
        counts: lengths of alternating background and foreground runs, signed integers.
    """

    size: tuple[int, int]
    counts: np.ndarray = field(repr=False)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Rle) and self.size == other.size and np.array_equal(self.counts, other.counts)
        )

    @property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(self.counts[1::2].sum(dtype=np.int64))

    def to_dict(self, *, compressed: bool = True) -> dict:
        """Return COCO's record: ``size`` and ``counts``, as text or as a list."""
        counts = counts_to_string(self.counts) if compressed else self.counts.tolist()
        return {"size": list(self.size), "counts": counts}


def mask_to_rle(mask: np.ndarray) -> Rle:
    """Encode a boolean mask (H, W)."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], change, [flat.size]])
    counts = np.diff(edges)
    if flat.size and flat[0]:
        counts = np.concatenate([[0], counts])
    return Rle((int(mask.shape[0]), int(mask.shape[1])), counts.astype(np.int64))


def window_to_rle(window: np.ndarray, place: tuple[int, int], size: tuple[int, int]) -> Rle:
    """Encode a mask that is background outside a window, without making it at full size.

    Args:
        window: (h, w) boolean.
        place: (x, y) of the window's corner in the mask.
        size: (height, width) of the mask.
    """
    height, width = size
    rows = window.shape[0]
    columns = np.zeros((window.shape[1], rows + 2), np.int8)  # a column in a row, padded
    columns[:, 1:-1] = window.T
    # In each column starts and ends of runs take turns, a start first.
    column, row = np.divmod(np.flatnonzero(columns[:, 1:] != columns[:, :-1]), rows + 1)
    at = (place[0] + column) * height + place[1] + row  # place of each change in the mask read by columns
    starts, ends = at[0::2], at[1::2]
    whole = np.flatnonzero(starts[1:] == ends[:-1])  # a run goes on at the top of the next column
    edges = np.empty(2 * len(starts) - 2 * len(whole), np.int64)
    edges[0::2], edges[1::2] = np.delete(starts, whole + 1), np.delete(ends, whole)
    counts = np.diff(np.concatenate([[0], edges, [height * width]]))
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return Rle((height, width), narrowed(counts))


def narrowed(counts: np.ndarray) -> np.ndarray:
    """Return counts as the narrowest signed integers that hold them: for noisy masks, runs are most of the memory."""
    largest = counts.max(initial=0)
    return counts.astype(np.int16 if largest < 2**15 else np.int32 if largest < 2**31 else np.int64)


def rle_to_mask(rle: Rle) -> np.ndarray:
    """Decode runs into a boolean mask (H, W).

    Raises:
        ConfigError: if the runs do not fill the size.
        LimitError: for a mask that is larger than COCO's runs can hold.
    """
    check_counts(rle.counts, rle.size)
    values = (np.arange(len(rle.counts)) % 2).astype(bool)
    flat = np.repeat(values, rle.counts)
    return flat.reshape(rle.size, order="F")


def check_counts(counts: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse runs that do not fill a mask of (height, width): nothing may be written outside of it.

    Each run is compared with the area before they are added up: a sum that overflows could be right by chance.

    Raises:
        ConfigError: names the run, its value and what is allowed.
        LimitError: for a mask that is larger than COCO's runs can hold.
    """
    height, width = size
    area = height * width
    if area > MAX_AREA:
        raise LimitError(f"size: {height} x {width} is {area:,} pixels; a mask has at most {MAX_AREA:,}")
    if counts.dtype.kind not in "iu":
        raise ConfigError(f"counts: are of type {counts.dtype}; runs are whole numbers")
    wrong = np.flatnonzero((counts < 0) | (counts > area))
    if len(wrong):
        _check_run(int(wrong[0]), int(counts[wrong[0]]), area)
    total = int(counts.sum(dtype=np.int64))
    if total != area:
        raise ConfigError(f"counts: the runs add up to {total}, not to {height} x {width} = {area}")


def rle_intersections(rles: Sequence[Rle], others: Sequence[Rle]) -> np.ndarray:
    """Return how many pixels (N, M) int64 each mask of ``rles`` shares with each of ``others``.

    Nothing is decoded. What two masks share is the sum, over the runs of the first, of how
    much the second's foreground grows from a run's start to its end.

    Raises:
        ConfigError: if a mask has another size than the rest.

    Example:
        >>> one = Rle((2, 3), np.array([1, 4, 1]))
        >>> rle_intersections([one], [Rle((2, 3), np.array([0, 3, 3]))]).tolist()
        [[2]]
    """
    sizes = {rle.size for rle in (*rles, *others)}
    if len(sizes) > 1:
        raise ConfigError(f"masks: have the sizes {sorted(sizes)}; all must be of one image")
    shared = np.zeros((len(rles), len(others)), np.int64)
    if not shared.size:
        return shared
    edges = [np.cumsum(rle.counts) for rle in rles]
    ends = np.concatenate([edge[1::2] for edge in edges])
    starts = np.concatenate([edge[:-1:2] for edge in edges])
    owner = np.repeat(np.arange(len(rles)), [len(edge) // 2 for edge in edges])
    for column, other in enumerate(others):
        inside = foreground_before(other, ends) - foreground_before(other, starts)
        shared[:, column] = np.bincount(owner, weights=inside, minlength=len(rles))  # exact below 2^53
    return shared


def foreground_before(rle: Rle, places: np.ndarray) -> np.ndarray:
    """Return the foreground pixels (P,) before each of ``places`` (P,) of the mask read by columns."""
    begin = np.concatenate([[0], np.cumsum(rle.counts)])
    lengths = rle.counts.copy()
    lengths[::2] = 0
    complete = np.concatenate([[0], np.cumsum(lengths)])  # foreground before each run
    run = np.searchsorted(begin[1:], places, side="right")
    return complete[run] + np.where(run % 2 == 1, places - begin[run], 0)


def dict_to_rle(record: Any) -> Rle:
    """Read COCO's record, with ``counts`` as text, as bytes or as a list.

    Raises:
        ConfigError: for anything but such a record, or if the runs do not fill the size.
        LimitError: for a mask that is larger than COCO's runs can hold.
    """
    if not isinstance(record, dict):
        raise ConfigError(f"{_named(record)}; must be a run-length code, an object with size and counts")
    for key in ("size", "counts"):
        if key not in record:
            raise ConfigError(f"{key}: is missing; a run-length code has size and counts")
    size = _read_size(record["size"])
    area = size[0] * size[1]
    counts = record["counts"]
    counts = string_to_counts(counts, area) if isinstance(counts, str | bytes) else _read_counts(counts, area)
    check_counts(counts, size)
    return Rle(size, counts)


def _read_size(size: Any) -> tuple[int, int]:
    sides = size.tolist() if isinstance(size, np.ndarray) else size
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        raise ConfigError(f"size: {_named(sides)}; must be [height, width]")
    for i, side in enumerate(sides):
        if not _is_whole(side) or not 0 <= side <= MAX_AREA:
            raise ConfigError(f"size[{i}]: {_named(side)}; must be a whole number from 0 to {MAX_AREA:,}")
    return int(sides[0]), int(sides[1])


def _read_counts(counts: Any, area: int) -> np.ndarray:
    """Return runs as int64; what is not a whole number, or too long for int64, is refused here."""
    if isinstance(counts, np.ndarray) and counts.ndim == 1:
        counts = counts.tolist()
    if not isinstance(counts, list | tuple):
        raise ConfigError(f"counts: {_named(counts)}; must be COCO's text or a list of whole numbers")
    if not set(map(type, counts)) <= {int} or (counts and not 0 <= min(counts) <= max(counts) <= area):
        for i, count in enumerate(counts):
            if not _is_whole(count):
                raise ConfigError(f"counts[{i}]: {_named(count)}; a run is a whole number from 0")
            _check_run(i, int(count), area)
    return np.array(counts, np.int64)


def _check_run(i: int, count: int, area: int) -> None:
    if count < 0:
        raise ConfigError(f"counts[{i}]: {_named(count)}; a run may not be negative")
    if count > area:
        raise ConfigError(f"counts[{i}]: {_named(count)}; a run may not exceed the mask's {area:,} pixels")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _named(value: Any) -> str:
    return f"is {shortened(value)}"


def counts_to_string(counts: np.ndarray) -> str:
    """Compress counts to COCO's text."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    bits = np.frexp(np.where(values < 0, ~values, values).astype(np.float64))[1]  # besides that of the sign
    lengths = bits // GROUP_BITS + 1
    of = np.repeat(np.arange(len(values)), lengths)
    place = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    groups = (values[of] >> (GROUP_BITS * place)) & 0x1F
    groups[place < lengths[of] - 1] |= MORE
    return (groups + FIRST_CHARACTER).astype(np.uint8).tobytes().decode()


def string_to_counts(text: str | bytes, area: int = MAX_AREA) -> np.ndarray:
    """Expand COCO's text to int64 counts.

    Args:
        text: the code.
        area: pixels of the mask, which no run may exceed.

    Raises:
        ConfigError: for text that is not such counts.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    groups = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - FIRST_CHARACTER
    if groups.size == 0:
        return groups
    last = (groups & MORE) == 0
    if groups.min() < 0 or groups.max() >= 64 or not last[-1]:
        raise ConfigError("counts: not a compressed run-length code; give COCO's text or a list of runs")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(groups.size) - np.repeat(starts, ends - starts + 1)
    if place.max() >= MAX_GROUPS:
        raise ConfigError("counts: a run is longer than any picture")
    values = np.add.reduceat((groups & 0x1F) << (GROUP_BITS * place), starts)
    negative = (groups[ends] & SIGN) != 0
    values -= np.where(negative, np.int64(1) << (GROUP_BITS * (place[ends] + 1)), 0)
    far = np.flatnonzero(np.abs(values) > area)  # the difference of two runs is no more than the longer one
    if len(far):
        raise ConfigError(f"counts[{far[0]}]: a run exceeds the mask's {area:,} pixels")
    for parity in (1, 2):  # each count from the third on is a difference to the one before the last
        chain = values[parity::2]
        np.cumsum(chain, out=chain)
    return values


def polygons_to_rle(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> Rle:
    """Rasterise the polygons of one object as COCO does: what lies in any of them.

    Args:
        polygons: (K, 2) x and y each, in pixels of the image, whose corners are whole numbers.
        size: (height, width) of the mask.

    Raises:
        LimitError: for a boundary that is longer than any picture's.

    Example:
        >>> polygons_to_rle([np.array([[1, 1], [3, 1], [3, 3], [1, 3]])], (4, 4)).area
        4
    """
    parts = [polygon_to_rle(polygon, size) for polygon in polygons]
    return parts[0] if len(parts) == 1 else rle_union(parts)


def polygon_to_rle(polygon: np.ndarray, size: tuple[int, int]) -> Rle:
    """Rasterise one polygon (K, 2) by COCO's rule, the same to the pixel as ``pycocotools``.

    Its boundary is walked in fifths of a pixel; where it crosses the middle of a column of pixels,
    the mask changes from there on down. A place where it changes twice stays as it is.
    """
    height, width = size
    u, v = _walk(np.trunc(POLYGON_SCALE * np.asarray(polygon, np.float64) + 0.5))
    moves = np.flatnonzero(u[1:] != u[:-1]) + 1
    before, here = u[moves - 1], u[moves]
    x = (np.minimum(here, before) + 0.5) / POLYGON_SCALE - 0.5
    y = (np.minimum(v[moves], v[moves - 1]) + 0.5) / POLYGON_SCALE - 0.5
    in_middle = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    rows = np.ceil(np.clip(y[in_middle], 0, height)).astype(np.int64)
    places, times = np.unique(x[in_middle].astype(np.int64) * height + rows, return_counts=True)
    changes = places[(times % 2 == 1) & (places < height * width)]
    return Rle((height, width), np.diff(np.concatenate([[0], changes, [height * width]])))


def _walk(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the x and y of every step along the closed line through corners (K, 2), which are whole numbers.

    Each side is walked from its lower end along its longer axis, and its other axis rounded from there.
    """
    start, end = corners, np.roll(corners, -1, axis=0)
    extent = np.abs(end - start)
    flat = extent[:, 0] >= extent[:, 1]
    axis = np.where(flat, 0, 1)
    side = np.arange(len(corners))
    back = start[side, axis] > end[side, axis]
    low, high = np.where(back[:, None], end, start), np.where(back[:, None], start, end)
    lengths = extent[side, axis]
    slopes = (high - low)[side, 1 - axis] / np.maximum(lengths, 1)
    steps = (lengths + 1).astype(np.int64)
    if steps.sum() > MAX_STEPS:
        raise LimitError(
            f"polygon: its boundary is {steps.sum() // POLYGON_SCALE:,} pixels long; "
            f"at most {MAX_STEPS // POLYGON_SCALE:,} are allowed"
        )
    of = np.repeat(side, steps)  # the side of each step
    number = np.arange(len(of)) - np.repeat(np.cumsum(steps) - steps, steps)
    along = np.where(back[of], lengths[of] - number, number)
    long = along + low[of, axis[of]]
    short = np.trunc(low[of, 1 - axis[of]] + slopes[of] * along + 0.5)
    return np.where(flat[of], long, short), np.where(flat[of], short, long)


def rle_to_window(rle: Rle, box: tuple[int, int, int, int]) -> np.ndarray:
    """Decode the part (h, w) of a mask that a box (x0, y0, x1, y1) shows, without making all of it."""
    x0, y0, x1, y1 = box
    height = rle.size[0]
    low, high = x0 * height, x1 * height
    edges = np.cumsum(rle.counts, dtype=np.int64)
    starts, ends = (part.clip(low, high) - low for part in (edges[:-1:2], edges[1::2]))
    change = np.zeros(high - low + 1, np.int8)
    np.add.at(change, starts, 1)
    np.add.at(change, ends, -1)
    columns = np.cumsum(change[:-1], dtype=np.int8).reshape(x1 - x0, height)
    return columns[:, y0:y1].T.astype(bool)


def rle_union(rles: Sequence[Rle]) -> Rle:
    """Return what any of several masks of one size covers, without decoding them."""
    edges = [np.cumsum(rle.counts) for rle in rles]
    starts = np.concatenate([edge[:-1:2] for edge in edges])
    ends = np.concatenate([edge[1::2] for edge in edges])
    order = np.argsort(starts, kind="stable")
    starts, reached = starts[order], np.maximum.accumulate(ends[order])
    apart = np.flatnonzero(starts[1:] > reached[:-1])  # a run ends before the next begins
    height, width = rles[0].size
    bounds = np.zeros(2 * len(apart) + 2 if len(starts) else 0, np.int64)
    if len(starts):
        bounds[0::2] = starts[np.concatenate([[0], apart + 1])]
        bounds[1::2] = reached[np.concatenate([apart, [len(reached) - 1]])]
    counts = np.diff(np.concatenate([[0], bounds, [height * width]]))
    return Rle((height, width), counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts)
