"""A finished set is copied to an address such as ``s3://bucket/set/``, by fsspec (an extra)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mobilesam.annotate.set_folder import IMAGES
from mobilesam.annotate.set_run import LOCK
from mobilesam.formats.addresses import lengths_below, put_file
from mobilesam.formats.datasets import record
from mobilesam.storage.atomic import TEMPORARY


@dataclass(frozen=True)
class Uploaded:
    """What was copied: files and bytes; photos that were there before do not count."""

    files: int = 0
    bytes: int = 0


def upload(
    folder: Path, address: str, tell: Callable[[int, int], None] = lambda done, total: None
) -> Uploaded:
    """Copy a set's files to an address, and the record last: where it lies, all the rest does.

    Photos that lie there with as many bytes are not copied again, so a copy that was stopped is resumed by another.

    Args:
        folder: of the set.
        address: of the folder that becomes it; other files there stay.
        tell: is called with the files that are done and their number.

    Raises:
        MissingExtraError: if fsspec is not installed.
        OutputError: if something cannot be written.
    """
    there = lengths_below(address)
    names = sorted(_files_in(folder), key=lambda name: (name == record.NAME, name))
    copied = size = 0
    for number, name in enumerate(names):
        tell(number, len(names))
        length = (folder / name).stat().st_size
        if name.startswith(f"{IMAGES}/") and there.get(name) == length:
            continue
        put_file(folder / name, address, name)
        copied, size = copied + 1, size + length
    return Uploaded(copied, size)


def _files_in(folder: Path) -> Iterator[str]:
    """Yield the names of a set's files, with ``/`` between folders."""
    for place, _, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        yield from (
            (below / name).as_posix() for name in files if name != LOCK and not TEMPORARY.fullmatch(name)
        )
