"""Conversions for other runtimes, from the command line to masks. ``make test-exports`` runs them, each where its packages are."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import mobilesam
from mobilesam import ConfigError, EverythingOptions, LimitError, Model, Prompt
from mobilesam.cli.main import run
from mobilesam.export.certificate import NOT_RUN, VERIFIED, Questions, certify, reference
from mobilesam.export.targets import TARGETS
from mobilesam.weights import entry_of, read_weights
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat
from tests.runtimes.conformance import PROMPTS, assert_alike
from tests.seeded import seeded_weights

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what the converters use
]
MODULES = {
    "litert": "litert_torch",
    "ncnn": "pnnx",
    "executorch": "executorch",
    "coreml": "coremltools",
}


def skip_without(target: str) -> None:
    """Skip a test where a target's packages are missing."""
    if find_spec(MODULES[target]) is None:
        pytest.skip(f"no {MODULES[target]}; make test-exports TARGETS={target}")


@pytest.fixture(scope="module", params=list(MODULES))
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A target and the folder of its certified files."""
    target = request.param
    skip_without(target)
    folder = tmp_path_factory.mktemp(target)
    assert run(["export", target, "--model", "pocket", "--out", str(folder), "--verify"]) == 0
    return target, folder


@pytest.fixture(scope="module")
def model(converted: tuple[str, Path]) -> Model:
    target, folder = converted
    if not TARGETS[target].runs:
        pytest.skip(f"{target} does not run here")
    return mobilesam.load("pocket", runtime=target, checkpoint=folder)


@pytest.fixture(scope="module")
def wanted() -> Model:
    weights = read_weights(entry_of("pocket"))
    network = reference(TARGETS["litert"], "pocket", weights)
    return Model(network, name="PyTorch", thresholds=entry_of("pocket").thresholds)


def test_the_certificate(converted: tuple[str, Path]) -> None:
    target, folder = converted
    content = json.loads((folder / f"pocket-{target}-certificate.json").read_text())
    assert content["result"] == ("verified" if TARGETS[target].runs else "converted, not run")
    assert content["model"] == entry_of("pocket").name
    assert set(TARGETS[target].packages) <= content["versions"].keys()


def test_the_runtime_gives_the_networks_masks(model: Model, wanted: Model) -> None:
    assert_alike(model, wanted)


def test_everything(model: Model, wanted: Model) -> None:
    options = EverythingOptions(max_prompts=12)
    found = model.everything(cat(), options)
    assert len(found) == len(wanted.everything(cat(), options)) > 3


def test_answers_do_not_depend_on_what_came_before(model: Model) -> None:
    embedding = model.embed(cat())
    first = [model.segment(embedding, prompt).low_res_masks for prompt in PROMPTS]
    again = [model.segment(embedding, prompt).low_res_masks for prompt in PROMPTS[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_what_it_has_not(converted: tuple[str, Path], model: Model) -> None:
    target, folder = converted
    for options, message in (({"dtype": "float16"}, "has float32"), ({"device": "cuda"}, "has cpu")):
        with pytest.raises(ConfigError, match=message):
            mobilesam.load("pocket", runtime=target, checkpoint=folder, **options)
    with pytest.raises(ConfigError, match="decoder"):
        mobilesam.load("pocket", runtime=target, checkpoint=folder, decoder="prompt_guided_decoder")
    with pytest.raises(LimitError, match="takes 8"):
        model.segment(model.embed(cat()), Prompt(points=np.full((8, 2), 50)))


def test_kept_embeddings_are_the_runtimes_own(
    converted: tuple[str, Path], model: Model, tmp_path: Path
) -> None:
    """They are of a square, and no other runtime's."""
    target, folder = converted
    mobilesam.load("pocket", embeddings=tmp_path).embed(cat())
    kept = mobilesam.load("pocket", runtime=target, checkpoint=folder, embeddings=tmp_path)
    assert kept.embed(cat()).image_embedding.shape == model.embed(cat()).image_embedding.shape


@pytest.mark.parametrize("target", MODULES)
def test_mobile_sams_network(target: str, tmp_path: Path) -> None:
    """With seeded weights, and each kind of prompt on two images; its certificate on the page is of all 200."""
    skip_without(target)
    weights = seeded_weights(graph_index("vit_t").tensors)
    files = TARGETS[target].load().write("vit_t", weights, tmp_path)
    few = Questions(12, images=("cat, upright", "waves"))
    one = certify(TARGETS[target], "vit_t with seeded weights", "vit_t", weights, files, questions=few)
    assert one.result == (VERIFIED if TARGETS[target].runs else NOT_RUN), one.failures
