"""A model as the two ONNX files that other programs expect: samexporter, X-AnyLabeling, SAM's own exporter.

Their encoder takes an image that the program has resized to 1024 pixels. Their decoder takes one object's prompt
in these pixels, and gives masks of the image's size. What our networks have otherwise goes into the graphs: another
input size, several arrays instead of one embedding, views, and the enlarging of masks. docs/how-to/onnx-programs.md
says how each program is given them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobilesam.core.errors import ConfigError
from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD
from mobilesam.core.prompts import BOX_CORNERS, LOW_RES_PER_GRID, PAD
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.views import BEYOND, REDUCED
from mobilesam.export.onnx import check_size, made_of
from mobilesam.export.programs import LAYOUTS, LOW_RES, YAML, Layout
from mobilesam.runtimes.base import Weights
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights import check_tensors
from mobilesam.weights.graph_index import GRAPHS, GraphIndex, graph_index
from mobilesam.weights.onnx_join import fill_weights

SIDE = 1024  # of the square that programs resize images to, and ask in
GRID = 64  # side of SAM's image embedding
OPSET, IR_VERSION = 18, 10  # those of the package's graphs
CELL_OF_VIEW = 2  # pixels of the input to a low-resolution logit in the view of the whole
NETWORK = "network/"  # what begins the names of our own graph's values
MASK_TOKENS = (0, 1, 2, 3)  # the single mask, then the three
FEW_POINTS, REWEIGHT = (
    2.5,
    1000.0,
)  # SAM's: with more points than this, pads counted, the single mask is taken
NO_MASK = "prompt_encoder.no_mask_embed.weight"
LAST_OF_MASK = "prompt_encoder.mask_downscaling.6.weight"  # of the convolution that a mask prompt ends with


def export_for(
    program: str, network: str, weights: Weights, folder: Path, *, name: str, overwrite: bool = False
) -> list[Path]:
    """Write ``NAME.encoder.onnx`` and ``NAME.decoder.onnx`` for a program, and what it needs beside; return their paths.

    ``encoder``: ``input_image`` (h, w, 3) float32 RGB in 0..255, whose longer side is 1024, to ``image_embeddings``,
    (1, 256, 64, 64) for SAM's networks. ``decoder``: ``image_embeddings``, ``point_coords`` (1, N, 2) in pixels of that
    image, ``point_labels`` (1, N), ``mask_input`` (1, 1, 256, 256), ``has_mask_input`` (1,) and ``orig_im_size`` (2,)
    height and width, all float32, to ``masks`` (1, M, H, W) logits, ``iou_predictions`` (1, M) and
    ``low_res_masks`` (1, M, 256, 256).

    Args:
        program: one of ``LAYOUTS``.
        network: what the weights are of.
        weights: the checkpoint's tensors.
        folder: for the files.
        name: what their names begin with.
        overwrite: replace files that are there.

    Raises:
        ConfigError: for another program, or a network that takes no prompts.
        WeightsError: if these are not the network's tensors.
        LimitError: if a part does not fit into one file; then none is written.
        OutputError: if a file cannot be written, or one exists and ``overwrite`` is false; then none is written.
    """
    if program not in LAYOUTS:
        raise ConfigError(f"program {program!r}: unknown; choose one of {', '.join(LAYOUTS)}")
    index, layout = graph_index(network), LAYOUTS[program]
    if not index.spec.decoder:
        raise ConfigError(f"{network}: takes no prompts, and {program} asks by prompts; give a model")
    check_tensors(weights, index.tensors, "weights")
    for part in ("encoder", "decoder_mask"):
        check_size(network, part, weights)
    encoder, decoder = (folder / f"{name}.{part}.onnx" for part in ("encoder", "decoder"))
    paths = [encoder, decoder, *([folder / f"{name}.yaml"] if layout.yaml else [])]
    for path in paths:
        refuse_existing(path, overwrite=overwrite)
    for path, model in (
        (encoder, encoder_model(index, weights)),
        (decoder, decoder_model(index, weights, layout)),
    ):
        helper.set_model_props(model, made_of(network, weights))
        onnx.checker.check_model(model)
        write_bytes(path, model.SerializeToString(), overwrite=overwrite)
    if layout.yaml:
        text = YAML.format(name=name, called=index.spec.called, encoder=encoder.name, decoder=decoder.name)
        write_bytes(paths[-1], text.encode(), overwrite=overwrite)
    return paths


class GraphBuilder:
    """Nodes around one of the package's graphs; each method adds some and returns the name of what they make."""

    def __init__(self, index: GraphIndex, part: str, weights: Weights) -> None:
        graph = onnx.load(GRAPHS / index.files[part], load_external_data=False)
        self.network = onnx.compose.add_prefix(graph, NETWORK).graph
        fill_weights(self.network, weights, NETWORK)
        self.before: list[onnx.NodeProto] = []
        self.after: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self._nodes = self.before

    def go_on_after_network(self) -> None:
        """What is added from now on comes behind the network's own nodes."""
        self._nodes = self.after

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output."""
        output = f"around/{kind}_{len(self.before) + len(self.after)}"
        self._nodes.append(
            helper.make_node(kind, list(inputs), [output], name=f"node/{output}", **attributes)
        )
        return output

    def name(self, value: str, name: str) -> None:
        """Call a value by a name that the network, or who runs the file, knows."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"node/{name}"))

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Add a constant."""
        name = f"constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def whole(self, value: Any) -> str:
        """Add a constant of whole numbers."""
        return self.constant(value, np.int64)

    def shaped(self, leading: list[int], size: str) -> str:
        """Return the shape that ends in a height and a width (2,)."""
        return self.add("Concat", self.whole(leading), size, axis=0)

    def resize(self, array: str, channels: int, size: str, *, antialias: bool = False) -> str:
        """Resample (1, C, h, w) bilinearly: as PyTorch's ``interpolate`` does or, antialiased, as Pillow."""
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": int(antialias)}
        return self.add("Resize", array, "", "", self.shaped([1, channels], size), **how)

    def cut(self, array: str, size: str) -> str:
        """Return the upper left (..., h, w) of an array."""
        return self.add("Slice", array, self.whole([0, 0]), size, self.whole([2, 3]))

    def fitted(self, size: str, side: int) -> str:
        """Return a size (2,) scaled until its longer side is ``side``, by SAM's rule: int(x + 0.5)."""
        exact = self.cast(size, TensorProto.DOUBLE)
        scale = self.add("Div", self.constant(side, np.float64), self.add("ReduceMax", exact, keepdims=1))
        scaled = self.add("Add", self.add("Mul", exact, scale), self.constant(0.5, np.float64))
        return self.cast(
            self.add("Max", self.add("Floor", scaled), self.constant(1, np.float64)), TensorProto.INT64
        )

    def cast(self, array: str, dtype: int) -> str:
        """Return an array's values as another type of ONNX's."""
        return self.add("Cast", array, to=dtype)

    def missing(self, size: str, side: int) -> str:
        """Return how many rows and columns (2,) a size lacks of a square."""
        return self.add("Sub", self.whole([side, side]), size)

    def padded(self, array: str, pads: str, mode: str = "constant", value: float = 0.0) -> str:
        """Add rows below and columns right (2,) to an array (1, C, h, w)."""
        ends = self.add("Concat", self.whole([0] * 6), pads, axis=0)
        filling = [self.constant(value)] if mode == "constant" else []
        return self.add("Pad", array, ends, *filling, mode=mode)

    def model(
        self, inputs: Mapping[str, tuple[Any, ...]], outputs: Mapping[str, tuple[Any, ...]]
    ) -> onnx.ModelProto:
        """Return the whole as a model; what does not lead to an output is left out."""
        nodes, needed = [], set(outputs)
        for node in reversed([*self.before, *self.network.node, *self.after]):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        tensors = [tensor for tensor in (*self.network.initializer, *self.constants) if tensor.name in needed]
        taken, given = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
            for values in (inputs, outputs)
        )
        graph = helper.make_graph(nodes[::-1], "mobilesam", taken, given, initializer=tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


# ---------------------------------------------------------------- the encoder


def encoder_model(index: GraphIndex, weights: Weights) -> onnx.ModelProto:
    """Return the encoder: an image (h, w, 3) as the program has resized it, to one array of all that is decoded from."""
    spec, graph = index.spec, GraphBuilder(index, "encoder", weights)
    image = graph.add("Transpose", "input_image", perm=[2, 0, 1])
    image = graph.add("Unsqueeze", image, graph.whole([0]))
    if spec.image_size != SIDE:
        image = shrink(graph, image, spec.image_size)
    mean, deviation = (graph.constant(v.reshape(1, 3, 1, 1)) for v in (PIXEL_MEAN, PIXEL_STD))
    image = graph.add("Div", graph.add("Sub", image, mean), deviation)
    size = graph.add("Shape", image, start=2)
    graph.name(
        graph.padded(image, graph.add("Sub", input_shape(graph, spec, size), size)), f"{NETWORK}pixels"
    )
    graph.go_on_after_network()
    arrays = decoded_arrays(index)
    packed = [pack(graph, name, side) for name, (_, side) in arrays.items()]
    graph.name(graph.add("Concat", *packed, axis=1), "image_embeddings")
    return graph.model(
        {"input_image": ("height", "width", 3)}, {"image_embeddings": (1, channels_of(arrays), GRID, GRID)}
    )


def shrink(graph: GraphBuilder, image: str, side: int) -> str:
    """Resize an image (1, 3, h, w) in 0..255 so that its longer side is ``side``, as Pillow does it.

    Pillow resizes the columns, rounds to whole numbers, resizes the rows and rounds again.
    """
    size = graph.add("Shape", image, start=2)
    new = graph.fitted(size, side)
    height, width = (graph.add("Gather", one, graph.whole([i]), axis=0) for i, one in enumerate((size, new)))
    for one in (graph.add("Concat", height, width, axis=0), new):
        image = graph.resize(image, 3, one, antialias=True)
        image = graph.add("Floor", graph.add("Add", image, graph.constant(0.5)))
    return image


def input_shape(graph: GraphBuilder, spec: NetworkSpec, size: str) -> str:
    """Return the (height, width) of the network's input for an image that fills (height, width) of it."""
    if not spec.padded_to:
        return graph.whole([spec.image_size] * 2)
    step = graph.whole(spec.padded_to)
    most = graph.add("Add", size, graph.whole(spec.padded_to - 1))
    return graph.add("Mul", graph.add("Div", most, step), step)


Arrays = dict[
    str, tuple[int, int]
]  # channels, and the side for a square input, by names of the encoder's outputs


def decoded_arrays(index: GraphIndex) -> Arrays:
    """Return which of the encoder's arrays the decoder reads: with views those of the whole, which serves every prompt."""
    outputs, inputs = (
        getattr(onnx.load(GRAPHS / index.files[part], load_external_data=False).graph, values)
        for part, values in (("encoder", "output"), ("decoder_mask", "input"))
    )
    shapes = {value.name: value.type.tensor_type.shape.dim for value in outputs}
    arrays = {}
    for value in inputs:
        name = f"{REDUCED}{value.name}" if f"{REDUCED}{value.name}" in shapes else value.name
        if name in shapes:
            _, channels, _, width = shapes[name]
            arrays[name] = channels.dim_value, width.dim_value or side_of(width.dim_param, index.spec)
    return arrays


def side_of(dimension: str, spec: NetworkSpec) -> int:
    """Return what ``6*s18`` cells are for a full side: six for each step that the input's sides are multiples of."""
    return int(dimension.partition("*")[0]) * spec.image_size // spec.padded_to


def channels_of(arrays: Arrays) -> int:
    """Return how many channels the array has that holds all."""
    return sum(channels * side * side // GRID**2 for channels, side in arrays.values())


def pack(graph: GraphBuilder, name: str, side: int) -> str:
    """Return one of the encoder's arrays, filled up to a square, as (1, C', 64, 64)."""
    array = f"{NETWORK}{name}"
    array = graph.padded(array, graph.missing(graph.add("Shape", array, start=2), side))
    return graph.add("Reshape", array, graph.whole([1, -1, GRID, GRID]))


# ---------------------------------------------------------------- the decoder


def decoder_model(index: GraphIndex, weights: Weights, layout: Layout) -> onnx.ModelProto:
    """Return the decoder: one object's prompt in the program's pixels, to masks of the image's size."""
    spec, graph, arrays = index.spec, GraphBuilder(index, "decoder_mask", weights), decoded_arrays(index)
    low_res = LOW_RES_PER_GRID * GRID if spec.views is None else spec.image_size // CELL_OF_VIEW
    # The sizes that the image had in the program and has in the network, which round in this order.
    shape = input_shape(graph, spec, graph.fitted(graph.fitted("orig_im_size", SIDE), spec.image_size))
    unpack(graph, spec, arrays, shape)
    graph.name(graph.whole(MASK_TOKENS), f"{NETWORK}mask_tokens")
    points, labels = without_pads_of_boxes(graph)
    graph.name(labels, f"{NETWORK}point_labels")
    graph.name(in_the_networks_pixels(graph, spec, points), f"{NETWORK}point_coords")
    mask, visible = "mask_input", shape
    if spec.views is not None:
        visible = graph.add("Div", shape, graph.whole(CELL_OF_VIEW))
        mask = graph.cut(graph.resize(mask, 1, graph.whole([low_res] * 2)), visible)
    graph.name(mask, f"{NETWORK}mask_input")
    take_mask_only_if_there(graph, weights)
    graph.go_on_after_network()
    masks, scores, count = f"{NETWORK}low_res_masks", f"{NETWORK}iou_predictions", len(MASK_TOKENS)
    if spec.views is not None:
        masks = fill_up(graph, masks, visible, low_res)
    if layout.single_mask:
        masks, scores = choose_mask(graph, masks, scores)
        count = 1
    graph.name(scores, "iou_predictions")
    given = layout.low_res or low_res
    graph.name(
        masks if given == low_res else graph.resize(masks, count, graph.whole([given] * 2)), "low_res_masks"
    )
    graph.name(enlarge(graph, spec, masks, count), "masks")
    return graph.model(
        {
            "image_embeddings": (1, channels_of(arrays), GRID, GRID),
            "point_coords": (1, "num_points", 2),
            "point_labels": (1, "num_points"),
            "mask_input": (1, 1, LOW_RES, LOW_RES),
            "has_mask_input": (1,),
            "orig_im_size": (2,),
        },
        {
            "masks": (1, count, "height", "width"),
            "iou_predictions": (1, count),
            "low_res_masks": (1, count, given, given),
        },
    )


def unpack(graph: GraphBuilder, spec: NetworkSpec, arrays: Arrays, shape: str) -> None:
    """Take the network's arrays out of the one that holds them, as large as the input's (height, width) makes each."""
    start = 0
    for name, (channels, side) in arrays.items():
        end = start + channels_of({name: (channels, side)})
        limits = (graph.whole([number]) for number in (start, end, 1))
        part = graph.add("Slice", "image_embeddings", *limits)
        part = graph.add("Reshape", part, graph.whole([1, channels, side, side]))
        if spec.padded_to:
            cells = graph.add("Mul", shape, graph.whole(side))
            part = graph.cut(part, graph.add("Div", cells, graph.whole(spec.image_size)))
        graph.name(part, f"{NETWORK}{name.removeprefix(REDUCED)}")
        start = end


def without_pads_of_boxes(graph: GraphBuilder) -> tuple[str, str]:
    """Return points (1, N, 2) and labels (1, N) without pads, where there is a box.

    Programs append a pad to every prompt. SAM was trained with one after points alone, and masks of boxes are
    worse with it.
    """
    corner, pad = (graph.constant(label) for label in (BOX_CORNERS[0], PAD))
    is_corner = graph.cast(graph.add("Equal", "point_labels", corner), TensorProto.FLOAT)
    boxless = graph.add("Less", graph.add("ReduceMax", is_corner, keepdims=1), graph.constant(0.5))
    kept = graph.add("Or", boxless, graph.add("Not", graph.add("Equal", "point_labels", pad)))
    kept = graph.add("Reshape", kept, graph.whole([-1]))
    points, labels = (
        graph.add("Compress", values, kept, axis=1) for values in ("point_coords", "point_labels")
    )
    return points, labels


def in_the_networks_pixels(graph: GraphBuilder, spec: NetworkSpec, points: str) -> str:
    """Return points in the pixels that the decoder is asked in: of its square or, with views, of the whole's view."""
    points = graph.add("Mul", points, graph.constant(spec.prompt_size / SIDE))
    if spec.views is None:
        return points
    half, scale = graph.constant(0.5), graph.constant(spec.view_size / spec.image_size)
    return graph.add("Sub", graph.add("Mul", graph.add("Add", points, half), scale), half)


def take_mask_only_if_there(graph: GraphBuilder, weights: Weights) -> None:
    """Put what stands for no mask in place of the mask's embedding, where ``has_mask_input`` is 0."""
    nodes = graph.network.node
    place = next(i for i, node in enumerate(nodes) if f"{NETWORK}{LAST_OF_MASK}" in node.input)
    embedding = nodes[place].output[0]
    nodes[place].output[0] = f"{embedding}_of_mask"
    there = graph.add("Greater", "has_mask_input", graph.constant(0.5))
    none = graph.constant(weights[NO_MASK][..., None, None])
    nodes.insert(place + 1, helper.make_node("Where", [there, nodes[place].output[0], none], [embedding]))


def fill_up(graph: GraphBuilder, masks: str, size: str, side: int) -> str:
    """Fill logits up to a square as :mod:`mobilesam.core.views` does: the last row and column once more, then nothing."""
    missing = graph.missing(size, side)
    once = graph.add("Min", missing, graph.whole(1))
    masks = graph.padded(masks, once, mode="edge")
    return graph.padded(masks, graph.add("Sub", missing, once), value=BEYOND)


def choose_mask(graph: GraphBuilder, masks: str, scores: str) -> tuple[str, str]:
    """Return one mask and its score by SAM's rule: the single mask, or for one point the best of the three."""
    points = graph.cast(graph.add("Shape", "point_labels", start=1), TensorProto.FLOAT)
    favour = graph.constant([[REWEIGHT, *[0] * (len(MASK_TOKENS) - 1)]])
    favoured = graph.add("Mul", graph.add("Sub", points, graph.constant(FEW_POINTS)), favour)
    best = graph.add("ArgMax", graph.add("Add", scores, favoured), axis=1, keepdims=0)
    return graph.add("Gather", masks, best, axis=1), graph.add("Gather", scores, best, axis=1)


def enlarge(graph: GraphBuilder, spec: NetworkSpec, masks: str, count: int) -> str:
    """Return logits (1, M, H, W) of the image's size for those of the square."""
    side = spec.prompt_size
    large = graph.resize(masks, count, graph.whole([side, side]))
    large = graph.cut(large, graph.fitted("orig_im_size", side))
    return graph.resize(large, count, graph.cast("orig_im_size", TensorProto.INT64))
