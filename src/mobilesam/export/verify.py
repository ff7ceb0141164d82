"""Are exported files the network that they were made from? Compared on random prompts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilesam.core.arrays import NamedArrays, sum_of_tensors
from mobilesam.core.errors import WeightsError, WeightsWarning
from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.core.views import Views
from mobilesam.export.onnx import SUM_KEY, file_of, parts_of
from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.sam import Sam
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx_file import OnnxFile, open_onnx_file

PROMPTS = 200
MAX_DIFFERENCE, MIN_IOU = 1e-3, 0.999  # of low-resolution logits, and of the masks at their threshold
COARSE = 16  # side of the noise that, enlarged, is the picture


@dataclass(frozen=True)
class Parity:
    """How far files are from their network.

    Attributes:
        prompts: how many were asked.
        difference: the largest of low-resolution logits.
        iou: the smallest of a low-resolution mask with the network's own.
        objectness: the largest difference of a box's objectness; 0 for a network without a head for objects.
    """

    prompts: int
    difference: float
    iou: float
    objectness: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether that is what two orders of summation may make."""
        return max(self.difference, self.objectness) <= MAX_DIFFERENCE and self.iou >= MIN_IOU


def verify_onnx(
    name: str, weights: Weights, folder: Path, *, prompts: int = PROMPTS, seed: int = 0
) -> Parity:
    """Compare exported files of network ``name`` with the network in PyTorch, on one random picture.

    Files that say that they were made from other weights give a warning.

    Args:
        name: the network.
        weights: the checkpoint's tensors.
        folder: where the files of :func:`mobilesam.export.onnx.write` lie.
        prompts: how many random prompts: points, boxes, both, and masks, in turn.
        seed: of the picture and the prompts.

    Raises:
        WeightsError: if a file is missing, damaged or not such a file.
    """
    files = {part: open_onnx_file(folder / file_of(name, part), known=None) for part in parts_of(name)}
    wanted = sum_of_tensors(weights)
    stale = [file.path.name for file in files.values() if file.metadata.get(SUM_KEY) != wanted]
    if stale:
        warnings.warn(
            f"{folder}: {', '.join(stale)}: made from other weights; export again with --overwrite",
            WeightsWarning,
            stacklevel=2,
        )
    network = load_tensors(build_network(name), weights, name)
    rng = np.random.default_rng(seed)
    differences, ious = [], []
    with torch.inference_mode():
        side = network.spec.image_size
        noise = rng.standard_normal((1, 3, COARSE, COARSE)).astype(np.float32)
        pixels = np.kron(noise, np.ones((side // COARSE, side // COARSE), np.float32))
        if network.spec.padded_to:  # a landscape, so that the two sides are told apart
            pixels = np.ascontiguousarray(pixels[:, :, : side // 2])
        embedding = network.encode(torch.from_numpy(pixels))
        arrays = _run(files, "encoder", {"pixels": pixels})
        if "prepare" in files:
            arrays |= _run(files, "prepare", arrays)
        objectness = 0.0
        if "proposals" in files:
            found = _run(files, "proposals", arrays)["objectness"]
            objectness = float(np.abs(network.propose(embedding)[1].numpy() - found).max())
        for prompt in random_prompts(network, embedding, prompts, rng):
            ours = _decode(network, embedding, prompt)
            theirs = _decode_files(files, network.views, arrays, prompt)
            differences.append(float(np.abs(ours - theirs).max()))
            ious.append(_smallest_iou(ours > 0, theirs > 0))
    return Parity(prompts, max(differences), min(ious), objectness)


def random_prompts(
    network: Sam, embedding: dict[str, Tensor], count: int, rng: np.random.Generator
) -> Iterator[NamedArrays]:
    """Yield ``count`` prompts as the decoder's inputs: points, a box, both, and a box with a mask, in turn."""
    side = network.spec.prompt_size
    mask_side = 4 * max(embedding["image_embedding"].shape[-2:])
    for number in range(count):
        points = rng.uniform(0, side, (int(rng.integers(1, 4)), 2))
        labels = rng.integers(0, 2, len(points))
        corners = np.sort(rng.uniform(0, side, (2, 2)), axis=0)
        kind = number % 4
        if kind == 0:
            points, labels = np.vstack([points, [[0, 0]]]), np.append(labels, -1)
        else:
            points = np.vstack([points, corners]) if kind == 2 else corners
            labels = np.append(labels, [2, 3]) if kind == 2 else np.array([2, 3])
        prompt = {
            "point_coords": points[None].astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
        }
        if kind == 3:
            prompt["mask_input"] = 4 * rng.standard_normal((1, 1, mask_side, mask_side)).astype(np.float32)
        yield prompt


def _decode(network: Sam, embedding: dict[str, Tensor], prompt: NamedArrays) -> np.ndarray:
    inputs = {name: torch.from_numpy(array) for name, array in prompt.items()}
    masks, _ = network.decode(embedding, mask_tokens=MULTIMASK, fold=False, **inputs)
    return masks.numpy()


def _decode_files(
    files: dict[str, OnnxFile], views: Views | None, arrays: NamedArrays, prompt: NamedArrays
) -> np.ndarray:
    def decode_view(shown: NamedArrays, inputs: DecoderInputs) -> tuple[np.ndarray, np.ndarray]:
        named = {name: array for name, array in vars(inputs).items() if array is not None}
        part = "decoder_mask" if "mask_input" in named else "decoder"
        out = _run(files, part, shown | named | {"mask_tokens": np.array(MULTIMASK)})
        return out["low_res_masks"], out["iou_predictions"]

    inputs = DecoderInputs(**prompt)
    if views is None:
        return decode_view(arrays, inputs)[0]
    return views.decode(arrays, inputs, decode_view, np.full, np.concatenate)[0]


def _run(files: dict[str, OnnxFile], part: str, arrays: NamedArrays) -> NamedArrays:
    file = files[part]
    missing = [name for name in file.inputs if name not in arrays]
    if missing:
        raise WeightsError(f"{file.path}: wants {', '.join(missing)[:100]}; export it again")
    return file.run({name: arrays[name] for name in file.inputs})


def _smallest_iou(ours: np.ndarray, theirs: np.ndarray) -> float:
    union = (ours | theirs).sum((-2, -1))
    both = (ours & theirs).sum((-2, -1))
    return float((both / np.maximum(union, 1))[union > 0].min(initial=1.0))
