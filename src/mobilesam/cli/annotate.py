"""``mobilesam annotate``: from photos to a set of labelled photos."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from mobilesam.annotate.labelling import BoxLimits, ByBoxes, ByDetector, ByEverything, ByTexts, Labeller
from mobilesam.annotate.review import write_review
from mobilesam.annotate.set_folder import COPY, check_photos
from mobilesam.annotate.set_folder import NONE as NO_PHOTOS
from mobilesam.annotate.set_run import ERRORS, SetRun, Step, name_in_set
from mobilesam.annotate.sources import Source
from mobilesam.annotate.upload import upload
from mobilesam.cli.engines import EngineOptions
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.images import STANDARD_STREAM, find_images
from mobilesam.cli.options import ModelOptions, load_model, text_model_field
from mobilesam.cli.progress import StatusLine, time_left
from mobilesam.cli.results import PARTIAL_EXIT
from mobilesam.core.errors import ConfigError
from mobilesam.core.phrases import check_texts
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.text import counted, printable
from mobilesam.core.version import __version__
from mobilesam.detectors.base import Detector
from mobilesam.detectors.load import detector_for, load_text_model
from mobilesam.formats.addresses import check_room, is_address
from mobilesam.formats.datasets.files import lines_of, read_text
from mobilesam.formats.datasets.load import check_formats, read_dataset
from mobilesam.formats.datasets.model import UNNAMED, Category, Dataset, LabelledObject, check_name
from mobilesam.formats.datasets.record import Failure
from mobilesam.formats.file_names import is_file, is_there
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.formats.image_bytes import shown
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model
from mobilesam.segment.text import TextOptions
from mobilesam.weights import DEFAULT_MODEL, entry_of
from mobilesam.work.base import Engine
from mobilesam.work.local import LocalEngine, usable_cores

NONE = "none"
NETWORK_ENDINGS = (".onnx", ".safetensors")
DEFAULT_FORMATS = "coco"


@dataclass(frozen=True)
class LabelOptions:
    """What is labelled.

    Attributes:
        detector: what finds boxes: a model with a head for objects, detector_nano, a detector's file, existing boxes
            (a file or folder of labels that ``mobilesam convert`` reads), or ``none``.
        layout: how the outputs of a detector's .onnx file are laid out: yolox, ssd or yolov8.
        names: what a detector's classes are called, from class 0 on: a list joined by commas, or a file with a name in
            each line.
        classes: only these, by name or number, joined by commas.
        confidence: boxes must be at least this likely, 0 to 1.
        box_nms_thresh: of two boxes of one class with a higher IoU, takes the likelier, 0 to 1.
        max_boxes: most boxes to take of a photo, from 1.
        text: what objects are called, such as ``'a dog'``; each is a category. Repeat for more.
        text_model: folder of the text model; nothing is downloaded.
        text_threshold: least score of what is found by text, 0 to 1.
        everything: label everything, as objects of one kind.
        max_prompts: with --everything: most boxes and points to ask for, from 1.
        pred_iou_thresh: with --everything: masks need a higher predicted IoU, 0 to 1.
        stability_score_thresh: with --everything: masks must be at least this stable, 0 to 1.
    """

    detector: str | None = option_field(None, metavar="NAME|FILE|BOXES", shown_default="pocket's own head")
    layout: str | None = option_field(None, shown_default="recognised")
    names: str | None = option_field(None, metavar="LIST|FILE", shown_default="those in the file")
    classes: str | None = option_field(None, metavar="LIST", shown_default="all")
    confidence: float = BoxLimits.confidence
    box_nms_thresh: float = BoxLimits.box_nms_thresh
    max_boxes: int = BoxLimits.max_boxes
    text: tuple[str, ...] = option_field((), multiple=True, metavar="WORDS")
    text_model: str | None = text_model_field()
    text_threshold: float = TextOptions.threshold
    everything: bool = False
    max_prompts: int = EverythingOptions.max_prompts
    pred_iou_thresh: float | None = option_field(None, shown_default="the model's own")
    stability_score_thresh: float | None = option_field(None, shown_default="the model's own")

    def __post_init__(self) -> None:
        for name in ("confidence", "box_nms_thresh"):
            check_number(f"--{name.replace('_', '-')}", getattr(self, name), 0.0, 1.0)
        check_whole_number("--max-boxes", self.max_boxes, 1)
        if self.text and self.everything:
            raise click.UsageError("--text and --everything: are two ways to choose; leave one out")
        if self.detector not in (None, NONE) and (self.text or self.everything):
            raise click.UsageError("--detector: finds boxes by itself; leave out --text and --everything")
        if self.detector == NONE and not (self.text or self.everything):
            raise click.UsageError("--detector none: give --text or --everything, or another detector")
        if self.text_model is not None and not self.text:
            raise click.UsageError("--text-model: is for texts; give --text as well")
        if self.layout is not None and self.detector is None:
            raise click.UsageError("--layout: is of a detector's file; give --detector FILE as well")
        if self.names is not None and not (self.detector or "").lower().endswith(".onnx"):
            raise click.UsageError("--names: is for the classes of a detector's .onnx file")

    @property
    def limits(self) -> BoxLimits:
        """Which boxes are segmented."""
        return BoxLimits(self.confidence, self.box_nms_thresh, self.max_boxes)


@dataclass(frozen=True)
class SetOptions:
    """What is written, and where.

    Attributes:
        out: folder of the set.
        format: formats, joined by commas.
        val: share of the photos for validation, 0 to 1, chosen by their content.
        photos: what becomes of the photos in ``DIR/images``: ``copy``, ``link`` or ``none``.
        review: also write ``DIR/review``, a page with the most doubtful photos first.
        upload: address, such as s3://bucket/set/, to which the finished set is copied as well.
        overwrite: begin anew, even in a folder that holds other files.
        quiet: print errors only.
        follow_symlinks: in a folder, also follow links to other folders.
        max_pixels: limit on a photo's pixels.
    """

    out: str = option_field("mobilesam-set", "--out", "-o", metavar="DIR")
    format: str = option_field(DEFAULT_FORMATS, "--format", "-f", metavar="LIST")
    val: float = 0.0
    photos: str = option_field(COPY, metavar="HOW")
    review: bool = False
    upload: str | None = option_field(None, metavar="ADDRESS")
    overwrite: bool = False
    quiet: bool = option_field(False, "--quiet", "-q")
    follow_symlinks: bool = False
    max_pixels: int = option_field(MAX_PIXELS, type=click.IntRange(1), metavar="N")

    def __post_init__(self) -> None:
        if not self.out.strip() or self.out == STANDARD_STREAM:
            raise click.UsageError("--out: must be a folder; it is made if it is not there")
        check_number("--val", self.val, 0.0, 1.0)
        check_photos(self.photos)
        if "webdataset" in check_formats(self.format.split(",")) and self.photos == NO_PHOTOS:
            raise click.UsageError(
                "--photos none: webdataset's shards hold the photos; leave one of the two out"
            )
        if is_address(self.out):
            raise click.UsageError(
                f"--out: must be a folder of this machine; give --upload {printable(self.out)} as well, to copy the set there"
            )
        if self.upload is not None and not is_address(self.upload):
            raise click.UsageError("--upload: must be an address such as s3://bucket/set/")


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="PHOTO...")
@options_from(LabelOptions, "labels")
@options_from(SetOptions, "options")
@options_from(EngineOptions, "engine")
@options_from(ModelOptions, "model")
def annotate(
    images: tuple[str, ...],
    labels: LabelOptions,
    options: SetOptions,
    engine: EngineOptions,
    model: ModelOptions,
) -> int:
    """Label photos: a set in the formats that people train with.

    PHOTO is a file, a folder, a pattern, a tar, or an address such as s3://bucket/shots/. The objects come from a
    detector, existing boxes, --text or --everything; the model gives each its mask. A run that was stopped goes on
    with the same command. Photos that cannot be read are listed in errors.jsonl, and your photos are never changed.

    \b
    mobilesam annotate shots/ --out set
    mobilesam annotate shots/ --detector yolox_nano.onnx --names person,bicycle --format coco,yolo --val 0.2
    mobilesam annotate shots/ --detector boxes.json --format labelme
    mobilesam annotate shots/ --text "a dog" --text leash --format coco
    mobilesam annotate shots/ --everything --format sa1b
    mobilesam annotate 'shots-{000..003}.tar' --engine ray

    docs/how-to/annotate.md leads through it, docs/reference/datasets.md has the formats.
    """
    out = Path(options.out)
    if STANDARD_STREAM in images:
        raise click.UsageError("-: a set is made of files; give photos or folders")
    sources = find_images(
        images, out, follow_symlinks=options.follow_symlinks, quiet=options.quiet, stored=True
    )
    spread = _engine(engine, model)
    if options.upload is not None:
        check_room(options.upload)
    existing = _read_boxes(labels, options.follow_symlinks)
    loaded = load_model(model, quiet=options.quiet, threads=None if model.runtime == "torch" else 1)
    chosen = _choose(labels, loaded, existing, sources)
    run = SetRun(
        chosen.labeller,
        spread,
        out,
        check_formats(options.format.split(",")),
        chosen.categories,
        {
            "mobilesam": __version__,
            **_model_settings(model, loaded),
            **chosen.settings,
            "max_pixels": options.max_pixels,
        },
        val=options.val,
        photos=options.photos,
        overwrite=options.overwrite,
        max_pixels=options.max_pixels,
    )
    code = _go_through(run, sources, review=options.review, quiet=options.quiet)
    if options.upload is not None:
        _copy(run.out, options.upload, quiet=options.quiet)
    return code


def _engine(options: EngineOptions, model: ModelOptions) -> Engine:
    cluster = options.ray(gpu=model.device == "cuda")
    return cluster or LocalEngine(usable_cores() if options.workers is None else options.workers)


@dataclass(frozen=True)
class Chosen:
    """How photos are labelled: by which labeller, and with which categories and settings."""

    labeller: Labeller
    categories: tuple[Category, ...]
    settings: dict[str, Any]


def _model_settings(options: ModelOptions, model: Model) -> dict[str, Any]:
    """Return the facts of the model that the labels depend on."""
    if options.checkpoint is not None:
        weights = _sha256(Path(options.checkpoint))
    else:
        entry = entry_of(options.model or DEFAULT_MODEL)
        weights = entry.sha256 or entry.git_blob
    runtime = model.runtime
    return {
        "model": model.name,
        "weights": weights,
        "runtime": runtime.name,
        "device": runtime.device,
        "dtype": options.dtype or "float32",
        **({"embeddings": "float16"} if options.embeddings is not None else {}),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _choose(
    labels: LabelOptions, model: Model, existing: Dataset | None, sources: Sequence[Source]
) -> Chosen:
    predictor = model.predictor
    if existing is not None:
        return _by_boxes(labels, model, existing, sources)
    if labels.text:
        texts = check_texts(labels.text)
        options = TextOptions(threshold=labels.text_threshold)
        text_model = load_text_model(labels.text_model, threads=1)
        settings = {"by": "texts", "texts": list(texts), "text_model": labels.text_model, **vars(options)}
        return Chosen(
            ByTexts(predictor, text_model, texts, options), _numbered(dict.fromkeys(texts)), settings
        )
    if labels.everything:
        search = EverythingOptions(
            max_prompts=labels.max_prompts,
            pred_iou_thresh=labels.pred_iou_thresh,
            stability_score_thresh=labels.stability_score_thresh,
        )
        detector = detector_for(model.runtime, model.name, threads=1)
        settings = {"by": "everything", "options": dataclasses.asdict(search)}
        return Chosen(ByEverything(predictor, detector, search), _numbered([UNNAMED]), settings)
    return _by_detector(labels, model)


def _by_detector(labels: LabelOptions, model: Model) -> Chosen:
    name = labels.detector
    if name is not None and (Path(name).suffix or Path(name).name != name) and not is_there(Path(name)):
        raise ConfigError(
            f"--detector: {shown(name)}: not found; give a model's name, a detector's file, or labels"
        )
    detector: Detector = detector_for(model.runtime, model.name, name, layout=labels.layout, threads=1)
    is_file = name is not None and Path(name).suffix.lower() in NETWORK_ENDINGS
    names = _names(labels.names) or tuple(getattr(detector, "class_names", ()))
    keep = None if labels.classes is None else _classes(labels.classes, names)
    settings = {
        "by": "detector",
        "detector": Path(name).name if name is not None and is_file else name,
        "detector_sha256": _sha256(Path(name)) if name is not None and is_file else "",
        "layout": labels.layout,
        "names": list(names),
        "classes": None if keep is None else sorted(keep),
        **dataclasses.asdict(labels.limits),
    }
    labeller = ByDetector(model.predictor, detector, names, keep, labels.limits)
    return Chosen(labeller, _numbered(names or ([UNNAMED] if keep is None else [])), settings)


def _by_boxes(labels: LabelOptions, model: Model, existing: Dataset, sources: Sequence[Source]) -> Chosen:
    names = [one.name for one in existing.categories]
    wanted = None if labels.classes is None else {names[i] for i in _classes(labels.classes, tuple(names))}
    boxes = pair_boxes(existing, [name_in_set(source) for source in sources])
    if wanted is not None:
        boxes = {key: tuple(one for one in own if one.label in wanted) for key, own in boxes.items()}
    if not boxes:
        raise ConfigError(
            f"--detector: {labels.detector} names none of the photos; use the photos' names in it"
        )
    digest = hashlib.sha256(repr(sorted(boxes.items())).encode("utf-8", "surrogatepass")).hexdigest()
    settings = {
        "by": "boxes",
        "boxes_sha256": digest,
        "classes": None if wanted is None else sorted(wanted),
    }
    return Chosen(ByBoxes(model.predictor, boxes), existing.categories, settings)


def _read_boxes(labels: LabelOptions, follow_symlinks: bool) -> Dataset | None:
    """Return the existing labels, if they are what --detector names."""
    name = labels.detector
    if (
        name is None
        or name == NONE
        or Path(name).suffix.lower() in NETWORK_ENDINGS
        or not is_there(Path(name))
    ):
        return None
    return read_dataset(name, follow_symlinks=follow_symlinks)


def pair_boxes(existing: Dataset, names: Sequence[str]) -> dict[str, tuple[LabelledObject, ...]]:
    """Return the boxes of each photo by its name in the set.

    Labels may call a photo by its path below the folder, by that path without its suffix, or by its name alone. A
    name that several photos share is not used.
    """
    found: dict[str, tuple[LabelledObject, ...]] = {}
    calls: tuple[Callable[[str], str], ...] = (str, _without_suffix, lambda name: Path(name).stem)
    for call in calls:
        theirs = Counter(call(photo.file_name) for photo in existing.photos)
        ours = Counter(call(name) for name in names)
        by_name = {call(photo.file_name): photo.objects for photo in existing.photos}
        for name in names:
            if name not in found and theirs[call(name)] == ours[call(name)] == 1:
                found[name] = by_name[call(name)]
    return found


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _numbered(names: Any) -> tuple[Category, ...]:
    return tuple(Category(i, name) for i, name in enumerate(names, start=1))


def _names(value: str | None) -> tuple[str, ...]:
    """Return the names of classes, from a file's lines or from a list."""
    if value is None:
        return ()
    path = Path(value)
    lines = [line for _, line in lines_of(read_text(path))] if is_file(path) else value.split(",")
    names = tuple(check_name(line, f"--names[{i}]") for i, line in enumerate(lines))
    if len(set(names)) != len(names):
        raise ConfigError("--names: one is there twice; give each class a name of its own")
    return names


