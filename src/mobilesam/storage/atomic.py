"""Write files so that a crash leaves either the old one or the new one, never half of one.

A file is written under a name that nothing else has, and its writer holds the file's lock. The
system drops the lock when the writer dies, so that the next process can tell what a killed
one left behind from what a neighbour is writing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from mobilesam.core.errors import MobileSamError, OutputError, Remedy
from mobilesam.storage.lock import is_at, try_lock

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.mobilesam\.tmp")
LOCKS_KEEP_OTHERS_OFF = sys.platform != "win32"  # there a file has to be closed before it can be renamed
COPIED_AT_ONCE = 2**20  # bytes
_cleaned: set[str] = set()  # folders that this process has already cleaned


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` for writing and move it there once it is complete and on disk.

    Args:
        path: the file to write; its folder is made if need be.
        overwrite: replace an existing file; otherwise it is an error.

    Raises:
        OutputError: if the folder or file cannot be written, the disk is full, or the
            file exists and may not be replaced.

    Example:
        >>> with atomic_write("out/mask.png") as file:  # doctest: +SKIP
        ...     file.write(png)
    """
    path = Path(path)
    try:
        refuse_existing(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean_once(path.parent)
        temporary, descriptor = _open_temporary(path.parent)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if LOCKS_KEEP_OTHERS_OFF:
                    move_into_place(temporary, path)
            if not LOCKS_KEEP_OTHERS_OFF:
                move_into_place(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except MobileSamError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_for(error)})") from error


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside ``path`` and give it that name once its files are complete.

    If another process has been faster, its folder stays. Nothing waits for the disk, so this is for what can be
    told to be damaged and made again.

    Raises:
        OSError: if the folder cannot be made or moved.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.parent / _temporary_name()
    new.mkdir()
    try:
        yield new
        with contextlib.suppress(FileExistsError):
            if not path.exists():
                new.rename(path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def remove_remains(folder: Path) -> None:
    """Remove the half-written files that killed processes left in a folder.

    What a living process is writing stays, and so does everything where the two cannot be told apart:
    on Windows, on file systems without locks, and in other users' folders.
    """
    if not LOCKS_KEEP_OTHERS_OFF:
        return
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(folder) if TEMPORARY.fullmatch(name)]
        for name in names:
            with contextlib.suppress(OSError):
                _remove_if_dead(folder / name)


def _clean_once(folder: Path) -> None:
    place = os.path.abspath(folder)
    if place not in _cleaned:
        _cleaned.add(place)
        remove_remains(folder)


def _remove_if_dead(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and try_lock(descriptor) and is_at(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)


def _temporary_name() -> str:
    return f".{os.urandom(8).hex()}.mobilesam.tmp"


def _open_temporary(folder: Path) -> tuple[Path, int]:
    """Make a file that is this process's own as long as it is open."""
    while True:
        path = folder / _temporary_name()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        locked = True
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes anything there
            locked = try_lock(descriptor)
        if locked and is_at(descriptor, path):
            return path, descriptor
        os.close(descriptor)  # before it was locked, another process took it for a dead one's


def check_folder(folder: Path) -> None:
    """Make a folder if need be, and see that files can be written there, before hours of work rely on it.

    Raises:
        OutputError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _open_temporary(folder)
        os.close(descriptor)
        temporary.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({reason_for(error)})") from error


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace an existing file, unless that is asked for.

    Raises:
        OutputError: if a file is there and may not be replaced, if a folder is there, or if nothing can have that name.
    """
    if "\0" in str(path):
        raise OutputError(f"{path}: has a zero byte, which no file's name has; choose another name")
    if os.path.isdir(path):
        raise OutputError(f"{path}: is a folder; move it away or choose another one")
    if os.path.exists(path) and not overwrite:
        raise OutputError(
            f"{path}: exists already; choose another place",
            remedy=Remedy("overwrite", True, "to replace it"),
        )


def write_bytes(path: str | os.PathLike, data: bytes, *, overwrite: bool = True) -> None:
    """Write ``data`` to ``path`` atomically; see :func:`atomic_write`."""
    with atomic_write(path, overwrite=overwrite) as file:
        file.write(data)


def write_pieces(path: str | os.PathLike, pieces: Iterable[bytes], *, overwrite: bool = True) -> None:
    """Write a file piece by piece, atomically; one that has the same content already is left alone.

    Raises:
        OutputError: if a file with another content is there and may not be replaced, or it cannot be written.
    """
    path, waiting = Path(path), iter(pieces)
    same, first = _compare(path, waiting)
    if first is None:
        return
    with atomic_write(path, overwrite=overwrite) as file:
        if same:
            with path.open("rb") as before:
                _copy(before, file, same)
        file.write(first)
        file.writelines(waiting)


def _compare(path: Path, pieces: Iterator[bytes]) -> tuple[int, bytes | None]:
    """Take pieces as long as a file begins with them; return their bytes, and the first that differs.

    That one is None if the file is all of them, and empty if it is longer.
    """
    try:
        before = path.open("rb")
    except OSError:  # writing will say what is wrong
        return 0, b""
    same = 0
    with before:
        for piece in pieces:
            if before.read(len(piece)) != piece:
                return same, piece
            same += len(piece)
        return same, b"" if before.read(1) else None


def _copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
    while length and (piece := source.read(min(length, COPIED_AT_ONCE))):
        target.write(piece)
        length -= len(piece)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a file that is complete and on disk its final name.

    Raises:
        OSError: if that cannot be done.
    """
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reason_for(error: OSError) -> str:
    """Return why something cannot be written, and what to do."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission; choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long; choose a shorter one"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "part of the path is a file; choose another folder"
    return f"{error.strerror or error}; choose another folder"
