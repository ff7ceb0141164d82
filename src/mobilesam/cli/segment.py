"""``mobilesam segment``: masks of the objects that are pointed at or named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mobilesam.annotate.segment_files import (
    KINDS,
    PER_OBJECT,
    ByPrompts,
    ByText,
    Outcome,
    Question,
    Settings,
    Source,
    encode,
    outcomes_to_document,
    segment_each,
)
from mobilesam.cli.images import (
    STANDARD_STREAM,
    exit_code,
    find_images,
    parse_kinds,
    result_options,
    tell,
)
from mobilesam.cli.options import BoxType, Coordinate, NumberType, PointType, load_model, model_options
from mobilesam.cli.progress import bar_stream
from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import ImageError, LimitError, PromptError
from mobilesam.core.frame import Frame
from mobilesam.core.phrases import check_texts
from mobilesam.core.prompts import ValidPrompt, names_with, validate_prompt
from mobilesam.core.ranges import check_whole_number
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.detectors.load import load_text_model
from mobilesam.draw.overlay import draw_ruler
from mobilesam.formats.image import MAX_PIXELS, image_to_png, read_image, read_mask
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.prompt_file import PromptFile, read_prompts
from mobilesam.segment.model import Model
from mobilesam.segment.text import TextOptions
from mobilesam.storage.atomic import write_bytes

DEFAULT_SAVE = "mask,overlay"


@click.command(short_help="Segment objects in images by points, boxes, masks or text.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--point", "points", multiple=True, type=PointType(), help="A point on the object; LABEL 0: beside it."
)
@click.option("--box", "boxes", multiple=True, type=BoxType(), help="A box around an object.")
@click.option("--mask", metavar="FILE", help="A coarse mask of the object, as an image of the same size.")
@click.option("--text", "texts", multiple=True, metavar="WORDS", help="What objects are called: 'a dog'.")
@click.option("--text-model", metavar="FOLDER", help="What finds them.  [default: see docs/how-to/text.md]")
@click.option(
    "--text-threshold",
    type=NumberType(),
    help=f"Least score of what is found.  [default: {TextOptions().threshold}]",
)
@click.option("--prompts", "prompt_file", metavar="FILE.json", help="Prompts for one or more objects.")
@click.option(
    "--min-mask-region-area",
    type=NumberType(),
    default=0,
    show_default=True,
    help="Fill holes and drop islands below so many pixels.",
)
@click.option(
    "--ruler",
    is_flag=True,
    help="Only write the picture with a coordinate grid, and --point and --box in it.",
)
@result_options(KINDS, DEFAULT_SAVE)
@model_options
def segment(
    images: tuple[str, ...],
    points: tuple,
    boxes: tuple,
    mask: str | None,
    texts: tuple[str, ...],
    text_model: str | None,
    text_threshold: float | None,
    prompt_file: str | None,
    min_mask_region_area: Any,
    ruler: bool,
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
) -> int:
    """Segment objects in images by points, boxes, masks or text.

    IMAGE is a file, a folder, a pattern such as 'shots/*.jpg', or - for standard input.
    Coordinates are pixels of the upright picture, or per cent of its sides. All --point
    belong to one object; each --box is an object of its own; one --box with --point and
    --mask describes one object together. Each --text stands for all objects that are called
    so; it needs a text model, see docs/how-to/text.md.

    \b
    mobilesam segment photo.jpg --box 120,40,380,300
    mobilesam segment photo.jpg --point 50%,40% --point 10%,10%,0 --save mask,cutout
    mobilesam segment shots/ --box 10%,10%,90%,90% --out masks --save coco --json
    mobilesam segment photo.jpg --text "a dog" --text leash
    mobilesam segment photo.jpg --ruler
    cat photo.jpg | mobilesam segment - --point 50%,50% --out - --save mask > mask.png

    Results are DIR/NAME_1_mask.png for each object, DIR/NAME_overlay.png for the picture,
    and so on; see docs/reference/command-line.md.
    """
    kinds = parse_kinds(save, KINDS)
    if not kinds and not as_json and not ruler:
        raise click.UsageError(f"--save: is empty; choose some of {','.join(KINDS)}, or pass --json")
    to_stdout = out == STANDARD_STREAM
    if to_stdout and as_json:
        raise click.UsageError("--out -: cannot be joined with --json, which prints to the same place")
    limit = max_pixels or MAX_PIXELS
    sources = find_images(images, None if to_stdout else Path(out), follow_symlinks=follow_symlinks)
    if ruler:
        if mask or texts or prompt_file is not None:
            raise click.UsageError("--ruler: draws --point and --box; leave out --mask, --text and --prompts")
        drawn = _Prompting(points, boxes, None, (), None) if points or boxes else None
        return _write_rulers(sources, drawn, out, overwrite=overwrite, max_pixels=limit)
    question = _question(
        points, boxes, mask, texts, text_model, text_threshold, prompt_file, follow_symlinks=follow_symlinks
    )
    check_whole_number("--min-mask-region-area", min_mask_region_area, 0)
    loaded = load_model(model, checkpoint, runtime, device, dtype)
    if to_stdout:
        _segment_to_stdout(loaded, sources, question, kinds, limit, min_mask_region_area)
        return 0
    settings = Settings(Path(out), kinds, overwrite, limit, min_mask_region_area)
    return _segment_all(loaded, sources, question, settings, as_json=as_json)


def _question(
    points: Sequence,
    boxes: Sequence,
    mask: str | None,
    texts: Sequence[str],
    text_model: str | None,
    text_threshold: float | None,
    prompt_file: str | None,
    *,
    follow_symlinks: bool,
) -> Question:
    """Return what the prompt options ask for, or say why they cannot be meant."""
    if texts and (points or boxes or mask or prompt_file is not None):
        raise PromptError(
            "--text: cannot be joined with --point, --box, --mask or --prompts; its objects are found by themselves",
            code="U",
        )
    if prompt_file is not None and (points or boxes or mask):
        raise PromptError(
            "--prompts: cannot be joined with --point, --box or --mask; put all into the file", code="U"
        )
    file = PromptFile()
    if prompt_file is not None:
        file = read_prompts(prompt_file, follow_symlinks=follow_symlinks)
    asked = texts or file.texts
    if asked:
        checked = check_texts(asked)
        options = TextOptions() if text_threshold is None else TextOptions(threshold=text_threshold)
        return ByText(load_text_model(text_model), checked, options)
    if text_model is not None or text_threshold is not None:
        raise PromptError("--text-model, --text-threshold: are for texts; give --text as well", code="U")
    if prompt_file is not None and not file.prompts:
        name = shown(prompt_file)
        click.echo(f"warning: {name}: objects: is empty; there is nothing to segment", err=True)
    return ByPrompts(_Prompting(points, boxes, mask, file.prompts, prompt_file))


class _Prompting:
    """The prompt options; called with an image's size, it gives the prompts."""

    def __init__(
        self,
        points: Sequence,
        boxes: Sequence,
        mask: str | None,
        prompts: Sequence[Prompt],
        prompt_file: str | None,
    ) -> None:
        if not (points or boxes or mask or prompt_file is not None):
            raise PromptError(
                "no prompt: give --point, --box, --mask, --text or --prompts; "
                "--ruler shows the picture's coordinates"
            )
        if len(boxes) > 1 and (points or mask):
            raise PromptError(
                f"--box: {len(boxes)} boxes together with points or a mask can be meant in several ways; "
                "write them as objects into a file for --prompts",
                code="U",
            )
        self.points, self.boxes = points, boxes
        self.mask = None if mask is None else read_mask(mask)
        self.prompts, self.file = prompts, prompt_file

    def __call__(self, size: Size) -> tuple[Sequence[Prompt], list[str]]:
        if self.file is not None:
            return self.prompts, [f"{self.file}: objects[{i}]." for i in range(len(self.prompts))]
        points = [_place(x, y, size) for x, y, _ in self.points] or None
        labels = [label for _, _, label in self.points] or None
        boxes = [[*_place(box[0], box[1], size), *_place(box[2], box[3], size)] for box in self.boxes]
        first = Prompt(points, labels, boxes[0] if boxes else None, self.mask)
        prompts = [first, *(Prompt(box=box) for box in boxes[1:])]
        return prompts, [f"object {i}: " if len(prompts) > 1 else "" for i in range(1, len(prompts) + 1)]


