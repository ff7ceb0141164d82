"""Weights in the form of transformers' ``SamModel``: the same tensors, and the same masks as that model makes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

import mobilesam
from mobilesam.cli.main import run
from mobilesam.core.errors import WeightsError
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.networks.build import build_meta, sam_decoder
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.image_encoder_vit import ImageEncoderViT
from mobilesam.networks.sam import Sam
from mobilesam.runtimes.base import Weights
from mobilesam.weights import ENTRIES, HOME_VARIABLE, read_tensors
from mobilesam.weights.hugging_face import MARK, sam_model_prefix, sam_model_to_sam, sam_name
from mobilesam.weights.recognition import recognise_network
from tests.seeded import seeded_image, seeded_weights

WIDTHS = {  # hidden_size, num_hidden_layers, num_attention_heads, mlp_dim of the published configurations
    "vit_b": (768, 12, 12, 3072),
    "vit_l": (1024, 24, 16, 4096),
    "vit_h": (1280, 32, 16, 5120),
    "slimsam_50": (384, 12, 12, 1536),
    "slimsam_77": (168, 12, 12, 696),
}
SAMS_EPS, THEIR_EPS = 1e-5, 1e-6  # of the layer norms between prompts and image
SIDE = 256  # of the small network's input


def vision_config(
    width: int, depth: int, heads: int, mlp_dim: int, *, image_size: int = 1024
) -> SamVisionConfig:
    whole = [depth // 4 * (i + 1) - 1 for i in range(4)] if depth >= 4 else [depth - 1]
    return SamVisionConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_dim=mlp_dim,
        global_attn_indexes=whole,
        image_size=image_size,
    )


def sam_model(vision: SamVisionConfig, eps: float = THEIR_EPS) -> SamModel:
    """transformers' model, as its configurations have it or with SAM's own epsilon."""
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=SamPromptEncoderConfig(image_size=vision.image_size),
        mask_decoder_config=SamMaskDecoderConfig(layer_norm_eps=eps),
    )
    return SamModel(config).eval()


def filled(model: SamModel, weights: Weights) -> SamModel:
    """Give transformers' model weights that are named as SAM names them."""
    model.load_state_dict({name: torch.from_numpy(weights[sam_name(name)]) for name in model.state_dict()})
    return model


@pytest.mark.parametrize("network", WIDTHS)
def test_names_map_one_to_one(network: str) -> None:
    with torch.device("meta"):
        theirs = sam_model(vision_config(*WIDTHS[network]))
    names = {sam_name(name): tuple(value.shape) for name, value in theirs.named_parameters()}
    ours = {name: tuple(value.shape) for name, value in build_meta(network).state_dict().items()}
    assert len(names) == len(dict(theirs.named_parameters()))  # no two have one name
    assert names == ours
    assert recognise_network(names) == network
    if network == "vit_b":
        assert len(names) == 314


# ---------------------------------------------------------------- arithmetic, on a small network


@cache
def small_vision() -> SamVisionConfig:
    return vision_config(48, 2, 4, 100, image_size=SIDE)


@pytest.fixture(scope="module")
def small_weights() -> Weights:
    with torch.device("meta"):
        names = sam_model(small_vision()).named_parameters()
    return seeded_weights({sam_name(name): tuple(value.shape) for name, value in names})


def small_network(weights: Weights) -> Sam:
    """Our encoder and decoder by the widths of :func:`small_vision`."""
    encoder = ImageEncoderViT(
        embed_dim=48, depth=2, num_heads=4, global_attn_indexes=(1,), mlp_dim=100, grid_size=SIDE // 16
    )
    spec = NetworkSpec("small", "a small SAM", image_size=SIDE)
    return load_tensors(Sam(encoder, *sam_decoder(), spec=spec).eval(), weights, "small")


def pixels(side: int) -> torch.Tensor:
    image = seeded_image(side, side).astype(np.float32)
    return torch.from_numpy(((image - 120) / 58).transpose(2, 0, 1)[None].copy())


