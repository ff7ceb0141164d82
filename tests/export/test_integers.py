"""An encoder in 8-bit integers: a third of the bytes, nearly the same masks, and refused where it was not tried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from skimage import data

from mobilesam import Prompt
from mobilesam.cli.main import run
from mobilesam.core.metrics import mask_iou
from mobilesam.export.certificate import (
    INTEGERS_IOU,
    VERIFIED,
    Found,
    Questions,
    allowed_for,
    certify,
)
from mobilesam.export.integers import FEWEST, KEPT
from mobilesam.export.onnx import open_exported, write
from mobilesam.export.targets import TARGETS
from mobilesam.formats.image import image_to_png
from mobilesam.runtimes.base import Weights
from mobilesam.segment.model import Model
from mobilesam.weights import entry_of, read_weights
from tests.photos import cat

BOXES = {"cat": [[105, 5, 375, 297], [200, 90, 300, 190]], "coffee": [[150, 60, 450, 350], [5, 5, 590, 390]]}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of three photos, for calibration."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(FEWEST):
        image = (cat(), data.coffee(), data.astronaut())[number % 3]
        y, x = (int(rng.integers(0, side // 3)) for side in image.shape[:2])
        (folder / f"{number}.png").write_bytes(image_to_png(image[y : y + 90, x : x + 280]))
    return folder


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(entry_of("pocket"))


@pytest.fixture(scope="module")
def exported(photos: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    write("pocket", weights, folder, calibration=photos)
    return folder


@pytest.mark.long
def test_the_encoder_has_a_third_of_the_bytes_and_stands_alone(exported: Path, weights: Weights) -> None:
    model = onnx.load(exported / "pocket-encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    floats = sum(array.nbytes for name, array in weights.items() if name.startswith("image_encoder."))
    assert (exported / "pocket-encoder.onnx").stat().st_size < 0.4 * floats
    assert [one.domain for one in model.opset_import] == [""]


@pytest.mark.long
def test_first_and_last_layers_stay_float(exported: Path) -> None:
    model = onnx.load(exported / "pocket-encoder.onnx")
    maker = {name: node.op_type for node in model.graph.node for name in node.output}
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kept = [node for node in convolutions if node.input[1] in stored]
    assert all(maker[node.input[1]] == "DequantizeLinear" for node in convolutions if node not in kept)
    assert len(convolutions) == 162 and len(kept) == 18
    assert "pixels" in {node.input[0] for node in kept}


@pytest.mark.long
def test_masks_are_nearly_those_of_float32(exported: Path, weights: Weights, pocket: Model) -> None:
    integers = Model(open_exported("pocket", weights, exported), name="int8")
    ious = []
    for image, boxes in ((cat(), BOXES["cat"]), (data.coffee(), BOXES["coffee"])):
        prompts = [Prompt(box=box) for box in boxes]
        found, wanted = (model.segment(model.embed(image), prompts) for model in (integers, pocket))
        ious += [mask_iou(a.mask, b.mask) for a, b in zip(found, wanted, strict=True)]
    assert min(ious) > 0.9 and max(ious) < 1, ious


@pytest.mark.long
def test_its_certificate(exported: Path, weights: Weights) -> None:
    asked = Questions(6, images=("coffee, small",))
    files = sorted(exported.glob("*.onnx"))
    one = certify(TARGETS["onnx"], "pocket-7", "pocket", weights, files, integers=True, questions=asked)
    assert (one.result, one.weights) == (VERIFIED, "int8"), one.failures
    assert one.mean_iou is not None and INTEGERS_IOU < one.mean_iou.value < 1
    assert all(figure.allowed is None for figure in one.differences.values())


def test_too_low_a_mean_fails() -> None:
    fields = [allowed_for(Found(ious=[1.0, value]), rounded=False, integers=True) for value in (0.7, 0.9)]
    assert [field["mean_iou"].value >= field["mean_iou"].allowed for field in fields] == [False, True]


def test_from_the_command_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = ["export", "onnx", "--model", "pocket", "--out", str(tmp_path / "out")]
    assert run([*line, "--weights", "int8"]) == 2
    assert run([*line, "--calibrate", str(photos)]) == 2
    assert capsys.readouterr().err.count("--weights int8 and --calibrate PHOTOS: only together") == 2
    (tmp_path / "none").mkdir()
    assert run([*line, "--weights", "int8", "--calibrate", str(tmp_path / "none")]) == 2
    assert "has 0 photos; give a folder with 10 or more" in capsys.readouterr().err
    detector = ["export", "onnx", "--model", "detector_nano", "--out", str(tmp_path / "out")]
    assert run([*detector, "--weights", "int8", "--calibrate", str(photos)]) == 2
    assert f"detector_nano was not tried; choose one of {', '.join(KEPT)}" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))
