"""``mobilesam export``: a model as files for other runtimes."""

from __future__ import annotations

from pathlib import Path

import click

from mobilesam.cli.options import tell_default
from mobilesam.core.errors import ConfigError, WeightsError, missing_extra
from mobilesam.core.text import printable
from mobilesam.export.programs import LAYOUTS
from mobilesam.server.integrations.cvat import function_files
from mobilesam.storage.atomic import write_bytes
from mobilesam.weights import DEFAULT_MODEL, entry_of, read_detector, read_weights


@click.group()
def export() -> None:
    """Write a model for other runtimes.

    \b
    mobilesam export onnx --model pocket --out onnx
    mobilesam export verify --model pocket --out onnx
    mobilesam export page --out site
    mobilesam export cvat --out mobilesam-cvat
    """


@export.command()
@click.option(
    "--out",
    default="mobilesam-cvat",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the files.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def cvat(out: Path, overwrite: bool) -> None:
    """Write the folder of a function that CVAT calls as an interactor; nuctl deploys it."""
    for name, text in function_files().items():
        write_bytes(out / name, text.encode(), overwrite=overwrite)
    click.echo(f"{printable(out)}: nuctl deploy --project-name cvat --path {printable(out)}")


@export.command()
@click.option("--model", metavar="NAME", help=f"pocket or mobile_sam.  [default: {DEFAULT_MODEL}]")
@click.option("--checkpoint", metavar="FILE", help="Other weights of the same network.")
@click.option(
    "--out",
    default="onnx",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the files.",
)
@click.option(
    "--graphs-only",
    is_flag=True,
    help="Leave the weights out; this is how the package's own graphs are made.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option(
    "--for",
    "program",
    type=click.Choice(list(LAYOUTS)),
    help="Write NAME.encoder.onnx and NAME.decoder.onnx as this program expects them instead; "
    "x-anylabeling also gets NAME.yaml.",
)
def onnx(
    model: str | None,
    checkpoint: str | None,
    out: Path,
    graphs_only: bool,
    overwrite: bool,
    program: str | None,
) -> None:
    """Write ONNX files: encoder, decoder, and decoder for mask prompts.

    Inputs and outputs are listed in docs/reference/onnx.md; what other programs do with files that are
    written for them is in docs/how-to/onnx-programs.md.

    \b
    mobilesam export onnx --model pocket --out onnx
    mobilesam export onnx --model mobile_sam --checkpoint mobile_sam.pt
    mobilesam export onnx --model detector_nano
    mobilesam export onnx --for x-anylabeling --model mobile_sam --out onnx
    """
    if program is not None and graphs_only:
        raise ConfigError("--for: files for a program carry their weights; leave --graphs-only out")
    try:
        from mobilesam.export.layouts import export_for
        from mobilesam.export.onnx import export_onnx

        if graphs_only:
            from mobilesam.export.graphs import write_graphs
            from mobilesam.networks.build import DETECTORS, NETWORKS
    except ModuleNotFoundError as error:
        raise missing_extra("export onnx", "export") from error
    if model is None and checkpoint is None:
        tell_default()
    model = model or DEFAULT_MODEL
    if graphs_only:
        name = model if model in (*NETWORKS, *DETECTORS) else entry_of(model).network
        paths = write_graphs(name, out, overwrite=overwrite)
    else:
        entry = entry_of(model)
        weights = read_detector(entry, checkpoint) if entry.detector else read_weights(entry, checkpoint)
        network = entry.network or entry.detector
        if program is None:
            paths = export_onnx(network, weights, out, overwrite=overwrite)
        else:
            paths = export_for(program, network, weights, out, name=model, overwrite=overwrite)
    for path in paths:
        click.echo(f"{printable(path)}: {path.stat().st_size / 1e6:.1f} MB")


@export.command()
@click.option(
    "--out",
    default="site",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the files.",
)
@click.option("--checkpoint", metavar="FILE", help="Other weights of pocket.")
@click.option(
    "--runtime",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="onnxruntime-web, as npm's archive or a folder of its files; fetched from npm without it.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def page(out: Path, checkpoint: str | None, runtime: Path | None, overwrite: bool) -> None:
    """Write the page with pocket in it, as a folder to host anywhere.

    Photos stay on the visitor's device. After the first visit it works without a network.

    \b
    mobilesam export page --out site
    python -m http.server --directory site --bind 127.0.0.1 8000
    """
    try:
        from mobilesam.export.page import NETWORK, export_page
    except ModuleNotFoundError as error:
        raise missing_extra("export page", "page") from error
    site = export_page(read_weights(entry_of(NETWORK), checkpoint), out, runtime=runtime, overwrite=overwrite)
    first = sum(site.files[name] for name in site.first_visit)
    click.echo(f"{printable(out)}: {len(site.files)} files, {sum(site.files.values()) / 1e6:.1f} MB")
    click.echo(f"a first visit fetches {first / 1e6:.1f} MB; version {site.version}")


@export.command()
@click.option("--model", metavar="NAME", help=f"pocket or mobile_sam.  [default: {DEFAULT_MODEL}]")
@click.option(
    "--checkpoint", metavar="FILE", help="The weights that were exported, if not the published ones."
)
@click.option(
    "--out",
    default="onnx",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that the files lie in.",
)
@click.option(
    "--prompts", default=200, show_default=True, type=click.IntRange(min=1), help="How many are asked."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of picture and prompts."
)
def verify(model: str | None, checkpoint: str | None, out: Path, prompts: int, seed: int) -> int:
    """Compare exported ONNX files with the network in PyTorch on random prompts.

    \b
    mobilesam export verify --model pocket --out onnx
    """
    try:
        from mobilesam.export.verify import MAX_DIFFERENCE, MIN_IOU, verify_onnx
    except ModuleNotFoundError as error:
        raise missing_extra("export verify", "export") from error
    if model is None and checkpoint is None:
        tell_default()
    entry = entry_of(model or DEFAULT_MODEL)
    parity = verify_onnx(entry.network, read_weights(entry, checkpoint), out, prompts=prompts, seed=seed)
    click.echo(f"prompts: {parity.prompts}")
    click.echo(
        f"largest difference of low-resolution logits: {parity.difference:.2g} (allowed {MAX_DIFFERENCE:g})"
    )
    click.echo(f"smallest IoU of low-resolution masks: {parity.iou:.6f} (allowed {MIN_IOU:g})")
    if parity.objectness:
        click.echo(f"largest difference of objectness: {parity.objectness:.2g} (allowed {MAX_DIFFERENCE:g})")
    if not parity.holds:
        raise WeightsError(f"{out}: these files are not {entry.network} with these weights; export again")
    return 0
