"""ONNX graphs of a network without its weights, traced from the network in PyTorch.

The package carries them, so that one copy of the weights serves every runtime: the ONNX runtime
joins them with a checkpoint's tensors when it loads one, and :mod:`mobilesam.export.onnx` when it
writes files for use elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.views import WHOLE
from mobilesam.export.onnx import file_of
from mobilesam.networks.build import DETECTORS, build_detector, build_network
from mobilesam.networks.detector import ObjectDetector
from mobilesam.networks.sam import Sam
from mobilesam.storage.atomic import write_bytes
from mobilesam.weights.graph_index import RECTANGLE, GraphIndex

OPSET = 18
EXAMPLE_PROMPTS = 2  # any number other than 1, which exporters take for a constant
EXAMPLE_POINTS = 3
SIDES = 64  # what a side may be a multiple of; exporters want a bound
OF_ENCODER = ("encoder", "proposals", RECTANGLE)  # the parts that no other network shares
DynamicShapes = dict[str, dict[int, Any]]  # for some inputs, by the numbers of their dimensions


class Encode(nn.Module):
    """The graph ``encoder``: pixels -> named arrays."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.encode(pixels, of_full_size=True).values())


class Prepare(nn.Module):
    """The graph ``prepare``: image embedding -> what the decoder makes once per image."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_embedding: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.prepare(image_embedding).values())


class Decode(nn.Module):
    """The graphs ``decoder`` and ``decoder_mask``: named arrays and prompts -> masks and IoU."""

    def __init__(self, network: Sam, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(
        self,
        mask_tokens: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor | None,
        *arrays: Tensor,
    ) -> tuple[Tensor, Tensor]:
        embedding = dict(zip(self.names, arrays, strict=True))
        return self.network.decode_view(
            embedding,
            point_coords,
            point_labels,
            mask_input,
            mask_tokens=mask_tokens,
            fold=True,
            side=self.network.side_of_view,
        )


class Detect(nn.Module):
    """The only graph of a detector, ``proposals``: pixels -> boxes and their objectness."""

    def __init__(self, network: ObjectDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.propose(pixels)


class Propose(nn.Module):
    """The graph ``proposals``: some of the named arrays -> boxes and their objectness."""

    def __init__(self, network: Sam, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.propose(dict(zip(self.names, arrays, strict=True)))


def write_graphs(name: str, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the weight-free graphs of a network or detector ``name`` and their index; return their paths.

    Raises:
        OutputError: if a file cannot be written, or exists and ``overwrite`` is false.
    """
    network = build_any(name)
    parts: dict[str, tuple[str, ...]] = {}
    files: dict[str, str] = {}
    paths: list[Path] = []
    for part, model in trace_parts(network).items():
        weights = [w for w in model.graph.initializer if w.data_location == TensorProto.EXTERNAL]
        if part != RECTANGLE:  # which has the encoder's
            parts[part] = tuple(w.name for w in weights)
        files[part] = file_of(name if part in OF_ENCODER else network.spec.decoder, part)
        paths.append(folder / files[part])
        write_bytes(paths[-1], model.SerializeToString(deterministic=True), overwrite=overwrite)
    index = GraphIndex(
        network.spec,
        {key: tuple(value.shape) for key, value in network.named_parameters()},
        {key: tuple(value.shape) for key, value in persistent_buffers(network).items()},
        parts,
        files,
    )
    paths.append(folder / f"{name}.json")
    write_bytes(paths[-1], index.to_json(), overwrite=overwrite)
    return paths


def build_any(name: str) -> Sam | ObjectDetector:
    """Return a network or a detector by its name, with untrained weights."""
    return build_detector(name) if name in DETECTORS else build_network(name)


