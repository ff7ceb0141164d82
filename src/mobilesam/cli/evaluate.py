"""``mobilesam evaluate``: scores against human masks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mobilesam.cli.fields import options_from
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.cli.progress import bar_stream
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import OBJECT_SIZES, RECALL_LIMITS
from mobilesam.detectors.load import detector_for
from mobilesam.evaluate.clicks import CLICKS, TARGETS, score_clicks
from mobilesam.evaluate.kinds import KINDS
from mobilesam.evaluate.prompted import PromptedScores, score_nested, score_prompted
from mobilesam.evaluate.sets import SMALLEST_OBJECT
from mobilesam.evaluate.subject import score_subject
from mobilesam.evaluate.video import PROMPTS, score_videos
from mobilesam.segment.everything.options import SAMPLERS, EverythingOptions
from mobilesam.storage.atomic import refuse_existing

if TYPE_CHECKING:
    from mobilesam.evaluate.everything import EverythingScores, Recall

Scores = TypeVar("Scores")
MOST = {"grids": 128, "budgets": 10_000}  # points along a side, which is 16,384 prompts; prompts


def choose_kinds(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """Split ``--kinds`` and check the names."""
    kinds = value.split(",") if value else list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--kinds: {kind!r} is unknown; choose of {', '.join(KINDS)}")
    return kinds


def choose_numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    """Split ``--points-per-side`` or ``--max-prompts`` and check the numbers."""
    most = MOST[str(parameter.name)]
    numbers = []
    for part in value.split(","):
        short = part.isascii() and part.isdigit() and len(part) <= len(str(most))
        if not (short and 1 <= int(part) <= most):
            raise ConfigError(
                f"{parameter.opts[0]}: {part!r} is not such a number; "
                f"give 1 to {most}, several joined by commas such as 8,16,32"
            )
        numbers.append(int(part))
    return numbers


def choose_samplers(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Split ``--sampler`` and check the names."""
    known = [*SAMPLERS, "paper"]
    names = value.split(",")
    for name in names:
        if name not in known:
            raise ConfigError(f"--sampler: {name!r} is unknown; choose of {', '.join(known)}")
    return names


def set_options(command: Callable) -> Callable:
    """Add the sets, --smallest, --follow-symlinks and --json."""
    command = click.option(
        "--smallest",
        default=SMALLEST_OBJECT,
        show_default=True,
        metavar="PART",
        help="Least part of a photo that an object covers.",
    )(command)
    return sets_and_json(command)


