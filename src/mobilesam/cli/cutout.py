"""``mobilesam cutout``: things cut out of photos, with a soft edge."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from mobilesam.annotate.cutouts import KIND, Cutting, Wanted, names_of
from mobilesam.annotate.run import Run
from mobilesam.annotate.sources import Photo, Source, find_sources
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
from mobilesam.cli.results import ResultOptions, choose_kinds, go_through
from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError, PromptError
from mobilesam.core.phrases import check_texts
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.detectors.load import detector_for, load_text_model
from mobilesam.draw.matting import is_compiled, load_matte
from mobilesam.formats.image import read_mask
from mobilesam.formats.picture_file import PICTURE_SUFFIXES
from mobilesam.formats.prompt_file import CutoutFile, read_cutouts
from mobilesam.segment.cutout import CutoutOptions
from mobilesam.segment.text import TextOptions

WATCH_SECONDS = 0.5  # between two looks at a folder; a file that two looks find unchanged is whole


@dataclass(frozen=True)
class WantedOptions:
    """What is cut out.

    Attributes:
        point: a point on the object; LABEL 0 means off it. Repeat for more points of the same object.
        box: a box around an object. Repeat to join more objects; points in a box belong to it.
        mask: a rough mask of an object, as an image of the same size. Repeat to join more.
        text: what objects are called; all of them are joined. Repeat for more.
        without_point: a point on an object that is taken away again; LABEL 0 means off it. Points are joined with
            --without-box as --point is with --box.
        without_box: a box around an object that is taken away again. Repeat for more.
        without_mask: a rough mask of an object that is taken away again. Repeat for more.
        without_text: what objects are called that are taken away again. Repeat for more.
        prompts: prompts of each photo, by its name.
        text_model: folder of the text model; nothing is downloaded.
        text_threshold: least score of what is found by text, 0 to 1.
    """

    point: tuple = option_field((), multiple=True, type=PointType())
    box: tuple = option_field((), multiple=True, type=BoxType())
    mask: tuple[str, ...] = option_field((), multiple=True, metavar="FILE")
    text: tuple[str, ...] = option_field((), multiple=True, metavar="WORDS")
    without_point: tuple = option_field((), multiple=True, type=PointType())
    without_box: tuple = option_field((), multiple=True, type=BoxType())
    without_mask: tuple[str, ...] = option_field((), multiple=True, metavar="FILE")
    without_text: tuple[str, ...] = option_field((), multiple=True, metavar="WORDS")
    prompts: str | None = option_field(None, metavar="FILE.json")
    text_model: str | None = text_model_field()
    text_threshold: float = TextOptions.threshold

    def __post_init__(self) -> None:
        given = (self.point, self.box, self.mask, self.text)
        taken = (self.without_point, self.without_box, self.without_mask, self.without_text)
        if self.prompts is not None and any((*given, *taken)):
            raise PromptError(
                "--prompts: cannot be joined with other prompts; put all into the file", code="U"
            )
        if self.point and not any(label for *_, label in self.point) and not self.box:
            raise PromptError("--point: all are off the object (LABEL 0); give one that is on it, or a box")
        if self.without_point and not any(label for *_, label in self.without_point) and not self.without_box:
            raise PromptError(
                "--without-point: all are off the object (LABEL 0); give one that is on it, or a box"
            )


@dataclass(frozen=True)
class FileOptions:
    """How files are written, and whether a folder is watched.

    Attributes:
        format: of the files in a folder: png, jpg, webp or tiff; png without it.
        watch: go on with photos that come into the folder, until interrupted.
    """

    format: str | None = None
    watch: bool = False

    def __post_init__(self) -> None:
        if self.format is not None and f".{self.format.lower()}" not in PICTURE_SUFFIXES:
            allowed = ", ".join(one[1:] for one in PICTURE_SUFFIXES)
            raise ConfigError(f"--format: {printable(self.format)} is not written; choose one of {allowed}")


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options_from(WantedOptions, "wanted")
@options_from(CutoutOptions, "options")
@options_from(FileOptions, "files")
@options_from(ResultOptions, "results")
@options_from(ModelOptions, "model")
def cutout(
    images: tuple[str, ...],
    wanted: WantedOptions,
    options: CutoutOptions,
    files: FileOptions,
    results: ResultOptions,
    model: ModelOptions,
) -> int:
    """Cut things out of photos, with a soft edge.

    IMAGE is a file, a folder, a pattern such as 'shots/*.jpg', or - for standard input. Without a
    prompt the photo's subject is cut out. What --point, --box, --mask and --text mean is joined to
    one cut-out; --without-point and the like are taken away from it.

    \b
    mobilesam cutout photo.jpg
    mobilesam cutout photo.jpg -o cat.png --crop
    mobilesam cutout photo.jpg --box 120,40,380,300 --background white -o cat.jpg
    mobilesam cutout shots/ --out cut --background blur --format jpg
    mobilesam cutout incoming/ --out cut --watch
    cat photo.jpg | mobilesam cutout - -o - > cut.png

    Results are DIR/NAME_cutout.png, of the photo's full size. EXIF orientation is applied; the
    colour profile and 16 bits of PNG and TIFF are kept.
    """
    suffix = _suffix(files, results)
    kinds = choose_kinds(None, results, {KIND: f"{KIND}{suffix}"}, KIND)
    if options.matte:
        if not (is_compiled() or results.quiet):
            click.echo("--matte: pymatting may compile its parts first, which takes minutes, once", err=True)
        load_matte()
    file = CutoutFile()
    if wanted.prompts is not None:
        file = read_cutouts(wanted.prompts, follow_symlinks=results.follow_symlinks)
    words = wanted.text or wanted.without_text
    text_model = load_text_model(wanted.text_model) if words else None
    folders = [Path(one) for one in images if Path(one).is_dir()]
    find = _watched(folders, images, results) if files.watch else None
    sources = (
        []
        if find
        else find_images(images, results.folder, follow_symlinks=results.follow_symlinks, quiet=results.quiet)
    )
    others = [*wanted.mask, *wanted.without_mask, wanted.prompts, options.background]
    destination = results.destination(sources, others)
    if not (find or results.quiet):
        _warn_of_strangers(file, sources, folders)
    loaded = load_model(model, quiet=results.quiet)
    detector = detector_for(loaded.runtime, loaded.name, None)
    question = Cutting(
        loaded.predictor,
        detector,
        _Wanting(wanted, file, folders),
        options,
        suffix,
        text_model,
        TextOptions(threshold=wanted.text_threshold),
    )
    run = Run(question, kinds, destination, results.max_pixels)
    go = partial(go_through, run, options=results, predictor=loaded.predictor, print_record=_print_record)
    if find is None:
        return go(sources, progress=ImagesProgress(len(sources), quiet=results.quiet))
    status = 0
    while True:
        came = find()
        if came:
            status = go(came, progress=ImagesProgress(len(came), quiet=results.quiet)) or status
        time.sleep(WATCH_SECONDS)


def _suffix(files: FileOptions, results: ResultOptions) -> str:
    """Return what files end in: by the name of the one that is written, otherwise by --format."""
    wanted = None if files.format is None else f".{files.format.lower()}"
    if not results.to_file:
        return wanted or ".png"
    suffix = Path(results.out).suffix.lower()
    if wanted not in (None, suffix):
        raise click.UsageError(
            f"--format, --out: {results.out} ends in {suffix}, and --format says {files.format}; leave out --format"
        )
    if suffix not in PICTURE_SUFFIXES:
        raise click.UsageError(
            f"--out: {results.out} ends in {suffix}; cut-outs end in {', '.join(PICTURE_SUFFIXES)}"
        )
    return suffix


def _watched(
    folders: Sequence[Path], images: Sequence[str], results: ResultOptions
) -> Callable[[], list[Source]]:
    """Return what tells, each time it is called, which photos came since, and are not being written any more."""
    if len(folders) != len(images) or results.folder is None:
        raise click.UsageError("--watch: takes folders, and writes into one; give IMAGE and --out as folders")
    if any(os.path.realpath(one) == os.path.realpath(results.folder) for one in folders):
        raise click.UsageError("--out: is a folder that is watched; give another one for the results")
    done: set[tuple[Path, int, int]] = set()
    before: set[tuple[Path, int, int]] = set()

    def find() -> list[Source]:
        nonlocal before
        try:
            inside = find_sources(
                folders, beside=results.folder, follow_symlinks=results.follow_symlinks
            ).sources
        except ConfigError:
            inside = []  # no photo has come yet
        now = {}
        for one in inside:
            assert isinstance(one.content, Path)
            try:
                state = one.content.stat()
            except OSError:
                continue
            now[one.content, state.st_size, state.st_mtime_ns] = one
        came = [key for key in now if key in before and key not in done]
        done.update(came)
        before = set(now)
        return [now[key] for key in came]

    return find


def _warn_of_strangers(file: CutoutFile, sources: Sequence[Source], folders: Sequence[Path]) -> None:
    """Tell of names in a prompt file that are no photo's."""
    known = {name for source in sources for name in names_of(source, folders)}
    for name in file.photos:
        if name not in known:
            click.echo(f"warning: --prompts: {printable(name)} is not among the photos", err=True)


