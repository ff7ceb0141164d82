"""``mobilesam everything``: masks of everything in a photo, without pointing at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from mobilesam.annotate.everything import ENDINGS, KINDS, Search
from mobilesam.annotate.run import Run
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.images import find_images
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.cli.progress import ImagesProgress
from mobilesam.cli.results import ResultOptions, choose_kinds, go_through, save_option
from mobilesam.core.text import counted, printable
from mobilesam.detectors.base import Detector
from mobilesam.detectors.load import detector_for
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model

DEFAULT_SAVE = "overlay,sa1b"
PRESETS: dict[str, Callable[..., EverythingOptions]] = {
    "recall": EverythingOptions,
    "tidy": EverythingOptions.tidy,
    "paper": EverythingOptions.paper,
}


@dataclass(frozen=True)
class DetectorOptions:
    """What finds boxes.

    Attributes:
        detector: what finds boxes: a model with a head for objects, detector_nano, or a detector's file.
        layout: how the outputs of a detector's .onnx file are laid out: yolox, ssd or yolov8.
    """

    detector: str | None = option_field(None, metavar="MODEL|FILE", shown_default="pocket's own head")
    layout: str | None = option_field(None, shown_default="recognised")

    def __post_init__(self) -> None:
        if self.layout and not self.detector:
            raise click.UsageError("--layout: is of a detector's file; give --detector FILE as well")

    def open(self, model: Model) -> Detector:
        """Return what finds boxes for a model."""
        return detector_for(model.runtime, model.name, self.detector, layout=self.layout)


def _preset(name: str, about: str) -> Callable[[Callable], Callable]:
    return click.option(f"--{name}", "preset", flag_value=name, default=None, help=about)


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@save_option(KINDS, DEFAULT_SAVE)
@options_from(ResultOptions, "results")
@_preset("recall", "As much as can be found; the default, except for an overlay alone.")
@_preset("tidy", "For pictures to look at: fewer masks, each surer; the default for an overlay alone.")
@_preset("paper", "MobileSAMv2's settings: objects, 0.4, 0.9, 320 boxes, no filter.")
@options_from(DetectorOptions, "found_by")
@options_from(EverythingOptions, "given", make=dict)
@options_from(ModelOptions, "model")
def everything(
    images: tuple[str, ...],
    save: str | None,
    results: ResultOptions,
    preset: str | None,
    found_by: DetectorOptions,
    given: dict[str, Any],
    model: ModelOptions,
) -> int:
    """Segment everything in photos.

    IMAGE is a file, a folder, a pattern such as 'shots/*.jpg', or - for standard input.
    Boxes that may hold an object are asked for, then points where there is no mask yet; or, with
    --sampler grid, every point of a grid. The masks that the model trusts are kept, each only once.

    \b
    mobilesam everything photo.jpg --tidy
    mobilesam everything photo.jpg --sampler grid --points-per-side 16 --seconds 10
    mobilesam everything photo.jpg --paper --detector yolox_nano.onnx
    mobilesam everything shots/ --out found --save overlay,coco --json
    mobilesam everything photo.jpg --save id-map,masks --min-mask-region-area 100
    cat photo.jpg | mobilesam everything - --out - --save overlay > overlay.png

    Results are DIR/NAME_everything.png, the photo with numbered outlines, and so on; see
    docs/reference/command-line.md.
    """
    kinds = choose_kinds(save, results, ENDINGS, DEFAULT_SAVE)
    options = PRESETS[preset or ("tidy" if kinds == ("overlay",) else "recall")](**given)
    if options.sampler == "grid" and (found_by.detector or found_by.layout):
        raise click.UsageError("--detector, --layout: a grid has none; leave them or --sampler grid out")
    sources = find_images(
        images, results.folder, follow_symlinks=results.follow_symlinks, quiet=results.quiet
    )
    destination = results.destination(sources)
    progress = ImagesProgress(len(sources), quiet=results.quiet)
    loaded = load_model(model, quiet=results.quiet)
    detector = None if options.sampler == "grid" else found_by.open(loaded)
    search = Search(loaded.predictor, options, detector, progress.of)
    run = Run(search, kinds, destination, results.max_pixels)
    return go_through(run, sources, results, progress, predictor=loaded.predictor, print_record=_print_record)


def _print_record(record: dict[str, Any]) -> None:
    click.echo(
        f"{record['file']}: {record['width']} x {record['height']}, {counted(len(record['masks']), 'masks')} from "
        f"{counted(record['prompts'], 'prompts')} in {record['milliseconds'] / 1000:.1f} s"
    )
    for kind, path in sorted(record["files"].items(), key=lambda item: item[0] != "overlay"):
        click.echo(f"  {kind}: {printable(path)}")
