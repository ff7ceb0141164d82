"""``SamOnnxModel``, as the export scripts of segment_anything, MobileSAM, samexporter and salt use it."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from mobilesam.compat.segment_anything import SamPredictor, sam_model_registry
from mobilesam.compat.segment_anything.modeling import Sam
from mobilesam.compat.segment_anything.utils.onnx import SamOnnxModel
from mobilesam.segment.model import Model
from tests.photos import cat
from tests.seeded import seeded_image

OUTPUTS = ["masks", "iou_predictions", "low_res_masks"]
EXTRA_OUTPUTS = ["masks", "scores", "stability_scores", "areas", "low_res_masks"]


@pytest.fixture(scope="module")
def seen(torch_vit_t: Model) -> SamPredictor:
    predictor = SamPredictor(torch_vit_t.runtime.network)
    predictor.set_image(seeded_image(480, 640, 0))
    return predictor


@pytest.fixture(scope="module")
def cat_seen() -> SamPredictor:
    predictor = SamPredictor(sam_model_registry["pocket"]())
    predictor.set_image(cat())
    return predictor


@contextlib.contextmanager
def as_scripts_do() -> Iterator[None]:
    """The scripts leave the exporter's warnings out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def dummy_inputs(network: Sam) -> dict[str, Tensor]:
    """As the scripts make them of what the prompt encoder says."""
    channels = network.prompt_encoder.embed_dim
    grid = network.prompt_encoder.image_embedding_size
    return {
        "image_embeddings": torch.randn(1, channels, *grid),
        "point_coords": torch.randint(0, 1024, (1, 5, 2), dtype=torch.float),
        "point_labels": torch.randint(0, 4, (1, 5), dtype=torch.float),
        "mask_input": torch.randn(1, 1, *(4 * side for side in grid)),
        "has_mask_input": torch.tensor([1.0]),
        "orig_im_size": torch.tensor([150.0, 225.0]),
    }


def export(module: nn.Module, inputs: dict[str, Tensor], file: Any, names: list[str], **options: Any) -> None:
    """The scripts' call of the exporter that they were written for."""
    module(**inputs)
    with as_scripts_do():
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            file,
            export_params=True,
            verbose=False,
            do_constant_folding=True,
            input_names=list(inputs),
            output_names=names,
            dynamo=False,
            **options,
        )


def export_decoder(module: SamOnnxModel, network: Sam, file: Any, opset: int, names: list[str]) -> None:
    points = {name: {1: "num_points"} for name in ("point_coords", "point_labels")}
    export(module, dummy_inputs(network), file, names, opset_version=opset, dynamic_axes=points)


@cache
def square_embedding(predictor: SamPredictor) -> np.ndarray:
    """The embedding of the padded square, as an exported encoder gives it; pocket's predictor leaves padding out."""
    network = predictor.model
    if predictor.features.shape[-2:] != network.prompt_encoder.image_embedding_size:
        resized = torch.as_tensor(predictor.transform.apply_image(cat())).permute(2, 0, 1)[None]
        with torch.no_grad():
            return network.image_encoder(network.preprocess(resized)).numpy()
    return predictor.features.numpy()


