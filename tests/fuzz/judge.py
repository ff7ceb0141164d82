"""What a reader may do with any bytes: read them or raise our error, soon, in little memory and silently."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobilesam.core.errors import MobileSamError

MOST_SECONDS = 2.0
MOST_MEGABYTES = 400.0
MOST_CHARACTERS = 2048
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Find:
    """Something that a reader must not do.

    Attributes:
        kind: what it did, the same for inputs that lead to the same place.
        detail: all that is known of it.
    """

    kind: str
    detail: str


def memory(what: str) -> float:
    """A figure of the process in MiB."""
    return int(re.search(rf"{what}:\s*(\d+)", STATUS.read_text())[1]) / 1024


class Judge:
    """Tries inputs on a reader and says what was wrong with how it took each.

    Standard error is the judge's while it exists: decoders print there by themselves.
    """

    def __init__(self) -> None:
        self._printed = tempfile.TemporaryFile()
        self._old = os.dup(2)
        os.dup2(self._printed.fileno(), 2)

    def close(self) -> None:
        """Give standard error back."""
        os.dup2(self._old, 2)
        os.close(self._old)
        self._printed.close()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def try_input(self, read: Callable[[bytes], object], data: bytes) -> Find | None:
        """Let a reader have an input."""
        CLEAR_PEAK.write_text("5")
        before, start = memory("VmRSS"), time.process_time()
        find = _misbehaviour(read, data)
        seconds, megabytes = time.process_time() - start, memory("VmHWM") - before
        printed = self._take_printed()
        if find is not None:
            return find
        if seconds > MOST_SECONDS:
            return Find("slow", f"{seconds:.1f} s")
        if megabytes > MOST_MEGABYTES:
            return Find("memory", f"{megabytes:.0f} MB")
        return Find(f"prints: {re.sub('[0-9]+', '#', printed)[:60]}", printed) if printed else None

    def _take_printed(self) -> str:
        size = os.fstat(self._printed.fileno()).st_size
        if not size:
            return ""
        self._printed.seek(0)
        text = self._printed.read(size).decode("utf-8", "replace")
        self._printed.seek(0)
        self._printed.truncate()
        return text.strip()


def _misbehaviour(read: Callable[[bytes], object], data: bytes) -> Find | None:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            read(data)
    except MobileSamError as error:
        text = str(error)
        if len(text.encode("utf-8", "backslashreplace")) > MOST_CHARACTERS or not text.isprintable():
            return Find(f"message of {type(error).__name__}", text[:4000])
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.name}"
        return Find(f"{type(error).__name__} in {where}", "".join(traceback.format_exception(error)))
    return None
