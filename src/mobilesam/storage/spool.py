"""Bytes that wait on the disk for a file that comes later, so that they are made once and are not in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType

from mobilesam.core.errors import OutputError
from mobilesam.storage.atomic import reason_for

READ_AT_ONCE = 2**20


class Spool:
    """Takes bytes and yields them again; nothing is left of it in the end.

    Raises:
        OutputError: if there is no room in the system's folder for such files.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile()
        except OSError as error:
            raise _error(error) from error
        self.length = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            OutputError: if there is no room for them.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise _error(error) from error
        self.length += len(data)

    def pieces(self) -> Iterator[bytes]:
        """Yield all that was taken, piece by piece."""
        try:
            self._file.seek(0)
        except OSError as error:  # what was taken last is written now
            raise _error(error) from error
        while piece := self._file.read(READ_AT_ONCE):
            yield piece


def _error(error: OSError) -> OutputError:
    place = f"{tempfile.gettempdir()}, which TMPDIR chooses"
    return OutputError(f"{place}: cannot be written ({reason_for(error)})")
