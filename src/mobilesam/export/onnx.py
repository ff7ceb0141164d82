"""ONNX graphs of a network, with or without its weights.

The package carries the graphs without weights: :func:`write_graphs` makes them, and
the ONNX runtime joins them with a checkpoint's tensors when it loads one. So one copy of
the weights serves every runtime. :func:`export_onnx` writes self-contained files for
use elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.version import __version__
from mobilesam.core.views import WHOLE
from mobilesam.networks.build import build_detector, build_network
from mobilesam.networks.configs import DETECTORS, NETWORKS
from mobilesam.networks.detector import ObjectDetector
from mobilesam.networks.sam import Sam
from mobilesam.runtimes.base import Weights
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights.checksum import sum_of_tensors

OPSET = 18
# What an exported file says of itself.
VERSION_KEY, NETWORK_KEY, SUM_KEY = "mobilesam.version", "mobilesam.network", "mobilesam.sha256_of_tensors"
EXAMPLE_PROMPTS = 2  # any number other than 1, which exporters take for a constant
EXAMPLE_POINTS = 3
OF_ENCODER = ("encoder", "proposals")  # the parts that no other network shares


class Encode(nn.Module):
    """The graph ``encoder``: pixels -> named arrays."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.encode(pixels).values())


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
            embedding, point_coords, point_labels, mask_input, mask_tokens=mask_tokens, fold=True
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
    parts, files, paths = {}, {}, []
    for part, model in trace_parts(network).items():
        weights = [w for w in model.graph.initializer if w.data_location == TensorProto.EXTERNAL]
        parts[part] = [w.name for w in weights]
        files[part] = file_of(name if part in OF_ENCODER else NETWORKS[name].decoder, part)
        paths.append(folder / files[part])
        write_bytes(paths[-1], model.SerializeToString(deterministic=True), overwrite=overwrite)
    index = {
        "image_size": network.image_size,
        "prompt_size": getattr(network, "prompt_size", network.image_size),
        "parameters": {key: list(value.shape) for key, value in network.named_parameters()},
        "buffers": {key: list(value.shape) for key, value in persistent_buffers(network).items()},
        "parts": parts,
        "files": files,
    }
    if views := getattr(network, "views", None):
        index["views"] = dataclasses.asdict(views)
    paths.append(folder / f"{name}.json")
    write_bytes(paths[-1], (json.dumps(index) + "\n").encode(), overwrite=overwrite)
    return paths


