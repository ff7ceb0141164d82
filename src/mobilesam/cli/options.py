"""Options that several commands share, and the forms in which coordinates are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from mobilesam.segment.model import Model, load
from mobilesam.weights import DEFAULT_MODEL, entry_of


@dataclass(frozen=True)
class Coordinate:
    """A number of pixels, or per cent of a side."""

    value: float
    percent: bool

    def pixels(self, side: int) -> float:
        """Return the place along a side of so many pixels."""
        return self.value * side / 100 if self.percent else self.value


def parse_coordinate(text: str) -> Coordinate:
    """Read ``210``, ``210.5`` or ``50%``; raises ValueError for anything else."""
    text = text.strip()
    return Coordinate(float(text.removesuffix("%")), text.endswith("%"))


class PointType(click.ParamType):
    """``X,Y`` or ``X,Y,LABEL``."""

    name = "X,Y[,LABEL]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (x, y, label)."""
        parts = value.split(",")
        try:
            if len(parts) not in (2, 3):
                raise ValueError
            label = 1.0 if len(parts) == 2 else float(parts[2])
            return parse_coordinate(parts[0]), parse_coordinate(parts[1]), label
        except ValueError:
            self.fail(
                f"{value!r} is no point; write X,Y or X,Y,LABEL such as 210,140 or 50%,40%,1, without spaces",
                param,
                ctx,
            )


class BoxType(click.ParamType):
    """``X0,Y0,X1,Y1``."""

    name = "X0,Y0,X1,Y1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return four coordinates."""
        try:
            corners = tuple(parse_coordinate(part) for part in value.split(","))
            if len(corners) != 4:
                raise ValueError
            return corners
        except ValueError:
            self.fail(
                f"{value!r} is no box; write X0,Y0,X1,Y1 such as 120,40,380,300 or 10%,10%,90%,90%, without spaces",
                param,
                ctx,
            )


class NumberType(click.ParamType):
    """A number; what is none is passed on as it is, so that the library says what is allowed."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int, a float or the text."""
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return value


def model_options(command: Callable) -> Callable:
    """Add --model, --checkpoint, --runtime, --device and --dtype."""
    for option in reversed(
        (
            click.option(
                "--model", metavar="NAME", help=f"pocket or mobile_sam.  [default: {DEFAULT_MODEL}]"
            ),
            click.option("--checkpoint", metavar="FILE", help="Other weights of the same network."),
            click.option("--runtime", metavar="NAME", help="onnx or torch.  [default: onnx]"),
            click.option(
                "--device", metavar="NAME", help="cpu, cuda or mps.  [default: cpu; torch: cuda if there]"
            ),
            click.option(
                "--dtype", metavar="NAME", help="float32; with torch bfloat16 or float16.  [default: float32]"
            ),
        )
    ):
        command = option(command)
    return command


def load_model(
    model: str | None, checkpoint: str | None, runtime: str | None, device: str | None, dtype: str | None
) -> Model:
    """Load the model asked for; where none is asked for, say which one it is and how to get the other."""
    loaded = load(
        DEFAULT_MODEL if model is None else model,
        checkpoint=checkpoint,
        runtime=runtime,
        device=device,
        dtype=dtype,
    )
    if model is None and checkpoint is not None:
        click.echo(f"model: {loaded.name}", err=True)
    elif model is None:
        tell_default()
    return loaded


def tell_default() -> None:
    """Say which model was taken because none was named."""
    click.echo(
        f"model: {entry_of(DEFAULT_MODEL).name}, this project's own small model; "
        "for MobileSAM's published weights see: mobilesam info mobile_sam",
        err=True,
    )
