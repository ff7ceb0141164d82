"""What an encoder says about the places in a frame, what is remembered of an object, and where both agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Logits
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.types import Embedding

TEMPERATURE = 0.07  # turns similarities, -1..1, into likelihoods
STRANGE = 0.5  # greatest similarity of unrelated things
AROUND = 0.6  # share of an object's box, to each side, that is remembered as its surroundings
LEAST_AROUND = 3.0  # cells of surroundings at least
MOST_CELLS = 500  # remembered per frame; of a larger object only every second or third


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A frame's features, one vector of length 1 for each cell.

    Attributes:
        values: (h, w, C).
        cell: (width, height) of a cell, in pixels of the frame.
    """

    values: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, embedding: Embedding) -> FeatureMap:
        """Take features from an embedding; what all cells share is subtracted, so that the rest tells places apart."""
        array = embedding.image_embedding[0]
        height, width = embedding.frame.grid_size(max(array.shape[1:]))
        shown = array[:, :height, :width].transpose(1, 2, 0).astype(np.float32)
        shown = shown - shown.mean((0, 1))
        shown /= np.maximum(np.linalg.norm(shown, axis=-1, keepdims=True), 1e-6)
        frame = embedding.frame
        side = frame.side / max(array.shape[1:])  # of a cell in the square
        cell = side * np.array(frame.original_size[::-1]) / np.array(frame.input_size[::-1])
        return cls(shown, cell)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.values.shape[0], self.values.shape[1]

    def window(self, box: np.ndarray, margin: float = 0.0) -> tuple[slice, slice]:
        """Return rows and columns of the cells that a box (4,) in pixels touches, widened by ``margin`` cells."""
        rows, columns = self.size
        low, high = np.floor(box[:2] / self.cell - margin), np.ceil(box[2:] / self.cell + margin)
        x0, y0 = np.clip(low, 0, [columns - 1, rows - 1]).astype(int)
        x1, y1 = np.clip(high, [x0 + 1, y0 + 1], [columns, rows]).astype(int)
        return slice(y0, y1), slice(x0, x1)

    def centres(self, window: tuple[slice, slice], step: int = 1) -> np.ndarray:
        """Return the (n, 2) x and y of a window's cells, in pixels."""
        y, x = np.mgrid[window[0].start : window[0].stop : step, window[1].start : window[1].stop : step]
        return (np.stack([x.ravel(), y.ravel()], 1) + 0.5) * self.cell


@dataclass(frozen=True, eq=False)
class Memory:
    """An object and its surroundings, as one frame showed them.

    Attributes:
        features: (n, C) of the cells.
        places: (n, 2) of the cells, in pixels of their frame.
        labels: (n,) how much of each cell is the object, 0..1.
        box: (4,) of the object.
        leanings: (n, 2) where a parabola through each cell's likeness to its neighbours in its own frame peaks, in
            cells from the cell. At an object's edge it is not 0, as the cell on the inside is more like it.
        step: of every ``step`` cells in a row or column, one is remembered.
    """

    features: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    box: np.ndarray
    leanings: np.ndarray
    step: int = 1

    @classmethod
    def of(cls, features: FeatureMap, coverage: np.ndarray, box: np.ndarray) -> Memory:
        """Remember a frame.

        Args:
            features: of the frame.
            coverage: (h, w) how much of each cell is the object.
            box: (4,) of the object.
        """
        extent = (box[2:] - box[:2]) / features.cell
        window = features.window(box, max(LEAST_AROUND, AROUND * float(extent.max())))
        count = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        step = max(1, int(np.ceil(np.sqrt(count / (2.2 * MOST_CELLS)))))
        values = features.values[window][::step, ::step].reshape(-1, features.values.shape[-1])
        labels = coverage[window][::step, ::step].ravel()
        leanings = leanings_of(features.values[window])[::step, ::step].reshape(-1, 2)
        return cls(
            values, features.centres(window, step), labels, np.asarray(box, np.float64), leanings, step
        )

    @property
    def inside(self) -> np.ndarray:
        """(n,) which cells are the object's."""
        inner = self.labels > 0.6
        return inner if inner.any() else self.labels >= self.labels.max()


def leanings_of(values: np.ndarray) -> np.ndarray:
    """Return where each cell's likeness to its neighbours peaks, (h, w, 2) x and y in cells; 0 at the edges."""
    out = np.zeros((*values.shape[:2], 2))
    rows = np.einsum("yxc,yxc->yx", values[1:], values[:-1])
    columns = np.einsum("yxc,yxc->yx", values[:, 1:], values[:, :-1])
    out[:, 1:-1, 0] = peak_between(columns[:, :-1], 1.0, columns[:, 1:])
    out[1:-1, :, 1] = peak_between(rows[:-1], 1.0, rows[1:])
    return out


def peak_between(before: np.ndarray, here: np.ndarray | float, after: np.ndarray) -> np.ndarray:
    """Return where parabolas through three neighbours' values peak, in cells from the one in the middle."""
    curve = before - 2 * here + after
    usable = curve < -1e-6
    return np.clip(np.where(usable, 0.5 * (before - after) / np.where(usable, curve, 1), 0), -0.5, 0.5)


def coverage_of(logits: Logits, size: tuple[int, int]) -> np.ndarray:
    """Return how much of each cell a low-resolution mask covers, (rows, columns) of 0..1.

    Args:
        logits: (h, w) of the model's whole input.
        size: (rows, columns) of the cells that show part of the frame.
    """
    each = LOW_RES_PER_GRID
    rows, columns = size
    part = (logits[: rows * each, : columns * each] > 0).astype(np.float32)
    return part.reshape(rows, each, columns, each).mean((1, 3))


def weigh_cells(
    features: FeatureMap,
    window: tuple[slice, slice],
    expected: Sequence[tuple[np.ndarray, np.ndarray]],
    surroundings: tuple[np.ndarray, np.ndarray],
    *,
    near: float,
    far: float,
) -> np.ndarray:
    """Return how likely each cell of a window is the object, (h, w) of 0..1: is it more like it or like the ground?

    Args:
        features: of the frame.
        window: of cells.
        expected: features (n, C) of the object's cells, and the places (n, 2) where they are expected.
        surroundings: features (m, C) and places (m, 2) of cells that are not the object's.
        near: pixels within which an expected cell counts; infinite for everywhere.
        far: pixels within which a cell of the surroundings counts.
    """
    queries = features.values[window]
    flat, centres = queries.reshape(-1, queries.shape[-1]), features.centres(window)
    like = np.max([_greatest(flat, centres, *one, near) for one in expected], axis=0)
    unlike = np.maximum(_greatest(flat, centres, *surroundings, far), STRANGE)
    return (1 / (1 + np.exp(-(like - unlike) / TEMPERATURE))).reshape(queries.shape[:2])


def _greatest(
    queries: np.ndarray, centres: np.ndarray, known: np.ndarray, places: np.ndarray, near: float
) -> np.ndarray:
    """Return each query's greatest similarity to known cells within ``near`` pixels; -1 where there are none."""
    if not len(known):
        return np.full(len(queries), -1.0, np.float32)
    similar = queries @ known.T
    if np.isfinite(near):
        similar[squared_distances(centres, places) > near**2] = -1
    return similar.max(1)


def squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the squared distances (N, M) between points (N, 2) and (M, 2), in float32."""
    x = one[:, :1].astype(np.float32) - other[:, 0].astype(np.float32)
    y = one[:, 1:].astype(np.float32) - other[:, 1].astype(np.float32)
    x *= x
    y *= y
    x += y
    return x
