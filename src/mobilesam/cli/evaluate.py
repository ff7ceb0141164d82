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
from mobilesam.evaluate.prompted import CLICKS, SMALLEST_OBJECT, TARGETS, score_clicks, score_prompted

Scores = TypeVar("Scores")


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
@model_options
def masks(sets: tuple[Path, ...], smallest: float, as_json: bool, **model: str | None) -> None:
    """Mean IoU of box and point prompts against human masks, at full size.

    SET is a folder with instances.json (COCO, run-length masks) and images/. Also told: the
    boundary IoU of the box's mask, and the calibration error of the predicted IoU.

    \b
    mobilesam evaluate masks data/eval/coco_val data/eval/msrc_cow --json
    """
    loaded = load_model(**model)
    scores = [_with_bar(f, partial(score_prompted, loaded, f, smallest=smallest)) for f in sets]
    if as_json:
        _print_json(loaded.name, scores)
        return
    click.echo(
        f"{'set':<20}{'images':>8}{'objects':>9}{'box':>8}{'boundary':>10}{'point':>8}{'best of 3':>11}{'ECE':>8}"
    )
    for s in scores:
        click.echo(
            f"{s.name:<20}{s.images:>8}{s.objects:>9}{s.box:>8.3f}{s.box_boundary:>10.3f}"
            f"{s.point_choice:>8.3f}{s.point_best:>11.3f}{s.calibration:>8.3f}"
        )


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
        _print_json(loaded.name, scores)
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


def _print_json(model: str, scores: Sequence[Any]) -> None:
    click.echo(json.dumps({"model": model, "sets": [dataclasses.asdict(s) for s in scores]}))
