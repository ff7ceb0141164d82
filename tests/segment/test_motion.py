"""How an object's cells are found again, and what keeps its size from being drawn along by what hides it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mobilesam import Prompt
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.metrics import mask_iou
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


def nearer(factor: float) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return the first frame, enlarged around the middle of the face, its mask, and the face's box."""
    (frame,), (mask,) = moving_face(1)
    (height, width), (x0, y0, x1, y1) = mask.shape, box_of_face()
    left = np.clip((x0 + x1) / 2 - width / factor / 2, 0, width - width / factor)
    top = np.clip((y0 + y1) / 2 - height / factor / 2, 0, height - height / factor)
    corners = (left, top, left + width / factor, top + height / factor)
    image, shown = (
        np.asarray(
            Image.fromarray(one).transform(
                (width, height), Image.Transform.EXTENT, corners, Image.Resampling.BILINEAR
            )
        )
        for one in (frame, mask.astype(np.uint8) * 255)
    )
    return image, shown > 127, list(mask_to_box(shown > 127))


def test_what_is_half_as_large_again_at_once_is_reached_in_steps(pocket: Model) -> None:
    frames = [nearer(1.0)[0], *[nearer(1.5)[0]] * 4]
    seen = [frame[1] for frame in pocket.track(frames, Prompt(box=box_of_face()))]
    truth = nearer(1.5)[1]
    assert [one.state for one in seen[1:]] == ["followed"] * 4
    assert mask_iou(seen[1].mask, truth) < 0.8 and mask_iou(seen[4].mask, truth) > 0.88
    assert seen[1].area < seen[2].area < seen[4].area


@pytest.mark.parametrize(("smaller", "found"), [(0.7, 6), (0.56, None)])
def test_what_is_much_smaller_at_once_is_lost_and_found_if_it_can_have_shrunk_so_far(
    pocket: Model, smaller: float, found: int | None
) -> None:
    """A lost object may have shrunk by 3 % a frame, and to two thirds at most."""
    before, after = nearer(1.8), nearer(1.8 * smaller)
    frames = [before[0], *[after[0]] * 5]
    seen = [frame[1] for frame in pocket.track(frames, Prompt(box=before[2]))]
    assert [one.state for one in seen[1:5]] == ["lost"] * 4
    assert all("point at it" in one.question for one in seen[1:5])
    if found is None:
        assert seen[5].state == "lost"
    else:
        assert mask_iou(seen[found - 1].mask, after[1]) > 0.9


@pytest.mark.parametrize(
    ("ratio", "remembered", "grown"), [(1.0, True, 1.0), (1.6, False, 1.05), (0.5, False, 0.98)]
)
def test_an_area_that_jumps_is_neither_remembered_nor_believed(
    pocket: Model, ratio: float, remembered: bool, grown: float
) -> None:
    follower = follower_of(pocket)
    embedding = pocket.predictor.embed(moving_face(2)[0][1], small=True)
    features = FeatureMap.of(embedding)
    look = follower._look(embedding, features, follower._place(features))
    assert look is not None and not look.gone
    key, full = follower.key, follower._full_at(look.pose)
    sighting = follower._accept(features, replace(look, ratio=ratio))
    assert (follower.key is not key) == remembered
    assert sighting.visible <= ratio
    if not remembered:
        assert abs(follower.full / full - grown) < 1e-6


def test_a_speck_is_not_the_object(pocket: Model) -> None:
    follower = follower_of(pocket)
    embedding = pocket.predictor.embed(moving_face(2)[0][1], small=True)
    features = FeatureMap.of(embedding)
    look = follower._look(embedding, features, follower._place(features))
    assert look is not None
    assert not replace(look, ratio=0.09).gone and replace(look, ratio=0.07).gone


def test_what_appears_elsewhere_while_it_is_lost_is_remembered_as_another_thing(pocket: Model) -> None:
    frames, _ = moving_face(5, wall=True)
    follower = follower_of(pocket)
    for image in frames[1:3]:
        assert follower.step(pocket.predictor.embed(image, small=True)).found is not None
    image = frames[3].copy()  # a wall hides the face
    image[5:85, 190:255] = data.chelsea()[40:200:2, 130:260:2]
    embedding = pocket.predictor.embed(image, small=True)
    features = FeatureMap.of(embedding)
    rows, columns = features.window(np.array([195, 10, 250, 80]))
    cat = features.values[rows, columns].reshape(-1, features.values.shape[-1])

    def likeness() -> float:
        """Of the cat's cells to those that are remembered as not the face."""
        return float((cat @ follower.elsewhere.T).max(1).mean())

    before = likeness()
    for _ in range(2):  # it is lost on the first, and looked for on the second
        assert follower.step(embedding).found is None
    assert likeness() > before + 0.05
    box = follower.pose.points(follower.key.hull)
    rows, columns = features.window(np.concatenate([box.min(0), box.max(0)]))
    wall = features.values[rows, columns].reshape(-1, features.values.shape[-1])
    assert (wall @ follower.elsewhere.T).max() < 0.999, "what may come out of hiding is not another thing"
