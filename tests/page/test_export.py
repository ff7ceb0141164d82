"""The page as a folder: what is in it, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from mobilesam.cli.main import run
from mobilesam.core.errors import OutputError, WeightsError
from mobilesam.export.halves import exact_halves
from mobilesam.export.page import BACKENDS, export_page, version_of_runtime
from mobilesam.weights import entry_of, read_weights


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files named as onnxruntime-web's are; nothing here runs them."""
    folder = tmp_path_factory.mktemp("onnxruntime-web")
    (folder / "dist").mkdir()
    for name in {name for parts in BACKENDS.values() for name in parts}:
        (folder / "dist" / name).write_bytes(name.encode() * 100)
    (folder / "package.json").write_text(json.dumps({"version": version_of_runtime()}))
    return folder


@pytest.fixture(scope="module")
def exported(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "site"
    assert run(["export", "page", "--out", str(folder), "--runtime", str(runtime)]) == 0
    return folder


def test_graphs_read_the_weights_exactly(exported: Path) -> None:
    weights = read_weights(entry_of("pocket"))
    site = json.loads((exported / "site.json").read_text())
    assert site["weights"]["dtype"] == "float16"
    packed = (exported / site["weights"]["file"]).read_bytes()
    assert len(packed) == site["weights"]["bytes"]
    values = np.frombuffer(gzip.decompress(packed), "<f2").astype(np.float32)
    placed = 0
    for file in site["graphs"].values():
        model = onnx.load(exported / file, load_external_data=False)
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if not entries:
                continue
            start, length = int(entries["offset"]) // 4, int(entries["length"]) // 4
            found = values[start : start + length].reshape(tuple(tensor.dims))
            assert np.array_equal(found, weights[tensor.name]), tensor.name
            placed += 1
    assert placed > 800


def test_the_service_worker_keeps_all_that_a_first_visit_needs(exported: Path) -> None:
    text = (exported / "sw.js").read_text()
    assert "__" not in text
    kept = json.loads(text.split('JSON.parse("')[1].split('")')[0].replace('\\"', '"'))
    assert kept[0] == "./"
    there = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    later = {f"ort/{name}" for name in BACKENDS["webgpu"]}
    assert set(kept[1:]) == there - later - {"sw.js", "index.html"}


def test_the_page_asks_the_device_and_nobody_else(exported: Path) -> None:
    html = (exported / "index.html").read_text()
    assert 'data-engine="device"' in html
    assert "connect-src 'self' blob:" in html
    assert "https://" not in html and "http://" not in html


def test_weights_that_float16_cannot_hold_stay_float32() -> None:
    exact = np.array([1, 2**-10, -65504], np.float32)
    assert set(exact_halves({"a": exact}, ["a"])) == {"a"}
    for value in (1 + 2**-12, 70_000.0):
        assert exact_halves({"a": exact, "b": np.array([value], np.float32)}, ["a", "b"]) == {}


def test_what_is_refused(exported: Path, runtime: Path, tmp_path: Path) -> None:
    weights = read_weights(entry_of("pocket"))
    with pytest.raises(OutputError, match="exists already"):
        export_page(weights, exported, runtime=runtime)
    with pytest.raises(WeightsError, match="not found"):
        export_page(weights, tmp_path, runtime=tmp_path / "gone.tgz")
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="SHA-256 is another"):
        export_page(weights, tmp_path, runtime=tmp_path / "other.tgz")
    with pytest.raises(WeightsError, match=r"has no ort\.wasm\.min\.mjs"):
        export_page(weights, tmp_path, runtime=tmp_path)
    (tmp_path / "web" / "dist").mkdir(parents=True)
    for path in (runtime / "dist").iterdir():
        (tmp_path / "web" / "dist" / path.name).write_bytes(b"")
    (tmp_path / "web" / "package.json").write_text('{"version": "1.0.0"}')
    with pytest.raises(WeightsError, match="another version"):
        export_page(weights, tmp_path, runtime=tmp_path / "web")
    assert not (tmp_path / "index.html").exists()
