"""One object from frame to frame: where it went, which of a few masks it is, and whether it is still there.

:meth:`Follower.step` is the way through a frame. It knows where the object's cells were when it was last seen whole
(``key``) and when it was pointed at (``anchor``). The cells are found again one by one, and a similarity of the plane
is fitted to where they went. It moves the object's hull, which gives a box, and its mask. The decoder draws masks from
both, and the one that best fits the moved mask and the look of the cells is taken. Each mask is a little wrong, and the
next one follows it: so the anchor has a say in the hull, the mask and the area as long as its cells are found again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mobilesam.core.arrays import Logits
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.prompts import LOW_RES_PER_GRID, ValidPrompt
from mobilesam.core.types import Embedding
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation
from mobilesam.segment.track.colours import Colours
from mobilesam.segment.track.features import FeatureMap, Memory, coverage_of, weigh_cells
from mobilesam.segment.track.motion import ANY_GROWTH, Move, find_move
from mobilesam.segment.track.shape import box_of, hull_of, peaks, support_points

# Where to look for it.
REACH, LEAST_REACH = 0.5, 6.0  # share of its longer side; least number of cells
REFINING = 4.0  # cells around where an earlier view should be
NEAR, FAR = 2.6, 8.0  # cells: how far away a cell of the object, or of the ground, still votes for a place
BESIDE = 0.1  # share of the object in a cell below which the cell is ground
MARGIN = 0.35  # share of the longer side that is looked at around the object
INERTIA = 0.6  # share of the speed that is kept
GROWTH = (0.96, 1.08)  # from frame to frame,
# and while part of it is hidden: what is left to see would draw the rest together.
GROWTH_HIDDEN = (0.985, 1.02)

# Which mask is it?
SOFTNESS = 4.0  # greatest logit of a moved mask, which proposes and does not insist
CLEAR = 0.82  # score from which no further mask is asked for
HALF_SEEN = 0.8  # visible part below which masks of what is seen are also asked for
ANCHOR = 0.3  # what the anchor says counts, where all of its cells are found again
DRAW = 0.2  # how far a hull is moved towards that of a trusted mask
WHOLE = 0.92  # share of the expected area from which it is moved
SMALLEST_SIDE = 2.0  # pixels of a box

# Is it there?
AGREEING = 0.45  # share of agreeing matches from which a move is trusted
TRUSTED = 0.75  # visible part from which a mask is remembered
STEADY = 0.8  # IoU with the moved mask from which half of that is enough
# How far an area's unexpected change is believed: what shrinks faster is being hidden.
SWELLING = (-0.02, 0.05)
UNHIDDEN = 0.85  # share of the expected area from which nothing hides it
SIZES = (0.8, 1.35)  # shares of the expected area between which masks are remembered
SURE = 0.75  # share of the first predicted IoU
GONE = 0.25  # visible part below which it is lost, unless the mask goes on as it was
COVERED = 1 / 3  # visible part, or share of the area, below which what is lost counts as hidden
SUDDEN = 0.3  # share of what agreed so far; with less it is another scene
USUALLY_AGREED = 0.8
LEAST_USUAL = 0.5  # least value of the usual share
ALIKE = 0.6  # share of its colours that it must still have
FADING = 0.05  # how far colours move towards those of each trusted mask
REST = 0.4  # share of the expected area below which enough cells must agree on where it is
SPECK = 0.08  # share of the expected area below which it is lost
FOUND_AGAIN = 0.45  # visible part from which it counts as found again
LIKELY = 0.4  # how likely its cells are the object, against all that was seen elsewhere
STRANGE = 0.4  # likelihood below which a cell that is seen while it is lost is another thing's
THINNED = 2  # elsewhere, one of this many cells in a row or column is remembered
AGREEING_AGAIN = 0.35  # share of agreeing matches from which a place is looked at
GROWTHS = (1.0, 0.75, 1.33)  # sizes at which it is looked for, once it may have become so large or small
CHANGE, MOST_CHANGE = 1.03, 1.5  # factors of its size while it is lost, for a frame and for all
SEARCHED = 2  # number of places that are looked at
NO_POINTS = np.zeros((0, 2)), np.zeros(0, np.int64)
LEFT, HIDDEN, UNLIKE = "it has left the picture", "it is hidden", "nothing here looks like it"


@dataclass(frozen=True, eq=False)
class Sighting:
    """What is seen of an object on a frame.

    Attributes:
        found: its mask; None where it is lost.
        visible: how much of it seems to be seen, 0..1.
        why: the reason why it is lost.
    """

    found: Segmentation | None
    visible: float = 0.0
    why: str = ""


@dataclass(frozen=True, eq=False)
class View:
    """An object as one frame showed it.

    Attributes:
        memory: its cells and those around it.
        logits: (h, w) of its mask.
        hull: (32, 2) around it, in pixels.
        cells: how many cells it covers.
    """

    memory: Memory
    logits: Logits
    hull: np.ndarray
    cells: float

    @classmethod
    def of(cls, features: FeatureMap, found: Segmentation, coverage: np.ndarray, hull: np.ndarray) -> View:
        """Make a frame's view."""
        memory = Memory.of(features, coverage, box_of(hull))
        return cls(memory, found.low_res_masks[found.choice], hull, float(coverage.sum()))


