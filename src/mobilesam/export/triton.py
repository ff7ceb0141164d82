"""A model repository of Triton Inference Server: the ONNX files, each with what its ONNX Runtime backend is told of it.

Triton is a server of its own, which is not run here. What is certified are the files, in ONNX Runtime, as its backend
runs them.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort

from mobilesam.export.onnx import check_size, filled, parts_of
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights import check_tensors
from mobilesam.weights.graph_index import graph_index

CONFIG, MODEL = "config.pbtxt", "1/model.onnx"  # in a model's folder; 1 is its version
TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.INT64: "TYPE_INT64"}


def write(
    name: str, weights: Weights, folder: Path, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write a network or detector as a model repository, a model for each part; return the paths.

    Parts, inputs and outputs are those of :func:`mobilesam.export.onnx.write`, and so are arguments and errors.
    """
    check_tensors(weights, graph_index(name).tensors, "weights")
    paths = {
        part: [model_folder(folder, name, part) / file for file in (MODEL, CONFIG)] for part in parts_of(name)
    }
    for part, files in paths.items():
        check_size(name, part, weights)
        for path in files:
            refuse_existing(path, overwrite=overwrite)
    for part, (model_file, config_file) in paths.items():
        model = filled(name, part, weights, half=half)
        write_bytes(model_file, model.SerializeToString(), overwrite=overwrite)
        text = config(model_folder(folder, name, part).name, model.graph)
        write_bytes(config_file, text.encode(), overwrite=overwrite)
    return [path for files in paths.values() for path in files]


def model_folder(folder: Path, name: str, part: str) -> Path:
    """Return the folder of a part, which is what Triton calls the model."""
    return folder / f"{name}_{part}"


def config(called: str, graph: onnx.GraphProto) -> str:
    """Return a model's configuration. A dimension that a graph leaves open is -1; Triton adds no batch of its own."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    lines = [f'name: "{called}"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0"]
    for what, values in (("input", inputs), ("output", graph.output)):
        lines += [f"{what} {_tensor(value)}" for value in values]
    return "\n".join([*lines, ""])


def _tensor(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    dims = ", ".join(map(str, sizes))
    return f'{{ name: "{value.name}" data_type: {TYPES[kind.elem_type]} dims: [ {dims} ] }}'


class ExportedTriton(OnnxRuntime):
    """The ONNX runtime over a repository's files."""

    folder: Path

    def start(self, part: str, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open a part's file."""
        path = model_folder(self.folder, self.spec.name, part) / MODEL
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def open_exported(name: str, weights: Weights, folder: Path, *, threads: int | None = None) -> ExportedTriton:
    """Return a runtime over files that :func:`write` wrote from these weights."""
    runtime = ExportedTriton(name, weights, threads=threads)
    runtime.folder = folder
    return runtime
