"""A model for OpenVINO: its IR, one ``.xml`` and one ``.bin`` for each ONNX graph of the package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mobilesam.export.onnx import check_size, filled, made_of
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.openvino import OpenVinoRuntime, openvino
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights import check_tensors
from mobilesam.weights.graph_index import graph_index

SUFFIXES = (".xml", ".bin")


def write(
    name: str, weights: Weights, folder: Path, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write a network or detector as OpenVINO's IR; return the paths.

    Parts, inputs and outputs are those of :func:`mobilesam.export.onnx.write`, and so are arguments and errors.
    """
    index = graph_index(name)
    check_tensors(weights, index.tensors, "weights")
    paths = {part: [folder / f"{name}-{part}{suffix}" for suffix in SUFFIXES] for part in index.parts}
    for part, files in paths.items():
        check_size(name, part, weights)
        for path in files:
            refuse_existing(path, overwrite=overwrite)
    about = made_of(name, weights)
    for part, files in paths.items():
        model = openvino.Core().read_model(filled(name, part, weights).SerializeToString())
        for key, value in about.items():
            model.set_rt_info(value, key.split("."))
        with tempfile.TemporaryDirectory() as temporary:
            made = Path(temporary) / files[0].name
            openvino.save_model(model, made, compress_to_fp16=half)
            for path in files:
                write_bytes(path, made.with_suffix(path.suffix).read_bytes(), overwrite=overwrite)
    return [path for files in paths.values() for path in files]


class ExportedOpenVino(OpenVinoRuntime):
    """The OpenVINO runtime over exported files."""

    folder: Path

    def _model(self, part: str) -> Any:
        return openvino.Core().read_model(self.folder / f"{self.spec.name}-{part}.xml")


def open_exported(
    name: str, weights: Weights, folder: Path, *, threads: int | None = None
) -> ExportedOpenVino:
    """Return a runtime over files that :func:`write` wrote from these weights."""
    runtime = ExportedOpenVino(name, weights, threads=threads)
    runtime.folder = folder
    return runtime