def _place(x: Coordinate, y: Coordinate, size: Size) -> list[float]:
    return [x.pixels(size[1]), y.pixels(size[0])]


def _segment_all(
    model: Model, sources: Sequence[Source], question: Question, settings: Settings, *, as_json: bool
) -> int:
    """Segment every image, tell what happens, and return the exit code."""
    many = len(sources) > 1
    outcomes: list[Outcome] = []
    bar = click.progressbar(
        segment_each(model, sources, question, settings),
        length=len(sources),
        label="segmenting",
        file=bar_stream(wanted=many),
        show_pos=True,
    )
    try:
        with bar as progress:
            for outcome in progress:
                outcomes.append(outcome)
                tell(outcome, many)
    finally:
        if as_json:
            click.echo(json.dumps(outcomes_to_document(model, outcomes)))
    done = [o.record for o in outcomes if o.record is not None]
    if not as_json and many:
        click.echo(f"{len(done)} of {len(sources)} images done; results in {printable(settings.out)}")
    elif not as_json and done:
        _print_record(done[0])
    return exit_code(outcomes)


def _print_record(record: dict[str, Any]) -> None:
    times = record["milliseconds"]
    click.echo(
        f"{record['file']}: {record['width']} x {record['height']}, embedded in {times['embed']:.0f} ms, "
        f"{len(record['objects'])} segmented in {times['segment']:.0f} ms"
    )
    for number, entry in enumerate(record["objects"], start=1):
        best = entry["masks"][entry["chosen"]]
        box = ",".join(str(v) for v in best["box"])
        score = f" {entry['text_score']:.2f}" if "text_score" in entry else ""
        named = f"{entry['label']}{score}, " if "label" in entry else ""
        click.echo(
            f"  object {number}: {printable(named)}{best['area']} pixels, box {box}, predicted IoU {best['predicted_iou']:.2f}"
        )
        for kind, path in entry["files"].items():
            click.echo(f"    {kind}: {printable(path)}")
    for kind, path in record["files"].items():
        click.echo(f"  {kind}: {printable(path)}")


