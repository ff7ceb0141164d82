"""How an object moved between two frames: the shift, turn and growth that most of its cells agree on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from mobilesam.core.arrays import Logits
from mobilesam.core.frame import Frame
from mobilesam.segment.track.features import FeatureMap, Memory, peak_between, squared_distances

ROUNDS = 6  # of fitting, each with the weights from the one before
AGREE = 1.0  # cells that a match may be off to count as agreeing
COMES_BACK = 1.6  # cells between where a match began and where it leads back
DOUBTED = 0.05  # weight of matches that do not hold in the other direction
LEAST_MATCHES = 4
PREFERENCE = np.float32(
    0.1
)  # by how much less similar a cell may be in the middle of the reach than at its end
ANY_GROWTH = (0.8, 1.25)  # beyond what is expected, where nothing more is known


@dataclass(frozen=True, eq=False)
class Move:
    """A similarity of the plane: x, y go to ``turn @ (x, y) + shift``.

    Attributes:
        turn: (2, 2) rotation times growth.
        shift: (2,) pixels.
        agreeing: share of the matches that fit, 0..1.
    """

    turn: np.ndarray
    shift: np.ndarray
    agreeing: float = 1.0

    @classmethod
    def by(cls, shift: np.ndarray) -> Move:
        """A shift alone."""
        return cls(np.eye(2), np.asarray(shift, np.float64))

    @property
    def growth(self) -> float:
        """By how much things get larger."""
        return float(np.sqrt(np.linalg.det(self.turn)))

    def after(self, first: Move) -> Move:
        """Return the move that makes another first, then this one."""
        return Move(self.turn @ first.turn, self.turn @ first.shift + self.shift, self.agreeing)

    def grown(self, growth: float, middle: np.ndarray) -> Move:
        """Return the move with everything enlarged by a factor around a fixed place (2,)."""
        return Move(growth * self.turn, growth * (self.shift - middle) + middle, self.agreeing)

    def inverse(self) -> Move:
        """The move back."""
        back = np.linalg.inv(self.turn)
        return Move(back, -back @ self.shift, self.agreeing)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Move points (N, 2)."""
        return points @ self.turn.T + self.shift

    def logits(self, logits: Logits, frame: Frame) -> Logits:
        """Move a low-resolution mask (h, w) of a frame's square; what comes in from outside is background."""
        scale = np.array(frame.input_size[::-1]) / np.array(frame.original_size[::-1])
        scale = scale * logits.shape[-1] / frame.side  # pixels of the frame to those of the mask
        turn = np.diag(scale) @ self.turn @ np.diag(1 / scale)
        back = np.linalg.inv(turn)
        shift = -back @ (scale * self.shift)
        low = float(logits.min())
        data = (*back[0], shift[0], *back[1], shift[1])
        picture = PillowImage.fromarray(logits - low)
        moved = picture.transform(
            picture.size, PillowImage.Transform.AFFINE, data, PillowImage.Resampling.BILINEAR, fillcolor=0
        )
        return np.asarray(moved) + np.float32(low)


def find_move(
    memory: Memory,
    features: FeatureMap,
    guess: Move,
    *,
    reach: float,
    growth: tuple[float, float] = ANY_GROWTH,
) -> Move:
    """Find how a remembered object moved.

    Args:
        memory: of an earlier frame.
        features: of this frame.
        guess: where it is expected.
        reach: pixels around the expected place in which a cell is looked for.
        growth: least and most that it grew beyond the guess.

    Returns:
        The move. Where too little agrees it is the guess, and ``agreeing`` is 0.
    """
    chosen = memory.inside
    known, places = memory.features[chosen], memory.places[chosen]
    expected = guess.points(places)
    low, high = expected.min(0) - reach, expected.max(0) + reach
    window = features.window(np.concatenate([low, high]))
    values = features.values[window]
    similar = known @ values.reshape(-1, values.shape[-1]).T
    centres = features.centres(window)
    far = squared_distances(expected, centres)
    far /= np.float32(reach**2)
    similar -= PREFERENCE * far
    similar[far > 1] = -1
    best = similar.argmax(1)
    score = similar[np.arange(len(best)), best]
    found = _between_cells(similar.reshape(len(best), *values.shape[:2]), best, centres, features.cell)
    found -= memory.leanings[chosen] * features.cell
    weight = np.clip(score, 0, None) ** 2
    weight *= np.where(
        _come_back(memory, places, values.reshape(-1, values.shape[-1])[best], features), 1, DOUBTED
    )
    return _fit(places, found, weight, float(features.cell.max()), guess, growth)


def _come_back(memory: Memory, places: np.ndarray, found: np.ndarray, features: FeatureMap) -> np.ndarray:
    """Return (n,) which matches also hold in the other direction: a hidden cell can only match something else."""
    back = memory.places[(found @ memory.features.T).argmax(1)]
    return np.abs(back - places).max(1) <= COMES_BACK * float(features.cell.max()) * memory.step


def _between_cells(
    similar: np.ndarray, best: np.ndarray, centres: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Return the (n, 2) places of the best matches, refined between cells by a parabola along each axis."""
    count, rows, columns = similar.shape
    y, x = np.divmod(best, columns)
    number = np.arange(count)
    out = centres[best].copy()
    for axis, (place, length) in enumerate(((x, columns), (y, rows))):
        inner = (place > 0) & (place < length - 1)
        step = np.where(inner, 1, 0)
        before = similar[number, y - (axis == 1) * step, x - (axis == 0) * step]
        after = similar[number, y + (axis == 1) * step, x + (axis == 0) * step]
        here = similar[number, y, x]
        usable = inner & (before > -1) & (after > -1)
        out[:, axis] += np.where(usable, peak_between(before, here, after), 0) * cell[axis]
    return out


def _fit(
    places: np.ndarray,
    found: np.ndarray,
    weight: np.ndarray,
    cell: float,
    guess: Move,
    limits: tuple[float, float],
) -> Move:
    """Fit a similarity to matches; those that are far off count little."""
    if len(places) < LEAST_MATCHES:
        shift = np.median(found - guess.points(places), axis=0) if len(places) else np.zeros(2)
        return Move(guess.turn, guess.shift + shift, 0.5 if len(places) else 0.0)
    usual = guess.growth
    turn, shift = guess.turn, np.median(found - places @ guess.turn.T, axis=0)
    for number in range(ROUNDS):
        off = np.linalg.norm(places @ turn.T + shift - found, axis=1)
        scale = cell * (3.0 if number < 2 else AGREE)
        trust = weight / (1 + (off / scale) ** 2) ** 2
        total = trust.sum()
        if total <= 1e-6:
            return Move(guess.turn, guess.shift, 0.0)
        middle_a, middle_b = trust @ places / total, trust @ found / total
        a, b = places - middle_a, found - middle_b
        spread = (trust[:, None] * a**2).sum()
        if spread > cell**2 * total * 0.25:
            along = (trust * (a * b).sum(1)).sum() / spread
            across = (trust * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])).sum() / spread
            growth = np.hypot(along, across)
            held = np.clip(growth, usual * limits[0], usual * limits[1]) / max(growth, 1e-6)
            turn = held * np.array([[along, -across], [across, along]])
        shift = middle_b - turn @ middle_a
    off = np.linalg.norm(places @ turn.T + shift - found, axis=1)
    agreeing = float((off <= 1.5 * AGREE * cell).mean())
    return Move(turn, shift, agreeing)
