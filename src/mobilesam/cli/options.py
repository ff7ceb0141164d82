"""Options that several commands share, and the forms in which coordinates are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from mobilesam.cli.fields import option_field
from mobilesam.core.arrays import Size
from mobilesam.segment.model import Model, load
from mobilesam.weights import DEFAULT_MODEL, entry_of


@dataclass(frozen=True)
class Coordinate:
    """A number of pixels, or per cent of a side."""

    value: float
    percent: bool

    def pixels(self, side: int) -> float:
        """Return the place along a side of this many pixels."""
        return self.value * side / 100 if self.percent else self.value


def parse_coordinate(text: str) -> Coordinate:
    """Read ``210``, ``210.5`` or ``50%``; raises ValueError for anything else."""
    text = text.strip()
    return Coordinate(float(text.removesuffix("%")), text.endswith("%"))


def place_point(x: Coordinate, y: Coordinate, size: Size) -> list[float]:
    """Return a point's pixels in a photo of (height, width)."""
    return [x.pixels(size[1]), y.pixels(size[0])]


def place_box(box: Sequence[Coordinate], size: Size) -> list[float]:
    """Return the pixels of a box's corners in a photo of (height, width)."""
    return [*place_point(box[0], box[1], size), *place_point(box[2], box[3], size)]


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
                f"{value!r} is not a point; write X,Y or X,Y,LABEL such as 210,140 or 50%,40%,1, without spaces",
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
                f"{value!r} is not a box; write X0,Y0,X1,Y1 such as 120,40,380,300 or 10%,10%,90%,90%, without spaces",
                param,
                ctx,
            )


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it runs.

    Attributes:
        model: ``pocket``, ``mobile_sam`` or another model of ``mobilesam info``.
        checkpoint: other weights of the same network, ``.pt`` or ``.safetensors``; for litert, executorch and
            ncnn the folder that was exported.
        runtime: ``onnx``, ``openvino`` or ``torch``; or ``litert``, ``executorch`` or ``ncnn`` over exported files.
        device: ``cpu``, ``cuda``, or with torch ``mps``.
        dtype: ``float32``; with torch ``bfloat16`` or, on a GPU, ``float16``.
        embeddings: folder in which the embeddings of photos are kept, so that each is encoded once; 5 to 11 MB a photo.
        rectangular: let ``mobile_sam`` see photos with little padding instead of in a square: faster, and masks differ.
    """

    model: str | None = option_field(None, shown_default=DEFAULT_MODEL)
    checkpoint: str | None = option_field(None, metavar="FILE")
    runtime: str | None = option_field(None, shown_default="onnx")
    device: str | None = option_field(None, shown_default="cpu; torch: cuda if there")
    dtype: str | None = option_field(None, shown_default="float32")
    embeddings: str | None = option_field(None, metavar="DIR")
    rectangular: bool = option_field(False)


def text_model_field() -> Any:
    """Return the field of an option that names a text model's folder."""
    return option_field(
        None, metavar="FOLDER", shown_default="owlv2-base-patch16-ensemble beside your weights"
    )


def load_model(options: ModelOptions, *, quiet: bool = False, threads: int | None = None) -> Model:
    """Load the model asked for; where none is asked for, say which one it is and how to get the other."""
    loaded = load(
        options.model,
        checkpoint=options.checkpoint,
        runtime=options.runtime,
        device=options.device,
        dtype=options.dtype,
        threads=threads,
        embeddings=options.embeddings,
        rectangular=options.rectangular,
    )
    if options.model is None and not quiet:
        tell_default(loaded.name if options.checkpoint is not None else None)
    return loaded


def tell_default(name: str | None = None) -> None:
    """Say on a terminal which model was taken because none was named.

    Args:
        name: of the model, if it came from a checkpoint.
    """
    if not sys.stderr.isatty():
        return
    if name is not None:
        click.echo(f"model: {name}", err=True)
        return
    click.echo(
        f"model: {entry_of(DEFAULT_MODEL).name}, this project's own small model; "
        "for MobileSAM's published weights see: mobilesam info mobile_sam",
        err=True,
    )
