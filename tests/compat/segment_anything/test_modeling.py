"""segment_anything's ``modeling``: constructors, names of parameters, calls, adapters and training, on small networks."""

from __future__ import annotations

import importlib
import inspect
import json
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobilesam import ConfigError
from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from mobilesam.compat.segment_anything import automatic_mask_generator as generator_module
from mobilesam.compat.segment_anything.build_sam import _build_sam
from mobilesam.compat.segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TinyViT,
    TwoWayTransformer,
)
from mobilesam.compat.segment_anything.modeling.build import build_named
from mobilesam.compat.segment_anything.utils import amg
from tests.conftest import GOLDEN
from tests.seeded import seeded_image

SIDE, CHANNELS = 64, 32
REQUIRED = inspect.Parameter.empty
# What segment_anything's and mobile_sam's own constructors take, in their order.
SIGNATURES: dict[str, dict[str, Any]] = {
    "sam.Sam": {
        "image_encoder": REQUIRED,
        "prompt_encoder": REQUIRED,
        "mask_decoder": REQUIRED,
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_std": [58.395, 57.12, 57.375],
    },
    "image_encoder.ImageEncoderViT": {
        "img_size": 1024,
        "patch_size": 16,
        "in_chans": 3,
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "mlp_ratio": 4.0,
        "out_chans": 256,
        "qkv_bias": True,
        "norm_layer": nn.LayerNorm,
        "act_layer": nn.GELU,
        "use_abs_pos": True,
        "use_rel_pos": False,
        "rel_pos_zero_init": True,
        "window_size": 0,
        "global_attn_indexes": (),
    },
    "tiny_vit_sam.TinyViT": {
        "img_size": 224,
        "in_chans": 3,
        "num_classes": 1000,
        "embed_dims": [96, 192, 384, 768],
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_sizes": [7, 7, 14, 7],
        "mlp_ratio": 4.0,
        "drop_rate": 0.0,
        "drop_path_rate": 0.1,
        "use_checkpoint": False,
        "mbconv_expand_ratio": 4.0,
        "local_conv_size": 3,
        "layer_lr_decay": 1.0,
    },
    "prompt_encoder.PromptEncoder": {
        "embed_dim": REQUIRED,
        "image_embedding_size": REQUIRED,
        "input_image_size": REQUIRED,
        "mask_in_chans": REQUIRED,
        "activation": nn.GELU,
    },
    "prompt_encoder.PositionEmbeddingRandom": {"num_pos_feats": 64, "scale": None},
    "mask_decoder.MaskDecoder": {
        "transformer_dim": REQUIRED,
        "transformer": REQUIRED,
        "num_multimask_outputs": 3,
        "activation": nn.GELU,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 256,
    },
    "mask_decoder.MLP": {
        "input_dim": REQUIRED,
        "hidden_dim": REQUIRED,
        "output_dim": REQUIRED,
        "num_layers": REQUIRED,
        "sigmoid_output": False,
    },
    "transformer.TwoWayTransformer": {
        "depth": REQUIRED,
        "embedding_dim": REQUIRED,
        "num_heads": REQUIRED,
        "mlp_dim": REQUIRED,
        "activation": nn.ReLU,
        "attention_downsample_rate": 2,
    },
    "transformer.TwoWayAttentionBlock": {
        "embedding_dim": REQUIRED,
        "num_heads": REQUIRED,
        "mlp_dim": 2048,
        "activation": nn.ReLU,
        "attention_downsample_rate": 2,
        "skip_first_layer_pe": False,
    },
    "transformer.Attention": {"embedding_dim": REQUIRED, "num_heads": REQUIRED, "downsample_rate": 1},
    "common.MLPBlock": {"embedding_dim": REQUIRED, "mlp_dim": REQUIRED, "act": nn.GELU},
    "common.LayerNorm2d": {"num_channels": REQUIRED, "eps": 1e-6},
}