@dataclass(frozen=True, eq=False)
class Guess:
    """A mask that may be the object.

    Attributes:
        found: the model's answer.
        coverage: (h, w) of the cells.
        score: how well it fits what is known, 0..1.
    """

    found: Segmentation
    coverage: np.ndarray
    score: float


@dataclass(frozen=True, eq=False)
class Look:
    """What a frame shows where an object is expected.

    Attributes:
        pose: from the key view to this frame.
        hull: (32, 2) of the object as it was moved.
        share: how likely its cells are the object, on average.
        visible: the same, as a part of what is usual.
        best: the mask that fits best.
        guesses: all masks.
        ratio: of the mask's area to the expected one.
        steady: IoU of the mask with the moved one.
        colours: of the mask; None where it is empty.
        alike: how much the colours are like those it had before, 0..1.
    """

    pose: Move
    hull: np.ndarray
    share: float
    visible: float
    best: Guess
    guesses: list[Guess] = field(repr=False)
    ratio: float
    steady: float
    colours: Colours | None
    alike: float

    @property
    def gone(self) -> bool:
        """Whether this is not the object."""
        unlike = self.visible < GONE and (self.steady < 0.6 or self.pose.agreeing < 0.3)
        unlike |= self.ratio < REST and self.pose.agreeing < 0.35
        return unlike or self.ratio < SPECK or self.alike < ALIKE