def trace_parts(network: Sam | ObjectDetector) -> dict[str, onnx.ModelProto]:
    """Trace a network's steps; the weights are external initializers with the checkpoint's names."""
    side = network.spec.image_size
    pixels = torch.zeros(1, 3, side, side)
    if isinstance(network, ObjectDetector):
        return {"proposals": _trace(Detect(network), {"pixels": pixels}, ["boxes", "objectness"])}
    with torch.no_grad():
        embedding = network.encode(pixels)
        prepared = network.prepare(embedding["image_embedding"])
    sides = dynamic_sides(network)
    parts = {"encoder": _trace(Encode(network), {"pixels": pixels}, list(embedding), sides)}
    if network.spec.rectangles:
        parts[RECTANGLE] = _trace_rectangle(network, pixels, list(embedding))
    if prepared:
        inputs = {"image_embedding": embedding["image_embedding"]}
        parts["prepare"] = _trace(Prepare(network), inputs, list(prepared))

    maps = {name: embedding[name] for name in network.proposal_head.inputs} if network.proposal_head else {}
    if maps:
        parts["proposals"] = _trace(Propose(network, list(maps)), maps, ["boxes", "objectness"], sides)
    embedding = {name: array for name, array in embedding.items() if name not in maps}
    if network.views is not None:
        embedding = network.views.arrays(embedding, WHOLE)

    b, n = EXAMPLE_PROMPTS, EXAMPLE_POINTS
    low_res = LOW_RES_PER_GRID * network.spec.image_size // network.image_encoder.stride
    prompts = {
        "mask_tokens": torch.tensor([1, 2, 3]),
        "point_coords": torch.rand(b, n, 2) * network.spec.prompt_size,
        "point_labels": torch.ones(b, n),
        "mask_input": torch.zeros(b, 1, low_res, low_res),
    }
    outputs = ["low_res_masks", "iou_predictions"]
    arrays = embedding | prepared
    without_mask = prompts | {"mask_input": None}
    sides = dynamic_sides_of_view(network)
    parts["decoder"] = _trace(Decode(network, list(arrays)), without_mask | arrays, outputs, sides)
    parts["decoder_mask"] = _trace(Decode(network, list(embedding)), prompts | embedding, outputs, sides)
    if network.views is not None:
        for part in ("decoder", "decoder_mask"):
            _any_batch(parts[part], list(embedding))
    return parts


def _trace_rectangle(network: Sam, pixels: Tensor, outputs: list[str]) -> onnx.ModelProto:
    """Trace the encoder for inputs with less padding."""
    square = network.spec
    network.spec = square.rectangular
    try:
        return _trace(Encode(network), {"pixels": pixels}, outputs, dynamic_sides(network))
    finally:
        network.spec = square


