"""Exported files stand alone, and the package's own graphs are what the networks are now."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from safetensors.numpy import save

from mobilesam.cli.main import run
from mobilesam.core.errors import LimitError
from mobilesam.core.types import DecoderInputs
from mobilesam.export.onnx import SUM_KEY
from mobilesam.export.onnx import write as export_onnx
from mobilesam.runtimes.base import Weights
from mobilesam.segment.model import Model
from mobilesam.weights import entry_of, read_weights
from mobilesam.weights.graph_index import GRAPHS, graph_index
from tests.known_weights import names_in
from tests.photos import cat

NAMES = [f"pocket-{part}.onnx" for part in ("encoder", "proposals", "decoder", "decoder_mask")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    assert run(["export", "onnx", "--model", "pocket", "--out", str(folder)]) == 0
    return folder


def test_exported_pocket_is_the_runtimes(exported: Path, pocket: Model) -> None:
    from mobilesam.core.preprocess import preprocess

    pixels = preprocess(cat(), pocket.runtime.spec)
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
    maps = {name: array for name, array in arrays.items() if name.startswith("objects_")}
    boxes, objectness = ort.InferenceSession(exported / "pocket-proposals.onnx").run(None, maps)
    our_boxes, our_objectness = pocket.runtime.propose(arrays)
    np.testing.assert_allclose(boxes[0], our_boxes, atol=1e-3)
    np.testing.assert_allclose(objectness[0], our_objectness, atol=1e-4)
    decoder = ort.InferenceSession(exported / "pocket-decoder.onnx")
    whole = {name: arrays.get(f"whole_{name}", array) for name, array in arrays.items()}
    read = {value.name for value in decoder.get_inputs()}
    feed = {name: array for name, array in whole.items() if name in read} | {
        "point_coords": (inputs.point_coords + 0.5) * np.float32(512 / 768) - np.float32(0.5),
        "point_labels": inputs.point_labels,
        "mask_tokens": np.array([1, 2, 3]),
    }
    masks, ious = decoder.run(None, feed)
    wanted, quality = pocket.runtime.decode(arrays, inputs, (1, 2, 3))
    assert masks.shape[2:] == (288, 384)  # a landscape: below it there is nothing to decode
    np.testing.assert_allclose(masks, wanted[:, :, :288], atol=1e-3)
    np.testing.assert_allclose(ious, quality, atol=1e-4)


def test_exported_files_carry_their_weights(exported: Path) -> None:
    for path in exported.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert all(t.data_location != onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    assert sum(p.stat().st_size for p in exported.glob("*.onnx")) > 10e6


@pytest.mark.parametrize("what", ["file", "folder"])
def test_W62_what_is_there_is_not_replaced_unasked(what: str, tmp_path: Path, capsys) -> None:
    """Refused before another file of the set is written."""
    there = tmp_path / "pocket-decoder.onnx"
    there.write_bytes(b"mine") if what == "file" else there.mkdir()
    assert run(["export", "onnx", "--model", "pocket", "--out", str(tmp_path)]) == 6
    said = (
        "exists already; choose another place, or pass --overwrite"
        if what == "file"
        else "is a folder; move it away"
    )
    assert f"error[O]: {there}: {said}" in capsys.readouterr().err
    assert names_in(tmp_path) == [there.name]
    if what == "folder":
        assert run(["export", "onnx", "--model", "pocket", "--out", str(tmp_path), "--overwrite"]) == 6


EXPORT = """
import os, resource, signal, sys
from mobilesam.cli.main import run

def sync(file):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)

