"""A graph without weights, joined with a checkpoint's tensors; needs the package ``onnx``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def fill_weights(graph: onnx.GraphProto, weights: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Put weights into a graph that has none; its names for them may begin with ``prefix``."""
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            values = weights[tensor.name.removeprefix(prefix)]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
