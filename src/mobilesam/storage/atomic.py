"""Write files so that a crash leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mobilesam.core.errors import MobileSamError, OutputError, Remedy


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` for writing and move it there once it is whole and on disk.

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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        refuse_existing(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move_into_place(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except MobileSamError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)})") from error


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace what is there, unless that is asked for.

    Raises:
        OutputError: if something is there, or a folder in any case.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; move it away or choose another one")
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path}: exists already; choose another place",
            remedy=Remedy("overwrite", True, "to replace it"),
        )


def write_bytes(path: str | os.PathLike, data: bytes, *, overwrite: bool = True) -> None:
    """Write ``data`` to ``path`` atomically; see :func:`atomic_write`."""
    with atomic_write(path, overwrite=overwrite) as file:
        file.write(data)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a file that is whole and on disk its name, for good.

    Raises:
        OSError: if that cannot be done.
    """
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk; systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission; choose another folder"
    return error.strerror or str(error)
