"""A process that measures one of our models: ``python -m mobilesam.benchmark.worker``; see :mod:`mobilesam.benchmark.protocol`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mobilesam.benchmark.macs import network_macs
from mobilesam.benchmark.protocol import Loaded, image_at, serve
from mobilesam.benchmark.systems import System, open_system
from mobilesam.core.arrays import Image
from mobilesam.core.machine import versions
from mobilesam.core.preprocess import preprocess
from mobilesam.core.types import DecoderInputs, Prompt
from mobilesam.core.version import __version__
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model

BATCHES = (1, 8, 64)
GRID = 8  # points along each side


def load(asked: dict[str, Any]) -> Loaded:
    """Load one of our models."""
    system = open_system(asked["system"])
    runtime = OnnxRuntime(system.network, system.weights, threads=asked.get("threads"))
    image = image_at(asked["photo"])
    facts: dict[str, Any] = {
        "parameters": system.parameters,
        "bytes_a_parameter": round(system.file_bytes / system.parameters),
        "file_bytes": system.file_bytes,
        "weights": system.kind,
        "runtime": "ONNX Runtime",
        "versions": {"mobilesam": __version__, **versions(("numpy", "onnxruntime"))},
    }
    count = partial(count_macs, system, runtime, image, asked.get("threads"))
    return Loaded(facts, phases_of(Model(runtime, name=system.name), image), count)


def count_macs(system: System, runtime: OnnxRuntime, image: Image, threads: int | None) -> dict[str, int]:
    """Return the multiplications for an image, and for one point."""
    side = runtime.spec.prompt_size
    point = DecoderInputs(
        np.array([[[side / 2, side / 2], [0, 0]]], np.float32), np.array([[1, -1]], np.float32)
    )
    return network_macs(
        system.network, system.weights, preprocess(image, runtime.spec), point, threads=threads
    )


def phases_of(model: Model, image: Image) -> dict[str, Callable[[], Callable[[], object]]]:
    """Return what is timed of a model; what a phase needs is made once, on its first turn."""
    kept: dict[str, Any] = {}

    def once(name: str, make: Callable[[], Any]) -> Any:
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def pixels() -> Any:
        return once("pixels", lambda: preprocess(image, model.runtime.spec))

    def embedding() -> Any:
        return once("embedding", lambda: model.embed(image))

    def encode() -> Callable[[], object]:
        given = pixels()
        return lambda: model.runtime.encode(given)

    def decode(count: int) -> Callable[[], Callable[[], object]]:
        def prepare() -> Callable[[], object]:
            given, prompts = embedding(), points_in(image, count)
            return lambda: model.segment(given, prompts, multimask=True)

        return prepare

    def enlarge() -> Callable[[], object]:
        (result,) = model.segment(embedding(), points_in(image, 1), multimask=True)
        return lambda: result.mask

    def everything() -> Callable[[], object]:
        options = EverythingOptions(
            sampler="grid",
            points_per_side=GRID,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
            box_nms_thresh=1.0,
        )
        return lambda: model.everything(image, options)

    return {
        "pre-processing": lambda: lambda: preprocess(image, model.runtime.spec),
        "encoder": encode,
        **{f"decoder, {n} prompt{'s' if n > 1 else ''}": decode(n) for n in BATCHES},
        "post-processing": enlarge,
        "everything": everything,
    }


def points_in(image: Image, count: int) -> list[Prompt]:
    """Return ``count`` points, spread over an image (H, W, 3)."""
    height, width = image.shape[:2]
    places = (np.arange(count) + 0.5) / count
    across = (places * np.sqrt(count)) % 1 if count > 1 else places
    return [
        Prompt(points=[x * width, y * height]) for x, y in zip(across.tolist(), places.tolist(), strict=True)
    ]


if __name__ == "__main__":
    serve(load)