class _Wanting:
    """The prompt options; called with a photo, it gives what is cut out of it."""

    def __init__(self, options: WantedOptions, file: CutoutFile, folders: Sequence[Path]) -> None:
        self.options, self.file, self.folders = options, file, folders
        self.masks = [read_mask(one) for one in options.mask]
        self.without_masks = [read_mask(one) for one in options.without_mask]
        self.texts = check_texts(options.text) if options.text else ()
        self.without_texts = check_texts(options.without_text) if options.without_text else ()

    def __call__(self, photo: Photo) -> Wanted:
        if self.options.prompts is not None:
            named = (
                self.file.photos[one]
                for one in names_of(photo.source, self.folders)
                if one in self.file.photos
            )
            prompts = next(named, self.file.usual)
            return Wanted(prompts.objects, prompts.subtract)
        options = self.options
        subtract = [
            *join_points(options.without_point, options.without_box, photo.size),
            *(Prompt(mask=mask) for mask in self.without_masks),
        ]
        objects = [
            *join_points(options.point, options.box, photo.size),
            *(Prompt(mask=mask) for mask in self.masks),
        ]
        return Wanted(tuple(objects), tuple(subtract), self.texts, self.without_texts)


def join_points(points: Sequence[Any], boxes: Sequence[Any], size: Size) -> list[Prompt]:
    """Return prompts of boxes, each with the points that lie in it, and of the other points as one object.

    Points that are off the object count for every object.
    """
    placed = [(place_point(x, y, size), label) for x, y, label in points]
    off = [point for point, label in placed if not label]
    left = [point for point, label in placed if label]
    prompts = []
    for box in (place_box(one, size) for one in boxes):
        inside = [p for p in left if box[0] <= p[0] <= box[2] and box[1] <= p[1] <= box[3]]
        left = [p for p in left if p not in inside]
        prompts.append(_prompt(inside, off, box))
    return prompts + ([_prompt(left, off, None)] if left else [])


def _prompt(on: list[list[float]], off: list[list[float]], box: list[float] | None) -> Prompt:
    points = [*on, *off]
    labels = [1] * len(on) + [0] * len(off)
    return Prompt(np.array(points) if points else None, labels if points else None, box)


def _print_record(record: dict[str, Any]) -> None:
    for kind, path in record["files"].items():
        click.echo(f"{kind}: {printable(path)}")
