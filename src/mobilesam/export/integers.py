"""An encoder in 8-bit integers, calibrated on photos: a third of the bytes, and faster where integers are.

Weights have 7 bits and a scale for each channel. AVX2 adds two products of 8 bits in 16, which may overflow; those of
7 bits cannot. Each map has a scale of its own: from the mean of the photos' smallest and largest values, because the
extremes of all photos would leave the other values too few steps. What is most sensitive stays float32.

The graph has ONNX's QuantizeLinear and DequantizeLinear around its operators, which runtimes join to integer ones.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from mobilesam.core.arrays import Pixels
from mobilesam.core.errors import ConfigError
from mobilesam.core.preprocess import preprocess
from mobilesam.core.spec import NetworkSpec
from mobilesam.formats.datasets.files import photos_below
from mobilesam.formats.image import read_image
from mobilesam.runtimes.onnx import ERRORS_ONLY
from mobilesam.weights.graph_index import graph_index

FEWEST, MOST = 10, 40  # photos that are calibrated on
OPERATORS = (
    "Conv",
    "Relu",
    "Add",
    "Mul",
    "Sigmoid",
    "Concat",
    "MaxPool",
    "Resize",
    "Slice",
    "Transpose",
)
# Networks whose encoders were tried, each with the parts that stay float32, by the beginning of their tensors' names:
# what sees the pixels, and what gives the embedding's arrays. `python bench/int8.py` has what the choice is worth.
KEPT = {
    "pocket": tuple(
        f"image_encoder.{part}"
        for part in (
            "trunk.stem.",
            "trunk.stages.0.",
            "detector.backbone.stem.",
            "detector.backbone.dark2.",
            "coarse.",
            "coarse_of_fine.",
            "fine.",
            "skip4.",
            "skip2.",
        )
    )
}


@dataclass(frozen=True)
class Calibration:
    """An encoder, and what was seen in it.

    Attributes:
        model: the graph with its weights, batch normalisation joined with convolutions.
        lowest: smallest value (photos,) of each map in each photo.
        highest: largest value (photos,) likewise.
    """

    model: onnx.ModelProto
    lowest: dict[str, np.ndarray]
    highest: dict[str, np.ndarray]


def calibration_pixels(folder: Path, spec: NetworkSpec) -> list[Pixels]:
    """Return inputs for calibration: up to :data:`MOST` of the photos below a folder, spread over their names.

    Raises:
        ConfigError: if there are too few.
        ImageError: if one cannot be read.
    """
    paths = list(photos_below(folder).values())
    if len(paths) < FEWEST:
        raise ConfigError(
            f"--calibrate {folder}: has {len(paths)} photos; give a folder with {FEWEST} or more, "
            "of the kind that the model will see"
        )
    chosen = np.linspace(0, len(paths) - 1, min(MOST, len(paths))).round().astype(int)
    return [preprocess(read_image(paths[number]), spec) for number in chosen]


def check_network(name: str) -> None:
    """Do nothing for a network of :data:`KEPT`.

    Raises:
        ConfigError: for another.
    """
    if name not in KEPT:
        raise ConfigError(f"--weights int8: {name} was not tried; choose one of {', '.join(KEPT)}")


def encoder_in_integers(name: str, model: onnx.ModelProto, photos: Path) -> onnx.ModelProto:
    """Return a network's encoder in integers.

    Args:
        name: of the network, one of :data:`KEPT`.
        model: the encoder's graph with its weights.
        photos: folder of those that are calibrated on.

    Raises:
        ConfigError: if there are too few photos.
        ImageError: if one cannot be read.
    """
    pixels = calibration_pixels(photos, graph_index(name).spec)
    return in_integers(calibrate(model, pixels), kept=nodes_of(model, KEPT[name]))


def calibrate(model: onnx.ModelProto, pixels: Iterable[Pixels]) -> Calibration:
    """Run an encoder, and remember the smallest and the largest value of each map."""
    with tempfile.TemporaryDirectory() as folder:
        simpler = _joined(model, Path(folder))
    names = [
        value.name
        for value in (*simpler.graph.input, *simpler.graph.value_info, *simpler.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    looking = onnx.ModelProto()
    looking.CopyFrom(simpler)
    del looking.graph.output[:]
    for reduce in ("ReduceMin", "ReduceMax"):
        for name in names:
            looking.graph.node.append(
                helper.make_node(reduce, [name], [f"{reduce}:{name}"], name=f"{reduce}:{name}", keepdims=0)
            )
            looking.graph.output.append(
                helper.make_tensor_value_info(f"{reduce}:{name}", TensorProto.FLOAT, [])
            )
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.enable_mem_pattern = False  # photos have many sizes, and each would keep a plan
    session = ort.InferenceSession(looking.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen = np.array([session.run(None, {"pixels": one}) for one in pixels])  # (photos, 2 * names)
    lowest, highest = seen[:, : len(names)].T, seen[:, len(names) :].T
    return Calibration(simpler, dict(zip(names, lowest, strict=True)), dict(zip(names, highest, strict=True)))


def in_integers(
    calibration: Calibration, *, kept: Iterable[str] = (), extremes: bool = False, bits: int = 7
) -> onnx.ModelProto:
    """Return a calibrated encoder in integers.

    Args:
        calibration: of :func:`calibrate`.
        kept: names of nodes that stay float32.
        extremes: take the smallest and the largest value over all photos, not their means.
        bits: of weights, 7 or 8.
    """
    least, most = (np.min, np.max) if extremes else (np.mean, np.mean)
    ranges = {
        name: (np.float32(least(lowest)), np.float32(most(calibration.highest[name])))
        for name, lowest in calibration.lowest.items()
    }
    model = onnx.ModelProto()
    model.CopyFrom(calibration.model)
    there = {node.name for node in model.graph.node}
    quantizer = QDQQuantizer(
        model,
        True,  # a scale for each channel
        bits == 7,
        QuantType.QInt8,
        QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, ranges),
        [],
        [name for name in kept if name in there],
        list(OPERATORS),
        {},
    )
    logging.disable(logging.WARNING)  # it tells of each scale that it rounds
    try:
        quantizer.quantize_model()
    finally:
        logging.disable(logging.NOTSET)
    quantizer.model.topological_sort()
    found: onnx.ModelProto = quantizer.model.model
    del found.graph.value_info[:]
    return found


def nodes_of(model: onnx.ModelProto, beginnings: tuple[str, ...]) -> list[str]:
    """Return the names of convolutions whose weights' names begin so, and of what follows up to the next one."""
    names, inside = [], False
    for node in model.graph.node:
        if node.op_type == "Conv":
            inside = node.input[1].startswith(beginnings)
        if inside:
            names.append(node.name)
    return names


def _joined(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return a graph whose normalisations are parts of their convolutions, with the type of each map."""
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "joined.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    joined = onnx.load(folder / "joined.onnx")
    standard = [one for one in joined.opset_import if one.domain == ""]  # it names all that it knows
    del joined.opset_import[:]
    joined.opset_import.extend(standard)
    return onnx.shape_inference.infer_shapes(joined)
