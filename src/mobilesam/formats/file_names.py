"""Names of files inside other files: they may point below a folder, and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path, PureWindowsPath

from mobilesam.core.errors import FOLLOW_SYMLINKS, MobileSamError
from mobilesam.core.text import shortened
from mobilesam.formats.image_folder import resolved

MAX_PART = 255  # bytes of a folder's or a file's name, which is what file systems allow
MAX_NAME = 1000  # characters of a name with its folders


def file_below(
    folder: Path, name: str, *, follow_symlinks: bool, place: str, fail: Callable[[str], MobileSamError]
) -> Path:
    """Return the file that ``name`` means below ``folder``, whether it is there or not.

    Args:
        folder: where it must lie; if this one is a link, that is the user's own choice.
        name: with ``/`` between folders.
        follow_symlinks: a link in the folder may lead out of it.
        place: what messages call the name, such as ``p.json: objects[2].mask``.
        fail: makes the error of a message.

    Raises:
        MobileSamError: what ``fail`` makes: for a name that leads out of the folder, or cannot be one.
    """
    problem = _problem(name)
    if problem:
        raise fail(f"{place}: is {shortened(name)}; {problem}")
    path = folder / name
    if not follow_symlinks and _has_link(folder, path):
        target, root = resolved(path), resolved(folder)
        if root not in target.parents:
            error = fail(
                f"{place}: is {shortened(name)}, where a symbolic link leads out of the folder; copy the file into it"
            )
            error.remedy = FOLLOW_SYMLINKS
            raise error
    return path


def open_at_once(path: str | os.PathLike) -> BufferedReader:
    """Open a file for reading without waiting for anything: a pipe that nobody writes to reads as empty.

    A pipe with a writer, such as a shell's ``<(command)``, is read to its end.

    Raises:
        OSError, ValueError: as ``open`` does.
    """
    file = open(path, "rb", opener=_without_waiting)
    if sys.platform != "win32":
        os.set_blocking(file.fileno(), True)
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def is_file(path: Path) -> bool:
    """Whether a file exists; a name that no file system allows does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether something exists; see :func:`is_file`."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _problem(name: str) -> str:
    """Return what is wrong with the name itself; empty if nothing is."""
    windows = PureWindowsPath(name)
    if not name or name.isspace() or "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        return "must be a file's name"
    if len(name) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in name.split("/")):
        return f"is too long for a file's name: folders and files have at most {MAX_PART} bytes"
    if windows.drive or windows.root or name.startswith("~/"):
        return "must be a name below the folder, not an absolute path"
    if "\\" in name:
        return "write / between folders"
    if ".." in name.split("/"):
        return "must be a name below the folder, without '..'"
    return ""


def _has_link(folder: Path, path: Path) -> bool:
    """Whether a step from a folder to a path below it is a link."""
    steps = [path, *path.parents]
    return any(os.path.islink(step) for step in steps[: steps.index(folder)])
