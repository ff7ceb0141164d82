"""OpenVINO over the same graphs: Intel's runtime, for its processors and others of their kind (an extra)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import onnx

from mobilesam.core.arrays import NamedArrays
from mobilesam.core.errors import ConfigError
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.weights.graph_index import GRAPHS
from mobilesam.weights.onnx_join import fill_weights

# OpenVINO's tools would load what reports their use; without it they take a stand-in that does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
openvino = import_module("openvino")
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}  # some processors would take bfloat16 unasked


class CompiledPart:
    """A graph that OpenVINO compiled, with the calls of ONNX Runtime's session that a runtime makes."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._requests = threading.local()  # a request holds what one thread is working on

    def get_inputs(self) -> list[_Value]:
        """Return the inputs, by their names."""
        return [_Value(port.get_any_name()) for port in self._compiled.inputs]

    def get_outputs(self) -> list[_Value]:
        """Return the outputs, by their names."""
        return [_Value(port.get_any_name()) for port in self._compiled.outputs]

    def run(self, names: Sequence[str], feed: NamedArrays, options: object) -> list[np.ndarray]:
        """Return the outputs asked for."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer(feed, share_inputs=True)
        return [np.array(request.get_tensor(name).data) for name in names]


class _Value:
    """An input or output."""

    def __init__(self, name: str) -> None:
        self.name = name


class OpenVinoRuntime(OnnxRuntime):
    """See :class:`mobilesam.runtimes.base.Runtime`; graphs and their order are those of the ONNX runtime."""

    name = "openvino"

    def _start(self, part: str) -> Any:
        """Compile a graph that has its tensors."""
        config: dict[str, Any] = FLOAT32 | ({"INFERENCE_NUM_THREADS": self._threads} if self._threads else {})
        return CompiledPart(openvino.Core().compile_model(self._model(part), "CPU", config))

    def _model(self, part: str) -> Any:
        """Join a graph with its tensors."""
        model = onnx.load(GRAPHS / self._index.files[part], load_external_data=False)
        fill_weights(model.graph, self._weights)
        return openvino.Core().read_model(model.SerializeToString())


def open_runtime(
    network: str,
    weights: Weights,
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    what: str = "weights",
    rectangular: bool = False,
) -> OpenVinoRuntime:
    """Return a runtime; see :func:`mobilesam.runtimes.load.load_runtime`."""
    if dtype not in (None, "float32"):
        raise ConfigError(
            f"dtype {dtype!r}: the openvino runtime has float32; pass runtime='torch' for others"
        )
    if device not in (None, "cpu"):
        raise ConfigError(f"device {device!r}: the openvino runtime has cpu; pass runtime='onnx' for cuda")
    return OpenVinoRuntime(network, weights, threads=threads, what=what, rectangular=rectangular)
