"""``mobilesam train``: train networks from data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilesam.cli.engines import EngineOptions
from mobilesam.cli.fields import FileType, options_from
from mobilesam.core.errors import missing_extra
from mobilesam.core.text import printable
from mobilesam.train.options import RunOptions
from mobilesam.train.store_options import StoreOptions

if TYPE_CHECKING:
    from mobilesam.train.loop import Progress


@click.group()
def train() -> None:
    """Train a network.

    \b
    mobilesam train masks recipes/pocket.toml --data data --out runs/pocket
    mobilesam train boxes recipes/detector-nano.toml --data data --out runs/detector
    mobilesam train subject recipes/subject.toml --data data --out runs/subject
    mobilesam train distill recipes/distill-smoke.toml --data data --out runs/smoke
    """


def run_options(command: Callable) -> Callable:
    """Add the options that every kind of training takes."""
    out = click.option(
        "--out",
        required=True,
        metavar="DIR",
        type=FileType(),
        help="Folder for checkpoints, log, plot and weights.",
    )
    data = click.option(
        "--data",
        default=".",
        metavar="DIR",
        type=FileType(),
        help="Folder that the recipe's sets lie in.  [default: .]",
    )
    recipe = click.argument("recipe", type=FileType())
    return recipe(data(out(options_from(RunOptions, "options")(command))))


@train.command()
@run_options
def masks(recipe: Path, data: Path, out: Path, options: RunOptions) -> None:
    """Train a promptable network from human masks, by a RECIPE in TOML.

    A run that was stopped goes on where it was: give the same command again. OUT then holds
    weights.safetensors, for --checkpoint, log.jsonl and loss.png.

    \b
    mobilesam train masks recipes/pocket.toml --data data --out runs/pocket --minutes 60
    mobilesam segment photo.jpg --point 50%,50% --checkpoint runs/pocket/weights.safetensors
    """
    run_to_end("masks", recipe, data, out, options)


@train.command()
@run_options
def boxes(recipe: Path, data: Path, out: Path, options: RunOptions) -> None:
    """Train a detector of objects from the boxes of human masks, by a RECIPE in TOML.

    It stops and goes on as train masks does; OUT then holds weights.safetensors, for --detector.

    \b
    mobilesam train boxes recipes/detector-nano.toml --data data --out runs/detector
    mobilesam everything photo.jpg --detector runs/detector/weights.safetensors
    """
    run_to_end("boxes", recipe, data, out, options)


@train.command()
@run_options
def subject(recipe: Path, data: Path, out: Path, options: RunOptions) -> None:
    """Train the head that finds the subject of a photo without a prompt, by a RECIPE in TOML.

    pocket's encoder looks at the photos once, and does not change. It is stopped and goes on as train masks does; OUT
    then holds weights.safetensors.

    \b
    mobilesam train subject recipes/subject.toml --data data --out runs/subject
    """
    run_to_end("subject", recipe, data, out, options)


@train.command()
@click.argument("photos", metavar="DATA", type=FileType())
@click.option("--out", required=True, metavar="STORE", type=FileType(), help="Folder of the store.")
@options_from(StoreOptions, "options")
@options_from(EngineOptions, "engine")
def teacher(photos: Path, out: Path, options: StoreOptions, engine: EngineOptions) -> None:
    """Write a teacher's embeddings of photos, once and for all, for train distill.

    DATA is a folder of photos, or a set in any format that mobilesam convert reads. The same command again goes on
    after a stop, and takes in new photos.

    \b
    mobilesam train teacher photos --model pocket --image-size 192 --out stores/pocket-192
    mobilesam train teacher sa1b --model sam_vit_h --out stores/vit_h --engine ray --address auto
    """
    if engine.workers is not None:
        engine.check_ray("--workers")
    try:
        from mobilesam.train.teacher import make_store
    except ModuleNotFoundError as error:
        raise missing_extra("train", "train") from error
    cluster = engine.ray(gpu=options.device == "cuda")
    make_store(photos, out, options, click.echo, cluster)
    click.echo(f"written: {printable(out)}")


@train.command()
@run_options
def distill(recipe: Path, data: Path, out: Path, options: RunOptions) -> None:
    """Train a student network to do what a teacher does, by a RECIPE in TOML.

    It stops and goes on as train masks does; OUT then holds weights.safetensors, for --checkpoint.

    \b
    mobilesam train distill recipes/distill-smoke.toml --data data --out runs/smoke
    mobilesam segment photo.jpg --point 50%,50% --checkpoint runs/smoke/weights.safetensors
    """
    try:
        from mobilesam.train.distill import DISTILL, train_distill
        from mobilesam.train.distill_recipe import read_distill_recipe
        from mobilesam.train.finish import finish
    except ModuleNotFoundError as error:
        raise missing_extra("train", "train") from error
    settings = read_distill_recipe(recipe)
    newest = train_distill(settings, data, out, options, tell_progress)
    if is_first_rank():
        for path in finish(settings, newest, out, DISTILL.plain):
            click.echo(f"written: {path}")


def run_to_end(what: str, recipe: Path, data: Path, out: Path, options: RunOptions) -> None:
    """Train by a recipe's file, print how it goes, and write what users take from it."""
    try:
        from mobilesam.train.boxes import train_boxes
        from mobilesam.train.finish import finish
        from mobilesam.train.masks import train_masks
        from mobilesam.train.recipe import read_recipe
        from mobilesam.train.subject import train_subject
    except ModuleNotFoundError as error:
        raise missing_extra("train", "train") from error
    settings = read_recipe(recipe)
    kinds = {"masks": train_masks, "boxes": train_boxes, "subject": train_subject}
    newest = kinds[what](settings, data, out, options, tell_progress)
    if is_first_rank():
        for path in finish(settings, newest, out):
            click.echo(f"written: {path}")


def tell_progress(progress: Progress) -> None:
    """Print a line of how a run goes."""
    if progress.doing:
        click.echo(f"{progress.doing}: {progress.step} of {progress.steps}")
        return
    scores = "".join(f", {key} {value:.3f}" for key, value in (progress.scores or {}).items())
    left = progress.seconds_left / 60
    click.echo(
        f"step {progress.step} of {progress.steps}: loss {progress.loss:.3f}{scores}; about {left:.0f} min left"
    )


def is_first_rank() -> bool:
    """Whether this process is the first, or the only one, of a run under ``torchrun``."""
    return os.environ.get("RANK", "0") == "0"
