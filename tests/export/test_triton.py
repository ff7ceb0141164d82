"""A model repository for Triton: its configurations are those of the files, and these give the network's masks."""

from __future__ import annotations

import re
from pathlib import Path

import onnxruntime as ort
import pytest

from mobilesam import Model
from mobilesam.cli.main import run
from mobilesam.export.certificate import VERIFIED, Questions, certify
from mobilesam.export.targets import TARGETS
from mobilesam.export.triton import open_exported
from mobilesam.weights import entry_of, read_weights
from tests.runtimes.conformance import assert_alike

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}
TENSOR = re.compile(r'(input|output) { name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]*) \] }')


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    assert run(["export", "triton", "--model", "pocket", "--weights", "float16", "--out", str(folder)]) == 0
    return folder


def test_configurations_are_those_of_the_files(repository: Path) -> None:
    models = sorted(path.name for path in repository.iterdir())
    assert models == ["pocket_decoder", "pocket_decoder_mask", "pocket_encoder", "pocket_proposals"]
    for model in models:
        text = (repository / model / "config.pbtxt").read_text()
        assert text.startswith(f'name: "{model}"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 0\n')
        session = ort.InferenceSession(repository / model / "1" / "model.onnx")
        told = [
            (kind, name, type_, [int(n) for n in dims.split(",") if n.strip()])
            for kind, name, type_, dims in TENSOR.findall(text)
        ]
        wanted = [
            (kind, value.name, TYPES[value.type], [n if isinstance(n, int) else -1 for n in value.shape])
            for kind, values in (("input", session.get_inputs()), ("output", session.get_outputs()))
            for value in values
        ]
        assert told == wanted
        assert len(text.splitlines()) == 3 + len(wanted)


def test_the_files_give_the_networks_masks(repository: Path, pocket: Model) -> None:
    weights = read_weights(entry_of("pocket"))
    assert_alike(Model(open_exported("pocket", weights, repository), name="triton"), pocket)


@pytest.mark.long
def test_its_certificate_names_every_file_of_the_repository(repository: Path) -> None:
    weights = read_weights(entry_of("pocket"))
    files = sorted(path for path in repository.rglob("*") if path.is_file())
    few = Questions(6, images=("coffee, small",))
    certificate = certify(TARGETS["triton"], "pocket-7", "pocket", weights, files, half=True, questions=few)
    assert certificate.result == VERIFIED
    names = [file["name"] for file in certificate.files]
    assert names == [path.relative_to(repository).as_posix() for path in files]
    assert "pocket_encoder/1/model.onnx" in names


def test_what_is_there_stays(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "triton", "--model", "pocket", "--out", str(repository)]) == 6
    assert "--overwrite" in capsys.readouterr().err
