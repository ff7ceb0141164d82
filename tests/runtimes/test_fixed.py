"""Steps of fixed shapes give the network's masks, whatever the prompt leaves empty; and their files are checked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import mobilesam
from mobilesam import ConfigError, EverythingOptions, LimitError, Model, Prompt, WeightsError, load
from mobilesam.core.arrays import NamedArrays
from mobilesam.export.certificate import reference
from mobilesam.export.fixed import Step, fixed_steps, scatter_in_six, write_fixed
from mobilesam.export.flat_windows import FlatWindows
from mobilesam.export.targets import TARGETS
from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.mask_decoder import scatter
from mobilesam.networks.tiny_vit import TinyViTBlock
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.fixed import FixedRuntime
from mobilesam.runtimes.fixed_files import read_index, read_part
from mobilesam.weights import entry_of, read_weights
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat
from tests.runtimes.conformance import PROMPTS, assert_alike
from tests.seeded import seeded_weights


class InPyTorch(FixedRuntime):
    """The steps that are converted, before they are."""

    name = "fixed"

    def __init__(self, network: str, weights: Weights) -> None:
        built = load_tensors(build_network(network), weights, "weights")
        super().__init__(built.spec)
        self.steps = fixed_steps(built)

    def run(self, part: str, feed: NamedArrays) -> NamedArrays:
        step = self.steps[part]
        given = [torch.from_numpy(np.array(feed[name])) for name in step.inputs]
        assert [tuple(t.shape) for t in given] == [tuple(t.shape) for t in step.example]
        with torch.inference_mode():
            found = step.module(*given)
        return dict(zip(step.outputs, (tensor.numpy() for tensor in found), strict=True))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(entry_of("pocket"))


@pytest.fixture(scope="module")
def model(weights: Weights) -> Model:
    return Model(InPyTorch("pocket", weights), name="fixed", thresholds=entry_of("pocket").thresholds)


@pytest.fixture(scope="module")
def wanted(weights: Weights) -> Model:
    network = reference(TARGETS["litert"], "pocket", weights)
    return Model(network, name="PyTorch", thresholds=entry_of("pocket").thresholds)


def test_pocket_is_the_same(model: Model, wanted: Model) -> None:
    assert_alike(model, wanted)


@pytest.mark.long
def test_mobile_sams_network_in_steps_is_the_same() -> None:
    weights = seeded_weights(graph_index("vit_t").tensors, 1)
    theirs = Model(reference(TARGETS["litert"], "vit_t", weights), name="PyTorch")
    ours = InPyTorch("vit_t", weights)
    assert_alike(Model(ours, name="fixed"), theirs)
    # What a converter makes of an example in another order reads other inputs in that order, too.
    assert all(tensor.is_contiguous() for step in ours.steps.values() for tensor in step.example)


def test_values_of_cells_in_their_rows() -> None:
    """XNNPACK knows six dimensions, and puts them where eight do."""
    masks = torch.arange(3 * 5 * 5 * 16, dtype=torch.float32).reshape(1, 3, -1)
    assert torch.equal(scatter_in_six(masks, 5), scatter(masks, (5, 5)))


@pytest.mark.parametrize("side", [7, 14, 17])
def test_windows_in_four_dimensions(side: int) -> None:
    """As ncnn gets them: one window, several, and some that are filled up with zeros."""
    torch.manual_seed(0)
    block = TinyViTBlock(dim=12, heads=3, window=7, mlp_ratio=2.0).eval()
    torch.nn.init.normal_(block.attn.attention_biases)
    x = torch.randn(1, side, side, 12)
    with torch.inference_mode():
        assert torch.allclose(FlatWindows(block)(x), block(x), atol=1e-5)


def test_a_square_alone_and_large_windows_alone_change_little(model: Model, pocket: Model) -> None:
    """How near masks are to those of the other runtimes, which know other shapes."""
    a, b = model.embed(cat()), pocket.embed(cat())
    for prompt in PROMPTS:
        one, two = model.segment(a, prompt).mask, pocket.segment(b, prompt).mask
        assert (one & two).sum() >= 0.95 * (one | two).sum()


def test_as_many_slots_as_there_are(model: Model, wanted: Model) -> None:
    """A box and six points fill all; one more is refused, and what to do is told."""
    a, b = model.embed(cat()), wanted.embed(cat())
    points = [[100 + 20 * i, 100 + 10 * i] for i in range(7)]
    full = Prompt(points=points[:6], box=[90, 20, 330, 290])
    apart = model.segment(a, full).low_res_masks - wanted.segment(b, full).low_res_masks
    assert np.abs(apart).max() <= 1e-3
    with pytest.raises(LimitError, match="9 points, corners and pads; the fixed runtime takes 8"):
        model.segment(a, Prompt(points=points, box=[90, 20, 330, 290]))


@pytest.mark.long
def test_everything_and_threads(model: Model, wanted: Model) -> None:
    options = EverythingOptions(max_prompts=12)
    found = model.everything(cat(), options)
    assert len(found) == len(wanted.everything(cat(), options)) > 3
    embedding = model.embed(cat())
    alone = [model.segment(embedding, prompt).mask for prompt in PROMPTS]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda prompt: model.segment(embedding, prompt).mask, PROMPTS))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


@pytest.fixture(scope="module")
def files(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as a converter would write them: of the shapes alone."""

    def convert(step: Step, folder: Path, stem: str) -> None:
        (folder / f"{stem}.tflite").write_bytes(stem.encode())

    folder = tmp_path_factory.mktemp("fixed")
    write_fixed("litert", "pocket", weights, folder, convert)
    return folder


