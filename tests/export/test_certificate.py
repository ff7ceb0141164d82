"""A certificate is given for files that give their network's masks, and for no others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mobilesam.cli.main import run
from mobilesam.core.arrays import sum_of_tensors
from mobilesam.core.errors import CertificateError
from mobilesam.export.certificate import (
    FAILED,
    VERIFIED,
    Certificate,
    Found,
    Questions,
    allowed_for,
    certify,
    check,
    page,
    tell_result,
    write_certificate,
)
from mobilesam.export.targets import TARGETS
from mobilesam.runtimes.base import Weights
from mobilesam.weights import entry_of, read_weights

ASKED = Questions(18, images=("coffee, small", "waves, one row"))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(entry_of("pocket"))


@pytest.fixture(scope="module")
def verified(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Path]:
    """The target whose conversion takes no minutes."""
    folder = tmp_path_factory.mktemp("openvino")
    target = TARGETS["openvino"]
    files = target.load().write("pocket", weights, folder)
    return certify(target, "pocket-7", "pocket", weights, files, questions=ASKED), folder


def test_openvino_is_verified(verified: tuple[Certificate, Path], weights: Weights) -> None:
    certificate, folder = verified
    check(certificate)
    assert certificate.result == VERIFIED and not certificate.failures
    assert (certificate.prompts, certificate.masks) == (18, 54)
    assert certificate.sha256_of_tensors == sum_of_tensors(weights)
    assert {"mobilesam", "openvino", "torch", "onnxruntime"} <= certificate.versions.keys()
    assert any(image.endswith(", 233 x 1") for image in certificate.images)
    assert {"low_res_masks", "iou_predictions", "image_embedding", "objectness", "boxes"} <= set(
        certificate.differences
    )
    assert 0 < certificate.differences["low_res_masks"].value <= 1e-3
    for file in certificate.files:
        data = (folder / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    for times in certificate.milliseconds.values():
        assert times["this"] > 0 and times["onnxruntime"] > 0


def test_what_is_written(verified: tuple[Certificate, Path]) -> None:
    certificate, folder = verified
    paths = write_certificate(certificate, folder)
    assert [path.name for path in paths] == [
        "pocket-openvino-certificate.json",
        "pocket-openvino-certificate.md",
    ]
    content = json.loads(paths[0].read_text())
    assert content["result"] == "verified" and content["smallest_iou"]["allowed"] == 0.999
    text = paths[1].read_text()
    assert text.startswith("# pocket-7 for openvino: verified\n")
    assert all(file["sha256"] in text for file in content["files"])


@pytest.mark.long
def test_other_weights_get_none(weights: Weights, tmp_path: Path) -> None:
    """One tensor of the decoder is a hundredth larger."""
    name = "mask_decoder.fine_prompt.weight"
    target, changed = TARGETS["onnx"], weights | {name: weights[name] * np.float32(1.01)}
    files = target.load().write("pocket", changed, tmp_path)
    certificate = certify(target, "pocket-7", "pocket", weights, files, questions=ASKED)
    assert certificate.result == FAILED
    assert write_certificate(certificate, tmp_path)[1].read_text().startswith("# pocket-7 for onnx: failed\n")
    with pytest.raises(
        CertificateError, match=r"do not give the network's masks: .*low_res_masks differs"
    ) as told:
        check(certificate)
    assert (told.value.code, told.value.exit_code) == ("V", 10)


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, False),
        ({"iou": 0.9989}, True),
        ({"pixels": 1}, False),
        ({"pixels": 2}, True),
        ({"differences": {"low_res_masks": 1e-3}}, False),
        ({"differences": {"low_res_masks": 1.01e-3}}, True),
        ({"differences": {"low_res_masks": np.inf}}, True),
        ({"differences": {"boxes": 0.04}}, False),
        ({"differences": {"boxes": 0.06}}, True),
    ],
)
def test_what_fails(changes: dict, fails: bool, verified: tuple[Certificate, Path]) -> None:
    found = Found(["x"], 1, 3, {"low_res_masks": 0.0})
    for name, value in changes.items():
        setattr(found, name, value)
    assert bool(replace(verified[0], **allowed_for(found, rounded=False)).failures) == fails


def test_no_number_is_far_from_any() -> None:
    found = Found()
    found.differ("a", np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    assert found.differences["a"] == np.inf


def test_masks_that_differ() -> None:
    found, mask = Found(), np.zeros((1, 60, 60), bool)
    mask[0, :40, :40] = True
    found.compare_masks(mask, np.roll(mask, 1, axis=1))
    assert found.iou == pytest.approx(39 / 41) and found.pixels == 0
    small = np.zeros((1, 60, 60), bool)
    small[0, 3, 3:6] = True
    found.compare_masks(small, np.zeros_like(small))
    assert found.pixels == 3


def test_halves_are_half_as_large_and_the_same(weights: Weights, tmp_path: Path) -> None:
    target = TARGETS["onnx"]
    whole = target.load().write("pocket", weights, tmp_path / "float32")
    half = target.load().write("pocket", weights, tmp_path / "float16", half=True)
    sizes = [sum(path.stat().st_size for path in paths) for paths in (whole, half)]
    assert sizes[1] < 0.53 * sizes[0]
    onnx.checker.check_model(onnx.load(half[0]), full_check=True)
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((1, 3, 288, 768)).astype(np.float32)
    one, two = (
        target.load().open_exported("pocket", weights, paths[0].parent).encode(pixels)
        for paths in (whole, half)
    )
    assert all((one[name] == two[name]).all() for name in one)


def test_not_run_is_told(verified: tuple[Certificate, Path], weights: Weights) -> None:
    (file,) = [verified[1] / "pocket-encoder.xml"]
    certificate = certify(TARGETS["coreml"], "pocket-7", "pocket", weights, [file])
    check(certificate)
    assert tell_result(certificate) == "coreml: converted, not run"
    assert "cannot be run here" in page(certificate) and not certificate.differences


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["litert", "--weights", "float16"], 2, "--weights float16: export litert has float32 and no choice"),
        (["onnx", "--graphs-only", "--verify"], 2, "--graphs-only: not with --verify; leave one of them out"),
        (["onnx", "--for", "sam", "--weights", "float16"], 2, "--for: not with --weights float16"),
        (["onnx", "--model", "detector_nano", "--verify"], 2, "detector_nano takes no prompts"),
        (["coreml", "--model", "detector_nano"], 2, "detector_nano takes no prompts"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], code: int, message: str, tmp_path: Path, capsys) -> None:
    assert run(["export", *arguments, "--out", str(tmp_path)]) == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_two_hundred_prompts(target: str, tmp_path: Path, capsys) -> None:
    assert run(["export", target, "--model", "pocket", "--out", str(tmp_path), "--verify"]) == 0
    assert f"{target}: verified; 200 prompts, 600 masks" in capsys.readouterr().out
    assert (tmp_path / f"pocket-{target}-certificate.md").is_file()


def test_an_old_certificate_does_not_stay(tmp_path: Path) -> None:
    """It is of the files that were there before."""
    old = tmp_path / "pocket-onnx-certificate.json"
    old.write_text("{}")
    assert run(["export", "onnx", "--model", "pocket", "--out", str(tmp_path)]) == 6
    assert old.exists()
    assert run(["export", "onnx", "--model", "pocket", "--out", str(tmp_path), "--overwrite"]) == 0
    assert not old.exists()