def _classes(value: str, names: tuple[str, ...]) -> frozenset[int]:
    """Return the numbers of classes that are given by name or number."""
    numbers = set()
    for part in (one.strip() for one in value.split(",")):
        if part in names:
            numbers.add(names.index(part))
        elif part.isascii() and part.isdigit() and len(part) < 7 and (not names or int(part) < len(names)):
            numbers.add(int(part))
        else:
            known = (
                f"; there are {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}" if names else ""
            )
            raise ConfigError(f"--classes: {printable(part)!r} is not a class{printable(known)}")
    return frozenset(numbers)


def _go_through(run: SetRun, sources: Sequence[Source], *, review: bool, quiet: bool) -> int:
    """Label the photos, report what happens, and return the exit code."""
    line = StatusLine()
    line.on_terminal &= not quiet
    start, first = time.monotonic(), 0
    failures = 0
    last: Step | None = None
    try:
        for step in run.over(sources):
            if last is None:
                first = step.done
                if first and not quiet:
                    click.echo(f"{first:,} of {step.total:,} photos were done before", err=True)
            last = step
            failures += isinstance(step.made, Failure)
            _tell(step, line, quiet=quiet)
            line.draw(partial(describe, step.done, step.total, step.done - first, time.monotonic() - start))
    except BaseException:
        if last is not None and last.dataset is None and not quiet:
            line.tell(
                f"{last.done:,} of {last.total:,} photos are done; the same command goes on with the others"
            )
        raise
    finally:
        line.clear()
    assert last is not None
    if review and last.dataset is not None:
        places = ((name_in_set(one), one.content) for one in sources if isinstance(one.content, Path))
        write_review(last.dataset, run.out, places)
    if last.dataset is not None and not quiet:
        click.echo(
            f"{counted(len(last.dataset.photos), 'photos')}, {counted(last.objects, 'objects')}, "
            f"{counted(len(last.dataset.categories), 'categories')}; "
            f"set in {printable(run.out)} as {', '.join(run.formats)}"
        )
        if failures:
            click.echo(f"{counted(failures, 'photos')} failed; see {printable(run.out / ERRORS)}", err=True)
    return PARTIAL_EXIT if failures else 0


def _copy(folder: Path, address: str, *, quiet: bool) -> None:
    line = StatusLine()
    line.on_terminal &= not quiet
    try:
        copied = upload(
            folder, address, lambda done, total: line.draw(lambda: f"{done:,} of {total:,} files copied")
        )
    finally:
        line.clear()
    if not quiet:
        click.echo(
            f"{printable(address)}: {counted(copied.files, 'files')} copied, {copied.bytes / 1e6:.1f} MB"
        )


def _tell(step: Step, line: StatusLine, *, quiet: bool) -> None:
    made = step.made
    if isinstance(made, Failure):
        line.tell(f"error[{made.code}]: {made.reason}")
    elif made is not None and not quiet:
        for remark in made.remarks:
            line.tell(f"warning: {shown(made.file_name)}: {remark}")


def describe(done: int, total: int, came: int, seconds: float) -> str:
    """Return the line for ``done`` of ``total`` photos, of which ``came`` took ``seconds``."""
    text = f"{done:,} of {total:,} photos"
    if came <= 0 or seconds <= 0:
        return text
    rate = came / seconds
    return f"{text}, {rate:.2g} a second, {time_left((total - done) / rate)}"
