"""Files at addresses such as ``s3://bucket/shots/``: which there are, their bytes, and new ones, by fsspec (an extra)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from mobilesam.core.errors import (
    ConfigError,
    ImageError,
    LimitError,
    MobileSamError,
    OutputError,
    missing_extra,
)
from mobilesam.core.text import printable
from mobilesam.formats.image_bytes import shown

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
MAX_FILES = 5_000_000
MAX_REASON = 160
PROBE = ".mobilesam-probe"  # is written and removed to see whether writing works


def is_address(text: str) -> bool:
    """Whether a text is an address and not a path.

    Example:
        >>> is_address("s3://bucket/shots"), is_address("shots"), is_address("C:/shots")
        (True, False, False)
    """
    return ADDRESS.match(text) is not None


@dataclass(frozen=True)
class FoundFile:
    """A file at an address.

    Attributes:
        address: of the file.
        below: its place below the folder that was given, or below that of a pattern.
        length: in bytes.
    """

    address: str
    below: PurePosixPath
    length: int


def list_address(address: str) -> list[FoundFile]:
    """Return the files of an address, in the order of their names.

    Args:
        address: of a file, of a folder with all below it, or with ``*`` for several of either.

    Raises:
        MissingExtraError: if fsspec is not installed.
        ConfigError: if there is nothing, it cannot be reached, or needs a package that is not installed.
        LimitError: for over 5,000,000 files.
    """
    with _told(address, ConfigError):
        system, path = _open(address)
        if "*" in path:
            folder, given = path.partition("*")[0].rpartition("/")[0], system.glob(path, detail=True)
        else:
            one = system.info(path)
            folder = path if one["type"] == "directory" else path.rpartition("/")[0]
            given = {path: one}
        files: dict[str, int] = {}
        for name, one in given.items():
            below = system.find(name, detail=True) if one["type"] == "directory" else {name: one}
            files |= {key: int(info["size"] or 0) for key, info in below.items() if info["type"] == "file"}
            if len(files) > MAX_FILES:
                raise LimitError(f"{shown(address)}: holds over {MAX_FILES:,} files, the limit")
        if not files:
            raise ConfigError(f"{shown(address)}: holds no files")
        return [
            FoundFile(
                system.unstrip_protocol(name), PurePosixPath(name.removeprefix(folder).strip("/")), size
            )
            for name, size in sorted(files.items())
        ]


def read_range(address: str, start: int, length: int) -> bytes:
    """Read a part of the file at an address; less where the file ends before.

    Raises:
        MissingExtraError: if fsspec is not installed.
        ImageError: if it is not there or cannot be read.
    """
    with _told(address, ImageError):
        system, path = _open(address)
        return system.cat_file(path, start=start, end=start + length)


@contextlib.contextmanager
def opened(address: str) -> Iterator[BinaryIO]:
    """Open the file at an address for reading and seeking.

    Raises:
        MissingExtraError: if fsspec is not installed.
        ImageError: if it is not there or cannot be read, also while it is open.
    """
    with _told(address, ImageError):
        system, path = _open(address)
        with system.open(path, "rb") as file:
            yield file


def _open(address: str) -> tuple[Any, str]:
    try:
        import fsspec.core
    except ImportError as error:
        raise missing_extra(f"{shown(address)}: is an address; using it", "fsspec") from error
    return fsspec.core.url_to_fs(address)


@contextlib.contextmanager
def _told(address: str, fail: type[MobileSamError], done: str = "read") -> Iterator[None]:
    """Turn what a file system raises, of which each has classes of its own, into our error."""
    try:
        yield
    except (MobileSamError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise fail(f"{shown(address)}: not found; check the address") from error
    except PermissionError as error:
        raise fail(
            f"{shown(address)}: permission denied; check the key that your environment gives"
        ) from error
    except Exception as error:
        reason = printable(str(error).strip() or type(error).__name__)[:MAX_REASON]
        raise fail(f"{shown(address)}: cannot be {done} ({reason})") from error


def check_room(address: str) -> None:
    """See that files can be written below an address, before hours of work rely on it.

    Raises:
        MissingExtraError: if fsspec is not installed.
        OutputError: if they cannot.
    """
    with _told(address, OutputError, "written"):
        system, path = _open(address)
        _make_folder(system, path)
        probe = f"{path.rstrip('/')}/{PROBE}"
        system.pipe_file(probe, b"")
        system.rm_file(probe)


def lengths_below(address: str) -> dict[str, int]:
    """Return the bytes of each file below an address, by its place there; none if there is no such folder.

    Raises:
        MissingExtraError: if fsspec is not installed.
        OutputError: if it cannot be reached.
    """
    with _told(address, OutputError, "read"):
        system, path = _open(address)
        found = system.find(path, detail=True) if system.exists(path) else {}
        return {name.removeprefix(path).strip("/"): int(one["size"] or 0) for name, one in found.items()}


def put_file(file: Path, address: str, below: str) -> None:
    """Copy a file to its place below an address.

    Raises:
        MissingExtraError: if fsspec is not installed.
        OutputError: if it cannot be written.
    """
    with _told(address, OutputError, "written"):
        system, path = _open(address)
        target = f"{path.rstrip('/')}/{below}"
        _make_folder(system, target.rpartition("/")[0])
        system.put_file(str(file), target)


def _make_folder(system: Any, path: str) -> None:
    """Make a folder where there are any: a store of buckets needs none, and would make a bucket that is misspelt."""
    if not hasattr(system, "split_path"):  # into bucket and key
        system.makedirs(path, exist_ok=True)
