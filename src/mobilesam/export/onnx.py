"""A model as ONNX files for use elsewhere: the package's graphs, joined with weights."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort

from mobilesam.core.arrays import sum_of_tensors
from mobilesam.core.errors import LimitError
from mobilesam.core.version import __version__
from mobilesam.export.halves import store_halves
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights import check_tensors
from mobilesam.weights.graph_index import GRAPHS, graph_index
from mobilesam.weights.onnx_join import fill_weights

MAX_BYTES = 2 * 10**9  # of a file's weights: an ONNX file, as any of protobuf's, ends at 2 GiB
# What an exported file says of itself.
VERSION_KEY, NETWORK_KEY, SUM_KEY = "mobilesam.version", "mobilesam.network", "mobilesam.sha256_of_tensors"


def write(
    name: str,
    weights: Weights,
    folder: Path,
    *,
    half: bool = False,
    calibration: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write self-contained ONNX files of a network or detector ``name`` with ``weights``; return their paths.

    ``encoder``: ``pixels`` (1, 3, S, S), for ``pocket`` also with one side shorter, to the embedding's arrays.
    ``prepare``, where the network has one: what the decoder makes once per image. ``decoder`` and
    ``decoder_mask``: those arrays, or a view's (:mod:`mobilesam.core.views`), with ``mask_tokens`` (M,),
    ``point_coords`` (B, N, 2), ``point_labels`` (B, N) and, for the second, ``mask_input`` (B, 1, 4h, 4w), to
    ``low_res_masks`` (B, M, 4h, 4w) and ``iou_predictions`` (B, M). B, N and M are dynamic. ``proposals``,
    where the network has a head for objects: its maps to ``boxes`` (1, P, 4) and ``objectness`` (1, P); a
    detector has this one alone, from ``pixels``.

    Each file says by which version and from which weights it was made, by the sum of their tensors.

    Args:
        name: of the network or detector.
        weights: its tensors.
        folder: where the files go.
        half: store weights as float16, half the bytes; the arithmetic stays float32. What float16 does not hold is
            rounded; it holds those of ``pocket`` exactly.
        calibration: folder of photos by which the encoder is stored in 8-bit integers
            (:mod:`mobilesam.export.integers`); None for floating point.
        overwrite: replace files that are there.

    Raises:
        WeightsError: if these are not the network's tensors.
        LimitError: if a part does not fit into one file (SAM's ViT-H encoder); then none is written.
        OutputError: if a file cannot be written, or one exists and ``overwrite`` is false; then none is written.
        ConfigError: for ``calibration`` of a network whose encoder was not tried in integers, or with too few photos.
    """
    index = graph_index(name)
    check_tensors(weights, index.tensors, "weights")
    paths = {part: folder / file_of(name, part) for part in parts_of(name)}
    for part in paths:
        check_size(name, part, weights)
    for path in paths.values():  # so that no set of files is of two kinds
        refuse_existing(path, overwrite=overwrite)
    if calibration is not None:
        from mobilesam.export.integers import check_network, encoder_in_integers  # they take long to import

        check_network(name)
    models = {part: filled(name, part, weights, half=half) for part in paths}
    if calibration is not None:
        from mobilesam.export.integers import (
            encoder_in_integers,
        )  # for which not all that it needs may be there

        models["encoder"] = encoder_in_integers(name, models["encoder"], calibration)
        onnx.helper.set_model_props(models["encoder"], made_of(name, weights))
        onnx.checker.check_model(models["encoder"])
    for part, path in paths.items():
        write_bytes(path, models.pop(part).SerializeToString(), overwrite=overwrite)
    return list(paths.values())


def filled(name: str, part: str, weights: Weights, *, half: bool = False) -> onnx.ModelProto:
    """Return a part's graph with its weights, as :func:`write` writes it."""
    model = onnx.load(GRAPHS / graph_index(name).files[part], load_external_data=False)
    fill_weights(model.graph, weights)
    if half:
        store_halves(model.graph)
    onnx.helper.set_model_props(model, made_of(name, weights))
    onnx.checker.check_model(model)
    return model


class ExportedOnnx(OnnxRuntime):
    """The ONNX runtime over exported files."""

    folder: Path

    def start(self, part: str, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open a part's file."""
        path = self.folder / file_of(self.spec.name, part)
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def open_exported(name: str, weights: Weights, folder: Path, *, threads: int | None = None) -> ExportedOnnx:
    """Return a runtime over files that :func:`write` wrote from these weights."""
    runtime = ExportedOnnx(name, weights, threads=threads)
    runtime.folder = folder
    return runtime


def check_size(name: str, part: str, weights: Weights) -> None:
    """Check that a part of a network fits into one file.

    Raises:
        LimitError: if it does not.
    """
    size = sum(weights[tensor].nbytes for tensor in graph_index(name).parts[part])
    if size > MAX_BYTES:
        raise LimitError(
            f"{name}: its {part} has {size / 1e9:.1f} GB of weights, and an ONNX file holds 2 GB; "
            "use it in Python, where the package joins graph and weights in memory, or export a smaller network"
        )


def made_of(name: str, weights: Weights) -> dict[str, str]:
    """Return what an exported file says of itself."""
    return {VERSION_KEY: __version__, NETWORK_KEY: name, SUM_KEY: sum_of_tensors(weights)}


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names of a network's graphs: only SAM's own decoder has something to prepare."""
    return tuple(graph_index(name).parts)


def file_of(name: str, part: str) -> str:
    """Return the file name of one of a network's exported graphs."""
    return f"{name}-{part}.onnx"
