"""``mobilesam train``: train networks from data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam.core.errors import missing_extra

if TYPE_CHECKING:
    from mobilesam.train.loop import Progress


@click.group()
def train() -> None:
    """Train a network.

    \b
    mobilesam train masks recipes/pocket.toml --data data --out runs/pocket
    mobilesam train boxes recipes/detector-nano.toml --data data --out runs/detector
    """


def run_options(command: Any) -> Any:
    """Add what every kind of training takes."""
    for option in reversed(RUN_OPTIONS):
        command = option(command)
    return command


RUN_OPTIONS = (
    click.argument("recipe", type=click.Path(path_type=Path)),
    click.option(
        "--data",
        default=".",
        show_default=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder that the recipe's sets lie in.",
    ),
    click.option(
        "--out",
        required=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder for checkpoints, log, plot and weights.",
    ),
    click.option(
        "--follow-symlinks", is_flag=True, help="Read also photographs that links show of other folders."
    ),
    click.option("--device", default=None, metavar="NAME", help="cpu or cuda.  [default: cuda if there]"),
    click.option("--threads", type=click.IntRange(1), metavar="N", help="Processor threads."),
    click.option(
        "--workers",
        default=1,
        show_default=True,
        type=click.IntRange(0),
        metavar="N",
        help="Processes that make samples.",
    ),
    click.option(
        "--minutes", default=math.inf, metavar="N", help="Save and stop after so long; run again to go on."
    ),
    click.option(
        "--report-every",
        default=50,
        show_default=True,
        type=click.IntRange(1),
        metavar="STEPS",
        help="Steps between two lines of the log.",
    ),
    click.option(
        "--save-every",
        default=500,
        show_default=True,
        type=click.IntRange(1),
        metavar="STEPS",
        help="Steps between two checkpoints and held-out scores.",
    ),
)


@train.command()
@run_options
def masks(recipe: Path, data: Path, out: Path, **run: Any) -> None:
    """Train a promptable network from human masks, by a RECIPE in TOML.

    A run that was stopped goes on where it was: give the same command again. OUT then holds
    weights.safetensors, for --checkpoint, log.jsonl and loss.png.

    \b
    mobilesam train masks recipes/pocket.toml --data data --out runs/pocket --minutes 60
    mobilesam segment photo.jpg --point 50%,50% --checkpoint runs/pocket/weights.safetensors
    """
    run_to_end("masks", recipe, data, out, **run)


@train.command()
@run_options
def boxes(recipe: Path, data: Path, out: Path, **run: Any) -> None:
    """Train a detector of objects from the boxes of human masks, by a RECIPE in TOML.

    It is stopped and goes on as train masks does; OUT then holds weights.safetensors, for --detector.

    \b
    mobilesam train boxes recipes/detector-nano.toml --data data --out runs/detector
    mobilesam everything photo.jpg --detector runs/detector/weights.safetensors
    """
    run_to_end("boxes", recipe, data, out, **run)


def run_to_end(
    what: str,
    recipe: Path,
    data: Path,
    out: Path,
    *,
    device: str | None,
    threads: int | None,
    workers: int,
    minutes: float,
    follow_symlinks: bool,
    report_every: int,
    save_every: int,
) -> None:
    """Train by a recipe's file, tell how it goes, and write what it leaves for its users."""
    try:
        from mobilesam.runtimes.torch import choose_device, limit_threads
        from mobilesam.train.boxes import train_boxes
        from mobilesam.train.finish import finish
        from mobilesam.train.masks import train_masks
        from mobilesam.train.recipe import read_recipe
    except ModuleNotFoundError as error:
        raise missing_extra("train", "train") from error
    if threads:
        limit_threads(threads)

    def report(progress: Progress) -> None:
        scores = "".join(f", {key} {value:.3f}" for key, value in (progress.scores or {}).items())
        left = progress.seconds_left / 60
        click.echo(
            f"step {progress.step} of {progress.steps}: loss {progress.loss:.3f}{scores}; about {left:.0f} min left"
        )

    settings = read_recipe(recipe)
    newest = {"masks": train_masks, "boxes": train_boxes}[what](
        settings,
        data,
        out,
        device=choose_device(device).type,
        workers=workers,
        report_every=report_every,
        save_every=save_every,
        stop_after=minutes * 60,
        follow_symlinks=follow_symlinks,
        report=report,
    )
    for path in finish(settings, newest, out):
        click.echo(f"written: {path}")
