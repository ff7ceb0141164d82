"""The boxes of a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from mobilesam.compat.ultralytics.array import Array, as_array
from mobilesam.compat.ultralytics.numpy_backed import NumpyBacked, chosen
from mobilesam.core.arrays import ArrayLike, Size
from mobilesam.core.errors import ConfigError

PLAIN, TRACKED = 6, 7  # columns without and with an id before the score and the class


class Boxes(NumpyBacked):
    """The boxes of one image, with a score and a class each.

    Args:
        boxes: (N, 6) x0, y0, x1, y1, score, class, or (N, 7) with an id before the score; far
            edges are exclusive. Or a function that returns this when it is first asked for.
        orig_shape: (height, width) of the image.

    Raises:
        ConfigError: for another shape.

    Example:
        >>> boxes = Boxes([[10, 20, 30, 60, 0.9, 0]], (100, 200))
        >>> boxes.xywh.tolist(), boxes.cls.tolist()
        ([[20.0, 40.0, 20.0, 40.0]], [0.0])
    """

    def __init__(self, boxes: ArrayLike | Callable[[], ArrayLike], orig_shape: Size) -> None:
        self.orig_shape: Size = (int(orig_shape[0]), int(orig_shape[1]))
        self._boxes = boxes
        if not callable(boxes):
            self.data  # noqa: B018 (checked now rather than when it is asked for)

    @cached_property
    def data(self) -> Array:
        """(N, 6) or (N, 7) float32, as it was given."""
        array = np.asarray(self._boxes() if callable(self._boxes) else self._boxes, np.float32)
        if array.ndim == 1:  # one box, or none
            array = array[None] if array.size else array.reshape(0, PLAIN)
        if array.ndim != 2 or array.shape[1] not in (PLAIN, TRACKED):
            raise ConfigError(
                f"boxes: have shape {array.shape}; must be (N, {PLAIN}) or (N, {TRACKED}) with an id"
            )
        return as_array(array)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Boxes:
        return Boxes(self.data[chosen(index, len(self))], self.orig_shape)

    def __iter__(self) -> Iterator[Boxes]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Boxes of shape {self.shape}"

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 6) or (N, 7)."""
        return self.data.shape

    @property
    def is_track(self) -> bool:
        """Whether there are ids."""
        return self.data.shape[1] == TRACKED

    @property
    def id(self) -> Array | None:
        """(N,) ids, or None."""
        return self.data[:, 4] if self.is_track else None

    @property
    def conf(self) -> Array:
        """(N,) scores: the predicted IoU."""
        return self.data[:, -2]

    @property
    def cls(self) -> Array:
        """(N,) classes: the number of the object among the prompts."""
        return self.data[:, -1]

    @property
    def xyxy(self) -> Array:
        """(N, 4) x0, y0, x1, y1 in pixels, far edges exclusive."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Array:
        """(N, 4) x and y of the centre, width and height, in pixels."""
        low, high = self.data[:, :2], self.data[:, 2:4]
        return as_array(np.concatenate([(low + high) / 2, high - low], axis=1))

    @property
    def xyxyn(self) -> Array:
        """``xyxy`` in 0..1 of the image's width and height."""
        return self.xyxy / self._sides

    @property
    def xywhn(self) -> Array:
        """``xywh`` in 0..1 of the image's width and height."""
        return self.xywh / self._sides

    @property
    def _sides(self) -> np.ndarray:
        height, width = self.orig_shape
        return np.array([width, height, width, height], np.float32)
