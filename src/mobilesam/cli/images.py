"""The images that a command is given, and how it tells what became of them."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from mobilesam.annotate.segment_files import Outcome, Source, find_sources
from mobilesam.core.text import printable
from mobilesam.formats.image_bytes import read_limited, shown

PARTIAL_EXIT = 5
STANDARD_STREAM = "-"
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
DEFAULT_OUT = "mobilesam-out"


def result_options(kinds: Sequence[str], default: str) -> Callable[[Callable], Callable]:
    """Add --out, --save with some of ``kinds``, --overwrite, --json, --follow-symlinks and --max-pixels."""
    options = (
        click.option(
            "--out",
            default=DEFAULT_OUT,
            show_default=True,
            metavar="DIR",
            help="Folder for the results; - for standard output.",
        ),
        click.option(
            "--save", default=default, show_default=True, metavar="LIST", help=f"Some of {','.join(kinds)}."
        ),
        click.option("--overwrite", is_flag=True, help="Replace results that are there."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON."),
        click.option(
            "--follow-symlinks",
            is_flag=True,
            help="In a folder, read also what links show of other folders.",
        ),
        click.option(
            "--max-pixels",
            type=click.IntRange(1),
            metavar="N",
            help="Limit on an image's pixels.  [default: 50000000]",
        ),
    )

    def add(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def parse_kinds(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read --save: some of the known kinds of output, joined by commas."""
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in known:
            raise click.UsageError(f"--save: {kind!r} is unknown; choose some of {','.join(known)}")
    return tuple(dict.fromkeys(kinds))


def find_images(images: Sequence[str], out: Path | None, *, follow_symlinks: bool) -> list[Source]:
    """Return what IMAGE... means: patterns that the shell did not expand are, standard input is one image."""
    if STANDARD_STREAM in images:
        if len(images) > 1:
            raise click.UsageError("-: standard input is one image; give no others with it")
        return [Source("standard input", "stdin", read_limited(sys.stdin.buffer, "standard input"))]
    if out is not None and os.path.isfile(out):  # a Path would raise for names that are too long
        raise click.UsageError(f"--out: {out} is a file; give a folder, which is made if it is not there")
    paths: list[Path] = []
    for image in images:
        if ADDRESS.match(image) and not os.path.exists(image):
            raise click.UsageError(f"{image}: is an address, and nothing is fetched; give a file")
        found = (
            sorted(glob.glob(image, recursive=True))
            if glob.has_magic(image) and not Path(image).exists()
            else None
        )
        if found == []:
            raise click.UsageError(f"{image}: matches no file")
        paths += [Path(name) for name in (found or [image])]
    inside = find_sources(paths, beside=out, follow_symlinks=follow_symlinks)
    for remark in inside.remarks:
        click.echo(f"warning: {remark}", err=True)
    return inside.sources


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return what the command ends with."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not errors:
        return 0
    return PARTIAL_EXIT if len(errors) < len(outcomes) else errors[0].exit_code


def tell(outcome: Outcome, many: bool) -> None:
    """Print an image's error or warnings to standard error."""
    name = shown(outcome.source.name)
    if outcome.error is not None:
        text = printable(outcome.error)
        if many and not text.startswith(name):
            text = f"{name}: {text}"
        click.echo(f"error[{outcome.error.code}]: {text}", err=True)
    elif outcome.record is not None:
        for warning in outcome.record["warnings"]:
            click.echo(f"warning: {name}: {printable(warning)}", err=True)
