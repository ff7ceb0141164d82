"""A model for Core ML: one ``.mlpackage`` for each step, in float16, for iOS 17 and macOS 14. It cannot be run here."""

from __future__ import annotations

from pathlib import Path

import coremltools
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mobilesam.export.fixed import Step, write_fixed
from mobilesam.runtimes.base import Weights


def write(
    name: str, weights: Weights, folder: Path, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write a network's steps for Core ML; see :func:`mobilesam.export.fixed.write_fixed`."""
    return write_fixed("coreml", name, weights, folder, convert, overwrite=overwrite)


def convert(step: Step, folder: Path, stem: str) -> None:
    """Convert one step into a package, which is a folder, of a folder."""
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        traced = torch.jit.trace(step.module.eval(), step.example, check_trace=False)
    package = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(name, tensor.shape) for name, tensor in step.inputs.items()],
        outputs=[coremltools.TensorType(name) for name in step.outputs],
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT16,
    )
    package.save(str(folder / f"{stem}.mlpackage"))
