"""``mobilesam evaluate``: scores against human masks."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click

from mobilesam.cli.options import load_model, model_options
from mobilesam.evaluate.prompted import SMALLEST_OBJECT, PromptedScores, score_prompted
from mobilesam.predictor import Model


@click.group()
def evaluate() -> None:
    """Score a model.

    \b
    mobilesam evaluate masks data/eval/coco_val
    """


@evaluate.command()
@click.argument("sets", nargs=-1, required=True, metavar="SET...", type=click.Path(path_type=Path))
@click.option(
    "--smallest",
    default=SMALLEST_OBJECT,
    show_default=True,
    metavar="PART",
    help="Least part of a photograph that an object covers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@model_options
def masks(
    sets: tuple[Path, ...],
    smallest: float,
    as_json: bool,
    model: str | None,
    checkpoint: str | None,
    runtime: str | None,
    device: str | None,
    dtype: str | None,
) -> None:
    """Mean IoU of box and point prompts against human masks, at full size.

    SET is a folder with instances.json (COCO, run-length masks) and images/.

    \b
    mobilesam evaluate masks data/eval/coco_val data/eval/msrc_cow --json
    """
    loaded = load_model(model, checkpoint, runtime, device, dtype)
    scores = [_score_with_bar(loaded, folder, smallest) for folder in sets]
    if as_json:
        click.echo(json.dumps({"model": loaded.name, "sets": [dataclasses.asdict(s) for s in scores]}))
        return
    click.echo(f"{'set':<20}{'images':>8}{'objects':>9}{'box':>8}{'point':>8}{'best of 3':>11}")
    for s in scores:
        click.echo(
            f"{s.name:<20}{s.images:>8}{s.objects:>9}{s.box:>8.3f}{s.point_choice:>8.3f}{s.point_best:>11.3f}"
        )


def _score_with_bar(model: Model, folder: Path, smallest: float) -> PromptedScores:
    with click.progressbar(length=1, label=folder.name, file=sys.stderr) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(1)

        return score_prompted(model, folder, smallest=smallest, progress=advance)
