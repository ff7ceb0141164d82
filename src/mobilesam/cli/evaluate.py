"""``mobilesam evaluate``: scores against human masks."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from mobilesam.cli.options import load_model, model_options
from mobilesam.core.errors import ConfigError
from mobilesam.evaluate.clicks import CLICKS, TARGETS, score_clicks
from mobilesam.evaluate.kinds import KINDS
from mobilesam.evaluate.prompted import PromptedScores, score_nested, score_prompted
from mobilesam.evaluate.sets import SMALLEST_OBJECT

Scores = TypeVar("Scores")


def choose_kinds(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """Split ``--kinds`` and check the names."""
    kinds = value.split(",") if value else list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--kinds: {kind!r} is unknown; choose of {', '.join(KINDS)}")
    return kinds


def set_options(command: Callable) -> Callable:
    """Add the sets, --smallest and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON."),
        click.option(
            "--smallest",
            default=SMALLEST_OBJECT,
            show_default=True,
            metavar="PART",
            help="Least part of a photograph that an object covers.",
        ),
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
    """


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
@model_options
def masks(
    sets: tuple[Path, ...],
    smallest: float,
    as_json: bool,
    kinds: list[str],
    report: Path | None,
    overwrite: bool,
    **model: str | None,
) -> None:
    """Mean IoU of every kind of prompt against human masks, at full size.

    SET is a folder with instances.json (COCO, run-length masks) and images/. Also told: the
    boundary IoU, what the best, the largest and the most stable of three masks would have
    scored beside the one that the model chose, and the calibration error of the predicted IoU.

    \b
    mobilesam evaluate masks data/eval/coco_val --report report
    mobilesam evaluate masks data/eval/coco_val data/eval/msrc_cow --kinds box,point --json
    """
    loaded = load_model(**model)
    results = []
    for folder in sets:
        scores = _with_bar(folder, partial(score_prompted, loaded, folder, kinds=kinds, smallest=smallest))
        nested = _with_bar(folder, partial(score_nested, loaded, folder, smallest=smallest))
        results.append(_without_each(scores) | {"nested": dataclasses.asdict(nested)})
        if not as_json:
            _print_kinds(scores)
            if nested.pairs:
                click.echo(
                    f"part and whole from one point, {nested.pairs} pairs: part {nested.part:.3f}, "
                    f"whole {nested.whole:.3f}, both found {nested.both:.0%}"
                )
        if report:
            from mobilesam.evaluate.report import write_report

            for path in write_report(scores, report, overwrite=overwrite):
                click.echo(f"{path}: written", err=True)
    if as_json:
        _print_json(loaded.name, results)


def _print_kinds(scores: PromptedScores) -> None:
    click.echo(f"{scores.name}: {scores.images} photographs, {scores.objects} objects")
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
@model_options
def clicks(sets: tuple[Path, ...], smallest: float, as_json: bool, clicks: int, **model: str | None) -> None:
    """Mean IoU after each of several corrective clicks, and the number of clicks to an IoU.

    Each click lies deepest inside what is wrong; the mask before it is the mask prompt.

    \b
    mobilesam evaluate clicks data/eval/coco_val --clicks 10
    """
    loaded = load_model(**model)
    scores = [_with_bar(f, partial(score_clicks, loaded, f, clicks=clicks, smallest=smallest)) for f in sets]
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


def _with_bar(folder: Path, score: Callable[..., Scores]) -> Scores:
    """Score a set with a progress bar."""
    with click.progressbar(length=1, label=folder.name, file=sys.stderr) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(1)

        return score(progress=advance)


def _print_json(model: str, sets: Sequence[dict[str, Any]]) -> None:
    click.echo(json.dumps({"model": model, "sets": sets}))
