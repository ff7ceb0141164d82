"""The threads of this machine: each job stays in one thread, from beginning to end.

A network that runs on one thread never waits for others. So several photos side by side, with one thread each,
take less time than one after another with all threads, and the result does not depend on how many there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from mobilesam.core.ranges import check_whole_number
from mobilesam.work.base import Done, Job

WINDOW = 2  # jobs in flight for each worker: one that is worked on, and one that waits
MOST_WORKERS = 256


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


@dataclass(frozen=True)
class LocalEngine:
    """See :class:`mobilesam.work.base.Engine`.

    Attributes:
        workers: threads, each with one job at a time.

    Raises:
        PromptError: for a number below 1.
        LimitError: for too many.

    Example:
        >>> list(LocalEngine(workers=2).run(lambda number: number * number, range(5)))
        [0, 1, 4, 9, 16]
    """

    workers: int = field(default_factory=usable_cores)

    def __post_init__(self) -> None:
        check_whole_number("workers", self.workers, 1, MOST_WORKERS)

    def run(
        self,
        work: Callable[[Job], Done],
        jobs: Iterable[Job],
        give_up: Callable[[Job, str], Done] | None = None,
    ) -> Iterator[Done]:
        """See :class:`mobilesam.work.base.Engine`."""
        waiting = iter(jobs)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="mobilesam")
        try:
            flight: deque[Future[Done]] = deque(
                pool.submit(work, job) for job in islice(waiting, self.workers * WINDOW)
            )
            while flight:
                done = flight.popleft().result()
                flight.extend(pool.submit(work, job) for job in islice(waiting, 1))
                yield done
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
