"""Fixtures that several tests share."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from mobilesam.runtimes.base import Weights
from mobilesam.segment.model import Model
from tests.owl_networks import TinyOwl, make_owl
from tests.seeded import seeded_weights

GOLDEN = Path(__file__).parent / "golden"
SHARED_VARIABLE = "MOBILESAM_SHARED"
if "PYTEST_XDIST_WORKER" not in os.environ:  # all workers, and all they start, share prepared graphs
    HOME = tempfile.TemporaryDirectory(prefix="mobilesam-tests-")  # tests leave nothing in the user's cache
    os.environ["MOBILESAM_HOME"] = HOME.name
    # Set, each process that a test starts would compile the package anew.
    os.environ["PYTHONDONTWRITEBYTECODE"] = ""
settings.register_profile("untimed", deadline=None)  # examples are slower beside other tests
settings.load_profile("untimed")
SHARED = Path(os.environ.get(SHARED_VARIABLE, Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "vit_t_seed0.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden_cases() -> list[dict]:
    return json.loads((GOLDEN / "vit_t_seed0.json").read_text())["cases"]


@pytest.fixture(scope="session")
def vit_t_shapes() -> dict[str, list[int]]:
    return json.loads((GOLDEN / "vit_t_state_dict.json").read_text())


@pytest.fixture(scope="session")
def vit_t_weights(vit_t_shapes: dict) -> Weights:
    return seeded_weights(vit_t_shapes)


@pytest.fixture(scope="session")
def onnx_vit_t(vit_t_weights: Weights) -> Model:
    from mobilesam.runtimes.onnx import OnnxRuntime

    return Model(OnnxRuntime("vit_t", vit_t_weights), name="seeded vit_t")


@pytest.fixture(scope="session")
def torch_vit_t(vit_t_weights: Weights) -> Model:
    """The network is segment_anything's, which can do what ours can and more."""
    from mobilesam.compat.segment_anything.modeling.build import build_named
    from mobilesam.networks.checkpoints import load_tensors
    from mobilesam.runtimes.torch import TorchRuntime

    network = load_tensors(build_named("vit_t"), vit_t_weights, "seeded vit_t")
    return Model(TorchRuntime(network), name="seeded vit_t")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of evaluation data; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no evaluation data at {SHARED}; set {SHARED_VARIABLE} to its folder")
    return SHARED


@pytest.fixture(scope="session")
def pocket() -> Model:
    from mobilesam import load

    return load("pocket")


@pytest.fixture(scope="session")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """``pocket``, which encodes an image only once: for tests that give the command one image again and again."""
    from mobilesam import load

    return load("pocket", embeddings=tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="session")
def owls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TinyOwl]:
    """Small text models with random weights, by their families."""
    folder = tmp_path_factory.mktemp("owls")
    return {kind: make_owl(kind, folder / kind) for kind in ("owlv2", "owlvit")}
