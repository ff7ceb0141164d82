"""This project's own detector of objects: its sizes, its training, and what it finds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

from mobilesam import ConfigError, EverythingOptions, Model, WeightsError, load
from mobilesam.cli.main import run
from mobilesam.core.boxes import box_ious
from mobilesam.core.preprocess import preprocess
from mobilesam.detectors.base import select_boxes
from mobilesam.detectors.load import detector_for
from mobilesam.detectors.own import OwnDetector, open_own_detector
from mobilesam.networks.build import DETECTORS, build_detector
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.train.boxes import score_held_out, train_boxes
from mobilesam.train.data import BoxSamples, split_sets
from mobilesam.train.finish import finish
from mobilesam.train.options import RunOptions
from mobilesam.train.recipe import Recipe, SourceSet, Stage, read_recipe
from mobilesam.train.start import start_detector
from mobilesam.weights import entry_of, read_detector, shipped_metadata
from mobilesam.weights.graph_index import detector_names, graph_index
from tests.embeddings import unseen
from tests.photos import cat, write_set

ROOT = Path(__file__).parents[2]
FACE = (90.0, 20.0, 330.0, 290.0)  # roughly, of the cat
STAGE = Stage(
    image_size=128, steps=40, images=4, learning_rate=2e-3, warm_up=4, masks=False, boxes=1.0, objects=1
)
RECIPE = Recipe(
    network="detector_nano", sets=(SourceSet("set"),), stages=(STAGE,), held_out=0.3, ema_decay=0.9
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "set", count=8)
    return folder


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("detector_nano", 888_863),
        ("detector_tiny", 1_979_175),
        ("detector_small", 3_500_079),
        ("detector_medium", 8_896_383),
    ],
)
def test_widths_and_depths(name: str, parameters: int) -> None:
    network = build_detector(name)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.spec.image_size == DETECTORS[name].spec.image_size
    boxes, objectness = network.propose(torch.zeros(2, 3, 64, 64))
    assert boxes.shape == (2, 64 + 16 + 4, 4)
    assert objectness.shape == (2, 84)
    assert ((objectness >= 0) & (objectness <= 1)).all()


def test_every_size_has_its_graph() -> None:
    assert detector_names() == sorted(DETECTORS)


def test_unknown_detectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="detector 'pocket': unknown; choose one of detector_medium"):
        build_detector("pocket")


def test_samples_have_boxes_and_no_masks(data: Path) -> None:
    photos, _ = split_sets(RECIPE, data)
    one, two = (BoxSamples(photos, RECIPE, STAGE, first) for first in (0, 3))
    batch = one[5]
    assert set(batch) == {"pixels", "boxes", "counts", "partial"}
    assert batch["pixels"].shape == (4, 3, 128, 128)
    for key, value in two[2].items():  # the number in the whole run decides
        assert torch.equal(value, batch[key]), key
    for boxes, count in zip(batch["boxes"], batch["counts"], strict=True):
        assert count > 0
        assert (boxes[:count, 2:] > boxes[:count, :2]).all()
        assert (boxes[count:] == 0).all()


@pytest.mark.long
def test_learning_happens_and_leaves_weights_that_are_used(data: Path, tmp_path: Path, pocket: Model) -> None:
    losses: list[float] = []
    newest = train_boxes(
        RECIPE, data, tmp_path, RunOptions(workers=0, report_every=10), lambda p: losses.append(p.loss)
    )
    assert losses[-1] < 0.7 * losses[0]
    weights, plot = finish(RECIPE, newest, tmp_path)
    assert plot.read_bytes().startswith(b"\x89PNG")
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["box_recall"] <= 1
    detector = detector_for(pocket.runtime, pocket.name, weights)
    assert isinstance(detector, OwnDetector)
    found = detector.find(unseen(cat()))
    assert found.xyxy.shape == (52 * 52 + 26 * 26 + 13 * 13, 4)
    assert np.isfinite(found.xyxy).all()
    assert np.ptp(found.scores) > 0
    with pytest.raises(WeightsError, match="holds an object detector, not pocket"):
        load("pocket", checkpoint=weights)


@pytest.mark.long
def test_a_stopped_run_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, stages=(dataclasses.replace(STAGE, steps=4),))
    options = RunOptions(workers=0, report_every=2)
    whole = train_boxes(recipe, data, tmp_path / "whole", options)
    for steps in (1, 2):
        newest = train_boxes(recipe, data, tmp_path / "broken", dataclasses.replace(options, minutes=0.0))
        assert newest.name == f"step-{steps:08d}.safetensors"
    broken = train_boxes(recipe, data, tmp_path / "broken", options)
    a, b = load_file(whole), load_file(broken)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_recipes_that_are_no_detectors(data: Path, tmp_path: Path) -> None:
    from mobilesam.train.masks import train_masks

    masks = dataclasses.replace(RECIPE, stages=(STAGE, Stage(image_size=64, steps=1)))
    with pytest.raises(ConfigError, match="stage 2: a detector has boxes and no masks; write masks = false"):
        train_boxes(masks, data, tmp_path)
    with pytest.raises(ConfigError, match="detector 'pocket': unknown"):
        train_boxes(dataclasses.replace(RECIPE, network="pocket"), data, tmp_path)
    with pytest.raises(ConfigError, match="network 'detector_nano': unknown"):
        train_masks(RECIPE, data, tmp_path)
    with pytest.raises(ConfigError, match="trunk: detector_nano has none"):
        start_detector(dataclasses.replace(RECIPE, trunk="trunk.npz"), data)
    with pytest.raises(ConfigError, match=r"none\.onnx: not found; it is the recipe's detector"):
        start_detector(dataclasses.replace(RECIPE, detector="none.onnx"), data)
    with pytest.raises(ConfigError, match="fit detector_nano alone"):
        start_detector(dataclasses.replace(RECIPE, network="detector_tiny", detector="none.onnx"), data)


def test_a_run_starts_from_the_shipped_weights(data: Path) -> None:
    weights = read_detector(entry_of("detector_nano"))
    network = start_detector(dataclasses.replace(RECIPE, start="detector_nano"), data)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), weights[name])


def test_the_shipped_recipe_starts_as_yolox(shared: Path) -> None:
    """The published file's own boxes and objectness, and frozen first layers."""
    from mobilesam.detectors.onnx_layouts import decode_yolox

    recipe = read_recipe(ROOT / "recipes" / "detector-nano.toml")
    network = start_detector(recipe, shared)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert "features.backbone.stem.conv.conv.weight" in frozen
    assert not any(name.startswith(("features.backbone.dark3", "head.")) for name in frozen)
    pixels = preprocess(cat(), graph_index("detector_nano").spec)
    colours = np.stack([pixels[0, c] * network.features.std[c] + network.features.mean[c] for c in (2, 1, 0)])
    session = onnxruntime.InferenceSession(shared / "weights" / "yolox_nano.onnx")
    (rows,) = session.run(None, {"images": colours[None].astype(np.float32)})
    wanted, objectness, _ = decode_yolox([rows], (416, 416))
    boxes, found = network.propose(torch.from_numpy(pixels))
    np.testing.assert_allclose(boxes[0].numpy(), wanted, atol=0.05)
    np.testing.assert_allclose(found[0].numpy(), objectness, atol=1e-3)


