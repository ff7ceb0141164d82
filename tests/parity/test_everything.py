"""Segment everything against the reference's records, and against the plain order of work."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mobilesam import (
    ConfigError,
    EverythingOptions,
    MobileSamError,
    Prompt,
    PromptWarning,
    SamAutomaticMaskGenerator,
)
from mobilesam.core.boxes import mask_to_box, near_crop_edge, non_maximum_suppression
from mobilesam.core.frame import Frame
from mobilesam.core.grids import build_point_grid
from mobilesam.core.postprocess import enlarge_logits, enlarge_masks, enlarge_window, stability_scores
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from mobilesam.core.types import Embedding
from mobilesam.detectors.base import Boxes
from mobilesam.networks.build import build_network
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.segment.model import Model
from tests.golden_cases import RUNS, check_records
from tests.photos import cat
from tests.seeded import seeded_image, seeded_weights


@pytest.mark.parametrize(
    "run",
    [RUNS[0], pytest.param(RUNS[1], marks=pytest.mark.long)],
    ids=["grid", "crops and small regions"],
)
def test_records_are_the_references(onnx_vit_t: Model, run: dict) -> None:
    generator = SamAutomaticMaskGenerator(onnx_vit_t, output_mode="coco_rle", **run["settings"])
    check_records(generator.generate(seeded_image(*run["image"])), run["records"])


@pytest.mark.parametrize("size", [(480, 640), (90, 70), (1, 300), (333, 1024)])
@pytest.mark.parametrize("seed", range(4))
def test_a_window_is_what_the_whole_shows(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    low_res = rng.normal(-6, 1, (256, 256)).astype(np.float32)
    y, x = rng.integers(0, 250, 2)
    low_res[y : y + rng.integers(1, 60), x : x + rng.integers(1, 60)] += 9
    frame = Frame.fit(size, 1024)
    whole = enlarge_logits(low_res[None], frame)[0]
    for level in (-1.0, 0.0, 0.7):
        mask = enlarge_masks(low_res[None], frame, threshold=level)[0]
        np.testing.assert_array_equal(mask, whole > level)
    enlarged = enlarge_window(low_res, -1.0, frame)
    if enlarged is None:
        assert not (whole > -1).any()
        return
    window, (left, top) = enlarged
    again = np.full_like(whole, -100)
    again[top : top + window.shape[0], left : left + window.shape[1]] = window
    for level in (-1, 0, 1):
        np.testing.assert_array_equal(again > level, whole > level)
    assert stability_scores(window[None])[0] == stability_scores(whole[None])[0]


def test_the_order_of_work_changes_nothing(pocket: Model) -> None:
    """Everything at full size first, as the reference does it, then the filters."""
    image = cat()
    options = EverythingOptions(
        sampler="grid", points_per_side=6, pred_iou_thresh=0.2, stability_score_thresh=0.1, box_nms_thresh=0.9
    )
    found = pocket.everything(image, options)
    embedding = pocket.embed(image)
    height, width = image.shape[:2]
    points = build_point_grid(6) * [width, height]
    masks, ious, stabilities = [], [], []
    for result in pocket.segment(embedding, [Prompt(points=point) for point in points], multimask=True):
        for i in range(3):
            logits = result.logits(i)
            stability = float(stability_scores(logits[None])[0])
            if result.predicted_iou[i] > 0.2 and stability >= 0.1:
                masks.append(logits > 0)
                ious.append(float(result.predicted_iou[i]))
                stabilities.append(stability)
    boxes = np.array([mask_to_box(mask) for mask in masks]) - [0, 0, 1, 1]
    assert not near_crop_edge(boxes, (0, 0, width, height), (height, width)).any()
    kept = non_maximum_suppression(boxes, np.array(ious), 0.9)
    assert len(found) == len(kept) > 10
    for mask, number in zip(found, kept, strict=True):
        assert mask.predicted_iou == pytest.approx(ious[number], abs=1e-5)
        assert mask.stability_score == pytest.approx(stabilities[number], abs=1e-5)
        assert (mask.mask != masks[number]).mean() < 1e-4
        assert mask.area == int(mask.mask.sum())


def test_what_is_returned_can_be_looked_at(pocket: Model) -> None:
    image = cat()
    options = EverythingOptions(
        sampler="grid", points_per_side=5, pred_iou_thresh=0.4, stability_score_thresh=0.4
    )
    steps: list[tuple[int, int]] = []
    found = pocket.everything(image, options, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (25, 25)
    assert found.overlay().shape == image.shape
    ids = found.id_map()
    assert ids.max() <= len(found)
    assert set(np.unique(ids)) - {0} <= set(range(1, len(found) + 1))
    smallest = min(range(len(found)), key=lambda i: found[i].area)
    assert (ids[found[smallest].mask] == smallest + 1).all()
    content = json.loads(json.dumps(found.to_sa1b(file_name="cat.jpg", image_id=7)))
    assert content["image"] == {"image_id": 7, "width": 451, "height": 300, "file_name": "cat.jpg"}
    for record, mask in zip(content["annotations"], found, strict=True):
        np.testing.assert_array_equal(rle_to_mask(dict_to_rle(record["segmentation"])), mask.mask)
        x, y, w, h = record["bbox"]
        assert mask.mask[y : y + h, x : x + w].sum() == record["area"]


@pytest.mark.long
def test_a_limit_of_time_leaves_the_masks_found_so_far(pocket: Model) -> None:
    options = EverythingOptions(
        sampler="grid", points_per_side=24, pred_iou_thresh=0.3, stability_score_thresh=0.3
    )
    steps: list[int] = []
    start = time.perf_counter()
    every = pocket.everything(cat(), options, progress=lambda done, total: steps.append(done))
    whole = time.perf_counter() - start
    assert steps[-1] == 24 * 24
    some_steps: list[int] = []
    some = pocket.everything(
        cat(),
        EverythingOptions(**{**vars(options), "seconds": whole / 3}),
        progress=lambda done, total: some_steps.append(done),
    )
    assert 0 < some_steps[-1] < 24 * 24
    assert 0 < len(some) <= len(every)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": None}, "give exactly one"),
        ({"point_grids": [np.zeros((1, 2))]}, "give exactly one"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1}, "has 1; give one"),
        ({"points_per_side": None, "point_grids": [np.full((1, 2), 7.0)]}, r"must be \(N, 2\) in 0..1"),
        ({"points_per_side": None, "point_grids": [["a", "b"]]}, "are not lists of points"),
        ({"points_per_side": None, "point_grids": 7}, "are not lists of points"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EverythingOptions(sampler="grid", **options)


def test_output_modes(pocket: Model) -> None:
    settings = {"points_per_side": 3, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3}
    records = {
        mode: SamAutomaticMaskGenerator(pocket, **settings, output_mode=mode).generate(cat())
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    }
    assert len({len(found) for found in records.values()}) == 1
    for binary, plain, coco in zip(*records.values(), strict=True):
        assert binary["segmentation"].dtype == bool
        for record in (plain, coco):
            mask = rle_to_mask(dict_to_rle(record["segmentation"]))
            np.testing.assert_array_equal(mask, binary["segmentation"])
        assert isinstance(plain["segmentation"]["counts"], list)
        assert isinstance(coco["segmentation"]["counts"], str)
    with pytest.raises(ConfigError, match="must be one of binary_mask"):
        SamAutomaticMaskGenerator(pocket, output_mode="png")


def test_each_model_has_thresholds_of_its_own(pocket: Model, onnx_vit_t: Model) -> None:
    for model, predicted_iou, stability in ((pocket, 0.3, 0.1), (onnx_vit_t, 0.88, 0.95)):
        settled = EverythingOptions().settled(model.thresholds)
        assert (settled.pred_iou_thresh, settled.stability_score_thresh) == (predicted_iou, stability)
    asked = EverythingOptions(pred_iou_thresh=0.5).settled(pocket.thresholds)
    assert (asked.pred_iou_thresh, asked.stability_score_thresh) == (0.5, 0.1)
    found = pocket.everything(cat(), EverythingOptions(points_per_side=6))
    with pytest.warns(PromptWarning, match="no mask of pocket-7 passes them"):
        assert SamAutomaticMaskGenerator(pocket, points_per_side=6).generate(cat()) == []
    assert found
    assert all(mask.predicted_iou > 0.3 and mask.stability_score >= 0.1 for mask in found)


@pytest.mark.long
def test_a_threshold_of_nothing_keeps_all(onnx_vit_t: Model) -> None:
    """SAM's filters are off at 0: seeded weights predict IoUs below it."""
    settings = {"sampler": "grid", "points_per_side": 2, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    found = onnx_vit_t.everything(seeded_image(60, 80), EverythingOptions(pred_iou_thresh=0.0, **settings))
    assert len(found) == 3 * 4
    assert min(mask.predicted_iou for mask in found) < 0
    above = onnx_vit_t.everything(seeded_image(60, 80), EverythingOptions(pred_iou_thresh=1e-9, **settings))
    assert len(above) == sum(mask.predicted_iou > 0 for mask in found)


@pytest.mark.parametrize("options", [{"pred_iou_thresh": "2"}, {"points_per_side": 0}, {"crop_n_layers": 50}])
def test_the_generator_refuses_what_the_options_do(pocket: Model, options: dict) -> None:
    with pytest.raises(MobileSamError, match=next(iter(options))):
        SamAutomaticMaskGenerator(pocket, **options)


class TwoBoxes:
    """A detector that finds two boxes in every image."""

    boxes = np.array([[90, 20, 330, 290], [10, 200, 200, 290]], np.float64)

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        return Boxes(self.boxes, np.array([0.9, 0.8]))


def seeded_model(network: str) -> Model:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in build_network(network).state_dict().items()}
    return Model(OnnxRuntime(network, seeded_weights(shapes)), name=f"seeded {network}")


