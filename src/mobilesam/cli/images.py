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
from mobilesam.formats.image_bytes import read_limited

STANDARD_STREAM = "-"
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def find_images(
    images: Sequence[str], out: Path | None, *, follow_symlinks: bool, quiet: bool = False
) -> list[Source]:
    """Return what IMAGE... means: patterns that the shell did not expand are, standard input is one photo."""
    if STANDARD_STREAM in images:
        if len(images) > 1:
            raise click.UsageError("-: standard input is one photo; give no others with it")
        return [Source("standard input", "stdin", read_limited(sys.stdin.buffer, "standard input"))]
    paths = [path for image in images for path in _paths_of(image)]
    inside = find_sources(paths, beside=out, follow_symlinks=follow_symlinks)
    for remark in () if quiet else inside.remarks:
        click.echo(f"warning: {remark}", err=True)
    return inside.sources


def _paths_of(image: str) -> list[Path]:
    if not image.strip():
        raise click.UsageError(
            "IMAGE: is empty; give a file, a folder, a pattern such as 'shots/*.jpg', or -"
        )
    if ADDRESS.match(image) and not os.path.exists(image):
        raise click.UsageError(f"{image}: is an address, and nothing is fetched; give a file")
    if not glob.has_magic(image) or os.path.exists(image):
        return [Path(image)]
    found = sorted(glob.glob(image, recursive=True))
    if not found:
        raise click.UsageError(f"{image}: matches no file")
    return [Path(name) for name in found]
