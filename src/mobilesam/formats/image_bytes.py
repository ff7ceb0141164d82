"""Read an image file's bytes: whole, within a limit, and never waiting for anything."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from mobilesam.core.errors import ImageError, LimitError
from mobilesam.core.text import printable

READ_AT_ONCE = 2**18  # bytes: Python makes room for as many as are asked for, whatever the file has
MAX_FILE_BYTES = 512 * 2**20
MAX_VALUE = 60  # characters of an argument's value in a message
MAX_SHOWN = 120  # characters of a name in a message


def read_file(path: str | os.PathLike, *, name: str) -> bytes:
    """Read an image file whole; pipes, devices and folders are refused, not waited for.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        ImageError: if it is not a regular file, or cannot be opened or read.
        LimitError: if it is larger than any image file may be.
    """
    with open_file(path, name=name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise _too_many_bytes(name, f"{size:,} bytes")
        return read_limited(file, name, expected=size)


def open_file(path: str | os.PathLike, *, name: str) -> BinaryIO:
    """Open a regular file for reading; anything else is refused, not waited for.

    Raises:
        ImageError: if it is not a regular file, or cannot be opened.
    """
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise ImageError(f"{shown(name)}: {_open_reason(error, path)}") from error
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise ImageError(f"{shown(name)}: is a directory; give an image file")
    raise ImageError(f"{shown(name)}: is not a regular file; give an image file, or - for standard input")


def read_limited(file: BinaryIO, name: str, *, expected: int = 0) -> bytes:
    """Read a stream from its current place up to the limit on bytes.

    Args:
        file: anything whose ``read`` returns bytes; it may return fewer than it is asked for.
        name: what messages call it.
        expected: how many bytes there should be, which are then read at once: parts are in memory twice.

    Raises:
        LimitError: if there is more.
        ImageError: if reading fails, or does not return bytes.
    """
    parts, left, at_once = [], MAX_FILE_BYTES + 1, max(expected, READ_AT_ONCE)
    while left > 0 and (part := _read_part(file, min(left, at_once), name)):
        parts.append(part)
        left -= len(part)
        at_once = READ_AT_ONCE
    if left <= 0:
        raise _too_many_bytes(name, "more")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_part(file: BinaryIO, size: int, name: str) -> bytes:
    try:
        part = file.read(size)
    except OSError as error:
        reason = printable(error.strerror or error)
        raise ImageError(f"{shown(name)}: cannot be read ({reason}); copy it elsewhere") from error
    except MemoryError:
        raise
    except Exception as error:  # a file of the caller's own class may raise anything
        reason = printable(str(error)[:120] or type(error).__name__)
        raise ImageError(
            f"{shown(name)}: cannot be read ({reason}); open it for reading bytes", code="U"
        ) from error
    if isinstance(part, bytearray | memoryview):
        return bytes(part)
    if isinstance(part, bytes):
        return part
    kind = "text" if isinstance(part, str) else f"a {type(part).__name__}"
    raise ImageError(f"{shown(name)}: read() gives {kind}, not bytes; open it with mode 'rb'", code="U")


def shown(name: str) -> str:
    """Return a name as messages print it; a very long one keeps its beginning and end."""
    if len(name) > MAX_SHOWN:
        name = f"{name[: MAX_SHOWN // 2]}...{name[-MAX_SHOWN // 2 :]}"
    return printable(name)


def shown_value(value: object) -> str:
    """Return an argument's value as messages print it; some values have no text, or refuse to give it."""
    try:
        return printable(repr(value)[:MAX_VALUE])
    except (
        Exception
    ):  # Python does not print very long numbers, and the value may be of the caller's own class
        return f"a {type(value).__name__} that cannot be printed"


def _too_many_bytes(name: str, size: str) -> LimitError:
    limit = f"{MAX_FILE_BYTES >> 20} MiB"
    return LimitError(f"{shown(name)}: {size}, over the limit of {limit} for an image file; make it smaller")


def _open_reason(error: Exception, path: str | os.PathLike) -> str:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return "is a broken symbolic link; restore what it points to"
        return "not found; check the path"
    if isinstance(error, PermissionError):
        return "permission denied; make it readable"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "is in a symbolic link loop; give the file itself"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened ({error.strerror}); give an image file"
    return "not a valid path; give an image file"