@pytest.mark.parametrize(
    "network",
    [
        "vit_t",
        pytest.param("vit_b", marks=pytest.mark.long),
        pytest.param("vit_l", marks=pytest.mark.long),
        pytest.param("vit_h", marks=pytest.mark.long),
        pytest.param("efficientvit_sam_l0", marks=pytest.mark.long),
        pytest.param("efficientvit_sam_l2", marks=pytest.mark.long),
    ],
)
def test_samplers_go_with_every_encoder(network: str, onnx_vit_t: Model) -> None:
    model = onnx_vit_t if network == "vit_t" else seeded_model(network)
    image = cat()
    found = {
        mask.objectness: mask
        for mask in model.everything(image, EverythingOptions.paper(), detector=TwoBoxes())
    }
    assert sorted(found) == [0.8, 0.9]
    prompts = [Prompt(box=list(box)) for box in TwoBoxes.boxes]
    for mask, wanted in zip(
        (found[0.9], found[0.8]), model.segment(model.embed(image), prompts), strict=True
    ):
        np.testing.assert_array_equal(mask.mask, wanted.mask)
        assert mask.predicted_iou == pytest.approx(float(wanted.predicted_iou[0]), abs=1e-4)
    all_pass = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    hybrid = model.everything(image, EverythingOptions(max_prompts=8, **all_pass))  # pocket's own head
    assert len(hybrid) > 0
