"""Label Studio's run lengths of brushed masks.

They are a stream of bits: the number of values (32 bits), the bits in a value less 1 (5), and four sizes
of lengths, each less 1 (4 each). Then come runs: a 1, the number of the size that its length has (2 bits), the length
less 1, and the value. The values are those of a picture (H, W, 4), of which only the last of each four counts.
"""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Mask

SIZES = (3, 4, 8, 16)  # bits of a run's length
VALUE_BITS = 8
CHANNELS = 4
ON = 255
HEAD = ((VALUE_BITS - 1, 5), *((size - 1, 4) for size in SIZES))


def mask_to_brush(mask: Mask) -> list[int]:
    """Return a mask (H, W) as the bytes of this stream.

    Example:
        >>> mask_to_brush(np.array([[False, True]]))
        [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]
    """
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    lengths, values = np.diff(edges) * CHANNELS, np.where(flat[edges[:-1]], ON, 0)
    longest = 1 << SIZES[-1]
    whole = lengths // longest  # runs of the greatest length, and what is left of each
    rest = lengths % longest
    parts = np.stack([np.repeat(longest, len(lengths)), rest], 1).ravel()
    times = np.stack([whole, (rest > 0).astype(int)], 1).ravel()
    lengths, values = np.repeat(parts, times), np.repeat(np.repeat(values, 2), times)
    bits = [_bits(np.array([flat.size * CHANNELS]), 32), *(_bits(np.array([n]), size) for n, size in HEAD)]
    kinds = np.searchsorted([1 << size for size in SIZES], lengths)
    runs = np.empty(len(lengths), object)
    for kind, size in enumerate(SIZES):
        mine = kinds == kind
        head = np.tile([1, kind >> 1, kind & 1], (int(mine.sum()), 1))
        rows = np.concatenate([head, _bits(lengths[mine] - 1, size), _bits(values[mine], VALUE_BITS)], 1)
        for place, row in zip(np.flatnonzero(mine), rows, strict=True):
            runs[place] = row
    stream = np.concatenate([*(one.ravel() for one in bits), *runs]).astype(np.uint8)
    packed: list[int] = np.packbits(stream).tolist()
    return packed


def _bits(numbers: np.ndarray, size: int) -> np.ndarray:
    """Return the bits (N, size) of numbers (N,), the highest first."""
    return (numbers[:, None] >> np.arange(size - 1, -1, -1)) & 1
