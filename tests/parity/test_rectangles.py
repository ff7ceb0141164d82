"""MobileSAM's encoder for inputs with less padding: the same in every runtime, and for squares the same as ever."""

from __future__ import annotations

import numpy as np
import pytest

import mobilesam
from mobilesam import ConfigError, Model, Prompt
from mobilesam.cli.main import run
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.torch import TorchRuntime
from tests.photos import cat, jpeg
from tests.seeded import seeded_image
from tests.series import one_in

THIN, LANDSCAPE, PORTRAIT = (30, 900), (300, 451), (451, 300)


@pytest.fixture(scope="module")
def onnx(vit_t_weights: Weights) -> Model:
    return Model(OnnxRuntime("vit_t", vit_t_weights, rectangular=True), name="seeded, rectangular")


@pytest.fixture(scope="module")
def torch(vit_t_weights: Weights) -> Model:
    runtime = TorchRuntime.from_weights("vit_t", vit_t_weights, device="cpu", rectangular=True)
    return Model(runtime, name="seeded, rectangular")


@pytest.mark.parametrize("size", one_in(3, [[*THIN], [*LANDSCAPE], [*PORTRAIT]]))
def test_runtimes_agree_on_rectangles(onnx: Model, torch: Model, size: list[int]) -> None:
    height, width = size
    image = seeded_image(height, width, 1)
    one, other = onnx.embed(image), torch.embed(image)
    assert one.image_embedding.shape == other.image_embedding.shape == (1, 256, 64, 64)
    assert np.abs(one.image_embedding - other.image_embedding).max() < 1e-4
    beside = one.image_embedding[0, :, -1] if width > height else one.image_embedding[0, :, :, -1]
    assert not beside.any()
    prompt = Prompt(box=[0.1 * width, 0.1 * height, 0.8 * width, 0.8 * height])
    masks, others = onnx.segment(one, prompt), torch.segment(other, prompt)
    assert masks.mask.shape == (height, width)
    assert np.abs(masks.low_res_masks - others.low_res_masks).max() < 1e-3


@pytest.mark.long
def test_a_square_is_seen_as_ever(onnx: Model, onnx_vit_t: Model) -> None:
    image = seeded_image(200, 200, 1)
    one, other = onnx.embed(image).image_embedding, onnx_vit_t.embed(image).image_embedding
    assert np.abs(one - other).max() < 1e-4


def test_networks_without_rectangles_say_so() -> None:
    with pytest.raises(ConfigError, match="pocket leaves the padding out by itself"):
        mobilesam.load("pocket", rectangular=True)
    with pytest.raises(ConfigError, match="vit_b takes only squares"):
        OnnxRuntime("vit_b", {}, rectangular=True)


@pytest.mark.parametrize("value", ["false", 1, None])
def test_it_has_no_truthiness(value: object) -> None:
    with pytest.raises(ConfigError, match=r"rectangular: is .*; must be True or False"):
        mobilesam.load("mobile_sam", rectangular=value)


def test_the_command_says_so_too(tmp_path, capsys) -> None:
    (tmp_path / "cat.jpg").write_bytes(jpeg(cat()))
    assert run(["segment", str(tmp_path / "cat.jpg"), "--point", "200,100", "--rectangular"]) == 2
    assert "leave the option out" in capsys.readouterr().err
