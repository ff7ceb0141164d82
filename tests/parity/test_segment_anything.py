"""segment_anything's tensors, forward and generator against the reference, and its import paths."""

from __future__ import annotations

import importlib
from itertools import product

import numpy as np
import pytest
import torch

import mobilesam
from mobilesam import PromptError, PromptWarning, SamAutomaticMaskGenerator, SamPredictor
from mobilesam.compat.segment_anything.modeling import Sam
from mobilesam.compat.segment_anything.modeling.build import build_named
from mobilesam.compat.segment_anything.utils import amg
from mobilesam.compat.segment_anything.utils.transforms import ResizeLongestSide
from mobilesam.core.arrays import to_numpy
from mobilesam.segment.model import Model
from mobilesam.weights import ENTRIES
from tests.golden_cases import RUNS, SIZES, as_predict, check_case, check_records, prompt_of, set_torch_image
from tests.photos import cat
from tests.seeded import seeded_image
from tests.series import one_in


@pytest.fixture(scope="module")
def network(torch_vit_t: Model) -> Sam:
    return torch_vit_t.runtime.network


@pytest.fixture(scope="module")
def predictor(network: Sam) -> SamPredictor:
    predictor = SamPredictor(network)
    predictor.set_image(seeded_image(*SIZES[0], 0))
    return predictor


@pytest.mark.parametrize(("model", "number"), one_in(6, product(("torch_vit_t", "onnx_vit_t"), range(3))))
def test_set_torch_image(golden: dict, model: str, number: int, request: pytest.FixtureRequest) -> None:
    predictor = SamPredictor(request.getfixturevalue(model))
    set_torch_image(predictor, seeded_image(*SIZES[number], number))
    embedding = to_numpy(predictor.get_image_embedding())[0]
    assert np.abs(embedding[:, ::4, ::4] - golden[f"image{number}/embedding_every4"]).max() <= 1e-4
    assert (predictor.orig_h, predictor.orig_w) == predictor.original_size == SIZES[number]
    assert max(predictor.input_h, predictor.input_w) == 1024 == predictor.transform.target_length


@pytest.mark.long
def test_a_batch_of_boxes_on_the_device(golden: dict, predictor: SamPredictor) -> None:
    boxes = torch.as_tensor(golden["image0/batched_boxes/in_boxes"])
    moved = predictor.transform.apply_boxes_torch(boxes, predictor.original_size)
    masks, ious, low_res = predictor.predict_torch(None, None, moved, multimask_output=False)
    assert masks.shape == (3, 1, 480, 640) and masks.dtype == torch.bool and masks.device == predictor.device
    low, high = low_res[:, 0, ::4, ::4], golden["image0/batched_boxes/low_res_every4"]
    assert np.abs(low.numpy() - high.reshape(low.shape)).max() <= 1e-3
    assert np.abs(ious.numpy() - golden["image0/batched_boxes/iou"].reshape(3, 1)).max() <= 1e-4
    many = predictor.predict_torch(None, None, moved.repeat(7, 1), multimask_output=False)  # three batches
    for alone, together in zip((masks, ious, low_res), many, strict=True):
        assert len(together) == 21
        np.testing.assert_allclose(together[-3:].float(), alone.float(), atol=1e-4)


def test_one_mask_serves_all_and_pads_are_pads(predictor: SamPredictor) -> None:
    _, _, low_res = predictor.predict(box=[100, 100, 300, 300], multimask_output=False)
    coords = torch.tensor([[[200.0, 200.0], [0.0, 0.0]], [[500.0, 400.0], [0.0, 0.0]]])
    labels = torch.tensor([[1, -1], [1, -1]], dtype=torch.int)
    mask = torch.as_tensor(low_res)[None]
    for_all = predictor.predict_torch(coords, labels, mask_input=mask)
    for_each = predictor.predict_torch(coords, labels, mask_input=mask.repeat(2, 1, 1, 1))
    assert for_all[0].shape == (2, 3, 480, 640)
    assert torch.equal(for_all[2], for_each[2])
    box = torch.tensor([[160.0, 160.0, 480.0, 480.0]])
    as_labels = predictor.predict_torch(box.reshape(1, 2, 2), torch.tensor([[2, 3]]), multimask_output=False)
    as_box = predictor.predict_torch(None, None, box, multimask_output=False)
    assert not torch.equal(
        as_labels[2], as_box[2]
    )  # there, corners as points are followed by a pad, as in SAM
    alone = predictor.predict_torch(None, None, None, mask)
    assert alone[0].shape == (1, 3, 480, 640)


