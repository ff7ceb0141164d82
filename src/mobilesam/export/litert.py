"""A model for LiteRT, formerly TensorFlow Lite: one ``.tflite`` for each step, inputs and outputs by their names."""

from __future__ import annotations

from pathlib import Path

import litert_torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mobilesam.export.fixed import Named, Step, write_fixed
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.litert import SUFFIX, LiteRtRuntime


def write(
    name: str, weights: Weights, folder: Path, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write a network's steps for LiteRT; see :func:`mobilesam.export.fixed.write_fixed`."""
    return write_fixed("litert", name, weights, folder, convert, overwrite=overwrite)


def convert(step: Step, folder: Path, stem: str) -> None:
    """Convert one step into a file of a folder."""
    with sdpa_kernel(SDPBackend.MATH):
        model = litert_torch.convert(Named(step).eval(), sample_kwargs=step.inputs)
    model.export(str(folder / f"{stem}{SUFFIX}"))


def open_exported(name: str, weights: Weights, folder: Path, *, threads: int | None = None) -> LiteRtRuntime:
    """Return a runtime over files that :func:`write` wrote."""
    return LiteRtRuntime(folder, name, threads=threads)