@pytest.mark.long
def test_the_shipped_weights_find_more_than_their_start(shared: Path) -> None:
    """In the photos of the recipe's sets that are never trained on."""
    recipe = read_recipe(ROOT / "recipes" / "detector-nano.toml")
    stage = dataclasses.replace(recipe.stages[-1], images=4)
    _, held_out = split_sets(recipe, shared)
    start = start_detector(recipe, shared)
    trained = load_tensors(
        build_detector("detector_nano"), read_detector(entry_of("detector_nano")), "detector_nano"
    )
    before, after = (
        score_held_out(network, recipe, stage, held_out, "cpu")["box_recall"] for network in (start, trained)
    )
    assert after > before


def test_the_cat_is_found(pocket: Model) -> None:
    found = detector_for(pocket.runtime, pocket.name, "detector_nano").find(unseen(cat()))
    likely = select_boxes(found, cat().shape[:2], confidence=0.1, nms_thresh=0.7, most=10)
    assert box_ious(np.array(FACE), likely.xyxy).max() > 0.4
    assert len(pocket.everything(cat(), EverythingOptions(sampler="objects"), detector="detector_nano")) > 0


def test_the_graph_is_the_network() -> None:
    weights = read_detector(entry_of("detector_nano"))
    network = load_tensors(build_detector("detector_nano"), weights, "detector_nano")
    pixels = preprocess(cat(), graph_index("detector_nano").spec)
    boxes, objectness = open_own_detector(entry_of("detector_nano")).runtime.propose(pixels)
    torch_boxes, torch_objectness = (array[0].numpy() for array in network.propose(torch.from_numpy(pixels)))
    np.testing.assert_allclose(objectness, torch_objectness, atol=1e-4)
    np.testing.assert_allclose(boxes, torch_boxes, atol=0.05)


def test_files_that_are_no_detector_of_ours(pocket: Model, tmp_path: Path) -> None:
    from mobilesam.weights import weights_path

    with pytest.raises(WeightsError, match=r"pocket-\d+\.safetensors: holds no weights of detector_medium"):
        pocket.everything(cat(), detector=weights_path(entry_of("pocket")))
    with pytest.raises(WeightsError, match=r"none\.safetensors: not found"):
        pocket.everything(cat(), detector=tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"is not a whole model .*; give it as detector of another"):
        load("detector_nano")
    with pytest.raises(ConfigError, match="model 'nonsense': unknown"):
        pocket.everything(cat(), detector="nonsense")


def test_an_exported_detector_carries_its_weights(tmp_path: Path) -> None:
    assert run(["export", "onnx", "--model", "detector_nano", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    pixels = preprocess(cat(), graph_index("detector_nano").spec)
    boxes, objectness = onnxruntime.InferenceSession(path).run(None, {"pixels": pixels})
    wanted, wanted_objectness = open_own_detector(entry_of("detector_nano")).runtime.propose(pixels)
    np.testing.assert_allclose(boxes[0], wanted, atol=0.01)
    np.testing.assert_allclose(objectness[0], wanted_objectness, atol=1e-5)


def test_what_the_command_line_says_of_it(capsys: pytest.CaptureFixture) -> None:
    assert run(["info", "detector_nano"]) == 0
    said = capsys.readouterr().out
    assert "network: detector_nano, input 416 x 416" in said
    assert "parameters: 888,863" in said
    assert "--detector" in said
    assert "mask_decoder" not in said
    assert "trained on: coco_mix" in said
    assert shipped_metadata(entry_of("detector_nano"))["started_from"] == "yolox_nano"
    assert run(["weights", "list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("detector_nano")]
    assert "2 MB  in the package CC BY 4.0" in line
    assert run(["weights", "verify", "detector_nano"]) == 0