def decoder_feed(
    predictor: SamPredictor, prompt: dict, mask: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """A prompt as the scripts' users put it in: a box is two points, and points without one end with a pad."""
    network, size, transform = predictor.model, predictor.original_size, predictor.transform
    coords, labels = [], []
    if "point_coords" in prompt:
        coords.append(transform.apply_coords(np.asarray(prompt["point_coords"]), size))
        labels.append(np.asarray(prompt["point_labels"]))
    if "box" in prompt:
        coords.append(transform.apply_coords(np.asarray(prompt["box"]).reshape(2, 2), size))
        labels.append(np.array([2, 3]))
    else:
        coords.append(np.zeros((1, 2)))
        labels.append(np.array([-1]))
    side = 4 * network.prompt_encoder.image_embedding_size[0]
    return {
        "image_embeddings": square_embedding(predictor),
        "point_coords": np.concatenate(coords)[None].astype(np.float32),
        "point_labels": np.concatenate(labels)[None].astype(np.float32),
        "mask_input": np.zeros((1, 1, side, side), np.float32) if mask is None else mask,
        "has_mask_input": np.array([mask is not None], np.float32),
        "orig_im_size": np.array(size, np.float32),
    }


def tensors(feed: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(array) for name, array in feed.items()}


def test_the_scripts_decoder_gives_the_captured_logits(
    seen: SamPredictor, golden: dict, golden_cases: list, tmp_path: Path
) -> None:
    """segment_anything's and MobileSAM's script, and its ``--quantize-out``."""
    network, file = seen.model, tmp_path / "decoder.onnx"
    export_decoder(SamOnnxModel(network, return_single_mask=False), network, str(file), 17, OUTPUTS)
    assert not any(part.training for part in network.modules())
    session = ort.InferenceSession(file)
    assert [one.name for one in session.get_outputs()] == OUTPUTS
    best = None
    cases = [case for case in golden_cases if case["image"] == 0]
    for case in cases:
        key = f"image0/{case['name']}"
        prompt = {
            name: golden[f"{key}/in_{name}"]
            for name in ("point_coords", "point_labels", "box")
            if f"{key}/in_{name}" in golden
        }
        if case["name"] == "mask_only":  # the scripts' users always give points or a box
            continue
        feed = decoder_feed(seen, prompt, best if "mask_input" in case else None)
        masks, ious, low_res = session.run(None, feed)
        chosen = slice(1, 4) if case["multimask_output"] else slice(0, 1)
        if case["name"] == "point":
            best = low_res[:, chosen][:, [ious[0, chosen].argmax()]]
        assert np.abs(low_res[0, chosen, ::4, ::4] - golden[f"{key}/low_res_every4"]).max() <= 1e-3
        assert np.abs(ious[0, chosen] - golden[f"{key}/iou"]).max() <= 1e-4
        bits = np.unpackbits(golden[f"{key}/mask_bits"], count=masks[0, chosen].size)
        wanted = bits.reshape(masks[0, chosen].shape).astype(bool)
        found = masks[0, chosen] > 0
        assert ((found & wanted).sum((1, 2)) >= 0.9995 * (found | wanted).sum((1, 2))).all()
    assert len(cases) == 7
    small = tmp_path / "small.onnx"
    with as_scripts_do():
        quantize_dynamic(str(file), str(small), weight_type=QuantType.QUInt8)
    assert small.stat().st_size < 0.5 * file.stat().st_size
    feed = decoder_feed(seen, {"box": golden["image0/box/in_box"]})
    exact, rough = (ort.InferenceSession(one).run(None, feed)[2] for one in (file, small))
    assert np.corrcoef(exact.ravel(), rough.ravel())[0, 1] > 0.9


def test_every_flag_at_once_in_a_file(seen: SamPredictor, tmp_path: Path) -> None:
    """``--return-single-mask --gelu-approximate --use-stability-score --return-extra-metrics --opset 16``."""
    network = copy.deepcopy(seen.model)
    module = SamOnnxModel(network, True, use_stability_score=True, return_extra_metrics=True)
    replaced = [part for part in module.modules() if isinstance(part, nn.GELU)]
    for part in replaced:
        part.approximate = "tanh"
    assert len(replaced) >= 4
    export_decoder(module, network, str(tmp_path / "decoder.onnx"), 16, EXTRA_OUTPUTS)
    session = ort.InferenceSession(tmp_path / "decoder.onnx")
    prompts = [
        {"point_coords": np.array([[200, 150]]), "point_labels": np.array([1])},
        {
            "point_coords": np.array([[200, 150]] * 3),
            "point_labels": np.array([1, 0, 1]),
            "box": [9, 9, 300, 200],
        },
    ]
    for prompt in prompts:
        feed = decoder_feed(seen, prompt)
        found = session.run(None, feed)
        for ours, theirs in zip(found, module(**tensors(feed)), strict=True):
            assert ours.shape == theirs.shape
            allowed = 2 if ours.dtype == np.int64 else 1e-3
            np.testing.assert_allclose(ours, theirs.numpy(), atol=allowed)
        assert found[0].shape == (1, 1, 480, 640) and found[4].shape == (1, 1, 256, 256)
        assert found[3].item() == (found[0] > 0).sum()


@pytest.mark.long
@pytest.mark.parametrize("name", ["seen", "cat_seen"])
def test_what_the_flags_mean(name: str, request: pytest.FixtureRequest) -> None:
    predictor = request.getfixturevalue(name)
    network = predictor.model
    box = {"box": np.array([60, 10, 440, 290])}
    point = {"point_coords": np.array([[200, 150]]), "point_labels": np.array([1])}
    every, scores, low_res = SamOnnxModel(network, False)(**tensors(decoder_feed(predictor, box)))
    assert every.shape == (1, 4, *predictor.original_size) and scores.shape == (1, 4)
    one = SamOnnxModel(network, True)
    _, _, low_three = SamOnnxModel(network, False)(**tensors(decoder_feed(predictor, box | point)))
    _, _, single = one(**tensors(decoder_feed(predictor, box | point)))
    assert torch.equal(single[0, 0], low_three[0, 0])  # of three and more points; of two the best of three
    _, of_point, low_point = SamOnnxModel(network, False)(**tensors(decoder_feed(predictor, point)))
    _, score, best = one(**tensors(decoder_feed(predictor, point)))
    number = 1 + int(of_point[0, 1:].argmax())
    assert torch.equal(best[0, 0], low_point[0, number]) and score.item() == of_point[0, number]
    stable = SamOnnxModel(network, False, use_stability_score=True)
    _, stability, _ = stable(**tensors(decoder_feed(predictor, box)))
    inner, outer = ((low_res > level).sum((-2, -1)) for level in (1, -1))
    torch.testing.assert_close(stability, inner / outer.clamp(min=1))
    extra = SamOnnxModel(network, False, return_extra_metrics=True)
    masks, plain, of_enlarged, areas, _ = extra(**tensors(decoder_feed(predictor, box)))
    assert torch.equal(plain, scores) and torch.equal(areas, (masks > 0).sum((-2, -1)))
    inner, outer = ((masks > level).sum((-2, -1)) for level in (1, -1))
    torch.testing.assert_close(of_enlarged, inner / outer.clamp(min=1))


@pytest.mark.parametrize("size", [(480, 640), (150, 225), (33, 1000), (1000, 33), (1, 700)], ids=str)
def test_enlarging_is_the_networks(seen: SamPredictor, size: tuple[int, int]) -> None:
    module = SamOnnxModel(seen.model, False)
    logits = torch.as_tensor(np.random.default_rng(0).normal(size=(1, 2, 256, 256)).astype(np.float32))
    resized = module.resize_longest_image_size(torch.tensor(size), 1024)
    assert resized.tolist() == list(seen.transform.get_preprocess_shape(*size, 1024))
    ours = module.mask_postprocessing(logits, torch.tensor(size, dtype=torch.float))
    theirs = seen.model.postprocess_masks(logits, resized.tolist(), size)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.long
def test_salts_decoder_of_pocket(cat_seen: SamPredictor, tmp_path: Path) -> None:
    """salt's generator of files: one mask, an old opset, an open file; and then the same prompts."""
    network, file = cat_seen.model, tmp_path / "decoder.onnx"
    module = SamOnnxModel(network, return_single_mask=True)
    with open(file, "wb") as opened:
        export_decoder(module, network, opened, 15, OUTPUTS)
    session = ort.InferenceSession(file)
    box = {"box": np.array([60, 10, 440, 290])}
    prompts = [box, box | {"point_coords": np.array([[200, 150]]), "point_labels": np.array([1])}]
    last = None
    for prompt in prompts:
        feed = decoder_feed(cat_seen, prompt, last)
        masks, scores, last = session.run(None, feed)
        for ours, theirs in zip((masks, scores, last), module(**tensors(feed)), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-3)
    wanted = cat_seen.predict(**prompts[0], multimask_output=False)[0]
    masks = session.run(None, decoder_feed(cat_seen, box))[0][0] > 0
    assert (masks & wanted).sum() > 0.85 * (masks | wanted).sum()


class EncoderWithPreprocessing(nn.Module):
    """samexporter's encoder: an image (H, W, 3) in, normalised and padded inside."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.model = network
        self.image_encoder = network.image_encoder

    @torch.no_grad()
    def forward(self, input_image: Tensor) -> Tensor:
        pixels = (input_image - self.model.pixel_mean.flatten()) / self.model.pixel_std.flatten()
        pixels = pixels.permute(2, 0, 1)
        side = self.image_encoder.img_size
        height, width = pixels.shape[-2:]
        return self.image_encoder(nn.functional.pad(pixels, (0, side - width, 0, side - height))[None])


@pytest.mark.long
@pytest.mark.parametrize("name", ["seen", "cat_seen"])
def test_encoders_as_scripts_export_them(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    predictor = request.getfixturevalue(name)
    network = predictor.model
    side = network.image_encoder.img_size
    pixels = network.preprocess(torch.rand(1, 3, side, side) * 255)
    export(
        network.image_encoder, {"x": pixels}, str(tmp_path / "e.onnx"), ["image_embeddings"], opset_version=17
    )
    (found,) = ort.InferenceSession(tmp_path / "e.onnx").run(None, {"x": pixels.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network.image_encoder(pixels).numpy(), atol=2e-4)
    image = torch.rand(side, side, 3) * 255
    sides = {"input_image": {0: "image_height", 1: "image_width"}}
    file = str(tmp_path / "p.onnx")
    module = EncoderWithPreprocessing(network).eval()
    export(module, {"input_image": image}, file, ["image_embeddings"], opset_version=18, dynamic_axes=sides)
    image = image[: side // 2]
    (found,) = ort.InferenceSession(file).run(None, {"input_image": image.numpy()})
    np.testing.assert_allclose(found, module(image).numpy(), atol=2e-4)


@pytest.mark.long
@pytest.mark.parametrize("name", ["seen", "cat_seen"])
def test_the_newer_exporter(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """``dynamo=True``: any number of points, and any size of the picture."""
    predictor = request.getfixturevalue(name)
    module = SamOnnxModel(predictor.model, return_single_mask=True).eval()
    inputs = dummy_inputs(predictor.model)
    points = {1: torch.export.Dim("num_points", min=2)}
    shapes = [points if key.startswith("point_") else None for key in inputs]
    with as_scripts_do():
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            tmp_path / "decoder.onnx",
            opset_version=18,
            input_names=list(inputs),
            output_names=OUTPUTS,
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    session = ort.InferenceSession(tmp_path / "decoder.onnx")
    for prompt in (
        {"point_coords": np.array([[200, 150]]), "point_labels": np.array([1])},
        {"box": np.array([60, 10, 440, 290])},
    ):
        feed = decoder_feed(predictor, prompt)
        for ours, theirs in zip(session.run(None, feed), module(**tensors(feed)), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-3)
