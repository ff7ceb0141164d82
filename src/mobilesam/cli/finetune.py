"""``mobilesam finetune``: from one's own photos with masks to one's own model."""

from __future__ import annotations

from pathlib import Path

import click

from mobilesam.cli.fields import FileType, options_from
from mobilesam.core.text import printable
from mobilesam.train.finetune import FinetuneOptions
from mobilesam.train.finetune import finetune as finetune_model


@click.command()
@click.argument("photos", metavar="SET", type=FileType())
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=FileType(),
    help="Folder for weights, scores, contact sheet, recipe and checkpoints.",
)
@options_from(FinetuneOptions, "options")
def finetune(photos: Path, out: Path, options: FinetuneOptions) -> None:
    """Train a model further on photos with masks: a SET in any format that mobilesam convert reads.

    A fifth of the photos is not trained on, but scored before and after. A run that was stopped goes on
    with the same command.

    \b
    mobilesam finetune cells --out runs/cells --minutes 10 --name cells
    mobilesam segment photo.jpg --box 120,40,380,300 --model cells
    """
    done = finetune_model(photos, out, options=options, tell=tell)
    for path in (done.weights, done.sheet, done.recipe):
        tell(f"written: {printable(path)}")
    if done.name:
        tell(f"now a model: --model {done.name}")


def tell(text: str) -> None:
    """Print a line at once."""
    click.echo(text)