def dynamic_sides(network: Sam) -> DynamicShapes:
    """Return which inputs of ``encoder`` and ``proposals`` may be of other sizes: none, where only squares are taken."""
    if not network.spec.padded_to:
        return {}
    most = network.spec.image_size // network.spec.padded_to if network.spec.fills_up else SIDES
    rows, columns = Dim("rows", min=2, max=most), Dim("columns", min=2, max=most)
    strides, head = {"pixels": 1}, network.proposal_head
    if head is not None:
        strides |= dict(zip(head.inputs, head.strides, strict=True))
    return {
        name: {2: network.spec.padded_to // stride * rows, 3: network.spec.padded_to // stride * columns}
        for name, stride in strides.items()
    }


def dynamic_sides_of_view(network: Sam) -> DynamicShapes:
    """Return the same of ``decoder`` and ``decoder_mask``: all arrays, where there are views.

    A view of the whole input is as fine at its edges, and in its mask prompts, as a window is.
    """
    if network.views is None:
        return {}
    rows, columns = Dim("rows", min=2, max=SIDES), Dim("columns", min=2, max=SIDES)
    fine = {2: Dim("height", min=2), 3: Dim("width", min=2)}
    coarse_to_fine = {
        name: {2: 2**i * rows, 3: 2**i * columns} if i else {2: rows, 3: columns}
        for i, name in enumerate(network.mask_decoder.PER_PROMPT)
    }
    return coarse_to_fine | dict.fromkeys((*network.mask_decoder.PER_IMAGE, "mask_input"), fine)


def _any_batch(model: onnx.ModelProto, names: list[str]) -> None:
    """Let arrays be of one image, or one for each prompt: what is added to or multiplied by them spreads them."""
    for value in model.graph.input:
        if value.name in names:
            value.type.tensor_type.shape.dim[0].dim_param = "images"
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[0] in names:
            _, *rest = numpy_helper.to_array(constants[node.input[1]]).tolist()
            shape = np.array([0, *rest])  # 0: as it comes
            model.graph.initializer.append(numpy_helper.from_array(shape, f"{node.name}_shape"))
            node.input[1] = f"{node.name}_shape"
            del node.attribute[:]  # allowzero, by which 0 would be a size


def _trace(
    module: nn.Module,
    inputs: Mapping[str, Tensor | None],
    outputs: list[str],
    sides: DynamicShapes | None = None,
) -> onnx.ModelProto:
    """Export ``module`` with its weights as inputs, then make those external initializers.

    As inputs, the weights keep their names and shapes: no optimisation can fold them.
    """
    weights = {**dict(module.named_parameters()), **persistent_buffers(module)}
    weights = {name: w for name, w in weights.items() if w.is_floating_point()}
    names = list(weights)

    class Functional(nn.Module):
        def forward(self, inputs: list, weights: list) -> tuple[Tensor, ...]:
            state = dict(zip(names, weights, strict=True))
            return torch.func.functional_call(module, state, tuple(inputs))

    prompts, points, tokens = Dim("prompts", min=2), Dim("points", min=2), Dim("tokens", min=2)
    sides = sides or {}
    batches = {
        "mask_tokens": {0: tokens},
        "point_coords": {0: prompts, 1: points},
        "point_labels": {0: prompts, 1: points},
        "mask_input": {0: prompts},
    }
    shapes = [
        None if value is None else batches.get(key, {}) | sides.get(key, {}) for key, value in inputs.items()
    ]
    with _quiet(), sdpa_kernel(SDPBackend.MATH):
        program = torch.onnx.export(
            Functional(),
            (list(inputs.values()), list(weights.values())),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(shapes, [{} for _ in weights]),
            input_names=[key for key, value in inputs.items() if value is not None]
            + [name.removeprefix("network.") for name in names],
            output_names=outputs,
            verbose=False,
        )
    assert program is not None  # it only is where a path to write to was given
    model = program.model_proto
    _inputs_to_external(model, {name.removeprefix("network.") for name in names})
    _share_constants(model)
    _halve_gelu_last(model)
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.metadata_props[:]
    return model


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a checkpoint holds."""
    state = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name in state}


def _inputs_to_external(model: onnx.ModelProto, weights: set[str]) -> None:
    """Turn the graph inputs named in ``weights`` into initializers that lie elsewhere."""
    used = {name for node in model.graph.node for name in node.input}
    kept = []
    for value in model.graph.input:
        if value.name not in weights:
            kept.append(value)
        elif value.name in used:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            tensor = TensorProto(name=value.name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="checkpoint")
            model.graph.initializer.append(tensor)
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _share_constants(model: onnx.ModelProto) -> None:
    """Keep one of several equal constants, such as the offset indices of equal windows."""
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            kept.append(tensor)
            continue
        array = numpy_helper.to_array(tensor)
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        renamed[tensor.name] = first.setdefault(key, tensor.name)
        if renamed[tensor.name] == tensor.name:
            kept.append(tensor)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _halve_gelu_last(model: onnx.ModelProto) -> None:
    """Write x * (0.5 * (1 + erf)) as (x * (1 + erf)) * 0.5, a form that ONNX Runtime fuses to one GELU."""
    maker = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        for x, scaled in (tuple(node.input), tuple(node.input)[::-1]):
            inner = maker.get(scaled)
            if inner is None or inner.op_type != "Mul":
                continue
            half, raised = inner.input if inner.input[0] in constants else reversed(inner.input)
            if half in constants and raised in maker and _is_one_plus_erf(maker[raised], maker):
                inner.input[:] = [x, raised]
                node.input[:] = [scaled, half]
                break


def _is_one_plus_erf(node: onnx.NodeProto, maker: Mapping[str, onnx.NodeProto]) -> bool:
    return node.op_type == "Add" and any(
        name in maker and maker[name].op_type == "Erf" for name in node.input
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about other packages from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
