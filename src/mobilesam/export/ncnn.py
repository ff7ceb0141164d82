"""A model for ncnn, by its converter pnnx: ``.ncnn.param`` and ``.ncnn.bin`` for each step, float32.

pnnx leaves operators out that ncnn has not, and says so without failing: here that is an error. Three things are written
otherwise for it: space to depth and the convolution after it are one convolution, TinyViT's windows have fewer
dimensions, and what lies around the decoder are ONNX files of their own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pnnx
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mobilesam.core.errors import ConfigError
from mobilesam.core.text import printable
from mobilesam.export.fixed import FixedDecode, Step, fixed_steps, write_fixed
from mobilesam.export.flat_windows import flatten_windows
from mobilesam.networks.sam import Sam
from mobilesam.networks.yolox import Focus
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.ncnn import AFTER, BEFORE, SUFFIXES, NcnnRuntime

NETWORKS = ("pocket", "vit_t")
PNNX = Path(pnnx.__file__).parent / "pnnx"
LEFT_OUT = ("ignore ", "not supported", "fallback")  # how pnnx says that ncnn will do something else
OPSET = 18


class Part(nn.Module):
    """One of the three steps of a decoder."""

    def __init__(self, decode: FixedDecode, step: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.decode = decode
        self.step = step

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.step(*inputs)


def write(
    name: str, weights: Weights, folder: Path, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write a network's steps for ncnn; see :func:`mobilesam.export.fixed.write_fixed`.

    Raises:
        ConfigError: for another network than those of :data:`NETWORKS`.
    """
    if name not in NETWORKS:
        raise ConfigError(
            f"export ncnn: {name} is not among {', '.join(NETWORKS)}; pnnx does not take other encoders as they are"
        )
    return write_fixed("ncnn", name, weights, folder, convert, steps=ncnn_steps, overwrite=overwrite)


def ncnn_steps(network: Sam) -> dict[str, Step]:
    """Return a network's steps with each decoder as three, of which ncnn runs the one in the middle."""
    flatten_windows(network)
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, Focus):
                setattr(module, name, one_convolution(child))
    steps: dict[str, Step] = {}
    for part, step in fixed_steps(network).items():
        decode = step.module
        if not isinstance(decode, FixedDecode):
            steps[part] = step
            continue
        prompt = {name: tensor for name, tensor in step.inputs.items() if name not in decode.names}
        arrays = {name: step.inputs[name] for name in decode.names}
        asked = dict(zip(("tokens", "absent", "dense"), decode.ask(*prompt.values()), strict=True))
        drawn = dict(zip(("masks", "expected"), decode.draw(*asked.values(), *arrays.values()), strict=True))
        points = {name: prompt[name] for name in ("point_coords", "point_labels")}
        steps[f"{part}_{BEFORE}"] = Step(Part(decode, decode.ask), prompt, tuple(asked))
        steps[part] = Step(Part(decode, decode.draw), asked | arrays, tuple(drawn))
        steps[f"{part}_{AFTER}"] = Step(Part(decode, decode.finish), drawn | points, step.outputs)
    return steps


def one_convolution(focus: Focus) -> nn.Module:
    """Return space to depth and its 3 x 3 convolution as one of 6 x 6 and stride 2, exactly."""
    old = focus.conv.conv
    assert old.bias is not None
    channels = old.in_channels // 4
    new = nn.Conv2d(channels, old.out_channels, 6, stride=2, padding=2)
    weight = torch.zeros_like(new.weight)
    for number, (column, row) in enumerate((column, row) for column in (0, 1) for row in (0, 1)):
        weight[:, :, row::2, column::2] = old.weight[:, number * channels : (number + 1) * channels]
    new.weight, new.bias = nn.Parameter(weight), nn.Parameter(old.bias)
    return nn.Sequential(new, nn.SiLU())


def convert(step: Step, folder: Path, stem: str) -> None:
    """Convert one step into files of a folder.

    Raises:
        ConfigError: if pnnx leaves something out.
    """
    if stem.endswith((BEFORE, AFTER)):
        torch.onnx.export(
            step.module.eval(),
            step.example,
            str(folder / f"{stem}.onnx"),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(step.inputs),
            output_names=list(step.outputs),
            verbose=False,
        )
        return
    traced = folder / f"{stem}.pt"
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        torch.jit.trace(step.module.eval(), step.example, check_trace=False).save(str(traced))
    shapes = ",".join(f"[{','.join(map(str, tensor.shape))}]" for tensor in step.example)
    outputs = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    command = [
        str(PNNX),
        str(traced),
        f"inputshape={shapes}",
        "fp16=0",
        f"ncnnbin={outputs[0]}",
        f"ncnnparam={outputs[1]}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    said = [
        line for line in (done.stdout + done.stderr).splitlines() if any(sign in line for sign in LEFT_OUT)
    ]
    if done.returncode or said or not all(path.is_file() for path in outputs):
        reason = printable("; ".join(said) or f"it ended with {done.returncode}")[:300]
        raise ConfigError(f"export ncnn: pnnx does not convert {stem} as it is: {reason}")
    for path in folder.iterdir():  # its other forms of the same
        if path not in outputs:
            path.unlink()


def open_exported(name: str, weights: Weights, folder: Path, *, threads: int | None = None) -> NcnnRuntime:
    """Return a runtime over files that :func:`write` wrote."""
    return NcnnRuntime(folder, name, threads=threads)