def test_logits_and_masks_agree(predictor: SamPredictor) -> None:
    predict = as_predict(predictor)
    points = {"point_coords": np.array([[300, 200]]), "point_labels": np.array([1])}
    by_tensor, by_array = predict(**points), predictor.predict(**points)
    np.testing.assert_allclose(by_tensor[2], by_array[2], atol=1e-5)
    logits, _, _ = predictor.predict(**points, return_logits=True)
    near = np.abs(logits) < 1e-3  # the one place where the two orders of enlarging may differ
    np.testing.assert_array_equal(by_tensor[0][~near], by_array[0][~near])
    assert near.mean() < 0.001
    coords = predictor.transform.apply_coords_torch(torch.tensor([[[300, 200]]]), predictor.original_size)
    on_device, _, _ = predictor.predict_torch(coords, torch.tensor([[1]]), return_logits=True)
    assert np.abs(on_device[0].numpy() - logits).max() < 2e-3


def test_features_can_be_kept_and_put_back(network: Sam, predictor: SamPredictor, pocket: Model) -> None:
    other = SamPredictor(network)
    other.features = predictor.features
    with pytest.raises(RuntimeError, match="set_image"):
        other.predict(box=[100, 100, 300, 300])
    other.original_size, other.input_size, other.is_image_set = (480, 640), (768, 1024), True
    for ours, theirs in zip(
        other.predict(box=[100, 100, 300, 300]), predictor.predict(box=[100, 100, 300, 300]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    other.reset_image()
    assert other.features is None and other.orig_h is None and other.input_w is None
    with pytest.raises(mobilesam.ConfigError, match="features"):
        SamPredictor(pocket).features = predictor.features


def test_a_moved_threshold_is_used(network: Sam, predictor: SamPredictor) -> None:
    prompt = {"box": [100, 100, 300, 300], "multimask_output": False}
    logits, _, _ = predictor.predict(**prompt, return_logits=True)
    network.mask_threshold = float(np.quantile(logits, 0.9))
    try:
        masks, _, _ = predictor.predict(**prompt)
    finally:
        del network.mask_threshold
    np.testing.assert_array_equal(masks, logits > np.quantile(logits, 0.9))


def record_of(network: Sam, golden: dict, case: dict, mask: np.ndarray | None) -> dict:
    """A case as segment_anything's ``batched_input`` has it."""
    image = seeded_image(*SIZES[case["image"]], case["image"])
    transform = ResizeLongestSide(network.image_encoder.img_size)
    prompt = prompt_of(golden, case)
    record = {
        "image": torch.as_tensor(transform.apply_image(image)).permute(2, 0, 1),
        "original_size": image.shape[:2],
    }
    if "point_coords" in prompt:
        coords = torch.as_tensor(prompt["point_coords"])[None]
        record["point_coords"] = transform.apply_coords_torch(coords, image.shape[:2])
        record["point_labels"] = torch.as_tensor(prompt["point_labels"])[None]
    if "box" in prompt:
        box = torch.as_tensor(prompt["box"])[None]
        record["boxes"] = transform.apply_boxes_torch(box, image.shape[:2])
    if "mask_input" in case:
        record["mask_inputs"] = torch.as_tensor(mask)[None]
    return record


@pytest.mark.long
@pytest.mark.parametrize("multimask", [True, False])
def test_forward_over_several_images(network: Sam, golden: dict, golden_cases: list, multimask: bool) -> None:
    """Images of different sizes and prompts of different kinds in one call."""
    names = {
        True: ("points_fg_bg", "box_and_points", "mask_only"),
        False: ("point_single", "box", "mask_and_point"),
    }
    chosen = {(image, name): None for image, name in enumerate(names[multimask])}
    cases = [case for case in golden_cases if (case["image"], case["name"]) in chosen]
    assert len(cases) == 3
    predictor = SamPredictor(network)
    predictor.set_image(seeded_image(*SIZES[2], 2))
    point = next(case for case in golden_cases if (case["image"], case["name"]) == (2, "point"))
    _, ious, low_res = predictor.predict(**prompt_of(golden, point))
    mask = low_res[[ious.argmax()]]
    outputs = network([record_of(network, golden, case, mask) for case in cases], multimask_output=multimask)
    for case, out in zip(cases, outputs, strict=True):
        assert set(out) == {"masks", "iou_predictions", "low_res_logits"}
        assert out["masks"].dtype == torch.bool and not out["low_res_logits"].requires_grad
        check_case(
            golden, case, *(out[key][0].numpy() for key in ("masks", "iou_predictions", "low_res_logits"))
        )


def test_forward_of_every_kind_of_network(pocket: Model) -> None:
    """``pocket`` reads several arrays of an image; its forward is its predictor's."""
    network = mobilesam.sam_model_registry["pocket"]()
    image = seeded_image(90, 120)
    small = torch.as_tensor(ResizeLongestSide(768).apply_image(image)).permute(2, 0, 1)
    record = {"image": small, "original_size": (90, 120), "boxes": torch.tensor([[120.0, 120, 600, 450]] * 2)}
    twice = network([record, record], multimask_output=False)
    predictor = SamPredictor(pocket)
    predictor.set_image(image)
    _, ious, low_res = predictor.predict(
        box=np.array([120, 120, 600, 450]) * 120 / 768, multimask_output=False
    )
    for out in twice:
        assert out["masks"].shape == (2, 1, 90, 120)
        np.testing.assert_allclose(out["low_res_logits"][1], low_res, atol=2e-3)
        np.testing.assert_allclose(out["iou_predictions"][1], ious, atol=1e-4)


@pytest.mark.parametrize("portrait", [False, True])
def test_forward_of_an_image_smaller_than_the_input(portrait: bool) -> None:
    """As SAM has it, it lies in the upper left corner of the square, and its masks lie where they do there."""
    network = mobilesam.sam_model_registry["pocket"]()
    photo = np.ascontiguousarray(cat().transpose(1, 0, 2)) if portrait else cat()
    small = torch.as_tensor(ResizeLongestSide(384).apply_image(photo)).permute(2, 0, 1)
    height, width = small.shape[1:]
    square = torch.empty(3, 768, 768)
    square[:] = network.pixel_mean
    square[:, :height, :width] = small
    x0, y0, x1, y1 = 51, 0, 375, 255
    box = torch.tensor([[y0, x0, y1, x1] if portrait else [x0, y0, x1, y1]])
    ours, theirs = (
        network([{"image": image, "original_size": image.shape[1:], "boxes": box}], multimask_output=False)[0]
        for image in (small, square)
    )
    assert ours["masks"].shape == (1, 1, height, width)
    assert ours["low_res_logits"].shape == theirs["low_res_logits"].shape == (1, 1, 384, 384)
    wanted = theirs["masks"][..., :height, :width]
    assert (ours["masks"] & wanted).sum() > 0.9 * (ours["masks"] | wanted).sum()


def test_preprocess_pads_below_and_right(network: Sam) -> None:
    image = np.full((48, 64, 3), 200, np.uint8)
    pixels = network.preprocess(torch.as_tensor(image).permute(2, 0, 1)[None])
    assert pixels.shape == (1, 3, 1024, 1024)
    mean, std = network.pixel_mean.flatten(), network.pixel_std.flatten()
    torch.testing.assert_close(pixels[0, :, 47, 63], (200 - mean) / std)
    assert not pixels[..., 48:, :].any() and not pixels[..., 64:].any()
    assert network.image_format == "RGB" and network.mask_threshold == 0.0
    assert not any(name.startswith("pixel_") for name in network.state_dict())


def test_a_network_moves(network: Sam) -> None:
    with torch.device("meta"):
        moved = build_named("vit_t")
    assert moved.device == moved.pixel_mean.device == torch.device("meta")
    assert network.to("cpu") is network and network.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((3, 8, 8), np.uint8)}, r"batched_input\[1\].image: is a ndarray"),
        ({"image": torch.zeros(8, 8, 3)}, r"batched_input\[1\].image: has shape \(8, 8, 3\)"),
        ({"image": torch.zeros(3, 1025, 8)}, r"batched_input\[1\].image: has shape"),
        ({"image": torch.full((3, 8, 8), torch.nan)}, r"batched_input\[1\].image: holds NaN"),
        ({"original_size": (8,)}, r"batched_input\[1\].original_size: is \(8,\)"),
        ({"original_size": (0, 8)}, r"batched_input\[1\].original_size: is \(0, 8\)"),
        ({"boxes": None}, r"batched_input\[1\]: is empty"),
        ({"boxes": torch.tensor([[9.0, 9, 2, 2]])}, r"batched_input\[1\].boxes\[0\]: .* x0 > x1"),
        ({"point_coords": torch.ones(1, 1, 2)}, r"batched_input\[1\].point_labels: is None"),
        (
            {"mask_inputs": torch.full((1, 1, 256, 256), torch.nan)},
            r"batched_input\[1\].mask_inputs: holds NaN",
        ),
    ],
)
def test_forward_refuses(network: Sam, change: dict, message: str) -> None:
    right = {"image": torch.zeros(3, 8, 8), "original_size": (8, 8), "boxes": torch.tensor([[1.0, 1, 7, 7]])}
    with pytest.raises(mobilesam.MobileSamError, match=message):
        network([right, right | change], multimask_output=True)
    for nothing in ([], None, [{"image": right["image"]}], [7]):
        with pytest.raises(mobilesam.ConfigError, match="batched_input"):
            network(nothing, multimask_output=True)
    with pytest.raises(PromptError, match="multimask_output: is 3"):
        network([right], multimask_output=3)


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS[:2], ids=["grid", "crops and small regions"])
def test_records_of_a_network(network: Sam, run: dict) -> None:
    generator = SamAutomaticMaskGenerator(network, output_mode="coco_rle", **run["settings"])
    check_records(generator.generate(seeded_image(*run["image"])), run["records"])


