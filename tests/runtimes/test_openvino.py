"""OpenVINO gives the masks that ONNX Runtime gives."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import mobilesam
from mobilesam import ConfigError, EverythingOptions, Model
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.openvino import OpenVinoRuntime
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat
from tests.runtimes.conformance import PROMPTS, assert_alike
from tests.seeded import seeded_weights


@pytest.fixture(scope="module")
def model() -> Model:
    return mobilesam.load("pocket", runtime="openvino")


def test_pocket_is_the_same(model: Model, pocket: Model) -> None:
    assert model.runtime.name == "openvino"
    assert_alike(model, pocket)


@pytest.mark.long
@pytest.mark.parametrize("network", ["vit_t", "vit_b", "efficientvit_sam_l0"])
def test_other_networks_are_the_same(network: str) -> None:
    weights = seeded_weights(graph_index(network).tensors, 1)
    assert_alike(
        Model(OpenVinoRuntime(network, weights), name="seeded"),
        Model(OnnxRuntime(network, weights), name="seeded"),
    )


@pytest.mark.long
def test_everything_and_threads(model: Model, pocket: Model) -> None:
    image, options = cat(), EverythingOptions(max_prompts=32)
    found, wanted = model.everything(image, options), pocket.everything(image, options)
    assert len(found) == len(wanted)
    embedding = model.embed(image)
    alone = [model.segment(embedding, prompt).mask for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda prompt: model.segment(embedding, prompt).mask, PROMPTS * 3))
    for mask, prompt_number in zip(together, [0, 1, 2, 3] * 3, strict=True):
        assert (mask == alone[prompt_number]).all()


def test_nothing_that_reports_its_use_is_loaded(model: Model) -> None:
    code = "import sys, mobilesam.runtimes.openvino; sys.exit(sys.modules['openvino_telemetry'] is not None)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"), [({"dtype": "float16"}, "has float32"), ({"device": "cuda"}, "has cpu")]
)
def test_what_it_has_not(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mobilesam.load("pocket", runtime="openvino", **options)
