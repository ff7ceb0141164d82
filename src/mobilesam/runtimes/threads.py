"""How many processor threads a session of ONNX Runtime gets."""

from __future__ import annotations

import os

from mobilesam.core.errors import ConfigError

VARIABLE = "OMP_NUM_THREADS"  # batch systems and data loaders set it; PyTorch heeds it, ONNX Runtime does not
AS_MANY_AS_CORES = 0  # as ONNX Runtime calls it
MOST = 1024


def session_threads(threads: int | None) -> int:
    """Return the number for a session: the given one, ``OMP_NUM_THREADS``, or as many as there are cores.

    Raises:
        ConfigError: for a given number that is not a whole number from 1 to 1024.
    """
    if threads is not None:
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST:
            raise ConfigError(f"threads: is {threads!r}; must be a whole number from 1 to {MOST}")
        return threads
    outermost = os.environ.get(VARIABLE, "").split(",")[0].strip()  # OpenMP has one number for each level
    known = len(outermost) <= 4 and outermost.isdecimal() and int(outermost) <= MOST
    return int(outermost) if known else AS_MANY_AS_CORES
