"""ONNX files with the outputs of detectors, whose one box is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobilesam.detectors.onnx_layouts import yolox_cells


def constant_detector(
    path: Path, shape: tuple, outputs: list[np.ndarray], kind: int = TensorProto.FLOAT
) -> Path:
    """Write an ONNX file whose outputs are known; they wait for the input's shape, so it counts as used."""
    nodes, initializers = [], [numpy_helper.from_array(np.zeros((), np.float32), "zero")]
    nodes.append(helper.make_node("Cast", ["image"], ["seen"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("ReduceMax", ["seen"], ["most"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["most", "zero"], ["nothing"]))
    for i, array in enumerate(outputs):
        initializers.append(numpy_helper.from_array(array.astype(np.float32), f"known{i}"))
        nodes.append(helper.make_node("Add", [f"known{i}", "nothing"], [f"out{i}"]))
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(f"out{i}", TensorProto.FLOAT, a.shape) for i, a in enumerate(outputs)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def layout_outputs(layout: str, box: np.ndarray) -> tuple[tuple, list[np.ndarray], int]:
    """Return an input's shape and outputs in which one box (xyxy, in pixels of the input) is likely."""
    middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    if layout == "yolox":
        places, strides = yolox_cells((416, 416))
        rows = np.zeros((1, len(places), 85))
        cell = 1234
        rows[0, cell, :2] = middle / strides[cell] - places[cell]
        rows[0, cell, 2:4] = np.log(sides / strides[cell])
        rows[0, cell, 4] = 0.9
        return (1, 3, 416, 416), [rows], TensorProto.FLOAT
    if layout == "yolov8":
        columns = np.zeros((1, 4 + 1 + 32, 8400))
        columns[0, :5, 77] = [*middle, *sides, 0.9]
        columns[0, 5:] = 5.0  # mask coefficients are no scores
        return (1, 3, 640, 640), [columns, np.zeros((1, 32, 160, 160))], TensorProto.FLOAT
    boxes = np.zeros((1, 100, 4))
    boxes[0, 0] = box[[1, 0, 3, 2]] / 192
    scores = np.linspace(0.9, 0, 100)[None]
    return (1, 192, 192, 3), [np.array([100.0]), boxes, scores, np.ones((1, 100))], TensorProto.UINT8
