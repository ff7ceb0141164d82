"""The photos that a command is given."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mobilesam.annotate.sources import Source, find_sources
from mobilesam.formats.addresses import is_address
from mobilesam.formats.image_bytes import read_limited

STANDARD_STREAM = "-"
RANGE = re.compile(r"\{(?P<first>[0-9]{1,9})\.\.(?P<last>[0-9]{1,9})\}")
MAX_RANGE = 100_000


def find_images(
    images: Sequence[str],
    out: Path | None,
    *,
    follow_symlinks: bool,
    quiet: bool = False,
    stored: bool = False,
) -> Sequence[Source]:
    """Return what IMAGE... means: patterns that the shell did not expand are, standard input is one photo.

    Where ``stored``, tars are looked into, and addresses fetched.
    """
    if STANDARD_STREAM in images:
        if len(images) > 1:
            raise click.UsageError("-: standard input is one photo; give no others with it")
        return [Source("standard input", "stdin", read_limited(sys.stdin.buffer, "standard input"))]
    given = [one for image in images for one in (expand(image) if stored else [image])]
    paths = [path for image in given for path in _paths_of(image, stored)]
    inside = find_sources(paths, beside=out, follow_symlinks=follow_symlinks, tars=stored)
    for remark in () if quiet else inside.remarks:
        click.echo(f"warning: {remark}", err=True)
    return inside.sources


def expand(text: str) -> list[str]:
    """Return what a text with a range of numbers means, as WebDataset's users write names of shards.

    Example:
        >>> expand("shots-{008..010}.tar")
        ['shots-008.tar', 'shots-009.tar', 'shots-010.tar']
        >>> expand("shots.tar")
        ['shots.tar']
    """
    match = RANGE.search(text)
    if match is None or os.path.exists(text):
        return [text]
    first, last = match["first"], match["last"]
    if not 0 <= int(last) - int(first) < MAX_RANGE:
        raise click.UsageError(f"{text}: {match[0]} must go upwards, by less than {MAX_RANGE:,}")
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [
        one for number in numbers for one in expand(f"{text[: match.start()]}{number}{text[match.end() :]}")
    ]


def _paths_of(image: str, stored: bool) -> list[Path | str]:
    if not image.strip():
        raise click.UsageError(
            "IMAGE: is empty; give a file, a folder, a pattern such as 'shots/*.jpg', or -"
        )
    if is_address(image) and not os.path.exists(image):
        if stored:
            return [image]
        raise click.UsageError(f"{image}: is an address, and nothing is fetched; give a file")
    if not glob.has_magic(image) or os.path.exists(image):
        return [Path(image)]
    found = sorted(glob.glob(image, recursive=True))
    if not found:
        raise click.UsageError(f"{image}: matches no file")
    return [Path(name) for name in found]