@pytest.mark.parametrize("path", SIGNATURES)
def test_constructors_take_what_theirs_do(path: str) -> None:
    module, name = path.split(".")
    kind = getattr(importlib.import_module(f"mobilesam.compat.mobile_sam.modeling.{module}"), name)
    parameters = list(inspect.signature(kind).parameters.values())
    for parameter, (wanted, default) in zip(parameters, SIGNATURES[path].items(), strict=False):
        ours = parameter.default
        same = np.allclose(ours, default) if isinstance(default, list) else ours == default
        assert (parameter.name, same) == (wanted, True)
    assert all(own.kind is own.KEYWORD_ONLY for own in parameters[len(SIGNATURES[path]) :])


@pytest.mark.parametrize("name", ["vit_t", "vit_b", "vit_l", "vit_h"])
def test_parameters_have_their_published_names(name: str) -> None:
    shapes = json.loads((GOLDEN / f"{name}_state_dict.json").read_text())
    with torch.device("meta"):
        network = build_named(name)
    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert list(found.items()) == list(shapes.items())
    assert network.image_encoder.img_size == 1024 and not network.training


def parts_of(side: int = SIDE, masks: int = 3) -> tuple[ImageEncoderViT, PromptEncoder, MaskDecoder]:
    """Small parts, built as programs build the published ones."""
    encoder = ImageEncoderViT(
        depth=2,
        embed_dim=24,
        img_size=side,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=2,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[1],
        window_size=3,
        out_chans=CHANNELS,
    )
    grid = side // 16
    prompt_encoder = PromptEncoder(
        embed_dim=CHANNELS, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
    )
    decoder = MaskDecoder(
        num_multimask_outputs=masks,
        transformer=TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=48, num_heads=4),
        transformer_dim=CHANNELS,
        iou_head_depth=3,
        iou_head_hidden_dim=40,
    )
    return encoder, prompt_encoder, decoder


@pytest.fixture
def small() -> Sam:
    torch.manual_seed(0)
    return Sam(*parts_of()).eval()


@pytest.fixture
def predictor(small: Sam) -> SamPredictor:
    predictor = SamPredictor(small)
    predictor.set_image(seeded_image(48, 60))
    return predictor


PROMPTS = {
    "point": {"point_coords": np.array([[20, 20]]), "point_labels": np.array([1])},
    "box": {"box": np.array([5, 5, 40, 30])},
    "points and box": {
        "point_coords": np.array([[20, 20], [50, 40]]),
        "point_labels": np.array([1, 0]),
        "box": np.array([5, 5, 40, 30]),
    },
    "mask": {"mask_input": np.linspace(-5, 5, 256, dtype=np.float32).reshape(1, 16, 16)},
}


def by_parts(network: Sam, predictor: SamPredictor, prompt: dict, multimask: bool) -> tuple[Tensor, Tensor]:
    """Ask by the calls of the prompt encoder and the mask decoder."""
    size, points, boxes, masks = predictor.original_size, None, None, None
    transform = predictor.transform
    if "point_coords" in prompt:
        coords = transform.apply_coords_torch(torch.as_tensor(prompt["point_coords"])[None], size)
        points = coords, torch.as_tensor(prompt["point_labels"])[None]
    if "box" in prompt:
        boxes = transform.apply_boxes_torch(torch.as_tensor(prompt["box"])[None], size)
    if "mask_input" in prompt:
        masks = torch.as_tensor(prompt["mask_input"])[None]
    sparse, dense = network.prompt_encoder(points=points, boxes=boxes, masks=masks)
    count = len(prompt.get("point_coords", ())) + (2 if boxes is not None else bool(points))
    assert sparse.shape == (1, count, CHANNELS) and dense.shape == (1, CHANNELS, 4, 4)
    return network.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
def test_the_parts_make_what_the_predictor_does(
    small: Sam, predictor: SamPredictor, name: str, multimask: bool
) -> None:
    _, ious, low_res = predictor.predict(**PROMPTS[name], multimask_output=multimask)
    masks, quality = by_parts(small, predictor, PROMPTS[name], multimask)
    np.testing.assert_allclose(masks[0].detach(), low_res, atol=2e-5)
    np.testing.assert_allclose(quality[0].detach(), ious, atol=2e-5)


