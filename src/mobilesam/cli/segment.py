"""``mobilesam segment``: masks of the objects that are pointed at or named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click

from mobilesam.annotate.objects import KIND_ENDINGS, KINDS, ByPrompts, ByText
from mobilesam.annotate.ruler import ENDINGS as RULER_ENDINGS
from mobilesam.annotate.ruler import Ruler
from mobilesam.annotate.run import Run
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.images import find_images
from mobilesam.cli.options import (
    BoxType,
    ModelOptions,
    PointType,
    load_model,
    place_box,
    place_point,
    text_model_field,
)
from mobilesam.cli.progress import ImagesProgress
from mobilesam.cli.results import ResultOptions, choose_kinds, go_through, save_option
from mobilesam.core.arrays import Size
from mobilesam.core.errors import PromptError
from mobilesam.core.phrases import check_texts
from mobilesam.core.ranges import check_whole_number
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.detectors.load import load_text_model
from mobilesam.formats.image import read_mask
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.prompt_file import PromptFile, read_prompts
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.text import TextOptions

DEFAULT_SAVE = "mask,overlay"


@dataclass(frozen=True)
class PromptOptions:
    """What is segmented.

    Attributes:
        point: a point on the object; LABEL 0 means off it. Repeat for more points of the same object.
        box: a box around an object. Repeat for more objects.
        mask: a rough mask of the object, as an image of the same size.
        text: what objects are called, such as ``'a dog'``; finds all of them. Repeat for more.
        text_model: folder of the text model; nothing is downloaded.
        text_threshold: least score of what is found by text, 0 to 1.
        prompts: prompts for any number of objects, or texts.
        min_mask_region_area: fill holes and drop islands below this many pixels.
        ruler: only write the photo with a coordinate grid, and ``--point`` and ``--box`` drawn in.
    """

    point: tuple = option_field((), multiple=True, type=PointType())
    box: tuple = option_field((), multiple=True, type=BoxType())
    mask: str | None = option_field(None, metavar="FILE")
    text: tuple[str, ...] = option_field((), multiple=True, metavar="WORDS")
    text_model: str | None = text_model_field()
    text_threshold: float = TextOptions.threshold
    prompts: str | None = option_field(None, metavar="FILE.json")
    min_mask_region_area: int = 0
    ruler: bool = False

    def __post_init__(self) -> None:
        check_whole_number("--min-mask-region-area", self.min_mask_region_area, 0)
        pointed = bool(self.point or self.box or self.mask)
        if self.ruler and (self.mask or self.text or self.prompts is not None):
            raise click.UsageError("--ruler: draws --point and --box; leave out --mask, --text and --prompts")
        if self.text and (pointed or self.prompts is not None):
            raise PromptError(
                "--text: cannot be joined with --point, --box, --mask or --prompts; "
                "its objects are found by themselves",
                code="U",
            )
        if self.prompts is not None and pointed:
            raise PromptError(
                "--prompts: cannot be joined with --point, --box or --mask; put all into the file", code="U"
            )
        if not (self.ruler or self.text or pointed or self.prompts is not None):
            raise PromptError(
                "no prompt: give --point, --box, --mask, --text or --prompts; "
                "--ruler shows the photo's coordinates"
            )
        if len(self.box) > 1 and (self.point or self.mask):
            raise PromptError(
                f"--box: {len(self.box)} boxes together with points or a mask can be meant in several ways; "
                "write them as objects into a file for --prompts",
                code="U",
            )


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options_from(PromptOptions, "prompts")
@save_option(KINDS, DEFAULT_SAVE)
@options_from(ResultOptions, "results")
@options_from(ModelOptions, "model")
def segment(
    images: tuple[str, ...],
    save: str | None,
    prompts: PromptOptions,
    results: ResultOptions,
    model: ModelOptions,
) -> int:
    """Segment objects in photos by points, boxes, masks or text.

    IMAGE is a file, a folder, a pattern such as 'shots/*.jpg', or - for standard input.
    Coordinates are pixels of the upright photo, or per cent of its sides. All --point
    belong to one object; each --box is an object of its own; one --box with --point and
    --mask describes one object together. Each --text stands for all objects of that name;
    it needs a text model, see docs/how-to/text.md.

    \b
    mobilesam segment photo.jpg --box 120,40,380,300
    mobilesam segment photo.jpg --point 50%,40% --point 10%,10%,0 --save mask,cutout
    mobilesam segment photo.jpg --point 50%,40% --save cutout -o cat.png
    mobilesam segment shots/ --box 10%,10%,90%,90% --out masks --save coco --json
    mobilesam segment photo.jpg --text "a dog" --text leash
    mobilesam segment photo.jpg --ruler
    cat photo.jpg | mobilesam segment - --point 50%,50% --out - --save mask > mask.png

    Results are DIR/NAME_1_mask.png for each object, DIR/NAME_overlay.png for the photo,
    and so on; see docs/reference/command-line.md. Existing results stay: a further
    run on the same photo takes the next numbers.
    """
    kinds = (
        choose_kinds(None, results, RULER_ENDINGS, "ruler")
        if prompts.ruler
        else choose_kinds(save, results, KIND_ENDINGS, DEFAULT_SAVE)
    )
    sources = find_images(
        images, results.folder, follow_symlinks=results.follow_symlinks, quiet=results.quiet
    )
    destination = results.destination(sources, [prompts.mask, prompts.prompts])
    progress = ImagesProgress(len(sources), quiet=results.quiet)
    if prompts.ruler:
        drawn = _Prompting(prompts) if prompts.point or prompts.box else None
        run = Run(Ruler(drawn), kinds, destination, results.max_pixels)
        return go_through(run, sources, results, progress, print_record=_print_ruler)
    question = _read_question(prompts, follow_symlinks=results.follow_symlinks)
    loaded = load_model(model, quiet=results.quiet)
    run = Run(question(loaded.predictor), kinds, destination, results.max_pixels)
    return go_through(run, sources, results, progress, predictor=loaded.predictor, print_record=_print_record)


def _read_question(
    options: PromptOptions, *, follow_symlinks: bool
) -> Callable[[Predictor], ByPrompts | ByText]:
    """Read what the options name, before a model is loaded; return what makes a predictor's question."""
    area = options.min_mask_region_area
    file = PromptFile()
    if options.prompts is not None:
        file = read_prompts(options.prompts, follow_symlinks=follow_symlinks)
    texts = options.text or file.texts
    if texts:
        checked = check_texts(texts)
        chosen = replace(TextOptions(), threshold=options.text_threshold)
        found_by = load_text_model(options.text_model)
        return partial(ByText, text_model=found_by, texts=checked, options=chosen, min_mask_region_area=area)
    if options.text_model is not None or options.text_threshold != TextOptions.threshold:
        raise PromptError("--text-model, --text-threshold: are for texts; give --text as well", code="U")
    if options.prompts is not None and not file.prompts:
        click.echo(
            f"warning: {shown(options.prompts)}: objects: is empty; there is nothing to segment", err=True
        )
    return partial(ByPrompts, prompting=_Prompting(options, file.prompts), min_mask_region_area=area)


