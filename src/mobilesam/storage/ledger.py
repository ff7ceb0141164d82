"""A file that grows line by line, each on disk before the next, so that a crash cuts the last line at most."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from mobilesam.core.errors import OutputError
from mobilesam.storage.atomic import reason_for


class Ledger:
    """Appends lines to an existing file.

    Args:
        path: the file.
        whole_bytes: its length without a line that was cut short; that line is removed.

    Raises:
        OutputError: if it cannot be opened.
    """

    def __init__(self, path: Path, whole_bytes: int) -> None:
        self.path = path
        self.length = whole_bytes
        try:
            self._descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
            os.ftruncate(self._descriptor, whole_bytes)
        except OSError as error:
            raise self._error(error) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def append(self, line: bytes) -> None:
        """Append a line and flush it to disk.

        Raises:
            OutputError: if there is no room; the earlier lines stay as they were.
        """
        try:
            os.lseek(self._descriptor, self.length, os.SEEK_SET)
            left = memoryview(line)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.length)
            raise self._error(error) from error
        self.length += len(line)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({reason_for(error)})")