def test_the_parts_say_what_they_take(small: Sam) -> None:
    encoder, decoder = small.prompt_encoder, small.mask_decoder
    assert (encoder.embed_dim, encoder.num_point_embeddings) == (CHANNELS, 4)
    assert (encoder.image_embedding_size, encoder.input_image_size) == ((4, 4), (SIDE, SIDE))
    assert encoder.mask_input_size == (16, 16) and encoder.get_dense_pe().shape == (1, CHANNELS, 4, 4)
    assert (decoder.num_mask_tokens, decoder.num_multimask_outputs, decoder.transformer_dim) == (4, 3, 32)
    assert len(decoder.iou_prediction_head.layers) == 3
    sparse, dense = encoder(points=None, boxes=torch.rand(5, 1, 4) * 60, masks=None)
    assert sparse.shape == (5, 2, CHANNELS) and dense.shape == (5, CHANNELS, 4, 4)
    assert encoder(None, None, None)[0].shape == (1, 0, CHANNELS)
    image = torch.rand(1, CHANNELS, 4, 4)
    masks, ious = decoder.predict_masks(
        image_embeddings=image,
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    assert masks.shape == (5, 4, 16, 16) and ious.shape == (5, 4)
    each, _ = decoder(image.repeat(5, 1, 1, 1), encoder.get_dense_pe(), sparse, dense, True)
    torch.testing.assert_close(each, masks[:, 1:])
    with pytest.raises(ConfigError, match="image_embeddings: come from 3 images for 5 prompts"):
        decoder(image.repeat(3, 1, 1, 1), encoder.get_dense_pe(), sparse, dense, True)
    tokens, rows = decoder.transformer(image.repeat(5, 1, 1, 1), encoder.get_dense_pe(), sparse)
    assert tokens.shape == sparse.shape and rows.shape == (5, 16, CHANNELS)
    with pytest.raises(ConfigError, match="must say by img_size"):
        Sam(nn.Identity(), encoder, decoder)


def test_other_sizes_of_networks() -> None:
    """As programs build them for images of their own and classes instead of levels."""
    torch.manual_seed(0)
    network = Sam(*parts_of(side=96, masks=5), pixel_mean=[0, 0, 0], pixel_std=[255, 255, 255]).eval()
    predictor = SamPredictor(network)
    predictor.set_image(seeded_image(48, 60))
    assert predictor.transform.target_length == 96 and predictor.features.shape == (1, CHANNELS, 6, 6)
    masks, ious, low_res = predictor.predict(box=np.array([5, 5, 40, 30]))
    assert masks.shape == (5, 48, 60) and ious.shape == (5,) and low_res.shape == (5, 24, 24)
    pixels = network.preprocess(torch.full((1, 3, 50, 96), 255.0))
    assert pixels[..., :50, :].eq(1).all() and not pixels[..., 50:, :].any()
    plain = ImageEncoderViT(img_size=64, embed_dim=24, depth=1, num_heads=2, out_chans=8, in_chans=4)
    bare = ImageEncoderViT(
        img_size=64, embed_dim=24, depth=1, num_heads=2, out_chans=8, qkv_bias=False, use_abs_pos=False
    )
    assert plain(torch.rand(2, 4, 64, 64)).shape == bare(torch.rand(2, 3, 64, 64)).shape == (2, 8, 4, 4)
    assert not any("rel_pos" in name or name == "pos_embed" for name, _ in bare.named_parameters())
    with pytest.warns(UserWarning, match="no checkpoint given"):
        built = _build_sam(24, 4, 2, [1, 3])
    assert isinstance(built, Sam) and len(built.image_encoder.blocks) == 4


def test_tiny_vit_of_other_sizes() -> None:
    sizes: dict[str, Any] = {"embed_dims": (16, 32, 64, 320), "num_heads": (1, 1, 2, 10)}
    encoder = TinyViT(128, depths=(1, 1, 1, 1), num_classes=0, in_chans=1, drop_path_rate=0.0, **sizes)
    assert encoder.eval()(torch.rand(1, 1, 128, 128)).shape == (1, 256, 8, 8)
    assert isinstance(encoder.head, nn.Identity)
    with pytest.warns(UserWarning, match=r"drop_path_rate: is 0.1 and has no effect"):
        TinyViT(128, depths=(1, 1, 1, 1), **sizes)
    for wrong, message in (({}, "embed_dims: ends with 768"), ({"local_conv_size": 5}, "local_conv_size")):
        with pytest.raises(ConfigError, match=message):
            TinyViT(128, **(sizes | wrong if wrong else {}))


class Adapted(nn.Module):
    """A linear layer and a low-rank one beside it, as adapters wrap it."""

    def __init__(self, inner: nn.Linear, size: float) -> None:
        super().__init__()
        self.inner = inner
        self.beside = nn.Linear(inner.in_features, inner.out_features, bias=False)
        nn.init.normal_(self.beside.weight, std=size)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.beside(x)


@pytest.mark.parametrize("size", [0.0, 0.2], ids=["of nothing", "of something"])
def test_adapters_are_asked(small: Sam, predictor: SamPredictor, size: float) -> None:
    """Low-rank adapters in both places where programs put them; the short ways know nothing of them."""
    prompt = PROMPTS["points and box"]
    before = predictor.predict(**prompt)[2]
    for block in small.mask_decoder.transformer.layers:
        for attention in (block.self_attn, block.cross_attn_token_to_image, block.cross_attn_image_to_token):
            attention.q_proj = Adapted(attention.q_proj, size)
            attention.v_proj = Adapted(attention.v_proj, size)
    decoder_only = predictor.predict(**prompt)[2]
    for block in small.image_encoder.blocks:
        seen: list[tuple] = []
        block.attn.qkv = Adapted(block.attn.qkv, size)
        block.attn.qkv.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0].shape))
        predictor.set_image(seeded_image(48, 60))
        assert len(seen[0]) == 4  # tokens as they lie, (B, h, w, C)
    both = predictor.predict(**prompt)[2]
    if size:
        assert np.abs(decoder_only - before).max() > 1e-3 < np.abs(both - decoder_only).max()
    else:
        np.testing.assert_allclose(decoder_only, before, atol=2e-5)
        np.testing.assert_allclose(both, before, atol=2e-5)


