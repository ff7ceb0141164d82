"""What it takes to add a network, and what the documents name is what the package exports."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mobilesam
from mobilesam import Prompt
from mobilesam.core.spec import MB, NetworkSpec, WorkingSet
from mobilesam.export.graphs import write_graphs
from mobilesam.networks import build
from mobilesam.networks.config import NetworkConfig
from mobilesam.runtimes import onnx as onnx_runtime
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.segment.model import Model
from mobilesam.weights import graph_index

DOCS = Path(__file__).parents[2] / "docs"
PYTHON_PAGE = DOCS / "reference" / "python.md"
SA1B_PAGE = DOCS / "how-to" / "sa1b.md"


class ToyEncoder(nn.Module):
    """One convolution from pixels to SAM's embedding."""

    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 256, self.stride, self.stride)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.cells(pixels)


TOY = NetworkConfig(NetworkSpec("toy", "a toy", image_size=128, working_set=WorkingSet(10 * MB)), ToyEncoder)


@pytest.mark.long
def test_a_network_is_a_file_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry in ``NETWORKS`` is the line; graphs, both runtimes and the index follow from it."""
    monkeypatch.setitem(build.NETWORKS, "toy", TOY)
    for module in (graph_index, onnx_runtime):
        monkeypatch.setattr(module, "GRAPHS", tmp_path)
    torch.manual_seed(0)
    network = build.build_network("toy")
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_graphs("toy", tmp_path)
    graph_index.graph_index.cache_clear()
    try:
        assert graph_index.graph_index("toy").spec == TOY.spec
        models = [
            Model(OnnxRuntime("toy", weights), name="toy"),
            Model(TorchRuntime(network), name="toy"),
        ]
    finally:
        graph_index.graph_index.cache_clear()
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    one, other = (m.segment(m.embed(image), Prompt(box=[10, 10, 60, 50])) for m in models)
    assert one.low_res_masks.shape == (1, 32, 32)
    np.testing.assert_allclose(one.low_res_masks, other.low_res_masks, atol=1e-3)


def test_the_pages_own_encoder_fits_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict = {}
    (code,) = re.findall(r"```python\n(.*?)```", SA1B_PAGE.read_text(encoding="utf-8"), re.S)
    exec(compile(code, SA1B_PAGE.name, "exec"), namespace)
    (config,) = namespace["NETWORKS"]
    monkeypatch.setitem(build.NETWORKS, config.spec.name, config)
    network = build.build_network(config.spec.name)
    with torch.no_grad():
        embedding = network.image_encoder(torch.zeros(1, 3, 128, 128))
    assert embedding.shape == (1, 256, 8, 8)


def test_every_spec_says_its_encoders_stride() -> None:
    for config in build.NETWORKS.values():
        with torch.device("meta"):
            assert config.encoder().stride == config.spec.stride


def test_what_the_reference_names_is_exported() -> None:
    """The first column of its tables, without methods and other modules' names."""
    text = PYTHON_PAGE.read_text(encoding="utf-8").partition("## segment_anything's names")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`([A-Za-z_]+)(?:\(|`)", cell)}
    assert len(named) > 15
    assert named <= set(mobilesam.__all__), sorted(named - set(mobilesam.__all__))
    for name in mobilesam.__all__:
        assert getattr(mobilesam, name) is not None


def test_every_export_is_documented() -> None:
    text = PYTHON_PAGE.read_text(encoding="utf-8")
    missing = [name for name in mobilesam.__all__ if f"`{name}" not in text and name != "__version__"]
    assert missing == []