def export_onnx(name: str, weights: Weights, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write self-contained ONNX files of a network or detector ``name`` with ``weights``; return their paths.

    ``encoder``: ``pixels`` (1, 3, S, S) to the embedding's arrays. ``prepare``, where the
    network has one: what the decoder makes once per image. ``decoder`` and ``decoder_mask``:
    those arrays, or a view's (:mod:`mobilesam.core.views`), with ``mask_tokens`` (M,), ``point_coords`` (B, N, 2), ``point_labels`` (B, N)
    and, for the second, ``mask_input`` (B, 1, 4h, 4w), to ``low_res_masks`` (B, M, 4h, 4w)
    and ``iou_predictions`` (B, M). B, N and M are dynamic. ``proposals``, where the network
    has a head for objects: its maps to ``boxes`` (1, P, 4) and ``objectness`` (1, P); a detector
    has this one alone, from ``pixels``.

    Each file says by which version and from which weights it was made, by the sum of their tensors.

    Raises:
        OutputError: if a file cannot be written, or one exists and ``overwrite`` is false; then none is written.
    """
    paths = []
    for part in parts_of(name):  # before minutes of work, and so that no set of files is of two kinds
        refuse_existing(folder / file_of(name, part), overwrite=overwrite)
    made_of = {VERSION_KEY: __version__, NETWORK_KEY: name, SUM_KEY: sum_of_tensors(weights)}
    for part, model in trace_parts(build_any(name)).items():
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
        onnx.helper.set_model_props(model, made_of)
        onnx.checker.check_model(model)
        path = folder / file_of(name, part)
        write_bytes(path, model.SerializeToString(), overwrite=overwrite)
        paths.append(path)
    return paths


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names of a network's graphs; only SAM's own decoder has something to prepare."""
    if name in DETECTORS:
        return ("proposals",)
    prepare = ("prepare",) if NETWORKS[name].decoder == "sam" else ()
    proposals = ("proposals",) if NETWORKS[name].proposal_head else ()
    return ("encoder", *prepare, *proposals, "decoder", "decoder_mask")


def file_of(name: str, part: str) -> str:
    """Return the file name of one of a network's exported graphs."""
    return f"{name}-{part}.onnx"


def build_any(name: str) -> Sam | ObjectDetector:
    """Return a network or a detector by its name, with untrained weights."""
    return build_detector(name) if name in DETECTORS else build_network(name)


def trace_parts(network: Sam | ObjectDetector) -> dict[str, onnx.ModelProto]:
    """Trace a network's steps; the weights are external initializers with the checkpoint's names."""
    side = network.image_size
    pixels = torch.zeros(1, 3, side, side)
    if isinstance(network, ObjectDetector):
        return {"proposals": _trace(Detect(network), {"pixels": pixels}, ["boxes", "objectness"])}
    with torch.no_grad():
        embedding = network.encode(pixels)
        prepared = network.prepare(embedding["image_embedding"])
    parts = {"encoder": _trace(Encode(network), {"pixels": pixels}, list(embedding))}
    if prepared:
        inputs = {"image_embedding": embedding["image_embedding"]}
        parts["prepare"] = _trace(Prepare(network), inputs, list(prepared))

    maps = {name: embedding[name] for name in network.proposal_head.inputs} if network.proposal_head else {}
    if maps:
        parts["proposals"] = _trace(Propose(network, list(maps)), maps, ["boxes", "objectness"])
    embedding = {name: array for name, array in embedding.items() if name not in maps}
    if network.views is not None:
        embedding = network.views.arrays(embedding, WHOLE)

    b, n = EXAMPLE_PROMPTS, EXAMPLE_POINTS
    low_res = LOW_RES_PER_GRID * network.image_size // network.image_encoder.stride
    prompts = {
        "mask_tokens": torch.tensor([1, 2, 3]),
        "point_coords": torch.rand(b, n, 2) * network.prompt_size,
        "point_labels": torch.ones(b, n),
        "mask_input": torch.zeros(b, 1, low_res, low_res),
    }
    outputs = ["low_res_masks", "iou_predictions"]
    finer = () if network.views is None else network.mask_decoder.PER_IMAGE
    arrays = embedding | prepared
    without_mask = prompts | {"mask_input": None}
    parts["decoder"] = _trace(Decode(network, list(arrays)), without_mask | arrays, outputs, finer)
    parts["decoder_mask"] = _trace(Decode(network, list(embedding)), prompts | embedding, outputs, finer)
    return parts


def _trace(
    module: nn.Module,
    inputs: Mapping[str, Tensor | None],
    outputs: list[str],
    finer: Sequence[str] = (),
) -> onnx.ModelProto:
    """Export ``module`` with its weights as inputs, then make those external initializers.

    The inputs ``finer``, and a mask prompt beside them, are of any height and width.

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
    # A view of the whole input is as fine at its edges, and in its mask prompts, as a window is.
    fine = {2: Dim("height", min=2), 3: Dim("width", min=2)} if finer else {}
    dynamic = {
        "mask_tokens": {0: tokens},
        "point_coords": {0: prompts, 1: points},
        "point_labels": {0: prompts, 1: points},
        "mask_input": {0: prompts, **fine},
        **{name: fine for name in finer},
    }
    shapes = [None if value is None else dynamic.get(key, {}) for key, value in inputs.items()]
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
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        for x, scaled in (node.input, reversed(node.input)):
            inner = maker.get(scaled)
            if inner is None or inner.op_type != "Mul":
                continue
            half, raised = inner.input
            if raised in maker and _is_one_plus_erf(maker[raised], maker):
                inner.input[:] = [x, raised]
                node.input[:] = [scaled, half]


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
