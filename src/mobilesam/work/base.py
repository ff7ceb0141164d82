"""What an engine is: one Protocol for the threads of a machine and for the processes of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

LOCAL, RAY = ENGINES = ("local", "ray")  # what --engine calls them
Job = TypeVar("Job")
Done = TypeVar("Done")


class Engine(Protocol):
    """Does the same work for many jobs."""

    def run(
        self, work: Callable[[Job], Done], jobs: Iterable[Job], give_up: Callable[[Job, str], Done]
    ) -> Iterator[Done]:
        """Yield what the work makes of each job, in the order of the jobs.

        An engine bounds the jobs in flight, so that results that wait for an earlier one do not fill the
        memory. What the work raises is passed on; jobs in flight are finished or dropped, and no others are begun.

        Args:
            work: remembers nothing from job to job, and may be called from several threads or in other processes.
            jobs: taken one by one, when there is room.
            give_up: makes what is yielded of a job whose process died of it again and again, and of the reason
                in words. A thread cannot die alone, so threads never call it.
        """
        ...
