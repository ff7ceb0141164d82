"""``mobilesam train``: train networks from data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilesam.cli.fields import option_field, options_from
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


@dataclass(frozen=True)
class RunOptions:
    """How a training runs.

    Attributes:
        data: folder that the recipe's sets lie in.
        follow_symlinks: also read photos that links in a set take from other folders.
        device: ``cpu`` or ``cuda``.
        threads: processor threads.
        workers: processes that make samples.
        minutes: save and stop after so long; the same command again goes on.
        report_every: steps between two lines of the log.
        save_every: steps between two checkpoints and held-out scores.
    """

    data: str = option_field(".", metavar="DIR")
    follow_symlinks: bool = False
    device: str | None = option_field(None, shown_default="cuda if there")
    threads: int | None = option_field(None, type=click.IntRange(1), metavar="N")
    workers: int = option_field(1, type=click.IntRange(0), metavar="N")
    minutes: float = option_field(math.inf, type=float, metavar="N", shown_default="no limit")
    report_every: int = option_field(50, type=click.IntRange(1), metavar="STEPS")
    save_every: int = option_field(500, type=click.IntRange(1), metavar="STEPS")


def run_options(command: Callable) -> Callable:
    """Add what every kind of training takes."""
    out = click.option(
        "--out",
        required=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder for checkpoints, log, plot and weights.",
    )
    recipe = click.argument("recipe", type=click.Path(path_type=Path))
    return recipe(out(options_from(RunOptions, "options")(command)))


@train.command()
@run_options
def masks(recipe: Path, out: Path, options: RunOptions) -> None:
    """Train a promptable network from human masks, by a RECIPE in TOML.

    A run that was stopped goes on where it was: give the same command again. OUT then holds
    weights.safetensors, for --checkpoint, log.jsonl and loss.png.

    \b
    mobilesam train masks recipes/pocket.toml --data data --out runs/pocket --minutes 60
    mobilesam segment photo.jpg --point 50%,50% --checkpoint runs/pocket/weights.safetensors
    """
    run_to_end("masks", recipe, out, options)


@train.command()
@run_options
def boxes(recipe: Path, out: Path, options: RunOptions) -> None:
    """Train a detector of objects from the boxes of human masks, by a RECIPE in TOML.

    It is stopped and goes on as train masks does; OUT then holds weights.safetensors, for --detector.

    \b
    mobilesam train boxes recipes/detector-nano.toml --data data --out runs/detector
    mobilesam everything photo.jpg --detector runs/detector/weights.safetensors
    """
    run_to_end("boxes", recipe, out, options)


def run_to_end(what: str, recipe: Path, out: Path, options: RunOptions) -> None:
    """Train by a recipe's file, tell how it goes, and write what it leaves for its users."""
    try:
        from mobilesam.runtimes.torch import choose_device, limit_threads
        from mobilesam.train.boxes import train_boxes
        from mobilesam.train.finish import finish
        from mobilesam.train.masks import train_masks
        from mobilesam.train.recipe import read_recipe
    except ModuleNotFoundError as error:
        raise missing_extra("train", "train") from error
    if options.threads:
        limit_threads(options.threads)

    def report(progress: Progress) -> None:
        scores = "".join(f", {key} {value:.3f}" for key, value in (progress.scores or {}).items())
        left = progress.seconds_left / 60
        click.echo(
            f"step {progress.step} of {progress.steps}: loss {progress.loss:.3f}{scores}; about {left:.0f} min left"
        )

    settings = read_recipe(recipe)
    newest = {"masks": train_masks, "boxes": train_boxes}[what](
        settings,
        Path(options.data),
        out,
        device=choose_device(options.device).type,
        workers=options.workers,
        report_every=options.report_every,
        save_every=options.save_every,
        stop_after=options.minutes * 60,
        follow_symlinks=options.follow_symlinks,
        report=report,
    )
    for path in finish(settings, newest, out):
        click.echo(f"written: {path}")
