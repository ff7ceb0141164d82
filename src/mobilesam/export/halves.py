"""Weights as float16: half the bytes, and the same numbers where float16 holds them exactly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from mobilesam.runtimes.base import Weights

FEWEST = 1024  # values of a tensor that is stored as float16; smaller ones are not worth a node


def exact_halves(weights: Weights, names: Iterable[str]) -> Weights:
    """Return tensors as float16, or nothing where that would change one of them."""
    names = list(names)
    with np.errstate(over="ignore"):
        halves = {name: weights[name].astype("<f2") for name in names}
    same = all(np.array_equal(half.astype(np.float32), weights[name]) for name, half in halves.items())
    return halves if same else {}


def store_halves(graph: onnx.GraphProto) -> None:
    """Store a graph's larger float32 tensors as float16, each with a node that makes it float32 again.

    ONNX Runtime runs these nodes once, when it loads the file. What float16 does not hold exactly is rounded.
    """
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < FEWEST:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_float16"))
        casts.append(
            onnx.helper.make_node("Cast", [tensor.name], [name], name=f"{name}_float32", to=TensorProto.FLOAT)
        )
    for cast in reversed(casts):
        graph.node.insert(0, cast)