def test_the_generator_keeps_its_arguments_and_uses_them(pocket: Model) -> None:
    generator = SamAutomaticMaskGenerator(pocket, points_per_side=4, crop_n_layers=1, points_per_batch=7)
    assert [len(grid) for grid in generator.point_grids] == [16, 16]
    assert generator.points_per_batch == 7 and isinstance(generator.predictor, SamPredictor)
    kept = ("pred_iou_thresh", "stability_score_thresh", "stability_score_offset", "box_nms_thresh")
    assert [getattr(generator, name) for name in kept] == [0.88, 0.95, 1.0, 0.7]
    kept = ("crop_n_layers", "crop_nms_thresh", "crop_overlap_ratio", "crop_n_points_downscale_factor")
    assert [getattr(generator, name) for name in kept] == [1, 0.7, 512 / 1500, 1]
    assert generator.min_mask_region_area == 0 and generator.output_mode == "binary_mask"
    image = seeded_image(60, 80)
    generator.crop_n_layers, generator.pred_iou_thresh, generator.stability_score_thresh = 0, 0.0, 0.0
    some = generator.generate(image)
    generator.pred_iou_thresh = 1.0
    with pytest.warns(PromptWarning, match="pred_iou_thresh, stability_score_thresh: are 1 and 0"):
        assert some and not generator.generate(image)
    for settings in ({"points_per_side": None}, {"output_mode": "png"}, {"point_grids": [np.zeros((1, 2))]}):
        with pytest.raises(AssertionError):
            SamAutomaticMaskGenerator(pocket, **settings)


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_postprocess_small_regions(kind: str) -> None:
    holed = np.zeros((30, 40), bool)
    holed[5:25, 5:35] = True
    whole = holed.copy()
    holed[10:12, 10:12] = False
    island = np.zeros((30, 40), bool)
    island[2:12, 2:12] = island[28, 38] = True
    masks = np.stack([holed, whole, island])
    given = torch.as_tensor(masks) if kind == "tensor" else masks
    data = amg.MaskData(
        rles=amg.mask_to_rle_pytorch(given),
        boxes=amg.batched_mask_to_box(given),
        name=["holed", "whole", "island"],
    )
    assert SamAutomaticMaskGenerator.postprocess_small_regions(data, 9, 0.7) is data
    assert data["name"] == ["whole", "island"]  # the one that was right wins against its likeness
    island[28, 38] = False
    np.testing.assert_array_equal(amg.rle_to_mask(data["rles"][1]), island)
    assert data["boxes"].tolist() == [[5, 5, 34, 24], [2, 2, 11, 11]]
    assert isinstance(data["boxes"], torch.Tensor) == (kind == "tensor")
    empty = amg.MaskData(rles=[], boxes=torch.zeros(0, 4))
    assert SamAutomaticMaskGenerator.postprocess_small_regions(empty, 9, 0.7) is empty


