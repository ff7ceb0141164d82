"""Exported files stand alone, and the package's own graphs are what the networks are now."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mobilesam.cli.main import run
from mobilesam.core.types import DecoderInputs
from mobilesam.predictor import Model
from mobilesam.runtimes.onnx import GRAPHS
from tests.photographs import cat


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    assert run(["export", "onnx", "--model", "pocket", "--out", str(folder)]) == 0
    return folder


def test_exported_pocket_is_the_runtimes(exported: Path, pocket: Model) -> None:
    from mobilesam.core.preprocess import preprocess

    pixels = preprocess(cat(), 512)
    encoder = ort.InferenceSession(exported / "pocket-encoder.onnx")
    names = [output.name for output in encoder.get_outputs()]
    arrays = dict(zip(names, encoder.run(None, {"pixels": pixels}), strict=True))
    ours = pocket.embed(cat()).arrays
    assert set(names) == set(ours)
    for name in names:
        np.testing.assert_allclose(arrays[name], ours[name], atol=1e-4)
    inputs = DecoderInputs(
        np.array([[[260, 170], [0, 0]], [[100, 90], [0, 0]]], np.float32),
        np.array([[1, -1], [1, -1]], np.float32),
    )
    feed = arrays | {
        "point_coords": inputs.point_coords,
        "point_labels": inputs.point_labels,
        "mask_tokens": np.array([1, 2, 3]),
    }
    masks, ious = ort.InferenceSession(exported / "pocket-decoder.onnx").run(None, feed)
    wanted, quality = pocket.runtime.decode(arrays, inputs, (1, 2, 3))
    np.testing.assert_allclose(masks, wanted, atol=1e-3)
    np.testing.assert_allclose(ious, quality, atol=1e-4)


def test_exported_files_carry_their_weights(exported: Path) -> None:
    for path in exported.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert all(t.data_location != onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    assert sum(p.stat().st_size for p in exported.glob("*.onnx")) > 10e6


def test_export_does_not_overwrite_unasked(exported: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["export", "onnx", "--model", "pocket", "--out", str(exported)]) == 6
    assert "--overwrite" in capsys.readouterr().err


def test_shipped_graphs_are_up_to_date(tmp_path: Path) -> None:
    assert run(["export", "onnx", "--graphs-only", "--model", "pocket", "--out", str(tmp_path)]) == 0
    for path in tmp_path.iterdir():
        shipped = GRAPHS / path.name
        if path.suffix == ".json":
            assert json.loads(path.read_text()) == json.loads(shipped.read_text())
        else:
            nodes = [
                [n.op_type for n in onnx.load(p, load_external_data=False).graph.node]
                for p in (path, shipped)
            ]
            assert nodes[0] == nodes[1], f"{path.name}: run make graphs"


def test_shipped_graphs_carry_no_weights_and_no_machine() -> None:
    for path in GRAPHS.glob("*.onnx"):
        data = path.read_bytes()
        assert len(data) < 300_000, path.name
        model = onnx.load_from_string(data)
        kept = [t.name for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
        assert not [name for name in kept if name.endswith((".weight", ".bias"))]
        assert b"site-packages" not in data
        assert b"/src/" not in data
