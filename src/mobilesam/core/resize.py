"""Resizing: Pillow's antialiased one for images, separable linear maps for logits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import PIL.Image

from mobilesam.core.arrays import Image, Size
from mobilesam.core.frame import Frame

GAUSSIAN_REACH = 4.0  # deviations


def resize_image(image: Image, size: Size) -> Image:
    """Resize to (height, width) as SAM does: Pillow's bilinear filter with antialiasing."""
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    picture = PIL.Image.fromarray(image)
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BILINEAR))


def bilinear_matrix(length: int, new_length: int) -> np.ndarray:
    """Return the (new_length, length) float32 matrix of bilinear resampling along one axis.

    Sample positions are pixel centres (``align_corners=False``), clamped at the ends;
    shrinking takes no average. That is PyTorch's ``interpolate``.
    """
    position = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    position = np.clip(position, 0, length - 1)
    low = np.minimum(position.astype(np.int64), length - 1)
    high = np.minimum(low + 1, length - 1)
    part = position - low
    matrix = np.zeros((new_length, length))
    rows = np.arange(new_length)
    np.add.at(matrix, (rows, low), 1 - part)
    np.add.at(matrix, (rows, high), part)
    return matrix.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Taps:
    """A linear map along one axis in which every output reads only a few inputs.

    Attributes:
        index: (N, K) which inputs each of the N outputs reads.
        weight: (N, K) float32, how much of each.
    """

    index: np.ndarray
    weight: np.ndarray

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Map the first axis of a float32 array (n, m): (N, m).

        Not a matrix product: BLAS threads go on spinning after one, on the cores that the
        runtime needs next.
        """
        out = self.weight[:, :1] * array[self.index[:, 0]]
        for k in range(1, self.index.shape[1]):
            out += self.weight[:, k : k + 1] * array[self.index[:, k]]
        return out

    def reading(self, first: int, last: int) -> slice:
        """Return the outputs that read an input from ``first`` to ``last``, for maps in order."""
        return slice(
            int(np.searchsorted(self.index.max(1), first, side="left")),
            int(np.searchsorted(self.index.min(1), last, side="right")),
        )

    def part(self, outputs: slice, start: int) -> Taps:
        """Return the map to some of the outputs, from an input that begins at ``start``."""
        return Taps(self.index[outputs] - start, self.weight[outputs])

    def within(self, length: int) -> Taps:
        """Return the map from an input of which only the first ``length`` values are given; the rest are 0."""
        given = self.index < length
        return Taps(np.where(given, self.index, 0), np.where(given, self.weight, np.float32(0)))

    def span(self, outputs: slice) -> slice:
        """Return the inputs that some of the outputs read."""
        index = self.index[outputs]
        return slice(int(index.min()), int(index.max()) + 1)


def matrix_to_taps(matrix: np.ndarray) -> Taps:
    """Keep the non-zero entries of a matrix (N, n), as many in each row as in the fullest."""
    taps = max(1, int(np.count_nonzero(matrix, axis=1).max()))
    index = np.sort(np.argpartition(-np.abs(matrix), taps - 1, axis=1)[:, :taps], axis=1)
    return Taps(index, np.take_along_axis(matrix, index, axis=1).astype(np.float32))


def smooth_taps(length: int, new_length: int) -> Taps:
    """Return the map of bilinear resampling after a Gaussian blur along one axis, as scikit-image's ``resize`` does it.

    The blur's deviation is half the factor by which the axis shrinks; none if it grows. Beyond
    its ends the axis goes on as if mirrored at its last value.
    """
    factor = length / new_length
    kernel = _gaussian(max(0.0, (factor - 1) / 2))
    position = (np.arange(new_length) + 0.5) * factor - 0.5
    low = np.floor(position).astype(np.int64)
    part = (position - low)[:, None]
    weight = (1 - part) * np.append(kernel, 0) + part * np.append(0, kernel)  # (N, K)
    index = low[:, None] + np.arange(len(kernel) + 1) - len(kernel) // 2
    period = max(2 * (length - 1), 1)
    index = np.abs(index) % period
    return Taps(np.where(index < length, index, period - index), weight.astype(np.float32))


def _gaussian(sigma: float) -> np.ndarray:
    """Return a kernel (2 r + 1,) that adds up to 1, cut off at ``GAUSSIAN_REACH`` deviations."""
    radius = int(GAUSSIAN_REACH * sigma + 0.5)
    if not radius:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return kernel / kernel.sum()


@lru_cache(maxsize=16)
def enlarging_taps(low_res: int, frame: Frame) -> tuple[Taps, Taps]:
    """Return the maps of rows and columns from a low-resolution mask to the image's size.

    SAM enlarges the logits to the model's input, cuts off the padding and resizes to
    the image: three linear maps along each axis, multiplied here once per size.
    """
    upscale = bilinear_matrix(low_res, frame.side)
    rows, columns = (
        matrix_to_taps(bilinear_matrix(inner, outer) @ upscale[:inner])
        for inner, outer in zip(frame.input_size, frame.original_size, strict=True)
    )
    return rows, columns
