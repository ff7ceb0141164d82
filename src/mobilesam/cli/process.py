"""The process that a command runs in: its signals, and its standard streams.

Nothing but the standard library's smallest modules is imported here, so that a signal that
comes while the rest is imported already finds its handler.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

TYPE_CHECKING = False  # typing, which has it, takes longer to import than all of the above
if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import ReadableBuffer

INTERRUPTED_EXIT, TERMINATED_EXIT = 130, 143
# A terminal that is closed (SIGHUP) ends a command as SIGTERM does. Windows has no SIGHUP.
EXITS = {
    getattr(signal, name): code
    for name, code in (
        ("SIGINT", INTERRUPTED_EXIT),
        ("SIGTERM", TERMINATED_EXIT),
        ("SIGHUP", TERMINATED_EXIT),
    )
    if hasattr(signal, name)
}
STDIN, STDOUT, STDERR = range(3)
_asked: list[int] = []  # exit codes, one for each signal that became an exception


class Terminated(BaseException):
    """The process was asked to end; whatever is being written is cleaned up on the way out."""


def prepare() -> None:
    """Make the process one in which a command can run; called before anything else is imported."""
    signals_end_at_once()
    # PyTorch's threads would wait for each other by spinning, also for one that another program keeps from its core:
    # beside other work a training step took 4.6 s instead of 2.5, or 56 instead of 1.4. Asleep they lose nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _fill_closed_descriptors()
    sys.stdin = sys.stdin or open(STDIN, closefd=False)
    sys.stdout = _text_stream(STDOUT, sys.stdout, forgiven=BrokenPipeError)
    sys.stderr = _text_stream(STDERR, sys.stderr, forgiven=OSError)


def signals_end_at_once() -> None:
    """Let signals end the process where it stands: while it is started and ended, nothing is being written."""
    _handle_signals(_end)


def signals_raise() -> None:
    """Let the first signal be an exception, which cleans up; a second one ends the process where it stands."""
    sys.unraisablehook = _end_by_lost_signal
    _handle_signals(_raise)


def exit_asked_for() -> int | None:
    """Return what a signal asked the process to exit with, if one came.

    Extension modules turn exceptions that come while they are imported into errors of their own.
    """
    return _asked[0] if _asked else None


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in EXITS:
        if (
            signal.getsignal(number) != signal.SIG_IGN
        ):  # ignored as nohup and shells in the background want it
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(EXITS[number])


def _raise(number: int, frame: FrameType | None) -> None:
    signals_end_at_once()
    _asked.append(EXITS[number])
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _end_by_lost_signal(unraisable: sys.UnraisableHookArgs) -> None:
    """End the process where a signal came while Python could pass no exception on, such as in a finaliser."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        os._exit(INTERRUPTED_EXIT)
    if issubclass(unraisable.exc_type, Terminated):
        os._exit(TERMINATED_EXIT)
    sys.__unraisablehook__(unraisable)


def _fill_closed_descriptors() -> None:
    """Open the streams that the process was started without; the next opened file would take their place.

    What is opened for standard output cannot be written to: a command that has something to
    print there fails, as on a full disk.
    """
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR if descriptor == STDERR else os.O_RDONLY)


def _text_stream(descriptor: int, given: TextIO | None, forgiven: type[OSError]) -> TextIO:
    """Return a standard stream that fails at most once, and never when the process ends."""
    if given is not None and not _is_of_bytes(given):
        return given
    return io.TextIOWrapper(
        io.BufferedWriter(_StandardStream(descriptor, forgiven)),
        encoding=given.encoding if given else "utf-8",
        errors=given.errors if given else "backslashreplace",
        line_buffering=given is None or getattr(given, "line_buffering", True),
    )


def _is_of_bytes(stream: TextIO) -> bool:
    """Whether a stream's bytes go to a file; Windows' consoles take characters, and a caller's own may do anything."""
    buffer = getattr(stream, "buffer", None)
    return isinstance(getattr(buffer, "raw", buffer), io.FileIO)


class _StandardStream(io.RawIOBase):
    """A descriptor that silently takes everything after the first failure.

    The reader of a pipe may have seen enough (``mobilesam ... | head -1``), which is no reason
    to leave work undone. Standard error may be closed or full; then nobody can be told.

    Args:
        descriptor: of the stream.
        forgiven: failures that are not raised.
    """

    def __init__(self, descriptor: int, forgiven: type[OSError]) -> None:
        self.file = io.FileIO(descriptor, "w", closefd=False)
        self.forgiven = forgiven
        self.failed = False
        self.fileno, self.isatty, self.writable = self.file.fileno, self.file.isatty, self.file.writable  # type: ignore[method-assign]

    def write(self, data: ReadableBuffer) -> int | None:
        """Write some bytes; return how many were taken."""
        if self.failed:
            return memoryview(data).nbytes
        try:
            return self.file.write(data)
        except OSError as error:
            self.failed = True
            if isinstance(error, self.forgiven):
                return memoryview(data).nbytes
            raise
