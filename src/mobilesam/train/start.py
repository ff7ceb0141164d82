"""What a run starts from: a network with its trunks' published weights, or with those of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobilesam.core.errors import ConfigError, MobileSamError, WeightsError, missing_extra
from mobilesam.core.text import shortened
from mobilesam.formats.image_bytes import shown
from mobilesam.networks.build import build_detector, build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.detector import ObjectDetector
from mobilesam.networks.sam import Sam
from mobilesam.train.recipe import Recipe
from mobilesam.weights import ALIASES, ENTRIES, entry_of, read_detector, read_tensors, read_weights
from mobilesam.weights.own import own_names

# What stays as published: edges look the same everywhere, and gradients cost most on the
# finest maps.
FROZEN = (
    "trunk.stem",
    "trunk.stages.0",
    "trunk.stages.1",
    "detector.backbone.stem",
    "detector.backbone.dark2",
)
MAX_TRUNK_BYTES = 2**28  # MobileNetV2 has 14 MB
# Parts that a network's older weights may lack; these start as the network is built.
NEWER = ("proposal_head.", "mask_decoder.evidence.")


def start_network(recipe: Recipe, data: Path) -> Sam:
    """Build the recipe's network, with the weights that it starts from.

    If a recipe has both a start and a trunk, the start's weights are used, and the trunk is treated as if
    it came from its own file: the first layers stay, the others learn at the trunk's rate. The head for
    objects starts from the detector's.

    Raises:
        ConfigError: if a trunk's file is missing, or the network has no such trunk.
        WeightsError: if the weights to start from are missing or another network's.
    """
    network = build_network(recipe.network)
    readers = {"trunk": read_paddle_trunk, "detector": read_yolox_features}
    for name, read in readers.items():
        file = getattr(recipe, name)
        if not file:
            continue
        part = getattr(network.image_encoder, name, None)
        if part is None:
            raise ConfigError(f"{name}: network {recipe.network} has none; leave it out of the recipe")
        take_published(part, name, data / file, read)
    if recipe.detector and network.proposal_head is not None:
        load_head(network.proposal_head, data / recipe.detector)
    if recipe.start:
        start = read_start(recipe.start, data)
        for part in NEWER:
            if not any(name.startswith(part) for name in start):
                start |= {n: t.numpy() for n, t in network.state_dict().items() if n.startswith(part)}
        load_tensors(network, start, f"{recipe.start}, the recipe's start,")
    return network


def start_detector(recipe: Recipe, data: Path) -> ObjectDetector:
    """Build the recipe's detector, with YOLOX's weights or those of another run where it names them.

    Raises:
        ConfigError: if the recipe's network is not a detector, the detector's file is missing or of another
            size, or the recipe has a trunk.
        WeightsError: if the weights to start from are missing or another network's.
    """
    network = build_detector(recipe.network)
    if recipe.trunk:
        raise ConfigError(f"trunk: {recipe.network} has none; leave it out of the recipe")
    if recipe.detector:
        if not is_nano(network):
            raise ConfigError(
                f"detector: YOLOX-nano's weights fit detector_nano alone; leave it out for {recipe.network}"
            )
        take_published(network.features, "detector", data / recipe.detector, read_yolox_features)
        load_head(network.head, data / recipe.detector)
    if recipe.start:
        load_tensors(network, read_start(recipe.start, data), f"{recipe.start}, the recipe's start,")
    return network


def is_nano(network: ObjectDetector) -> bool:
    """Whether a detector has YOLOX-nano's tensors."""
    nano = build_detector("detector_nano").state_dict()
    return {name: t.shape for name, t in network.state_dict().items()} == {
        k: t.shape for k, t in nano.items()
    }


def take_published(part: nn.Module, name: str, path: Path, read: Callable[[Path], dict[str, Tensor]]) -> None:
    """Load published weights into a part of a network; its first layers then stay as they are.

    Raises:
        ConfigError: if the file is missing.
        WeightsError: if it is not such a file, or belongs to another network.
    """
    load_published(part, read_published(path, name, read), f"{shown(str(path))}: the recipe's {name}")
    for parameter_name, parameter in part.named_parameters(prefix=name):
        parameter.requires_grad_(not parameter_name.startswith(FROZEN))


def load_head(head: nn.Module, path: Path) -> None:
    """Load YOLOX's weights into a head for objects."""
    state = read_published(path, "detector", read_yolox_head)
    load_published(head, state, f"{shown(str(path))}: the recipe's detector")


