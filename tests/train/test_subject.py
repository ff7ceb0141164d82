"""The head for the subject: what it learns from is what it says, and a run goes on bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mobilesam import ConfigError
from mobilesam.networks.subject_head import INPUTS
from mobilesam.train.data import split_sets
from mobilesam.train.options import RunOptions
from mobilesam.train.recipe import Recipe, SourceSet, Stage, read_recipe
from mobilesam.train.subject import reduce_alpha, train_subject
from mobilesam.train.subject_looks import KINDS, Looks, draw_many, draw_one, subject_of
from tests.photos import write_set

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(
    network="pocket",
    start="pocket",
    seed=3,
    held_out=0.3,
    sets=(SourceSet("set"),),
    stages=(Stage(768, 4, images=2, learning_rate=2e-3, warm_up=1),),
)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_the_subject_is_the_largest_with_those_that_are_not_much_smaller() -> None:
    large, second, small = square(10, 10, 40), square(60, 55, 30), square(5, 80, 10)
    subject = subject_of([small, large, second])
    assert subject is not None
    np.testing.assert_array_equal(subject, large | second)
    np.testing.assert_array_equal(subject_of([large, small]), large)
    assert subject_of([small]) is None  # hardly seen
    assert subject_of([np.ones((100, 100), bool)]) is None  # no ground
    assert subject_of([square(x, y, 22) for x in (5, 40, 75) for y in (5, 60)]) is None  # too many
    assert subject_of([]) is None


def test_looks_depend_on_their_number_alone(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=8)
    photos, _ = split_sets(RECIPE, tmp_path)
    forwards, backwards = Looks(photos, 3), Looks(photos, 3)
    looks = [forwards[i] for i in range(12)]
    for number in reversed(range(12)):
        again = backwards[number]
        np.testing.assert_array_equal(again.image, looks[number].image)
        assert (again.subject is None) == (looks[number].subject is None)
    assert sum(KINDS.values()) == pytest.approx(1)
    for look in looks:
        if look.subject is not None:
            assert look.subject.shape == look.image.shape[:2]
            assert look.subject.mean() > 0.03


def test_drawings_have_their_figure_where_they_say() -> None:
    for seed in range(12):
        look = draw_one(np.random.default_rng(seed))
        assert look.subject is not None
        inside, outside = (look.image[where].mean(0) for where in (look.subject > 0.5, look.subject < 0.5))
        assert np.abs(inside - outside).max() > 8
        assert draw_many(np.random.default_rng(seed)).subject is None


def test_alpha_is_reduced_without_padding_in_it() -> None:
    small = reduce_alpha(np.full((50, 100), 0.4, np.float32), 48)
    np.testing.assert_allclose(small[:24], 0.4, atol=0.01)
    assert (small[24:] == 0).all()


@pytest.mark.long
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=8)
    options = RunOptions(workers=0, save_every=2, threads=1)
    whole = train_subject(RECIPE, tmp_path, tmp_path / "whole", options)
    short = replace(options, minutes=0.0)
    for _ in range(8):
        parts = train_subject(RECIPE, tmp_path, tmp_path / "parts", short)
    first, second = load_file(whole), load_file(parts)
    assert whole.name == parts.name == "step-00000004.safetensors"
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    looks = sorted((tmp_path / "whole").glob("looks-*/*.safetensors"))
    assert len(looks) == 8  # no more than are learnt from
    assert INPUTS.keys() < load_file(looks[0]).keys()
    line = json.loads((tmp_path / "whole/log.jsonl").read_text().splitlines()[-1])
    assert 0 <= line["subject"] <= 1


def test_the_shipped_recipe_is_pockets() -> None:
    recipe = read_recipe(ROOT / "recipes/subject.toml")
    assert recipe.start == recipe.network == "pocket"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"start": ""}, 'write network = "pocket" and start = "pocket"'),
        ({"network": "vit_t"}, "the head reads the features of pocket"),
        ({"stages": (Stage(512, 4),)}, "stage 1: image_size is 512; pocket looks at 768"),
    ],
)
def test_what_cannot_be_trained_is_told(tmp_path: Path, change: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        train_subject(replace(RECIPE, **change), tmp_path, tmp_path / "out")