def sets_and_json(command: Callable) -> Callable:
    """Add the sets, --follow-symlinks and --json."""
    for option in (
        click.option(
            "--follow-symlinks", is_flag=True, help="Read also photos that links show of other folders."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON."),
        click.argument("sets", nargs=-1, required=True, metavar="SET...", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@click.group()
def evaluate() -> None:
    """Score a model.

    \b
    mobilesam evaluate masks data/eval/coco_val
    mobilesam evaluate clicks data/eval/coco_val
    mobilesam evaluate everything data/eval/coco_val
    mobilesam evaluate subject data/eval/msrc_cow
    mobilesam evaluate video DAVIS
    """


@evaluate.command()
@click.argument("sets", nargs=-1, required=True, metavar="SET...", type=click.Path(path_type=Path))
@click.option(
    "--prompt",
    default=PROMPTS[0],
    show_default=True,
    metavar="NAME",
    help=f"What is given of an object's first mask: {', '.join(PROMPTS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON, of every object.")
@options_from(ModelOptions, "model")
def video(sets: tuple[Path, ...], prompt: str, as_json: bool, model: ModelOptions) -> None:
    """Follow the objects of annotated videos, and score the masks.

    SET is a folder in DAVIS' layout: JPEGImages/NAME/00000.jpg and Annotations/NAME/00000.png. J is the mean IoU, F
    the F-measure of the outline, missed the part of frames on which an object that is seen was said to be lost.

    \b
    mobilesam evaluate video DAVIS --prompt mask
    """
    loaded = load_model(model)
    scores = [_with_bar(folder, partial(score_videos, loaded, folder, prompt=prompt)) for folder in sets]
    if as_json:
        _print_json(
            loaded.name,
            [
                {"name": s.name, "videos": s.videos, "prompt": prompt, "j": s.j, "f": s.f, "jf": s.jf}
                | {"missed": s.missed, "objects": [dataclasses.asdict(one) for one in s.objects]}
                for s in scores
            ],
        )
        return
    click.echo(f"{'set':<20}{'videos':>8}{'objects':>9}{'J':>8}{'F':>8}{'J&F':>8}{'missed':>9}")
    for s in scores:
        click.echo(
            f"{s.name:<20}{s.videos:>8}{len(s.objects):>9}{s.j:>8.3f}{s.f:>8.3f}{s.jf:>8.3f}{s.missed:>9.1%}"
        )


@evaluate.command()
@set_options
@click.option(
    "--kinds",
    callback=choose_kinds,
    metavar="LIST",
    help=f"Kinds of prompt, joined by commas; all by default: {', '.join(KINDS)}.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write contact sheets and reliability diagrams.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@options_from(ModelOptions, "model")
def masks(
    sets: tuple[Path, ...],
    smallest: float,
    follow_symlinks: bool,
    as_json: bool,
    kinds: list[str],
    report: Path | None,
    overwrite: bool,
    model: ModelOptions,
) -> None:
    """Mean IoU of every kind of prompt against human masks, at full size.

    SET is a folder with instances.json (COCO) and images/, or of another format that convert reads. Also told: the
    boundary IoU, what the best, the largest and the most stable of three masks would have
    scored beside the one that the model chose, and the calibration error of the predicted IoU.

    \b
    mobilesam evaluate masks data/eval/coco_val --report report
    mobilesam evaluate masks data/eval/coco_val data/eval/msrc_cow --kinds box,point --json
    """
    if report:
        from mobilesam.evaluate.report import check_report, report_paths, write_report

        for folder in sets:
            check_report(report_paths(report, folder.name, kinds).values(), overwrite=overwrite)
    loaded = load_model(model)
    results = []
    for folder in sets:
        read: dict[str, Any] = {"smallest": smallest, "follow_symlinks": follow_symlinks}
        scores = _with_bar(folder, partial(score_prompted, loaded, folder, kinds=kinds, **read))
        nested = _with_bar(folder, partial(score_nested, loaded, folder, **read))
        results.append(_without_each(scores) | {"nested": dataclasses.asdict(nested)})
        if not as_json:
            _print_kinds(scores)
            if nested.pairs:
                click.echo(
                    f"part and whole from one point, {nested.pairs} pairs: part {nested.part:.3f}, "
                    f"whole {nested.whole:.3f}, both found {nested.both:.0%}"
                )
        if report:
            for path in write_report(scores, report, overwrite=overwrite):
                click.echo(f"{path}: written", err=True)
    if as_json:
        _print_json(loaded.name, results)


def _print_kinds(scores: PromptedScores) -> None:
    click.echo(f"{scores.name}: {scores.images} photos, {scores.objects} objects")
    columns = ("IoU", "boundary", "best", "largest", "stablest", "ECE")
    click.echo(f"{'prompt':<16}" + "".join(f"{name:>10}" for name in columns))
    for kind, s in scores.kinds.items():
        values = (s.iou, s.boundary, s.best, s.largest, s.stablest, s.calibration)
        click.echo(f"{kind:<16}" + "".join(f"{value:>10.3f}" for value in values))
    click.echo(f"{'all':<16}{scores.calibration:>60.3f}")


def _without_each(scores: PromptedScores) -> dict[str, Any]:
    """Turn scores into a dictionary, leaving single objects out."""
    summary = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    del summary["each"]
    return summary | {"kinds": {kind: dataclasses.asdict(s) for kind, s in scores.kinds.items()}}


@evaluate.command()
@set_options
@click.option(
    "--clicks",
    default=CLICKS,
    show_default=True,
    type=click.IntRange(1, 100),
    metavar="N",
    help="Clicks on each object.",
)
@options_from(ModelOptions, "model")
def clicks(
    sets: tuple[Path, ...],
    smallest: float,
    follow_symlinks: bool,
    as_json: bool,
    clicks: int,
    model: ModelOptions,
) -> None:
    """Mean IoU after each of several corrective clicks, and the number of clicks to an IoU.

    Each click lies deepest inside what is wrong; the mask before it is the mask prompt.

    \b
    mobilesam evaluate clicks data/eval/coco_val --clicks 10
    """
    loaded = load_model(model)
    score = partial(score_clicks, loaded, clicks=clicks, smallest=smallest, follow_symlinks=follow_symlinks)
    scores = [_with_bar(folder, partial(score, folder)) for folder in sets]
    if as_json:
        _print_json(loaded.name, [dataclasses.asdict(s) for s in scores])
        return
    after = "".join(f"{f'IoU {i}':>8}" for i in range(1, clicks + 1))
    click.echo(
        f"{'set':<20}{'images':>8}{'objects':>9}{after}" + "".join(f"{f'NoC@{t:.0%}':>9}" for t in TARGETS)
    )
    for s in scores:
        click.echo(
            f"{s.name:<20}{s.images:>8}{s.objects:>9}"
            + "".join(f"{iou:>8.3f}" for iou in s.ious)
            + "".join(f"{n:>9.2f}" for n in s.clicks_to)
        )


@evaluate.command()
@sets_and_json
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N photos that count.")
@options_from(ModelOptions, "model")
def subject(
    sets: tuple[Path, ...], follow_symlinks: bool, as_json: bool, limit: int | None, model: ModelOptions
) -> None:
    """Score what is found without a prompt, beside what the ground leaves and what the object's box gives.

    Only photos with one dominant object count; docs/how-to/evaluate.md says what that is.

    \b
    mobilesam evaluate subject data/eval/msrc_cow data/eval/coco_val
    """
    loaded = load_model(model)
    score = partial(score_subject, loaded, limit=limit, follow_symlinks=follow_symlinks)
    scores = [_with_bar(folder, partial(score, folder)) for folder in sets]
    if as_json:
        _print_json(loaded.name, [{"name": s.name, "images": s.images, "ways": s.ways} for s in scores])
        return
    columns = {"iou": "IoU", "mae": "MAE", "max_f": "max F", "s": "S"}
    click.echo(f"{'set':<20}{'images':>8}  {'way':<10}" + "".join(f"{c:>8}" for c in columns.values()))
    for s in scores:
        for way, means in s.ways.items():
            values = "".join(f"{means[name]:>8.3f}" for name in columns)
            click.echo(f"{s.name:<20}{s.images:>8}  {way:<10}{values}")


@evaluate.command()
@sets_and_json
@click.option(
    "--points-per-side",
    "grids",
    default="32",
    show_default=True,
    callback=choose_numbers,
    metavar="LIST",
    help="Points along each side of the grid; several, joined by commas, are compared.",
)
@click.option(
    "--sampler",
    "samplers",
    default="hybrid",
    show_default=True,
    callback=choose_samplers,
    metavar="LIST",
    help="Some of objects, grid, hybrid and paper, joined by commas: what is compared.",
)
@click.option(
    "--max-prompts",
    "budgets",
    default="256",
    show_default=True,
    callback=choose_numbers,
    metavar="LIST",
    help="Boxes and points that objects and hybrid may ask; several, joined by commas, are compared.",
)
@click.option("--detector", metavar="MODEL|FILE", help="What finds boxes.  [default: pocket's own head]")
@click.option(
    "--pred-iou-thresh",
    type=click.FloatRange(0, 1),
    metavar="IOU",
    help="Masks must have a higher predicted IoU.  [default: the model's own]",
)
@click.option(
    "--stability-score-thresh",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    help="Masks must be at least this stable.  [default: the model's own]",
)
@click.option(
    "--box-nms-thresh",
    type=click.FloatRange(0, 1),
    metavar="IOU",
    help="Of two masks whose boxes overlap more, the better stays.  [default: 0.7]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N photos of a set.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write contact sheets of what was found and missed.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@options_from(ModelOptions, "model")
def everything(
    sets: tuple[Path, ...],
    follow_symlinks: bool,
    as_json: bool,
    grids: list[int],
    samplers: list[str],
    budgets: list[int],
    detector: str | None,
    pred_iou_thresh: float | None,
    stability_score_thresh: float | None,
    box_nms_thresh: float | None,
    limit: int | None,
    report: Path | None,
    overwrite: bool,
    model: ModelOptions,
) -> None:
    """Average recall of segment everything against human masks and boxes, as COCO's evaluation has it.

    SET is a folder with instances.json (COCO) and images/, or of another format, in which all objects
    have masks. AR@10 lets each photo's ten masks with the highest score count; mean is
    that of AR@10, AR@100 and AR@1000; small, medium and large objects are told with 1000 masks.

    \b
    mobilesam evaluate everything data/eval/coco_val --sampler objects,hybrid --max-prompts 64,256
    mobilesam evaluate everything data/eval/coco_val --sampler grid --points-per-side 8,16,32
    mobilesam evaluate everything data/eval/coco_val --limit 20 --report report
    """
    from mobilesam.evaluate.everything import score_everything
    from mobilesam.evaluate.everything_report import sheet_path, write_sheets

    given = {
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "box_nms_thresh": box_nms_thresh,
    }
    thresholds = {name: value for name, value in given.items() if value is not None}
    searches = {
        name: options
        for sampler in samplers
        for name, options in _searches(sampler, grids, budgets, thresholds).items()
    }
    if report:
        for folder, search in product(sets, searches):
            refuse_existing(sheet_path(report, folder.name, search), overwrite=overwrite)
    loaded = load_model(model)
    found_by = detector_for(loaded.runtime, loaded.name, detector) if detector else None
    results = []
    for folder in sets:
        score = partial(
            score_everything,
            loaded,
            folder,
            searches,
            detector=found_by,
            limit=limit,
            follow_symlinks=follow_symlinks,
        )
        scores = _with_bar(folder, score)
        results.append(_recall_record(scores))
        if not as_json:
            _print_recall(scores)
        if report:
            for path in write_sheets(scores, report, overwrite=overwrite):
                click.echo(f"{path}: written", err=True)
    if as_json:
        _print_json(loaded.name, results)


def _searches(
    sampler: str, grids: Sequence[int], budgets: Sequence[int], thresholds: dict[str, Any]
) -> dict[str, EverythingOptions]:
    """Name the searches of one sampler that are compared."""
    if sampler == "grid":
        return {
            f"grid {side}x{side}": EverythingOptions(sampler="grid", points_per_side=side, **thresholds)
            for side in grids
        }
    if sampler == "paper":
        return {f"paper {n}": EverythingOptions.paper(max_boxes=n, **thresholds) for n in budgets}
    return {
        f"{sampler} {n}": EverythingOptions(sampler=sampler, max_boxes=n, max_prompts=n, **thresholds)
        for n in budgets
    }


def _print_recall(scores: EverythingScores) -> None:
    parts = ", ".join(f"{n} {size}" for size, n in scores.objects.items() if size != "all")
    click.echo(f"{scores.name}: {scores.images} photos, {scores.objects['all']} objects ({parts})")
    wide = max(map(len, scores.searches))
    limits = "".join(f"{f'AR@{limit}':>9}" for limit in RECALL_LIMITS)
    sizes = "".join(f"{size:>9}" for size in ("mean", *list(OBJECT_SIZES)[1:]))
    click.echo(f"{'search':<{wide}}  of   {limits}{sizes}{'masks':>9}{'prompts':>9}{'s/photo':>9}")
    for name, search in scores.searches.items():
        for kind, recall in (("masks", search.masks), ("boxes", search.boxes)):
            click.echo(
                f"{name:<{wide}}  {kind}"
                + "".join(
                    f"{'-' if math.isnan(value) else f'{value:.3f}':>9}" for value in _recall_row(recall)
                )
                + f"{search.found:>9.1f}{search.prompts:>9.1f}{search.seconds:>9.2f}"
            )


def _recall_row(recall: Recall) -> list[float]:
    """Return AR at each limit, their mean, and AR by size with the most masks."""
    from mobilesam.evaluate.everything import mean_recall

    sizes = [by_limit[RECALL_LIMITS[-1]] for by_limit in recall.values()]
    return [*recall["all"].values(), mean_recall(recall), *sizes[1:]]


def _recall_record(scores: EverythingScores) -> dict[str, Any]:
    """Turn scores into a dictionary, leaving single photos out; null where no object has a size."""
    return {
        "name": scores.name,
        "images": scores.images,
        "objects": scores.objects,
        "searches": {
            name: {
                "masks": _without_nan(search.masks),
                "boxes": _without_nan(search.boxes),
                "found": search.found,
                "prompts": search.prompts,
                "seconds": search.seconds,
            }
            for name, search in scores.searches.items()
        },
    }


def _without_nan(recall: Recall) -> dict[str, dict[int, float | None]]:
    return {
        size: {limit: None if math.isnan(value) else value for limit, value in by_limit.items()}
        for size, by_limit in recall.items()
    }


def _with_bar(folder: Path, score: Callable[..., Scores]) -> Scores:
    """Score a set with a progress bar; elsewhere than on a terminal nothing is shown."""
    with click.progressbar(length=1, label=folder.name, file=bar_stream()) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(1)

        return score(progress=advance)


def _print_json(model: str, sets: Sequence[dict[str, Any]]) -> None:
    click.echo(json.dumps({"model": model, "sets": sets}))