def test_another_decoder_is_asked(small: Sam, predictor: SamPredictor) -> None:
    """A subclass, a method in another's place and a hook each go before the short way."""
    box = {"box": np.array([5, 5, 40, 30]), "multimask_output": False}
    before = predictor.predict(**box)

    class Darker(MaskDecoder):
        def predict_masks(self, *embeddings: Tensor, **named: Tensor) -> tuple[Tensor, Tensor]:
            masks, ious = super().predict_masks(*embeddings, **named)
            return masks - 7, ious

    small.mask_decoder.__class__ = Darker
    np.testing.assert_allclose(predictor.predict(**box)[2], before[2] - 7, atol=2e-5)
    small.mask_decoder.__class__ = MaskDecoder
    calls: list[nn.Module] = []
    hook = small.mask_decoder.transformer.register_forward_hook(lambda part, *_: calls.append(part))
    np.testing.assert_allclose(predictor.predict(**box)[2], before[2], atol=2e-5)
    assert calls == [small.mask_decoder.transformer]
    hook.remove()
    own = small.prompt_encoder.forward
    small.prompt_encoder.forward = lambda **parts: calls.append(parts["boxes"]) or own(**parts)
    point = {"point_coords": np.array([[20, 20]]), "point_labels": np.array([1])}
    predictor.predict(**box), predictor.predict(**point)
    assert calls[1].shape == (1, 4) and calls[2] is None


