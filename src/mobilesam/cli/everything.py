"""``mobilesam everything``: masks of everything in an image, without being pointed at it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mobilesam.annotate.everything_files import ENDINGS, FOLDER, KINDS, encode, search_file
from mobilesam.annotate.segment_files import Outcome, Settings, Source, each_outcome, outcomes_to_document
from mobilesam.cli.images import (
    STANDARD_STREAM,
    exit_code,
    find_images,
    parse_kinds,
    result_options,
    tell,
)
from mobilesam.cli.options import NumberType, load_model, model_options
from mobilesam.cli.progress import SearchProgress
from mobilesam.core.text import printable
from mobilesam.detectors.base import Detector
from mobilesam.detectors.load import detector_for
from mobilesam.formats.image import MAX_PIXELS, read_image
from mobilesam.formats.image_bytes import shown
from mobilesam.segment.everything.options import SAMPLERS, EverythingOptions
from mobilesam.segment.model import Model

DEFAULT_SAVE = "overlay,sa1b"
SEARCH_OPTIONS = (
    ("confidence", "Ask only for boxes that hold an object so surely.  [default: 0.01]"),
    ("proposal-nms-thresh", "Of two boxes whose IoU is higher, one is asked for.  [default: 0.8]"),
    ("max-boxes", "Ask for so many boxes at most.  [default: 320]"),
    ("max-prompts", "Boxes and points of the hybrid, together.  [default: 256]"),
    (
        "mask-nms-thresh",
        "Of two masks of boxes or the hybrid whose IoU is higher, one stays.  [default: 0.8]",
    ),
    ("points-per-side", "Points along each side of the grid, and of the hybrid's finest.  [default: 32]"),
    ("pred-iou-thresh", "Masks must have a higher predicted IoU.  [default: the model's own]"),
    ("stability-score-thresh", "Masks must be at least so stable.  [default: the model's own]"),
    ("stability-score-offset", "How far the threshold moves for the stability.  [default: 1]"),
    ("box-nms-thresh", "Of two masks of the grid whose boxes' IoU is higher, one stays.  [default: 0.7]"),
    ("crop-n-layers", "Layers of crops that the grid searches too; layer i has 4^i.  [default: 0]"),
    ("crop-nms-thresh", "As --box-nms-thresh, between crops.  [default: 0.7]"),
    ("crop-overlap-ratio", "How far crops overlap.  [default: 0.341]"),
    ("crop-n-points-downscale-factor", "By how much the grid thins out by layer.  [default: 1]"),
    ("min-mask-region-area", "Fill holes and drop islands below so many pixels.  [default: 0]"),
    ("seconds", "Stop after so long, for each image, with the masks found by then."),
)


def search_options(command: Any) -> Any:
    """Add the sampler, its detector, and every number of :class:`EverythingOptions` under its own name."""
    for name, about in reversed(SEARCH_OPTIONS):
        command = click.option(f"--{name}", type=NumberType(), help=about)(command)
    for option in (
        click.option("--layout", metavar="NAME", help="Of the detector's outputs.  [default: found out]"),
        click.option(
            "--detector", metavar="MODEL|FILE", help="What finds boxes.  [default: pocket's own head]"
        ),
        click.option("--paper", is_flag=True, help="MobileSAMv2's settings: 0.4, 0.9, 320 boxes, no filter."),
        click.option("--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)}.  [default: hybrid]"),
    ):
        command = option(command)
    return command


@click.command(short_help="Segment everything in images.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@result_options(KINDS, DEFAULT_SAVE)
@search_options
@model_options
def everything(
    images: tuple[str, ...],
    out: str,
    save: str,
    overwrite: bool,
    as_json: bool,
    follow_symlinks: bool,
    max_pixels: int | None,
    model: str | None,
    checkpoint: str | None,
    runtime: str | None,
    device: str | None,
    dtype: str | None,
    paper: bool,
    detector: str | None,
    layout: str | None,
    **search: float | str | None,
) -> int:
    """Segment everything in images.

    IMAGE is a file, a folder, a pattern such as 'shots/*.jpg', or - for standard input.
    Boxes that may hold an object are asked for, then points where no mask lies yet; or, with
    --sampler grid, every point of a grid. The masks that the model believes are kept once.

    \b
    mobilesam everything photo.jpg
    mobilesam everything photo.jpg --sampler grid --points-per-side 16 --seconds 10
    mobilesam everything photo.jpg --paper --detector yolox_nano.onnx
    mobilesam everything shots/ --out found --save overlay,coco --json
    mobilesam everything photo.jpg --save id-map,masks --min-mask-region-area 100
    cat photo.jpg | mobilesam everything - --out - --save overlay > overlay.png

    Results are DIR/NAME_everything.png, the picture with numbered outlines, and so on; see
    docs/reference/command-line.md.
    """
    kinds = parse_kinds(save, KINDS)
    if not kinds and not as_json:
        raise click.UsageError(f"--save: is empty; choose some of {','.join(KINDS)}, or pass --json")
    to_stdout = out == STANDARD_STREAM
    if to_stdout and as_json:
        raise click.UsageError("--out -: cannot be joined with --json, which prints to the same place")
    given: dict[str, Any] = {name: value for name, value in search.items() if value is not None}
    options = EverythingOptions.paper(**given) if paper else EverythingOptions(**given)
    if options.sampler == "grid" and (detector or layout):
        raise click.UsageError("--detector, --layout: a grid has none; leave them or --sampler grid out")
    if layout and not detector:
        raise click.UsageError("--layout: is of a detector's file; give --detector FILE as well")
    limit = max_pixels or MAX_PIXELS
    sources = find_images(images, None if to_stdout else Path(out), follow_symlinks=follow_symlinks)
    loaded = load_model(model, checkpoint, runtime, device, dtype)
    found_by = detector_for(loaded.runtime, loaded.name, detector, layout=layout) if detector else None
    if to_stdout:
        _search_to_stdout(loaded, sources, options, found_by, kinds, limit)
        return 0
    settings = Settings(Path(out), kinds, overwrite, limit)
    return _search_all(loaded, sources, options, found_by, settings, as_json=as_json)


def _search_all(
    model: Model,
    sources: Sequence[Source],
    options: EverythingOptions,
    detector: Detector | None,
    settings: Settings,
    *,
    as_json: bool,
) -> int:
    """Search every image, tell what happens, and return the exit code."""
    many = len(sources) > 1
    outcomes: list[Outcome] = []
    try:
        with SearchProgress(len(sources)) as progress:

            def search(source: Source) -> dict[str, Any]:
                return search_file(model, source, options, settings, detector, progress.of(source.name))

            for outcome in each_outcome(sources, search):
                outcomes.append(outcome)
                progress.next()
                tell(outcome, many)
    finally:
        if as_json:
            click.echo(json.dumps(outcomes_to_document(model, outcomes)))
    done = [o.record for o in outcomes if o.record is not None]
    if not as_json and many:
        click.echo(f"{len(done)} of {len(sources)} images done; results in {printable(settings.out)}")
        if done and "overlay" in settings.save:
            click.echo(f"  overlays: {printable(settings.out / '*')}_{ENDINGS['overlay']}")
    elif not as_json and done:
        _print_record(done[0])
    return exit_code(outcomes)


def _print_record(record: dict[str, Any]) -> None:
    click.echo(
        f"{record['file']}: {record['width']} x {record['height']}, {len(record['masks'])} masks from "
        f"{record['prompts']:,} prompts in {record['milliseconds'] / 1000:.1f} s"
    )
    for kind, path in sorted(record["files"].items(), key=lambda item: item[0] != "overlay"):
        click.echo(f"  {kind}: {printable(path)}")


def _search_to_stdout(
    model: Model,
    sources: Sequence[Source],
    options: EverythingOptions,
    detector: Detector | None,
    kinds: Sequence[str],
    max_pixels: int,
) -> None:
    """Write the one output asked for to standard output."""
    if len(sources) != 1 or len(kinds) != 1 or kinds[0] == FOLDER:
        raise click.UsageError(
            "--out -: takes one image and one kind that is one file, such as --save overlay"
        )
    source = sources[0]
    if source.problem is not None:
        raise source.problem
    remarks: list[str] = []
    image = read_image(source.content, max_pixels=max_pixels, name=source.name, remarks=remarks)
    for remark in remarks:
        click.echo(f"warning: {shown(source.name)}: {remark}", err=True)
    with SearchProgress(1) as progress:
        found = model.everything(
            image, options, detector=detector, max_pixels=max_pixels, progress=progress.of(source.name)
        )
    click.echo(encode(kinds[0], found, source), nl=False)