@pytest.mark.parametrize("top", ["segment_anything", "mobile_sam"])
def test_only_the_top_name_changes(top: str) -> None:
    package = importlib.import_module(f"mobilesam.compat.{top}")
    names = ("build_sam", "build_sam_vit_h", "build_sam_vit_l", "build_sam_vit_b", "build_sam_vit_t")
    assert all(callable(getattr(package, name)) for name in names)
    assert package.sam_model_registry["default"] is package.build_sam is package.build_sam_vit_h
    parts = {
        "predictor": "SamPredictor",
        "automatic_mask_generator": "SamAutomaticMaskGenerator",
        "build_sam": "sam_model_registry",
        "modeling": "Sam",
        "utils.amg": "MaskData",
        "utils.transforms": "ResizeLongestSide",
    }
    for path, name in parts.items():
        ours = importlib.import_module(f"mobilesam.compat.segment_anything.{path}")
        module = importlib.import_module(f"mobilesam.compat.{top}.{path}")
        assert module is ours
        assert getattr(module, name) is getattr(ours, name)
    assert package.SamPredictor is SamPredictor is mobilesam.SamPredictor
    assert package.utils.amg is amg


def built_on_meta(name: str) -> Sam:
    with torch.device("meta"):
        return build_named(name)


def test_forward_is_for_every_published_network() -> None:
    """``image_encoder.img_size`` is what segment_anything's own notebook resizes to."""
    for entry in ENTRIES.values():
        if entry.network.startswith("vit_"):
            assert built_on_meta(entry.network).image_encoder.img_size == 1024


def test_prompt_errors_name_the_tensor(predictor: SamPredictor) -> None:
    with pytest.raises(PromptError, match=r"boxes\[1\]: .* y0 > y1"):
        predictor.predict_torch(None, None, torch.tensor([[1.0, 1, 5, 5], [1, 9, 5, 5]]))
