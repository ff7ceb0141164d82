"""How an object's cells are found again, and what keeps its size from being drawn along by what hides it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobilesam import Prompt
from mobilesam.segment.model import Model
from mobilesam.segment.track.features import FeatureMap, Memory, coverage_of
from mobilesam.segment.track.follow import Follower
from mobilesam.segment.track.motion import Move, find_move
from mobilesam.segment.track.shape import box_of, hull_of
from tests.moving import box_of_face, moving_face

STILL = Move.by(np.zeros(2))


def remembered(model: Model) -> tuple[Memory, FeatureMap]:
    """Return the face of the first frame, and the frame's features."""
    embedding = model.predictor.embed(moving_face(1)[0][0], small=True)
    found = model.segment(embedding, Prompt(box=box_of_face()))
    features = FeatureMap.of(embedding)
    coverage = coverage_of(found.low_res_masks[found.choice], features.size)
    return Memory.of(features, coverage, box_of(hull_of(found.mask))), features


def test_what_stands_still_keeps_its_place_and_size(pocket: Model) -> None:
    memory, features = remembered(pocket)
    reach = 6 * float(features.cell.max())
    move = find_move(memory, features, STILL, reach=reach)
    assert np.abs(move.turn - np.eye(2)).max() < 1e-3
    assert np.abs(move.points(memory.places) - memory.places).max() < 0.05
    # Cells at the edge look most like those further in: without their leanings, the object would shrink.
    leaning = replace(memory, leanings=np.zeros_like(memory.leanings))
    assert find_move(leaning, features, STILL, reach=reach).growth < 0.9985


def grown(factor: float) -> tuple[Memory, FeatureMap]:
    """Return an object of random, smooth features, and a frame in which it is larger by a factor."""
    chance = np.random.default_rng(5)
    waves, phases = chance.normal(0, 0.5, (2, 64)), chance.uniform(0, 6.28, 64)
    rows, columns = 24, 24
    y, x = np.mgrid[:rows, :columns] - 11.5

    def frame(size: float) -> FeatureMap:
        values = np.sin((x[..., None] * waves[0] + y[..., None] * waves[1]) / size + phases)
        values /= np.linalg.norm(values, axis=-1, keepdims=True)
        return FeatureMap(values.astype(np.float32), np.array([16.0, 16.0]))

    coverage = ((np.abs(x) < 5) & (np.abs(y) < 5)).astype(np.float32)
    box = np.array([7, 7, 17, 17]) * 16.0
    return Memory.of(frame(1.0), coverage, box), frame(factor)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (1.05, 1.05), (1.2, 1.08), (0.85, 0.96)])
def test_growth_is_measured_and_held(factor: float, expected: float) -> None:
    memory, features = grown(factor)
    move = find_move(memory, features, STILL, reach=96, growth=(0.96, 1.08))
    assert abs(move.growth - expected) < 0.012
    assert abs(find_move(memory, features, STILL, reach=96).growth - factor) < 0.03


def follower_of(model: Model) -> Follower:
    """Return one that has seen the face on the first frame."""
    embedding = model.predictor.embed(moving_face(1)[0][0], small=True)
    follower = Follower(model.predictor)
    follower.start(embedding, model.segment(embedding, Prompt(box=box_of_face())))
    return follower


def size_of(follower: Follower, number: int) -> float:
    """Return by which factor the followed face is larger than the true one on a frame."""
    hull, (x0, y0, x1, y1) = follower.pose.points(follower.key.hull), box_of_face(number)
    return float(np.sqrt(np.prod(hull.max(0) - hull.min(0)) / ((x1 - x0) * (y1 - y0))))


def test_a_mask_that_took_in_some_of_the_ground_is_drawn_back_to_the_first_one(pocket: Model) -> None:
    frames, _ = moving_face(8)
    follower = follower_of(pocket)
    follower.step(pocket.predictor.embed(frames[1], small=True))
    key = follower.key
    middle = key.hull.mean(0)
    embedding = pocket.predictor.embed(frames[2], small=True)
    logits = STILL.grown(1.35, middle).logits(key.logits, embedding.frame)
    follower.key = replace(key, hull=middle + 1.35 * (key.hull - middle), logits=logits)
    follower.step(embedding)
    assert size_of(follower, 3) > 1.15
    for number in range(4, 8):
        assert follower.step(pocket.predictor.embed(frames[number - 1], small=True)).found is not None
    assert 0.95 < size_of(follower, 7) < 1.08


@pytest.mark.parametrize(("sizes", "expected"), [((0.9, 1.1), 0.9), ((0.75, 1.33), 0.82)])
def test_what_was_lost_a_moment_ago_is_looked_for_as_large_as_it_was(
    pocket: Model, sizes: tuple[float, float], expected: float
) -> None:
    """What comes out of hiding is seen in part, and a smaller object would fit into that."""
    memory, features = grown(0.82)
    follower = follower_of(pocket)
    follower.key = follower.anchor = replace(follower.key, memory=memory)
    assert abs(follower._settle(features, STILL, 96, sizes).growth - expected) < 0.03
