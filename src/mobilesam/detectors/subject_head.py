"""Where the subject is, by what a small head has learnt to see in ``pocket``'s features.

The arithmetic of :class:`mobilesam.networks.subject_head.SubjectHead` in NumPy: its maps are so small that it needs no
runtime of its own, and every runtime of ``pocket`` has it. A parity test holds the two together.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mobilesam.core.arrays import Logits, NamedArrays
from mobilesam.runtimes.base import Weights
from mobilesam.weights import entry_of, read_detector

SUBJECT_HEAD = "pocket_subject"  # the entry of its weights
OF_MODEL = "pocket-7"  # the model whose features it has learnt to read
MAPS = ("coarse_embedding", "objects_stride16", "objects_stride32")
KERNEL = 7  # side of the depthwise convolutions
EPSILON = 1e-6  # of the normalisation


class SubjectHead:
    """Say where the subject is.

    Args:
        weights: by their names in the network.
    """

    def __init__(self, weights: Weights) -> None:
        # Convolutions of one cell are products: (out, in, 1, 1) -> (in, out).
        self.weights = {
            name: tensor.reshape(tensor.shape[:2]).T.copy() if tensor.shape[2:] == (1, 1) else tensor
            for name, tensor in weights.items()
        }
        self.depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})

    def look(self, arrays: NamedArrays) -> tuple[Logits, float]:
        """Return logits (h, w) of the cells of stride 16, and how likely there is a subject, 0..1.

        Args:
            arrays: of one image, from ``pocket``'s encoder, without padding.
        """
        coarse, objects, wide = (self._read(name, arrays[name][0].transpose(1, 2, 0)) for name in MAPS)
        fine = np.maximum(coarse + objects, 0)  # (h, w, C)
        height, width, channels = fine.shape
        halved = fine.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))
        x = np.maximum(halved + wide + self._product("place", places(height // 2, width // 2)), 0)
        for number in range(self.depth):
            x = self._block(f"blocks.{number}", x)
        seen = np.concatenate([x.mean((0, 1)), x.max((0, 1))])
        there = seen @ self.weights["is_there.weight"][0] + self.weights["is_there.bias"][0]
        fine = self._block("fine_block", fine + x.repeat(2, 0).repeat(2, 1))
        return self._product("logits", fine)[..., 0], float(1 / (1 + np.exp(-there)))

    def _read(self, name: str, array: np.ndarray) -> np.ndarray:
        return self._product(f"reads.{name}", array)

    def _product(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _block(self, name: str, x: np.ndarray) -> np.ndarray:
        """One :class:`mobilesam.networks.subject_head.ContextBlock` on (h, w, C)."""
        get = self.weights
        y = _depthwise(x, get[f"{name}.spatial.weight"][:, 0]) + get[f"{name}.spatial.bias"]
        y = y - y.mean(-1, keepdims=True)
        y = y / np.sqrt((y * y).mean(-1, keepdims=True) + EPSILON)
        y = y * get[f"{name}.norm.weight"] + get[f"{name}.norm.bias"]
        around = get[f"{name}.around.weight"] @ y.mean((0, 1)) + get[f"{name}.around.bias"]
        return x + self._product(f"{name}.narrow", np.maximum(self._product(f"{name}.widen", y) + around, 0))


def _depthwise(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve each channel of (h, w, C) with its own kernel (C, k, k); beyond the edge is 0."""
    height, width = x.shape[:2]
    padded = np.pad(x, ((KERNEL // 2,) * 2, (KERNEL // 2,) * 2, (0, 0)))
    y = np.zeros_like(x)
    for row in range(KERNEL):
        for column in range(KERNEL):
            y += padded[row : row + height, column : column + width] * kernel[:, row, column]
    return y


def places(height: int, width: int) -> np.ndarray:
    """Return (height, width, 5): x and y in -1..1, their squares, and how near the border is."""
    y = np.broadcast_to(
        ((np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1)[:, None], (height, width)
    )
    x = np.broadcast_to(((np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1)[None], (height, width))
    return np.stack([x, y, x * x, y * y, np.maximum(np.abs(x), np.abs(y))], -1)


@cache
def subject_head() -> SubjectHead:
    """Return the head that the package carries.

    Raises:
        WeightsError: if its file is missing or damaged.
    """
    return SubjectHead(read_detector(entry_of(SUBJECT_HEAD)))
