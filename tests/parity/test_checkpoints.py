"""The published names load strictly, from every kind of file; everything else is refused."""

from __future__ import annotations

import collections
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mobilesam import ConfigError, Prompt, SamPredictor, WeightsError, load, sam_model_registry
from mobilesam.networks.build import NETWORKS, build_meta
from mobilesam.weights import ENTRIES, HOME_VARIABLE, entry_of, read_weights, weights_path
from mobilesam.weights.graph_index import graph_index
from mobilesam.weights.torch_file import read_torch_file
from tests.conftest import GOLDEN
from tests.seeded import seeded_image, seeded_weights


def tensors_of(weights: dict) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in weights.items()}


@pytest.fixture(scope="module")
def checkpoint(vit_t_weights: dict, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("weights") / "seeded.pt"
    torch.save(collections.OrderedDict(tensors_of(vit_t_weights)), path)
    return path


@pytest.mark.parametrize("network", ["vit_t", "vit_b", "vit_l", "vit_h"])
def test_names_shapes_and_order_are_the_published_ones(network: str) -> None:
    published = json.loads((GOLDEN / f"{network}_state_dict.json").read_text())
    state = build_meta(network).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == published
    assert list(state) == list(published)


@pytest.mark.parametrize(
    ("network", "parameters", "megabytes"),
    [
        ("efficientvit_sam_l0", 34.8, 139),
        ("efficientvit_sam_l1", 47.7, 191),
        ("efficientvit_sam_l2", 61.3, 246),
    ],
)
def test_efficientvit_sam_is_as_large_as_published(network: str, parameters: float, megabytes: int) -> None:
    """Millions of parameters as in the paper's table, and the published files' size, float32."""
    built = build_meta(network)
    assert sum(p.numel() for p in built.parameters()) / 1e6 == pytest.approx(parameters, abs=0.06)
    tensors = sum(tensor.numel() for tensor in built.state_dict().values())
    assert tensors * 4 / 1e6 == pytest.approx(megabytes, abs=0.6)


def test_graph_index_counts_what_the_network_has() -> None:
    index = graph_index("vit_t")
    count = sum(int(np.prod(shape)) for shape in index.parameters.values())
    assert count == sum(p.numel() for p in build_meta("vit_t").parameters()) == 10_130_092
    for name in NETWORKS:
        state = build_meta(name).state_dict()
        index = graph_index(name)
        assert set(index.parameters | index.buffers) == set(state)
        assert all(set(names) <= set(state) for names in index.parts.values())


def test_torch_file_without_torch(checkpoint, vit_t_weights: dict) -> None:
    tensors = read_torch_file(checkpoint)
    assert list(tensors) == list(vit_t_weights)
    for name, array in vit_t_weights.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_forms_of_torch_files(tmp_path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "view": base[1:3, ::2],
        "transposed": base.T,
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(base),
    }
    for wrapper in (None, "model", "state_dict"):
        torch.save({wrapper: state} if wrapper else state, tmp_path / "x.pt")
        tensors = read_torch_file(tmp_path / "x.pt")
        for name, tensor in state.items():
            assert tensors[name].shape == tuple(tensor.shape)
            np.testing.assert_array_equal(tensors[name], tensor.detach().float().numpy())


def test_three_ways_to_the_same_mask(checkpoint, vit_t_weights: dict, tmp_path) -> None:
    image, box = seeded_image(90, 120), np.array([20, 20, 90, 70])
    light = load("mobile_sam", checkpoint=checkpoint)
    result = light.segment(light.embed(image), Prompt(box=box))
    save_file(vit_t_weights, tmp_path / "same.safetensors")
    again = load("mobile_sam", checkpoint=tmp_path / "same.safetensors")
    with pytest.raises(ConfigError, match="was made by"):
        again.segment(light.embed(image), Prompt(box=box))
    np.testing.assert_array_equal(again.segment(again.embed(image), Prompt(box=box)).mask, result.mask)
    predictor = SamPredictor(sam_model_registry["vit_t"](checkpoint=str(checkpoint)))
    predictor.set_image(image)
    masks, scores, low_res = predictor.predict(box=box, multimask_output=False)
    assert isinstance(predictor.get_image_embedding(), torch.Tensor)
    assert predictor.get_image_embedding().shape == (1, 256, 64, 64)
    assert np.abs(low_res - result.low_res_masks).max() <= 2e-3
    assert (masks[0] == result.mask).mean() > 0.999
    assert scores.shape == (1,)
    logits, _, _ = predictor.predict(box=box, multimask_output=False, return_logits=True)
    np.testing.assert_array_equal(logits > 0, masks)


def test_registry() -> None:
    assert set(sam_model_registry) == {"default", "vit_h", "vit_l", "vit_b", "vit_t", "pocket"}
    with pytest.warns(UserWarning, match="the weights are random"):
        assert not sam_model_registry["vit_t"]().training
    with pytest.raises(KeyError):
        sam_model_registry["vit_x"]
    pocket = sam_model_registry["pocket"]()  # with the package's weights, so there is nothing to warn of
    wanted = read_weights(entry_of("pocket"))
    assert not pocket.training
    assert all((tensor.numpy() == wanted[name]).all() for name, tensor in pocket.state_dict().items())


def test_missing_weights_say_where_they_belong(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"mobile_sam\.pt: not found; run: mobilesam weights pull mobile_sam"
    ):
        load("mobile_sam")
    with pytest.raises(WeightsError, match="not found; give the path"):
        load("mobile_sam", checkpoint=tmp_path / "none.pt")


def test_a_file_that_is_not_the_published_one_is_refused(checkpoint, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    place = weights_path(entry_of("mobile_sam"))
    place.parent.mkdir()
    place.write_bytes(checkpoint.read_bytes())
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        load("mobile_sam")


class Evil:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.canary}",)


def archive(path, pickled: bytes, *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", bytes(64))


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_code_in_a_pickle_never_runs(tmp_path, runtime: str) -> None:
    canary = tmp_path / "canary"
    archive(tmp_path / "evil.pt", pickle.dumps({"a": Evil(str(canary))}, 2))
    with pytest.raises(WeightsError, match="not a plain state dict") as caught:
        load("mobile_sam", checkpoint=tmp_path / "evil.pt", runtime=runtime)
    assert "weights_only" not in str(caught.value)
    assert not canary.exists()


def test_damaged_and_foreign_files(checkpoint, tmp_path) -> None:
    data = checkpoint.read_bytes()
    cases = {
        "short.pt": (data[: len(data) // 2], "damaged"),
        "empty.pt": (b"", "neither a PyTorch checkpoint"),
        "text.safetensors": (b"hello there", "damaged"),
        "page.pt": (b"<html>", "neither"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            load("mobile_sam", checkpoint=tmp_path / name)
    archive(tmp_path / "deflated.pt", pickle.dumps({}), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="damaged"):
        read_torch_file(tmp_path / "deflated.pt")
    torch.save({"a": {"b": 1}}, tmp_path / "nested.pt")
    with pytest.raises(WeightsError, match="not a tensor"):
        read_torch_file(tmp_path / "nested.pt")


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_other_networks_weights_are_refused(vit_t_weights: dict, tmp_path, runtime: str) -> None:
    path = tmp_path / "x.safetensors"
    name = "mask_decoder.iou_token.weight"
    changes = [
        ({k: v for k, v in vit_t_weights.items() if k != name}, f"lacks {name}"),
        (vit_t_weights | {"extra.weight": np.zeros(3, np.float32)}, "also has extra.weight"),
        (
            vit_t_weights | {name: np.zeros((1, 9), np.float32)},
            r"1 of \d+ tensors have other shapes \(here/wanted\): \S+ 1x9/",
        ),
        (vit_t_weights | {name: np.full((1, 256), np.nan, np.float32)}, "256 values that are not finite"),
    ]
    for weights, message in changes:
        save_file(weights, path)
        with pytest.raises(WeightsError, match=message):
            load("mobile_sam", checkpoint=path, runtime=runtime)
    save_file(vit_t_weights, path)
    with pytest.raises(WeightsError, match="holds MobileSAM's vit_t, not pocket; load it as mobile_sam"):
        load("pocket", checkpoint=path, runtime=runtime)


def test_choices_that_are_not_there() -> None:
    for arguments, message in [
        ({"name": "mobilesam"}, "choose pocket, mobile_sam or another"),
        ({"runtime": "tensorrt"}, "choose one of onnx, openvino, torch"),
        ({"device": "tpu"}, "cpu, cuda"),
        ({"dtype": "float16"}, "onnx runtime has float32"),
        ({"runtime": "torch", "dtype": "int8"}, "bfloat16"),
        ({"runtime": "torch", "device": "warp"}, "unknown; choose"),
        ({"threads": -1}, "whole number"),
        ({"threads": "two"}, "whole number"),
        ({"runtime": "torch", "threads": 2}, "only for the onnx runtime"),
        ({"name": ["pocket"]}, "unknown"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load(**arguments)
    assert entry_of("pocket").shipped
    assert not ENTRIES["mobile_sam"].shipped


def test_mobilesamv2s_decoder_takes_the_place_of_the_models_own(
    checkpoint, vit_t_weights: dict, tmp_path
) -> None:
    other = seeded_weights({name: array.shape for name, array in vit_t_weights.items()}, seed=5)
    parts: dict[str, dict] = {"PromtEncoder": {}, "MaskDecoder": {}}
    for name, array in tensors_of(other).items():
        for part, prefix in (("PromtEncoder", "prompt_encoder."), ("MaskDecoder", "mask_decoder.")):
            if name.startswith(prefix):
                parts[part][name.removeprefix(prefix)] = array
    torch.save(parts, tmp_path / "decoder.pt")
    torch.save(
        tensors_of(
            {n: (vit_t_weights if n.startswith("image_encoder") else other)[n] for n in vit_t_weights}
        ),
        tmp_path / "joined.pt",
    )
    composed = load("mobile_sam", checkpoint=checkpoint, decoder=tmp_path / "decoder.pt")
    joined = load("mobile_sam", checkpoint=tmp_path / "joined.pt")
    image, prompt = seeded_image(90, 120), Prompt(box=[20, 20, 90, 70])
    a, b = (model.segment(model.embed(image), prompt) for model in (composed, joined))
    np.testing.assert_array_equal(a.low_res_masks, b.low_res_masks)
    assert "decoder.pt" in composed.name
    with pytest.raises(WeightsError, match="MobileSAMv2's decoder has PromtEncoder, MaskDecoder"):
        load("mobile_sam", checkpoint=checkpoint, decoder=checkpoint)
    del parts["MaskDecoder"]["iou_token.weight"]
    parts["MaskDecoder"]["another"] = torch.arange(3.0)
    torch.save(parts, tmp_path / "odd.pt")
    with pytest.raises(
        WeightsError, match=r"lacks mask_decoder\.iou_token\.weight; also has mask_decoder\.another"
    ):
        load("mobile_sam", checkpoint=checkpoint, decoder=tmp_path / "odd.pt")
