"""A model for ExecuTorch: one ``.pte`` for each step, for processors by XNNPACK."""

from __future__ import annotations

from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch.nn.attention import SDPBackend, sdpa_kernel

from mobilesam.export.fixed import Step, write_fixed
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.executorch import SUFFIX, ExecuTorchRuntime


def write(
    name: str, weights: Weights, folder: Path, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write a network's steps for ExecuTorch; see :func:`mobilesam.export.fixed.write_fixed`."""
    return write_fixed("executorch", name, weights, folder, convert, overwrite=overwrite)


def convert(step: Step, folder: Path, stem: str) -> None:
    """Convert one step into a file of a folder."""
    with sdpa_kernel(SDPBackend.MATH):
        program = torch.export.export(step.module.eval(), step.example)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    (folder / f"{stem}{SUFFIX}").write_bytes(lowered.to_executorch().buffer)


def open_exported(
    name: str, weights: Weights, folder: Path, *, threads: int | None = None
) -> ExecuTorchRuntime:
    """Return a runtime over files that :func:`write` wrote."""
    return ExecuTorchRuntime(folder, name)