@pytest.mark.parametrize("name", ["small", "pocket"])
def test_gradients_reach_every_parameter(small: Sam, name: str) -> None:
    network = small if name == "small" else sam_model_registry["pocket"]()
    side = network.image_encoder.img_size
    network.train()
    images = torch.rand(1, 3, side // 8 if name == "pocket" else side, side)  # pocket takes strips, too
    embedding = network.image_encoder(images)
    coords = torch.tensor([[[0.3, 0.4], [0.8, 0.8]]]) * side
    low = network.prompt_encoder.mask_input_size
    total: Any = 0
    for boxes in (None, torch.tensor([[0.1, 0.1, 0.7, 0.8]]) * side):
        for masks in (None, torch.rand(1, 1, *low)):
            sparse, dense = network.prompt_encoder(
                points=(coords, torch.tensor([[1, 0]])), boxes=boxes, masks=masks
            )
            outputs = network.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=network.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
            total = total + sum(tensor.sin().sum() for tensor in outputs)
    total.backward()
    without = {key for key, parameter in network.named_parameters() if parameter.grad is None}
    assert not {key for key in without if not key.startswith("proposal_head")}


def test_networks_go_where_they_are_told(small: Sam) -> None:
    assert small.train().training and not small.eval().training
    SamPredictor(small.train())
    assert small.training  # a predictor leaves it as it is
    assert small.to("cpu") is small and small.device == torch.device("cpu")
    small.eval().image_encoder.requires_grad_(False)
    free = {name.split(".")[0] for name, p in small.named_parameters() if p.requires_grad}
    assert free == {"prompt_encoder", "mask_decoder"}
    whole, half = SamPredictor(small), SamPredictor(Sam(*parts_of()).eval())
    half.model.load_state_dict(small.state_dict())
    half.model.half()
    found = []
    for predictor in (whole, half):
        predictor.set_image(seeded_image(48, 60))
        found.append(predictor.predict(**PROMPTS["points and box"]))
        moved = predictor.transform.apply_boxes_torch(torch.tensor([[5, 5, 40, 30]]), (48, 60))
        assert predictor.predict_torch(None, None, moved)[0].shape == (1, 3, 48, 60)
    assert half.features.dtype == torch.float16
    np.testing.assert_allclose(found[1][2], found[0][2], atol=0.03)


def test_a_networks_threshold_is_the_generators(small: Sam) -> None:
    """And the steps' columns are tensors, as the network's device has them."""
    settings = {
        "points_per_side": 3,
        "pred_iou_thresh": -9.0,
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 2,
    }
    generator = SamAutomaticMaskGenerator(small, **settings)
    image = seeded_image(48, 60)
    before = generator.generate(image)
    predictor = generator.predictor
    predictor.set_image(image)
    data = generator._process_batch(np.array([[20.0, 20], [40, 30]]), (48, 60), [0, 0, 60, 48], (48, 60))
    assert all(isinstance(column, list | Tensor) for _, column in data.items())
    assert len(data["rles"]) == len(data["boxes"]) == len(data["points"]) > 0
    logits, _, _ = predictor.predict(np.array([[20, 20]]), np.array([1]), return_logits=True)
    small.mask_threshold = float(np.quantile(logits, 0.7))
    after = generator.generate(image)
    wanted = {int((one > small.mask_threshold).sum()) for one in by_points(predictor, image)}
    assert {record["area"] for record in after} <= wanted != {record["area"] for record in before}


def by_points(predictor: SamPredictor, image: np.ndarray) -> list[np.ndarray]:
    """The logits of every point of a grid of three a side."""
    predictor.set_image(image)
    places = amg.build_point_grid(3) * [60, 48]
    return [
        one
        for place in places
        for one in predictor.predict(place[None], np.array([1]), return_logits=True)[0]
    ]


def test_the_generators_module_has_amgs_helpers() -> None:
    names = (
        "MaskData area_from_rle batch_iterator batched_mask_to_box box_xyxy_to_xywh build_all_layer_point_grids "
        "calculate_stability_score coco_encode_rle generate_crop_boxes is_box_near_crop_edge mask_to_rle_pytorch "
        "remove_small_regions rle_to_mask uncrop_boxes_xyxy uncrop_masks uncrop_points"
    )
    for name in names.split():
        assert getattr(generator_module, name) is getattr(amg, name)


def test_what_hangs_below_the_top_names() -> None:
    for top in ("segment_anything", "mobile_sam"):
        package = importlib.import_module(f"mobilesam.compat.{top}")
        assert package.predictor.SamPredictor is SamPredictor
        assert package.automatic_mask_generator is generator_module
        assert package.modeling.tiny_vit_sam.TinyViT is package.modeling.TinyViT is TinyViT
        assert package.modeling.common.LayerNorm2d and package.modeling.transformer.Attention
        assert package.utils.amg is amg and package.utils.transforms and package.utils.onnx.SamOnnxModel
        assert "PromptEncoder" in dir(package.modeling)
        for missing in (package.modeling, package.utils):
            with pytest.raises(AttributeError, match="nothing"):
                _ = missing.nothing
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"mobilesam.compat.{top}.nothing")


def test_random_weights_are_announced_where_they_are_asked_for() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sam_model_registry["vit_t"]()
    assert [one.filename for one in told] == [__file__]