def _segment_to_stdout(
    model: Model,
    sources: Sequence[Source],
    question: Question,
    kinds: Sequence[str],
    max_pixels: int,
    min_mask_region_area: int,
) -> None:
    """Write the one output asked for to standard output."""
    if len(sources) != 1 or len(kinds) != 1:
        raise click.UsageError("--out -: takes one image and one kind, such as --save mask")
    source = sources[0]
    image = _read(source, max_pixels)
    single = kinds[0] in PER_OBJECT
    if single:
        _check_single(question.objects(image.shape[:2]))
    embedding = model.embed(image, max_pixels=max_pixels)
    answer = question.ask(model, embedding).cleaned(min_mask_region_area)
    if single:
        _check_single(len(answer.results))
    remarks = [*answer.remarks, *(remark for result in answer.results for remark in result.remarks)]
    for remark in remarks:
        click.echo(f"warning: {shown(source.name)}: {printable(remark)}", err=True)
    click.echo(encode(kinds[0], answer, source), nl=False)


def _check_single(objects: int) -> None:
    if objects != 1:
        raise click.UsageError(f"--out -: {objects} objects have {objects} files; give a folder")


def _read(source: Source, max_pixels: int) -> Image:
    """Read an image and tell what there is to be remarked."""
    if source.problem is not None:
        raise source.problem
    remarks: list[str] = []
    image = read_image(source.content, max_pixels=max_pixels, name=source.name, remarks=remarks)
    for remark in remarks:
        click.echo(f"warning: {shown(source.name)}: {remark}", err=True)
    return image


def _checked(prompting: _Prompting, size: Size) -> list[ValidPrompt]:
    """Return the points and boxes for an image of (height, width); what is wrong with them is an error here, too."""
    return [
        validate_prompt(prompt, Frame(size, size, max(size)), grid=1, names=names_with(prefix))
        for prompt, prefix in zip(*prompting(size), strict=True)
    ]


def _write_rulers(
    sources: Sequence[Source], prompting: _Prompting | None, out: str, *, overwrite: bool, max_pixels: int
) -> int:
    """Write the rulers with the prompts drawn in, tell what happens, and return the exit code."""
    if out == STANDARD_STREAM and len(sources) > 1:
        raise click.UsageError("--out -: takes one image")
    outcomes = []
    for source in sources:
        try:
            image = _read(source, max_pixels)
            prompts = [] if prompting is None else _checked(prompting, image.shape[:2])
            for remark in (remark for prompt in prompts for remark in prompt.remarks):
                click.echo(f"warning: {shown(source.name)}: {printable(remark)}", err=True)
            png = image_to_png(draw_ruler(image, prompts))
            outcomes.append(Outcome(source))
        except (ImageError, LimitError) as error:
            outcomes.append(Outcome(source, error=error))
            tell(outcomes[-1], len(sources) > 1)
            continue
        if out == STANDARD_STREAM:
            click.echo(png, nl=False)
            continue
        path = Path(out) / f"{source.stem}_ruler.png"
        write_bytes(path, png, overwrite=overwrite)
        click.echo(f"ruler: {printable(path)}")
    return exit_code(outcomes)
