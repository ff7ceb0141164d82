"""One process at a time: a lock file whose lock the system drops when its holder dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_SECONDS = 0.05
TELL_SECONDS = 10.0


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a file's lock, among processes and threads; wait for it as long as it takes.

    Nothing has to be cleaned up after a holder that was killed. The file is removed with
    the lock; whoever was waiting on the removed file starts over with the new one.

    Args:
        path: the lock file; its folder is made if need be.
        on_wait: called when somebody else holds the lock, and every 10 seconds from then on.

    Raises:
        OSError: if the file cannot be made.
    """
    descriptor = _acquire(path, on_wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file's lock as :func:`locked` does, but do not wait for it.

    Args:
        path: the lock file; its folder is made if need be.

    Raises:
        BlockingIOError: if somebody else holds it.
        OSError: if the file cannot be made.
    """

    def refuse() -> None:
        raise BlockingIOError(f"{path}: is held by another process")

    with locked(path, refuse):
        yield


def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    told = -TELL_SECONDS
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # whoever had the lock has just removed the empty folder
            continue
        try:
            while not try_lock(descriptor):
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    on_wait()
                time.sleep(POLL_SECONDS)
            if is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Take an open file's lock without waiting, and return whether it is taken."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Take an open file's lock without waiting, and return whether it is taken."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