def questions(side: int) -> Iterator[tuple[str, dict, DecoderInputs]]:
    """A point, two, a box, both, and a box with a mask: as they ask, and as we do."""
    points = np.array([[0.5, 0.3], [0.2, 0.7]], np.float32) * side
    box = np.array([[0.2, 0.15], [0.7, 0.6]], np.float32) * side
    mask = np.random.default_rng(0).standard_normal((1, 1, side // 4, side // 4)).astype(np.float32) * 4
    pad = np.zeros((1, 2), np.float32)
    one = {"input_points": torch.tensor(points[None, None, :1]), "input_labels": torch.tensor([[[1]]])}
    two = {"input_points": torch.tensor(points[None, None]), "input_labels": torch.tensor([[[1, 0]]])}
    boxed = {"input_boxes": torch.tensor(box.reshape(1, 1, 4))}

    def ours(coords: list[np.ndarray], labels: list[int], mask: np.ndarray | None = None) -> DecoderInputs:
        return DecoderInputs(np.concatenate(coords)[None], np.array([labels], np.float32), mask)

    yield "a point", one, ours([points[:1], pad], [1, -1])
    yield "two points", two, ours([points, pad], [1, 0, -1])
    yield "a box", boxed, ours([box], [2, 3])
    yield "a point and a box", one | boxed, ours([points[:1], box], [1, 2, 3])
    yield "a box and a mask", boxed | {"input_masks": torch.tensor(mask)}, ours([box], [2, 3], mask)


def largest_differences(network: Sam, theirs: SamModel) -> dict[str, float]:
    """How far logits or IoU predictions are apart, for each question."""
    side = network.spec.image_size
    found = {}
    with torch.no_grad():
        embedding = network.encode(pixels(side))
        for name, given, inputs in questions(side):
            answer = theirs(pixel_values=pixels(side), multimask_output=True, **given)
            mask = None if inputs.mask_input is None else torch.from_numpy(inputs.mask_input)
            ours, quality = network.decode(
                embedding, torch.from_numpy(inputs.point_coords), torch.from_numpy(inputs.point_labels), mask
            )
            pairs = (answer.pred_masks[0], ours), (answer.iou_scores[0], quality)
            found[name] = max(float((one - other).abs().max()) for one, other in pairs)
    return found


def test_logits_are_those_of_sam_model(small_weights: Weights) -> None:
    network = small_network(small_weights)
    with torch.no_grad():
        theirs = filled(sam_model(small_vision()), small_weights).get_image_embeddings(pixels(SIDE))
        difference = (theirs - network.encode(pixels(SIDE))["image_embedding"]).abs().max()
    assert difference < 1e-4
    as_it_is = largest_differences(network, filled(sam_model(small_vision()), small_weights))
    assert max(as_it_is.values()) < 1e-3, as_it_is
    with_sams = largest_differences(network, filled(sam_model(small_vision(), SAMS_EPS), small_weights))
    assert max(with_sams.values()) < 1e-4, with_sams


def test_what_is_left_is_the_epsilon_of_the_norms(small_weights: Weights) -> None:
    """With tokens as small as transformers' own random ones, 1e-5 is no longer small beside their variance."""
    quiet = dict(small_weights)
    for name in quiet:
        if "_token" in name or "point_embed" in name or ".self_attn.out_proj" in name:
            quiet[name] = quiet[name] * np.float32(0.04)
    network = small_network(quiet)
    as_it_is = largest_differences(network, filled(sam_model(small_vision()), quiet))
    with_sams = largest_differences(network, filled(sam_model(small_vision(), SAMS_EPS), quiet))
    print(as_it_is, with_sams)
    assert max(as_it_is.values()) > 1e-3
    assert max(with_sams.values()) < 1e-4


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def slim_weights() -> Weights:
    return seeded_weights({name: tuple(v.shape) for name, v in build_meta("slimsam_77").state_dict().items()})


@pytest.fixture(scope="module")
def slim_file(slim_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SlimSAM as ``save_pretrained`` writes it."""
    folder = tmp_path_factory.mktemp("slimsam")
    filled(sam_model(vision_config(*WIDTHS["slimsam_77"])), slim_weights).save_pretrained(folder)
    return folder / "model.safetensors"


def test_a_saved_model_is_read(slim_file: Path, slim_weights: Weights) -> None:
    tensors = read_tensors(slim_file)
    assert set(tensors) == set(slim_weights)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, slim_weights[name])
    model = mobilesam.load("slimsam_77", checkpoint=slim_file)
    inputs = DecoderInputs(np.array([[[500, 300], [0, 0]]], np.float32), np.array([[1, -1]], np.float32))
    embedding = {"image_embedding": np.zeros((1, 256, 64, 64), np.float32)}
    embedding |= {
        name: np.zeros((1, 8, 4096, 16), np.float32)
        for name in ("first_layer_key", "first_layer_value", "first_layer_query")
    }
    assert model.runtime.decode(embedding, inputs, MULTIMASK)[0].shape == (1, 3, 256, 256)


def test_a_model_is_told_apart_from_others(slim_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds SlimSAM-77, not vit_b; load it as slimsam_77"):
        mobilesam.load("sam_vit_b", checkpoint=slim_file)
    assert sam_model_prefix(["vision_encoder.backbone.patch_embed.projection.weight"]) is None  # SAM 2
    assert sam_model_prefix(build_meta("vit_b").state_dict()) is None


def test_what_training_puts_before_all_names() -> None:
    array = np.arange(3, dtype=np.float32)
    renamed = sam_model_to_sam(
        {f"model.{MARK}": array, "model.mask_decoder.upscale_conv1.bias": array}, "file"
    )
    assert list(renamed) == [
        *("image_encoder.patch_embed.proj.weight", "mask_decoder.output_upscaling.0.bias"),
    ]
    assert sam_model_prefix([f"model.{MARK}", "head.weight"]) is None


def test_a_published_file_is_imported(
    slim_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As ``weights import`` takes a file out of Hugging Face's cache; its sum stands in for the published one."""
    data = slim_file.read_bytes()
    entry = replace(ENTRIES["slimsam_77"], sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    monkeypatch.setitem(ENTRIES, "slimsam_77", entry)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match="run: mobilesam weights pull slimsam_77"):
        mobilesam.load("slimsam_77")
    assert run(["weights", "import", str(slim_file)]) == 0
    assert capsys.readouterr().out.startswith("slimsam_77: ")
    assert mobilesam.load("slimsam_77").name == "slimsam_77"


def test_two_position_embeddings_must_agree(tmp_path: Path) -> None:
    matrix = np.arange(4, dtype=np.float32)
    twice = {
        "vision_encoder.patch_embed.projection.weight": np.arange(6, dtype=np.float32),
        "shared_image_embedding.positional_embedding": matrix,
        "prompt_encoder.shared_embedding.positional_embedding": matrix,
    }
    save_file(twice, tmp_path / "same.safetensors")
    assert len(read_tensors(tmp_path / "same.safetensors")) == 2
    save_file(
        twice | {"shared_image_embedding.positional_embedding": matrix + 1}, tmp_path / "other.safetensors"
    )
    with pytest.raises(WeightsError, match=r"other\.safetensors: .* differs from the other tensor"):
        read_tensors(tmp_path / "other.safetensors")


@pytest.mark.long
@pytest.mark.parametrize("network", ["slimsam_77", "vit_b"])
def test_whole_networks_from_files(network: str, tmp_path: Path) -> None:
    """A file of ``save_pretrained`` in the ONNX runtime, and its model in transformers: one image, five prompts."""
    shapes = {name: tuple(value.shape) for name, value in build_meta(network).state_dict().items()}
    vision = vision_config(*WIDTHS[network])
    theirs = filled(sam_model(vision), seeded_weights(shapes))
    theirs.save_pretrained(tmp_path)
    name = {"vit_b": "sam_vit_b"}.get(network, network)
    runtime = mobilesam.load(name, checkpoint=tmp_path / "model.safetensors").runtime
    arrays = runtime.encode(pixels(1024).numpy())
    with torch.no_grad():
        embedding = theirs.get_image_embeddings(pixels(1024))
        np.testing.assert_allclose(arrays["image_embedding"], embedding, atol=1e-4)
        for kind, given, inputs in questions(1024):
            answer = theirs(image_embeddings=embedding, multimask_output=True, **given)
            ours, quality = runtime.decode(arrays, inputs, MULTIMASK)
            print(network, kind, float(np.abs(answer.pred_masks[0].numpy() - ours).max()), ours.std())
            np.testing.assert_allclose(answer.pred_masks[0], ours, atol=1e-3)
            np.testing.assert_allclose(answer.iou_scores[0], quality, atol=1e-3)
