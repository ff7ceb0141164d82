"""Is a file the published one? Checksums over its bytes."""

from __future__ import annotations

import hashlib
import os
from typing import IO

from mobilesam.weights.registry import ENTRIES, WeightsEntry


def sha256_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of an open file, from its start."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def git_blob_of(file: IO[bytes]) -> str:
    """Return the id that git gives the content of an open file.

    It is a SHA-1. Someone who makes both files can give them the same one, but nobody has
    yet made a second file for a given one.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return hashlib.file_digest(file, lambda: hashlib.sha1(b"blob %d\0" % size)).hexdigest()  # type: ignore[arg-type]


def is_published(file: IO[bytes], entry: WeightsEntry) -> bool:
    """Whether an open file is an entry's, by the published checksum; own weights have none and always pass."""
    if entry.own:
        return True
    return sha256_of(file) == entry.sha256 if entry.sha256 else git_blob_of(file) == entry.git_blob


def entry_of_file(file: IO[bytes]) -> WeightsEntry | None:
    """Return the entry whose published file this is, or None."""
    sha256, git_blob = sha256_of(file), git_blob_of(file)
    for entry in ENTRIES.values():
        if entry.sha256 == sha256 or entry.git_blob == git_blob:
            return entry
    return None
