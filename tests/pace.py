"""How much slower this machine is, just now, than the one on which limits of time were set.

A limit says what a reader may do with a hostile file, not how busy the machine is: what
goes over it is measured against a fixed piece of work.
"""

from __future__ import annotations

import time
import zlib

QUIET_SECONDS = 0.024  # of `_work`, least of many readings on the machine where the limits were set
_PACKED = zlib.compress(bytes(range(256)) * 20_000)


def within(seconds: float, limit: float) -> bool:
    """Whether a piece of work took no longer than its limit, on this machine as it is now."""
    return seconds <= limit or seconds <= limit * min(_work() for _ in range(2)) / QUIET_SECONDS


def _work() -> float:
    start = time.process_time()
    total = 0
    for byte in zlib.decompress(_PACKED)[:300_000]:
        total += byte & 3
    return time.process_time() - start