class Follower:
    """Follows one object, from :meth:`start` on.

    Args:
        predictor: draws the masks.

    Attributes:
        missing: frames since it was last seen.
        last: what the last frame showed, or None where nothing was looked at.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.missing = 0
        self.last: Look | None = None
        self.why = ""

    def start(self, embedding: Embedding, found: Segmentation) -> Sighting:
        """Begin with a mask that was asked for."""
        features = FeatureMap.of(embedding)
        if not found.mask.any():
            self.missing, self.why = 1, "the prompt returns an empty mask"
            self.empty = True
            return self.given_up()
        self.empty = False
        coverage = coverage_of(found.low_res_masks[found.choice], features.size)
        hull = hull_of(found.mask)
        self.anchor = self.key = View.of(features, found, coverage, hull)
        self.to_key = self.pose = self.seen_whole = Move.by(np.zeros(2))
        self.faith = 1.0  # share of the anchor's cells that were found again
        self.colours = Colours.of(embedding.image, found.mask)
        self.middle, self.velocity = box_middle(hull), np.zeros(2)
        self.predicted = float(found.best.predicted_iou)
        self.agreed, self.full = USUALLY_AGREED, self.key.cells
        self.usual: float | None = None  # share; known from the second frame on
        self._look_around(features, coverage, hull)
        return Sighting(found, 1.0)

    def step(self, embedding: Embedding) -> Sighting:
        """Follow it to the next frame."""
        if self.empty:
            return self.given_up()
        features = FeatureMap.of(embedding)
        self.last = None
        if self.missing:
            return self._search(embedding, features)
        look = self._look(embedding, features, self._place(features))
        if look is None:
            return self._lose(LEFT)
        self.last = look
        if look.gone or look.pose.agreeing < SUDDEN * self.agreed:
            hidden = look.gone and look.alike >= ALIKE
            return self._lose(HIDDEN if hidden or min(look.visible, look.ratio) < COVERED else UNLIKE)
        self.agreed = 0.7 * self.agreed + 0.3 * look.pose.agreeing
        moved = box_middle(look.hull)
        self.velocity = INERTIA * self.velocity + (1 - INERTIA) * (moved - self.middle)
        return self._accept(features, look)

    def given_up(self) -> Sighting:
        """Return the sighting of a lost object that is no longer looked for."""
        self.missing += 1
        return Sighting(None, why=self.why)

    def _place(self, features: FeatureMap) -> Move:
        """Return where the object went: from the key view or, where that does not agree, from the anchor."""
        cell = float(features.cell.max())
        expected = Move.by(self.velocity).after(self.pose)
        extent = box_of(self.pose.points(self.key.hull))
        reach = max(LEAST_REACH * cell, REACH * float((extent[2:] - extent[:2]).max()))
        growth = GROWTH if self.pose is self.seen_whole else GROWTH_HIDDEN
        pose = find_move(self.key.memory, features, expected, reach=reach, growth=growth)
        if pose.agreeing < AGREEING and self.anchor is not self.key:
            guess = expected.after(self.to_key)
            other = find_move(self.anchor.memory, features, guess, reach=reach, growth=growth)
            if other.agreeing > pose.agreeing + 0.1:
                return other.after(self.to_key.inverse())
        return pose

    def _look(self, embedding: Embedding, features: FeatureMap, pose: Move) -> Look | None:
        """Look at a frame where the object is expected; None if that is outside the frame."""
        say, origin = ANCHOR * self.faith, pose.after(self.to_key)
        hull = support_points(pose.points(self.key.hull))
        hull = (1 - say) * hull + say * support_points(origin.points(self.anchor.hull))
        box = box_of(hull)
        shown = np.clip(box, 0, np.tile(embedding.original_size[::-1], 2))
        if (shown[2:] - shown[:2] < SMALLEST_SIDE).any():
            return None
        moved, first = (
            np.clip(way.logits(view.logits, embedding.frame), -SOFTNESS, SOFTNESS)
            for way, view in ((pose, self.key), (origin, self.anchor))
        )
        moved = (1 - say) * moved + say * first
        whole = coverage_of(moved, features.size)
        window = features.window(shown, MARGIN * float(((box[2:] - box[:2]) / features.cell).max()) + 2)
        votes = np.zeros(features.size, np.float32)
        votes[window] = self._votes(features, window, pose, NEAR, FAR)
        inside = whole > 0.5
        share = float(votes[inside].mean()) if inside.any() else 0.0
        usual = max(share, LEAST_USUAL) if self.usual is None else self.usual
        visible, votes = min(1.0, share / usual), np.minimum(votes / usual, 1)
        guesses = self._guess(embedding, features, shown, moved, whole, votes, visible)
        best = max(guesses, key=lambda guess: guess.score)
        ratio = float(best.coverage.sum()) / max(self._full_at(pose), 1.0)
        mask = best.found.mask
        colours = Colours.of(embedding.image, mask) if mask.any() else None
        alike = 0.0 if colours is None else colours.alike(self.colours)
        steady = soft_iou(best.coverage, whole)
        return Look(pose, hull, share, visible, best, guesses, ratio, steady, colours, alike)

    def _votes(
        self, features: FeatureMap, window: tuple[slice, slice], pose: Move, near: float, far: float
    ) -> np.ndarray:
        """Return how likely each cell of a window is the object, according to both views."""
        cell = float(features.cell.max())
        expected = self._expected(pose)
        return weigh_cells(features, window, expected, self.around, near=near * cell, far=far * cell)

    def _expected(self, pose: Move) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return, for each view, the object's cells and where they are expected."""
        views = [(self.key.memory, pose)]
        if self.anchor is not self.key:
            views.append((self.anchor.memory, pose.after(self.to_key)))
        return [(one.features[one.inside], way.points(one.places[one.inside])) for one, way in views]

    def _guess(
        self,
        embedding: Embedding,
        features: FeatureMap,
        box: np.ndarray,
        moved: Logits,
        whole: np.ndarray,
        votes: np.ndarray,
        visible: float,
    ) -> list[Guess]:
        """Draw masks from the box, from the box and the moved mask, and from the part that is seen."""
        usual = ValidPrompt(*NO_POINTS, box, moved[None])
        if visible >= HALF_SEEN:
            expected = 0.5 * (whole + votes)
            first = _weigh(self._draw(embedding, [usual])[0], features, expected)
            if first.score >= CLEAR:
                return [first]
            found = self._draw(embedding, [ValidPrompt(*NO_POINTS, box, None)])
            return [first, *(_weigh(one, features, expected) for one in found)]
        prompts = [ValidPrompt(*NO_POINTS, box, None), usual]
        seen = (whole > 0.4) & (votes > 0.5)
        if np.count_nonzero(seen) > 1:
            part = np.array(mask_to_box(seen)) * np.tile(features.cell, 2)
            part = np.minimum(part, np.tile(embedding.original_size[::-1], 2))
            only = _only_where(moved, seen)
            prompts += [ValidPrompt(*NO_POINTS, part, None), ValidPrompt(*NO_POINTS, part, only[None])]
        return [_weigh(one, features, whole * votes) for one in self._draw(embedding, prompts)]

    def _draw(self, embedding: Embedding, prompts: list[ValidPrompt]) -> tuple[Segmentation, ...]:
        return self.predictor.segment(embedding, prompts, multimask=False)

    def _accept(self, features: FeatureMap, look: Look) -> Sighting:
        """Accept a look as the object, and remember it if it is trusted."""
        best = look.best
        hull = look.hull
        self.missing, self.why, self.middle = 0, "", box_middle(hull)
        if self.usual is None:
            self.usual = max(look.share, LEAST_USUAL)
        self._look_around(features, best.coverage, hull)
        self.full = self._full_at(look.pose)
        if look.pose.agreeing > AGREEING:
            self.full *= 1 + float(np.clip(look.ratio - 1, *SWELLING))
        if self._trusts(look):
            self.usual = max(0.8 * self.usual + 0.2 * look.share, LEAST_USUAL)
            if look.colours is not None:
                self.colours = self.colours.towards(look.colours, FADING)
            drawn = DRAW if look.ratio > WHOLE else 0.0
            hull = (1 - drawn) * hull + drawn * hull_of(best.found.mask)
            to_key = look.pose.after(self.to_key)
            reach = REFINING * float(features.cell.max())
            refined = find_move(self.anchor.memory, features, to_key, reach=reach)
            held = refined.agreeing > AGREEING
            self.to_key, self.faith = (refined, refined.agreeing) if held else (to_key, 0.0)
            say = ANCHOR * self.faith
            self.full = self.full ** (1 - say) * (self.anchor.cells * self.to_key.growth**2) ** say
            self.key = View.of(features, best.found, best.coverage, hull)
            self.pose = self.seen_whole = Move.by(np.zeros(2))
        else:
            self.pose = look.pose
            if look.ratio > UNHIDDEN:
                self.seen_whole = self.pose
        return Sighting(best.found, min(look.visible, look.ratio, 1.0))

    def _full_at(self, pose: Move) -> float:
        """Return how many cells it covers where nothing hides it."""
        return self.full * (pose.growth / self.pose.growth) ** 2

    def _trusts(self, look: Look) -> bool:
        """Whether a mask is good enough to go on from."""
        steady = look.visible > 0.5 and look.steady > STEADY and look.pose.agreeing > 0.5
        sized = SIZES[0] < look.ratio < SIZES[1]
        sure = float(look.best.found.best.predicted_iou) > SURE * self.predicted
        return (look.visible > TRUSTED or steady) and sized and sure

    def _look_around(self, features: FeatureMap, coverage: np.ndarray, hull: np.ndarray) -> None:
        """Remember what is beside the object now."""
        around = Memory.of(features, coverage, box_of(hull))
        ground = around.labels < BESIDE
        self.around = around.features[ground], around.places[ground]
        elsewhere = coverage[::THINNED, ::THINNED] < BESIDE
        self.elsewhere = features.values[::THINNED, ::THINNED][elsewhere]

    def _lose(self, why: str) -> Sighting:
        self.missing, self.why = 1, why
        return Sighting(None, why=why)

    def _search(self, embedding: Embedding, features: FeatureMap) -> Sighting:
        """Look for a lost object in the whole frame."""
        self.missing += 1
        everywhere = slice(0, features.size[0]), slice(0, features.size[1])
        strangers = self.elsewhere, np.zeros((len(self.elsewhere), 2))
        known = self._as_seen_whole()
        expected = self._expected(known)
        votes = weigh_cells(features, everywhere, expected, strangers, near=np.inf, far=np.inf)
        box = box_of(known.points(self.key.hull))
        sides = box[2:] - box[:2]
        columns, rows = np.maximum(1, np.round(sides / features.cell)).astype(int)
        reach = 0.6 * float(sides.max())
        most = min(CHANGE ** (self.missing + 1), MOST_CHANGE)
        guesses = [Move.by(self.velocity).after(known)]
        for place in peaks(votes, int(rows), int(columns)):
            to = np.array(place) * features.cell - (box[:2] + box[2:]) / 2
            at = Move(known.turn, known.shift + to)
            sizes = [growth for growth in GROWTHS if 1 / most <= growth <= most]
            guesses += [at.grown(growth, to + (box[:2] + box[2:]) / 2) for growth in sizes]
        limits = known.growth / most, known.growth * most
        moves = [self._settle(features, guess, reach, limits) for guess in guesses]
        for move in sorted(moves, key=lambda move: -move.agreeing)[:SEARCHED]:
            if move.agreeing < AGREEING_AGAIN:
                break
            look = self._look(embedding, features, move)
            if look is not None and self._is_it(look, votes):
                self.last, self.velocity = look, np.zeros(2)
                return self._accept(features, look)
        self._remember_strangers(features, votes, features.window(box, reach / float(features.cell.max())))
        return Sighting(None, why=self.why or UNLIKE)

    def _remember_strangers(self, features: FeatureMap, votes: np.ndarray, near: tuple[slice, slice]) -> None:
        """Remember what is seen while it is lost as not the object, but not near the place where it may come out."""
        strange = votes < STRANGE
        strange[near] = False
        self.elsewhere = features.values[::THINNED, ::THINNED][strange[::THINNED, ::THINNED]]

    def _as_seen_whole(self) -> Move:
        """Return where it was last seen, as large and turned as it was when nothing hid it."""
        middle = self.key.hull.mean(0)
        turn = self.seen_whole.turn
        return Move(turn, self.pose.points(middle[None])[0] - turn @ middle)

    def _settle(self, features: FeatureMap, guess: Move, reach: float, sizes: tuple[float, float]) -> Move:
        """Return how the key view or the anchor, whichever agrees more, lies where the object may be.

        Args:
            features: of the frame.
            guess: where it may be.
            reach: pixels around that in which cells are looked for.
            sizes: least and most that it may have grown since the key view.
        """
        least, most = (size / guess.growth for size in sizes)
        growth = max(least, ANY_GROWTH[0]), min(most, ANY_GROWTH[1])
        move = find_move(self.key.memory, features, guess, reach=reach, growth=growth)
        if self.anchor is self.key:
            return move
        other = find_move(self.anchor.memory, features, guess.after(self.to_key), reach=reach, growth=growth)
        return move if move.agreeing >= other.agreeing else other.after(self.to_key.inverse())

    def _is_it(self, look: Look, votes: np.ndarray) -> bool:
        """Whether a look is the object that was lost, judging also by the cells of the whole frame."""
        coverage = look.best.coverage
        likely = float((votes * coverage).sum()) / max(float(coverage.sum()), 1e-6)
        sure = float(look.best.found.best.predicted_iou) > SURE * self.predicted
        if look.gone or look.visible < FOUND_AGAIN or likely < LIKELY or not sure:
            return False
        if look.pose.agreeing >= AGREEING:
            return True
        return look.visible > 0.7 and look.steady > 0.6 and SIZES[0] < look.ratio < SIZES[1]


def box_middle(hull: np.ndarray) -> np.ndarray:
    """Return the (2,) middle of a hull's box."""
    return (hull.min(0) + hull.max(0)) / 2


def soft_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the IoU of two arrays that hold parts of cells, 0..1."""
    return float(np.minimum(one, other).sum() / max(float(np.maximum(one, other).sum()), 1e-6))


def _weigh(found: Segmentation, features: FeatureMap, expected: np.ndarray) -> Guess:
    coverage = coverage_of(found.low_res_masks[found.choice], features.size)
    predicted = float(np.clip(found.predicted_iou[found.choice], 0, 1))
    return Guess(found, coverage, soft_iou(coverage, expected) * (0.5 + 0.5 * predicted))


def _only_where(logits: Logits, cells: np.ndarray) -> Logits:
    """Return low-resolution logits with everything but some cells (h, w) as background."""
    out = np.full(logits.shape, -SOFTNESS, np.float32)
    kept = cells.repeat(LOW_RES_PER_GRID, 0).repeat(LOW_RES_PER_GRID, 1)
    rows, columns = kept.shape
    out[:rows, :columns] = np.where(kept, logits[:rows, :columns], -SOFTNESS)
    return out