class _Prompting:
    """The prompt options; called with an image's size, it returns the prompts."""

    def __init__(self, options: PromptOptions, prompts: Sequence[Prompt] = ()) -> None:
        self.points, self.boxes = options.point, options.box
        self.mask = None if options.mask is None else read_mask(options.mask)
        self.prompts, self.file = prompts, options.prompts

    def __call__(self, size: Size) -> tuple[Sequence[Prompt], list[str]]:
        if self.file is not None:
            return self.prompts, [f"{self.file}: objects[{i}]." for i in range(len(self.prompts))]
        points = [place_point(x, y, size) for x, y, _ in self.points] or None
        labels = [label for _, _, label in self.points] or None
        boxes = [place_box(box, size) for box in self.boxes]
        first = Prompt(points, labels, boxes[0] if boxes else None, self.mask)
        prompts = [first, *(Prompt(box=box) for box in boxes[1:])]
        return prompts, [f"object {i}: " if len(prompts) > 1 else "" for i in range(1, len(prompts) + 1)]


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
            f"  object {number}: {printable(named)}{best['area']} pixels, box {box}, "
            f"predicted IoU {best['predicted_iou']:.2f}"
        )
        for kind, path in entry["files"].items():
            click.echo(f"    {kind}: {printable(path)}")
    for kind, path in record["files"].items():
        click.echo(f"  {kind}: {printable(path)}")


def _print_ruler(record: dict[str, Any]) -> None:
    click.echo(f"ruler: {printable(record['files']['ruler'])}")
