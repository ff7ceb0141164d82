"""``mobilesam segment``: masks of the objects that are pointed at."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from mobilesam.cli.options import BoxType, Coordinate, PointType, load_model, model_options
from mobilesam.core.errors import MobileSamError, OutputError, PromptError
from mobilesam.core.types import Prompt
from mobilesam.formats.image import image_to_png, printable, read_image, read_limited, read_mask
from mobilesam.formats.overlay import draw_ruler
from mobilesam.formats.prompt_file import read_prompts
from mobilesam.predictor import Model
from mobilesam.segment_files import (
    KINDS,
    RESULTS_VERSION,
    Source,
    encode,
    find_sources,
    segment_file,
)
from mobilesam.storage.atomic import write_bytes

PARTIAL_EXIT = 5
STANDARD_STREAM = "-"
DEFAULT_OUT = "mobilesam-out"
DEFAULT_SAVE = "mask,overlay"


@click.command(short_help="Segment objects in images by points, boxes or masks.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--point", "points", multiple=True, type=PointType(), help="A point on the object; LABEL 0: beside it."
)
@click.option("--box", "boxes", multiple=True, type=BoxType(), help="A box around an object.")
@click.option("--mask", metavar="FILE", help="A coarse mask of the object, as an image of the same size.")
@click.option("--prompts", "prompt_file", metavar="FILE.json", help="Prompts for one or more objects.")
@click.option("--ruler", is_flag=True, help="Only write the picture with a coordinate grid.")
@click.option(
    "--out",
    default=DEFAULT_OUT,
    show_default=True,
    metavar="DIR",
    help="Folder for the results; - for standard output.",
)
@click.option(
    "--save", default=DEFAULT_SAVE, show_default=True, metavar="LIST", help=f"Some of {','.join(KINDS)}."
)
@click.option("--overwrite", is_flag=True, help="Replace results that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    help="Limit on an image's pixels.  [default: 50000000]",
)
@model_options
def segment(
    images: tuple[str, ...],
    points: tuple,
    boxes: tuple,
    mask: str | None,
    prompt_file: str | None,
    ruler: bool,
    out: str,
    save: str,
    overwrite: bool,
    as_json: bool,
    max_pixels: int | None,
    model: str | None,
    checkpoint: str | None,
    runtime: str | None,
    device: str | None,
    dtype: str | None,
) -> int:
    """Segment objects in images by points, boxes or masks.

    IMAGE is a file, a folder, a pattern such as 'shots/*.jpg', or - for standard input.
    Coordinates are pixels of the upright picture, or per cent of its sides. All --point
    belong to one object; each --box is an object of its own; one --box with --point and
    --mask describes one object together.

    \b
    mobilesam segment photo.jpg --box 120,40,380,300
    mobilesam segment photo.jpg --point 50%,40% --point 10%,10%,0 --save mask,cutout
    mobilesam segment shots/ --box 10%,10%,90%,90% --out masks --save coco --json
    mobilesam segment photo.jpg --ruler
    cat photo.jpg | mobilesam segment - --point 50%,50% --out - --save mask > mask.png

    Results are DIR/NAME_1_mask.png for each object, DIR/NAME_overlay.png for the picture,
    and so on; see docs/reference/command-line.md.
    """
    kinds = _parse_save(save)
    sources = _find(images)
    if ruler:
        _write_rulers(sources, Path(out), overwrite=overwrite, max_pixels=max_pixels)
        return 0
    prompting = _Prompting(points, boxes, mask, prompt_file)
    loaded = load_model(model, checkpoint, runtime, device, dtype)
    if out == STANDARD_STREAM:
        _segment_to_stdout(loaded, sources, prompting, kinds)
        return 0
    return _segment_all(
        loaded,
        sources,
        prompting,
        kinds,
        out=Path(out),
        overwrite=overwrite,
        as_json=as_json,
        max_pixels=max_pixels,
    )


class _Prompting:
    """The prompt options; called with an image's size, it gives the prompts."""

    def __init__(self, points: Sequence, boxes: Sequence, mask: str | None, prompt_file: str | None) -> None:
        if prompt_file is not None and (points or boxes or mask):
            raise PromptError(
                "--prompts: cannot be joined with --point, --box or --mask; put all into the file", code="U"
            )
        if not (points or boxes or mask or prompt_file):
            raise PromptError(
                "no prompt: give --point, --box, --mask or --prompts; --ruler shows the picture's coordinates"
            )
        if len(boxes) > 1 and (points or mask):
            raise PromptError(
                f"--box: {len(boxes)} boxes together with points or a mask can be meant in several ways; "
                "write them as objects into a file for --prompts",
                code="U",
            )
        self.points, self.boxes = points, boxes
        self.mask = None if mask is None else read_mask(mask)
        self.prompts = None if prompt_file is None else read_prompts(prompt_file)

    def __call__(self, size: tuple[int, int]) -> list[Prompt]:
        if self.prompts is not None:
            return self.prompts
        points = [_place(x, y, size) for x, y, _ in self.points] or None
        labels = [label for _, _, label in self.points] or None
        boxes = [[*_place(box[0], box[1], size), *_place(box[2], box[3], size)] for box in self.boxes]
        first = Prompt(points, labels, boxes[0] if boxes else None, self.mask)
        return [first, *(Prompt(box=box) for box in boxes[1:])]