def read_published(path: Path, name: str, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read a published file, which may be anything; whatever its reader stumbles over is reported.

    Raises:
        ConfigError: if the file is missing.
        WeightsError: if it is not such a file.
    """
    told = shown(str(path))
    try:
        if not path.is_file():
            raise ConfigError(f"{told}: not found; it is the recipe's {name}, in the data folder")
        return read(path)
    except MobileSamError:
        raise
    except OSError as error:  # a name that no file system has
        raise ConfigError(
            f"{told}: the recipe's {name} cannot be read ({error.strerror or shortened(str(error))})"
        ) from error
    except Exception as error:  # NumPy, zipfile, zlib, protobuf: each fails in ways of its own
        raise WeightsError(
            f"{told}: the recipe's {name} is damaged or of another kind ({type(error).__name__}); download it again"
        ) from error


def load_published(part: nn.Module, state: dict[str, Tensor], told: str) -> None:
    """Load weights into a part of a network.

    Raises:
        WeightsError: if they are another network's, or not finite.
    """
    own = part.state_dict()
    if own.keys() != state.keys():
        name = next(iter(sorted(own.keys() ^ state.keys())))
        is_missing = "lacks" if name in own else "has the unknown"
        raise WeightsError(f"{told} {is_missing} {shortened(name)}; it is another network's")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{told} has {name} of {tuple(tensor.shape)}, the network of {tuple(own[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{told} holds NaN or infinite values in {name}; download it again")
    part.load_state_dict(state)


def read_start(start: str, data: Path) -> dict[str, np.ndarray]:
    """Read the weights of a named model, or of a file in the data folder."""
    if start in (*ENTRIES, *ALIASES, *own_names()):
        entry = entry_of(start)
        return read_detector(entry) if entry.detector else read_weights(entry)
    return read_tensors(data / start)


def read_paddle_trunk(path: Path) -> dict[str, Tensor]:
    """Read MobileNetV2's arrays, which have Paddle's names, under our trunk's names."""
    with path.open("rb") as file, np.load(file) as arrays:
        size = sum(record.file_size for record in arrays.zip.infolist())
        if size > MAX_TRUNK_BYTES:
            raise WeightsError(
                f"{shown(str(path))}: unpacks to {size:,} bytes; a trunk has at most {MAX_TRUNK_BYTES:,}"
            )
        return paddle_to_trunk(dict(arrays))


def paddle_to_trunk(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename MobileNetV2 arrays of the form ``conv4_2_expand_weights`` to our trunk's names."""
    parts = {"weights": "conv.weight", "bn_scale": "norm.weight", "bn_offset": "norm.bias"}
    parts |= {"bn_mean": "norm.running_mean", "bn_variance": "norm.running_var"}
    layers = {"expand": "expand", "dwise": "depthwise", "linear": "project"}
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        place, _, part = name.partition("_bn_") if "_bn_" in name else name.rpartition("_")
        part = f"bn_{part}" if "_bn_" in name else part
        numbers = place.removeprefix("conv").split("_")
        if numbers[0] == "1":
            target = "stem"
        elif numbers[0] in ("9", "fc10"):
            continue  # belongs to the classifier
        else:
            target = f"stages.{int(numbers[0]) - 2}.{int(numbers[1]) - 1}.{layers[numbers[2]]}"
        state[f"{target}.{parts[part]}"] = torch.from_numpy(array)
        if part == "weights":
            state[f"{target}.norm.num_batches_tracked"] = torch.tensor(0)
    return state


def read_yolox_features(path: Path) -> dict[str, Tensor]:
    """Read all of YOLOX's published ONNX file except its head, under our modules' names."""
    return read_onnx_convolutions(path, "/backbone/")


def read_yolox_head(path: Path) -> dict[str, Tensor]:
    """Read YOLOX's head without its classes, under our head's names.

    It has one branch for boxes and objectness, and another for classes; ours has one for each of
    the first two, so both start from the same weights.
    """
    ours = {
        "stems": ("stems",),
        "reg_convs": ("box_convs", "objectness_convs"),
        "reg_preds": ("box_preds",),
        "obj_preds": ("objectness_preds",),
    }
    return {
        f"{name}.{rest}": tensor
        for key, tensor in read_onnx_convolutions(path, "/head/").items()
        for part, _, rest in [key.partition(".")]
        for name in ours.get(part, ())
    }


def read_onnx_convolutions(path: Path, prefix: str) -> dict[str, Tensor]:
    """Read the convolutions of a published ONNX file whose nodes begin with ``prefix``, under their modules' names.

    The file has lost the weights' names, but its nodes' names keep those of the modules:
    ``/backbone/backbone/dark3/dark3.1/m/m.0/conv1/conv/Conv``.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise missing_extra("a recipe with a detector", "train") from error
    graph = onnx.load(path, load_external_data=False).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state: dict[str, Tensor] = {}
    for node in graph.node:
        if node.op_type != "Conv" or not node.name.startswith(prefix):
            continue
        steps = node.name.removeprefix(prefix).split("/")[:-1]
        # A container repeats its name in its items: dark3/dark3.1 is one step.
        name = ".".join(a for a, b in zip(steps, [*steps[1:], ""], strict=True) if not b.startswith(f"{a}."))
        for part, tensor in zip(("weight", "bias"), node.input[1:], strict=True):
            state[f"{name}.{part}"] = torch.from_numpy(arrays[tensor].copy())
    return state
