"""Cut-outs: what is joined and taken away, edges that are moved, grounds, holes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from mobilesam import ConfigError, CutoutOptions, Embedding, MissingExtraError, Model, Prompt, PromptError
from mobilesam.draw.ground import as_ground
from mobilesam.segment.cutout import feathered, make_cutout, moved, to_the_frame
from tests.photos import cat, jpeg

CUP, SPOON = Prompt(box=[90, 20, 420, 390]), Prompt(box=[350, 130, 430, 310])


@pytest.fixture(scope="module")
def coffee(pocket: Model) -> Embedding:
    return pocket.embed(data.coffee())


def test_without_a_prompt_it_is_the_subject(pocket: Model, coffee: Embedding) -> None:
    cutout = pocket.cutout(coffee)
    assert cutout.results[0].is_subject
    assert cutout.rgba().shape == (*coffee.original_size, 4)
    inside = cutout.results[0].mask
    assert (cutout.alpha[inside] > 127).mean() > 0.97
    assert (cutout.alpha[~inside] > 127).mean() < 0.03


def test_prompts_are_joined_and_taken_away(pocket: Model, coffee: Embedding) -> None:
    both, cup = pocket.cutout(coffee, [CUP, SPOON]), pocket.cutout(coffee, CUP)
    less = pocket.cutout(coffee, CUP, subtract=SPOON)
    spoon = pocket.segment(coffee, SPOON).mask
    assert (both.alpha > 127).sum() >= (cup.alpha > 127).sum() - 50
    assert (less.alpha[spoon] > 127).mean() < 0.1
    assert (both.alpha[spoon] > 127).mean() > 0.9


def test_invert_keeps_the_rest(pocket: Model, coffee: Embedding) -> None:
    one, other = pocket.cutout(coffee, CUP), pocket.cutout(coffee, CUP, options=CutoutOptions(invert=True))
    assert np.abs(one.alpha.astype(int) + other.alpha - 255).mean() < 2


@pytest.mark.parametrize(
    ("given", "known"),
    [("Transparent", "none"), ("BLUR", "blur"), ("White", "White"), ("255, 136,0", "255, 136,0")],
)
def test_backgrounds_by_other_names(given: str, known: str) -> None:
    assert CutoutOptions(background=given).background == known


def test_a_colour_as_three_numbers() -> None:
    ground = as_ground("255, 136,0", np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8))
    assert ground is not None
    assert ground.tolist() == [255, 136, 0]
    with pytest.raises(ConfigError, match=r"256,0,0. is neither a colour nor a file"):
        CutoutOptions(background="256,0,0")


def test_moving_an_edge_is_a_disc_at_every_pixel() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :31]
    for pixels in (1, 4, 9, 300):
        mask = rng.random((24, 31)) > 0.98
        rows, columns = np.nonzero(mask)
        near = ((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2 <= pixels**2).any(axis=-1)
        assert (moved(mask, pixels) == near).all()


@pytest.mark.parametrize("amount", [3, 15])
def test_grow_and_shrink_move_the_edge(amount: int) -> None:
    y, x = np.mgrid[:120, :120]
    disc = np.hypot(y - 60, x - 60) <= 30
    for pixels in (amount, -amount):
        expected = np.pi * (30 + pixels) ** 2
        assert abs(moved(disc, pixels).sum() - expected) < 0.06 * expected
    corner = np.zeros((40, 40), bool)
    corner[:20, :20] = True
    assert moved(corner, -5)[:14, :14].all()  # the image's border is no edge
    assert not moved(np.zeros((4, 4), bool), 3).any()
    assert moved(np.ones((4, 4), bool), -3).all()


def test_feather_fades_inwards() -> None:
    alpha = np.zeros((80, 80), np.uint8)
    alpha[20:60, 20:60] = 255
    faded = feathered(alpha, 8)
    assert (faded <= alpha).all()
    assert faded[40, 40] == 255
    assert 0 < faded[40, 22] < 200


@pytest.mark.parametrize("background", ["#ff8800", "white", "blur", "picture"])
def test_backgrounds(pocket: Model, coffee: Embedding, background: str, tmp_path: Path) -> None:
    if background == "picture":
        background = str(tmp_path / "ground.jpg")
        Path(background).write_bytes(jpeg(np.full((30, 90, 3), (10, 200, 40), np.uint8)))
    cutout = pocket.cutout(coffee, CUP, options=CutoutOptions(background=background))
    picture = cutout.picture()
    assert picture.shape == coffee.image.shape
    whole = cutout.alpha == 255
    assert (picture[whole] == cutout.image[whole]).all()
    colours = {"#ff8800": (255, 136, 0), "white": (255, 255, 255)}
    wanted = colours.get(background, (10, 200, 40))
    if background != "blur":
        assert np.abs(picture[cutout.alpha == 0] - np.array(wanted, float)).max() < 6
    else:
        rough = [
            np.abs(np.diff(one.astype(float), axis=1))[:60, :60].mean() for one in (picture, coffee.image)
        ]
        assert rough[0] < 0.5 * rough[1]


def test_crop_and_only_mask(pocket: Model, coffee: Embedding) -> None:
    cutout = pocket.cutout(coffee, CUP, options=CutoutOptions(crop=True, only_mask=True))
    x0, y0, x1, y1 = cutout.box
    assert cutout.picture().shape == (y1 - y0, x1 - x0)
    assert cutout.picture().dtype == np.uint8


def test_sixteen_bits_stay(pocket: Model, coffee: Embedding) -> None:
    deep = coffee.image.astype(np.uint16) * 257
    cutout = pocket.cutout(coffee, CUP)
    picture = cutout.picture(deep)
    assert picture.dtype == np.uint16
    assert (picture[..., 3] == cutout.alpha.astype(np.uint16) * 257).all()
    assert np.abs(picture / 257.0 - cutout.picture()).max() <= 1


def test_unsure_holes_are_filled_unless_told_otherwise(pocket: Model, coffee: Embedding) -> None:
    result = pocket.segment(coffee, CUP)
    low_res = result.low_res_masks.copy()
    low_res[:, 140:150, 160:170] = -0.5  # a hole that the model is not sure of
    holed = replace(result, low_res_masks=low_res)
    hole = ~holed.mask & result.mask
    assert hole.sum() > 50
    filled = make_cutout(coffee, [holed], [], CutoutOptions())
    kept = make_cutout(coffee, [holed], [], CutoutOptions(holes=True))
    assert (filled.alpha[hole] > 200).mean() > 0.95
    assert (kept.alpha[hole] > 200).mean() < 0.6


def test_nothing_left_is_told(pocket: Model, coffee: Embedding) -> None:
    cutout = pocket.cutout(coffee, CUP, subtract=[CUP])
    assert any(remark.startswith("nothing is left to cut out") for remark in cutout.remarks)
    assert not cutout.alpha.any()


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"grow": -1}, PromptError, "grow"),
        ({"shrink": 1.5}, PromptError, "shrink"),
        ({"feather": float("nan")}, PromptError, "feather"),
        ({"grow": 2, "shrink": 2}, ConfigError, "grow, shrink: .* give one of them"),
        ({"background": "no such colour"}, ConfigError, "background: .* give a colour such as white"),
        ({"background": ""}, ConfigError, "background"),
    ],
)
def test_options_that_cannot_be_meant(options: dict, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        CutoutOptions(**options)


def test_without_the_extra_matting_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, pocket: Model, coffee: Embedding
) -> None:
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        pocket.cutout(coffee, CUP, options=CutoutOptions(matte=True))


def test_what_the_frame_cuts_off_goes_on_to_it(pocket: Model) -> None:
    alpha = pocket.cutout(cat()).alpha
    inside = alpha[-13] == 255
    assert inside.sum() > 200
    assert (alpha[-1][inside] > 250).mean() > 0.8
    np.testing.assert_array_equal(
        to_the_frame(np.array([[0, 0, 0, 0, 0], [0, 5, 1, 0, 0], [0, 0, 0, 0, 0]]), 1),
        [[5, 5, 1, 0, 0], [5, 5, 1, 0, 0], [5, 5, 1, 0, 0]],
    )


@pytest.mark.parametrize("pixels", [300, 301, 451, 500, -300, -301, -500])
def test_an_edge_moves_by_more_than_the_image_has(pixels: int) -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 6:12] = True
    assert moved(mask, pixels).all() == (pixels > 0)
    assert moved(mask, pixels).any() == (pixels > 0)