def _place(x: Coordinate, y: Coordinate, size: tuple[int, int]) -> list[float]:
    return [x.pixels(size[1]), y.pixels(size[0])]


def _parse_save(text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise click.UsageError(f"--save: {kind!r} is unknown; choose some of {','.join(KINDS)}")
    return list(dict.fromkeys(kinds))


def _find(images: Sequence[str]) -> list[Source]:
    """Expand patterns that the shell did not; standard input is one image."""
    if STANDARD_STREAM in images:
        if len(images) > 1:
            raise click.UsageError("-: standard input is one image; give no others with it")
        return [Source("standard input", "stdin", read_limited(sys.stdin.buffer, "standard input"))]
    paths: list[Path] = []
    for image in images:
        found = (
            sorted(glob.glob(image, recursive=True))
            if glob.has_magic(image) and not Path(image).exists()
            else None
        )
        if found == []:
            raise click.UsageError(f"{image}: matches no file")
        paths += [Path(name) for name in (found or [image])]
    return find_sources(paths)


def _segment_all(
    model: Model,
    sources: Sequence[Source],
    prompting: _Prompting,
    kinds: Sequence[str],
    *,
    out: Path,
    overwrite: bool,
    as_json: bool,
    max_pixels: int | None,
) -> int:
    """Segment every image; one that fails is told and the rest goes on."""
    records: list[dict[str, Any]] = []
    failures: list[tuple[Source, MobileSamError]] = []
    many = len(sources) > 1
    bar = (
        click.progressbar(sources, label="segmenting", file=sys.stderr, show_pos=True)
        if many
        else nullcontext(sources)
    )
    with bar as progress:
        for source in progress:
            try:
                record = segment_file(
                    model, source, prompting, out=out, save=kinds, overwrite=overwrite, max_pixels=max_pixels
                )
            except MobileSamError as error:
                if not many or _cannot_go_on(error):
                    raise
                failures.append((source, error))
                click.echo(f"error[{error.code}]: {_with_name(source, error)}", err=True)
                continue
            records.append(record)
            for warning in record["warnings"]:
                click.echo(f"warning: {source.name}: {warning}", err=True)
            if not as_json and not many:
                _print_record(record)
    if as_json:
        click.echo(json.dumps(_document(model, records, failures)))
    elif many:
        click.echo(f"{len(records)} of {len(sources)} images done; results in {printable(out)}")
    if failures:
        return PARTIAL_EXIT if records else failures[0][1].exit_code
    return 0


def _document(
    model: Model, records: list[dict[str, Any]], failures: list[tuple[Source, MobileSamError]]
) -> dict[str, Any]:
    """Return the results as docs/reference/results.schema.json has them."""
    return {
        "version": RESULTS_VERSION,
        "model": {"name": model.name, "runtime": model.runtime.name, "device": model.runtime.device},
        "images": records,
        "errors": [
            {"file": source.name, "code": error.code, "message": printable(error)}
            for source, error in failures
        ],
    }


def _print_record(record: dict[str, Any]) -> None:
    times = record["milliseconds"]
    click.echo(
        f"{record['file']}: {record['width']} x {record['height']}, embedded in {times['embed']:.0f} ms, "
        f"{len(record['objects'])} segmented in {times['segment']:.0f} ms"
    )
    for number, entry in enumerate(record["objects"], start=1):
        best = entry["masks"][entry["chosen"]]
        box = ",".join(str(v) for v in best["box"])
        click.echo(
            f"  object {number}: {best['area']} pixels, box {box}, predicted IoU {best['predicted_iou']:.2f}"
        )
        for kind, path in entry["files"].items():
            click.echo(f"    {kind}: {printable(path)}")
    for kind, path in record["files"].items():
        click.echo(f"  {kind}: {printable(path)}")


def _segment_to_stdout(
    model: Model, sources: Sequence[Source], prompting: _Prompting, kinds: Sequence[str]
) -> None:
    """Write the one output asked for to standard output."""
    if len(sources) != 1 or len(kinds) != 1:
        raise click.UsageError("--out -: takes one image and one kind, such as --save mask")
    embedding = model.embed(sources[0].content)
    results = model.segment(embedding, prompting(embedding.original_size))
    if len(results) > 1 and kinds[0] in ("mask", "cutout"):
        raise click.UsageError(f"--out -: {len(results)} objects have {len(results)} files; give a folder")
    sys.stdout.buffer.write(encode(kinds[0], results, sources[0]))


def _write_rulers(sources: Sequence[Source], out: Path, *, overwrite: bool, max_pixels: int | None) -> None:
    limits = {} if max_pixels is None else {"max_pixels": max_pixels}
    for source in sources:
        image = read_image(source.content, name=source.name, **limits)
        path = out / f"{source.stem}_ruler.png"
        write_bytes(path, image_to_png(draw_ruler(image)), overwrite=overwrite)
        click.echo(f"ruler: {printable(path)}")


def _cannot_go_on(error: MobileSamError) -> bool:
    """Whether the next image would meet the same error: a disk that is full, but not a file that exists."""
    return isinstance(error, OutputError) and error.__cause__ is not None


def _with_name(source: Source, error: MobileSamError) -> str:
    text = printable(error)
    return text if text.startswith(source.name) else f"{source.name}: {text}"