left, most = int(sys.argv[2]), int(sys.argv[3])
fsync, os.fsync = os.fsync, sync
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
sys.exit(run(["export", "onnx", "--model", "pocket", "--out", sys.argv[1], "--overwrite"]))
"""


def export_to(folder: Path, *, killed_at: int = 0, largest: int = 0) -> subprocess.CompletedProcess:
    """Export in a process that is killed at its so-manieth wish to have something on disk."""
    line = [sys.executable, "-c", EXPORT, folder, str(killed_at), str(largest)]
    return subprocess.run(line, capture_output=True, text=True)


def test_W62_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/full"), Path("/proc/none")):
        done = export_to(place)
        assert done.returncode == 6, done.stderr
        assert re.fullmatch(rf"error\[O\]: {place}: cannot be written \(.*\)\n", done.stderr), done.stderr
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_W62_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a quota: the decoder fits, the encoder does not."""
    export_to(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = export_to(tmp_path, largest=10_000_000)
    assert done.returncode == 6
    assert done.stderr.startswith(f"error[O]: {tmp_path}/pocket-encoder.onnx: cannot be written (")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_W62_a_full_disk(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=18m", "none", tmp_path]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        done = export_to(tmp_path)
        assert done.returncode == 6
        assert re.search(
            r"error\[O\]: .*-decoder\.onnx: cannot be written \(the disk is full; free", done.stderr
        )
        assert names_in(tmp_path) == ["pocket-encoder.onnx", "pocket-proposals.onnx"]
        onnx.checker.check_model(onnx.load(tmp_path / "pocket-encoder.onnx"))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.long
def test_W62_killed_at_every_step(tmp_path: Path) -> None:
    """Each file is put on disk and then its folder: eight moments. A name has the old file or the new one."""
    for moment in range(1, 9):
        folder = tmp_path / str(moment)
        folder.mkdir()
        for name in NAMES:
            (folder / name).write_bytes(b"old")
        assert export_to(folder, killed_at=moment).returncode == -signal.SIGKILL
        whole = 0
        for path in folder.glob("*.onnx"):
            if path.read_bytes() != b"old":
                onnx.checker.check_model(onnx.load(path))
                assert path.stat().st_size > 300_000
                whole += 1
        assert whole == moment // 2
    assert export_to(tmp_path / "3").returncode == 0


# ---------------------------------------------------------------- parity


@pytest.fixture(scope="module")
def exported_vit_t(tmp_path_factory: pytest.TempPathFactory, vit_t_weights: Weights) -> Path:
    """MobileSAM's network with seeded weights, exported; beside the files lie the weights."""
    folder = tmp_path_factory.mktemp("vit_t")
    (folder / "seeded.safetensors").write_bytes(save(vit_t_weights))
    line = ["--model", "mobile_sam", "--checkpoint", str(folder / "seeded.safetensors"), "--out", str(folder)]
    assert run(["export", "onnx", *line]) == 0
    return folder


@pytest.fixture(params=["pocket", "mobile_sam"])
def model_options(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "pocket":
        return ["--model", "pocket", "--out", str(request.getfixturevalue("exported"))]
    folder = request.getfixturevalue("exported_vit_t")
    weights = str(folder / "seeded.safetensors")
    return ["--model", "mobile_sam", "--checkpoint", weights, "--out", str(folder)]


def check_parity(options: list[str], prompts: int, capsys: pytest.CaptureFixture) -> None:
    assert run(["export", "verify", *options, "--prompts", str(prompts)]) == 0
    told, remarks = capsys.readouterr()
    assert remarks == ""
    with capsys.disabled():
        print(told)
    assert f"prompts: {prompts}\n" in told


@pytest.mark.parametrize(
    "model_options", ["pocket", pytest.param("mobile_sam", marks=pytest.mark.long)], indirect=True
)
def test_W63_exported_files_agree_on_twelve_prompts(model_options: list[str], capsys) -> None:
    check_parity(model_options, 12, capsys)


@pytest.mark.long
def test_W63_exported_files_agree_on_two_hundred_prompts(model_options: list[str], capsys) -> None:
    check_parity(model_options, 200, capsys)


def test_W61_files_of_other_weights_are_told(exported: Path, tmp_path: Path, capsys) -> None:
    weights = read_weights(entry_of("pocket"))
    name = "mask_decoder.iou_token.weight"
    (tmp_path / "later.safetensors").write_bytes(save(weights | {name: weights[name] + 1}))
    later = ["--model", "pocket", "--checkpoint", str(tmp_path / "later.safetensors")]
    assert run(["export", "verify", *later, "--out", str(exported), "--prompts", "2"]) == 4
    names = ", ".join(NAMES)
    told = capsys.readouterr().err
    assert f"warning: {exported}: {names}: made from other weights; export again with --overwrite\n" in told
    assert f"error[W]: {exported}: these files are not pocket with these weights; export again" in told
    (tmp_path / "mixed").mkdir()
    for path in exported.glob("*.onnx"):
        (tmp_path / "mixed" / path.name).write_bytes(path.read_bytes())
    stale = onnx.load(exported / "pocket-decoder.onnx")
    onnx.helper.set_model_props(stale, {SUM_KEY: "0" * 64})
    onnx.save(stale, tmp_path / "mixed" / "pocket-decoder.onnx")
    mixed = ["--model", "pocket", "--out", str(tmp_path / "mixed"), "--prompts", "2"]
    assert run(["export", "verify", *mixed]) == 0
    assert "mixed: pocket-decoder.onnx: made from other weights" in capsys.readouterr().err


def test_W61_verify_wants_the_files(tmp_path: Path, capsys) -> None:
    assert run(["export", "verify", "--model", "pocket", "--out", str(tmp_path)]) == 4
    assert "pocket-encoder.onnx: not found" in capsys.readouterr().err


# Tracing pocket takes minutes; that its graphs do what the network does is asked above, each time.
@pytest.mark.long
@pytest.mark.parametrize("name", ["pocket", "detector_nano"])
def test_shipped_graphs_are_up_to_date(name: str, tmp_path: Path) -> None:
    assert run(["export", "onnx", "--graphs-only", "--model", name, "--out", str(tmp_path)]) == 0
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


@pytest.mark.parametrize(
    "part", ["vit_t-encoder", "vit_t-rectangle", "pocket-encoder", "pocket_nano-encoder", "sam-decoder"]
)
def test_shipped_graphs_have_gelu_in_the_form_that_is_fused(part: str, tmp_path: Path) -> None:
    """A fused GELU takes a fifth off the time of MobileSAM's encoder."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    model = onnx.load(GRAPHS / f"{part}.onnx", load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    values = [ort.OrtValue.ortvalue_from_numpy(np.ones(tuple(t.dims), np.float32)) for t in outside]
    options.add_external_initializers([t.name for t in outside], values)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    run_by_ort = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert any(node.op_type == "Erf" for node in model.graph.node)
    assert "Erf" not in run_by_ort
    assert "Gelu" in run_by_ort


def test_a_network_too_large_for_a_file_is_told(tmp_path: Path) -> None:
    """SAM's ViT-H, its weights as views of one number, so that they take no memory."""
    shapes = graph_index("vit_h").tensors
    weights = {name: np.broadcast_to(np.float32(0.1), shape) for name, shape in shapes.items()}
    with pytest.raises(
        LimitError, match=r"vit_h: its encoder has 2\.5 GB of weights, and an ONNX file holds 2 GB"
    ):
        export_onnx("vit_h", weights, tmp_path)
    assert not list(tmp_path.iterdir())