def test_files_say_what_they_are(files: Path) -> None:
    index = read_index(files, "pocket", "litert")
    assert list(index.parts) == ["encoder", "proposals", "decoder", "decoder_window"]
    assert index.parts["decoder"].outputs["low_res_masks"] == [1, 4, 384, 384]
    assert index.parts["decoder_window"].inputs["point_coords"] == [1, 8, 2]
    assert read_part(files, index.parts["encoder"]) == [b"pocket-encoder"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "parts": 3}',
        "[" * 100_000,
        '{"format": 1, "parts": {"a": 1}}',
    ],
)
def test_a_file_that_says_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "pocket-litert.json").write_text(text)
    with pytest.raises(WeightsError, match="not what export writes"):
        read_index(tmp_path, "pocket", "litert")


def test_files_of_another_network_or_changed_ones(files: Path, tmp_path: Path) -> None:
    content = json.loads((files / "pocket-litert.json").read_text())
    (tmp_path / "vit_t-litert.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="is of pocket for litert"):
        read_index(tmp_path, "vit_t", "litert")
    (tmp_path / "pocket-litert.json").write_text(json.dumps(content))
    part = read_index(tmp_path, "pocket", "litert").parts["encoder"]
    with pytest.raises(WeightsError, match=r"pocket-encoder\.tflite: not found; export again"):
        read_part(tmp_path, part)
    (tmp_path / "pocket-encoder.tflite").write_bytes(b"else")
    with pytest.raises(WeightsError, match="is not the file that was exported"):
        read_part(tmp_path, part)


def test_what_a_runtime_of_files_says(tmp_path: Path) -> None:
    """Here its packages may be missing; then it says how to install them."""
    with pytest.raises((WeightsError, ImportError), match=r"mobilesam export litert|pip install .*litert"):
        mobilesam.load("pocket", runtime="litert", checkpoint=tmp_path)
    with pytest.raises(ConfigError, match=r"choose one of onnx, openvino, torch, litert, executorch, ncnn"):
        mobilesam.load("pocket", runtime="tflite")


@pytest.mark.parametrize("runtime", ["litert", "executorch", "ncnn"])
@pytest.mark.parametrize("model", [None, "pocket"])
def test_a_runtime_over_exported_files_wants_their_folder(
    tmp_path: Path, runtime: str, model: str | None
) -> None:
    (tmp_path / "file").write_bytes(b"a")
    for name in ("file", "nothing"):
        with pytest.raises(
            WeightsError, match=f"{name}: is not a folder; .*mobilesam export {runtime} has written"
        ):
            load(model, runtime=runtime, checkpoint=tmp_path / name)


def test_the_command_to_export_again_can_be_pasted(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"--out '.*/two words'$"):
        read_index(tmp_path / "two words", "pocket", "litert")
