"""Lanes of work: jobs one by one in a thread, with a limited queue from which those who have left are dropped."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from mobilesam.server.refusals import Refusal, busy, gone_away

T = TypeVar("T")
USUAL = 0.2  # weight of the latest job in the mean time of a job
FIRST_GUESS = 1.0  # seconds for a job, before one was measured
EXPECTED = 64  # jobs on their way, at most
ON_THE_WAY = 0.1  # seconds from the gate to the lane, after which a job is no longer expected
LATEST = 0.25  # part of a job's mean time that the running one may still need for another to wait, in a spell of refusals
END = object()
Gone = Callable[[], Awaitable[None]]  # waits until a client has hung up


class Stop(threading.Event):
    """Set when nobody waits for the work any more."""


class Stopped(Exception):
    """Raised to end work that nobody waits for any more."""


class Job:
    """Work to be done, and its outcome."""

    def __init__(self, work: Callable[[Stop], Any]) -> None:
        self.work = work
        self.stop = Stop()
        self.future: Future = Future()

    def do(self) -> None:
        """Do it, unless nobody waits for it any more."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work(self.stop))
        except BaseException as error:
            self.future.set_exception(error)

    def drop(self) -> None:
        """Keep it from beginning, or let it end as soon as it can."""
        self.stop.set()
        self.future.cancel()


class Lane:
    """One thread that does jobs in order.

    Args:
        name: what messages call it.
        places: jobs that may wait besides the one that runs.
        seconds: after which a job is given up, counted from its arrival.
        spell: seconds after a refusal in which the places stay empty, but for one job that will not wait for long.
            Places help when several jobs come at once. When more come than can be done, waiting helps nobody:
            each answer comes later, and there are no more of them.
    """

    def __init__(self, name: str, places: int, seconds: float, spell: float = 0.0) -> None:
        self.name, self.places, self.seconds, self.spell = name, places, seconds, spell
        self.usual = FIRST_GUESS
        self.closed = False
        # When the gate let jobs in that are on their way.
        self._expected: deque[float] = deque(maxlen=EXPECTED)
        self._refused = -math.inf  # when the last job was refused
        self._began = 0.0  # when the running job did
        self._jobs: dict[int, Job] = {}
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # A daemon, so that a job that cannot be stopped does not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """Number of jobs that wait or run, or are on their way."""
        latest = time.monotonic() - ON_THE_WAY
        return len(self._jobs) + sum(one > latest for one in list(self._expected))

    @property
    def full(self) -> bool:
        """Whether another job would be refused."""
        now, taken = time.monotonic(), self.taken
        if now - self._refused > self.spell:
            return taken > self.places
        return taken > 1 or (taken == 1 and now - self._began < (1 - LATEST) * self.usual)

    def expect(self) -> None:
        """Keep a place for a job that is on its way, so that no others are let in for the same place."""
        self._expected.append(time.monotonic())

    def turn_away(self) -> Refusal:
        """Return the refusal of a job that there is no place for."""
        self._refused = time.monotonic()
        return busy(self.name, self.usual * self.taken)

    async def run(self, work: Callable[[Stop], T], gone: Gone) -> T:
        """Do a job and return its result.

        Args:
            work: is called in the lane's thread.
            gone: waits until the client has hung up.

        Raises:
            Refusal: if there is no place, if the client has gone, or after the lane's seconds.
        """
        job = self._enter(work)
        await self._watch(asyncio.wrap_future(job.future), job, gone)
        result: T = _result(job)
        return result

    def begin(self, work: Callable[[Stop], Any]) -> None:
        """Do a job that nobody waits for.

        Raises:
            Refusal: if there is no place.
        """
        self._enter(work)

    async def stream(self, work: Callable[[Stop], Iterator[T]], gone: Gone) -> AsyncGenerator[T, None]:
        """Do a job that yields, and yield its items; the job ends when the caller stops listening.

        Raises:
            Refusal: as :meth:`run` does.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Queue[Any] = asyncio.Queue()

        def go_through(stop: Stop) -> None:
            for one in work(stop):
                if stop.is_set():
                    return
                loop.call_soon_threadsafe(found.put_nowait, one)

        job = self._enter(go_through)
        done = asyncio.wrap_future(job.future)
        done.add_done_callback(lambda _: found.put_nowait(END))
        watching = asyncio.ensure_future(self._watch(done, job, gone))
        try:
            while (one := await found.get()) is not END:
                yield one
            await watching
            _result(job)
        finally:
            job.drop()
            watching.cancel()

    def close(self, seconds: float = 0.0) -> bool:
        """Take no more jobs and drop those that wait; return whether the running one ended within ``seconds``."""
        with self._lock:
            self.closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.drop()
        self._waiting.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _enter(self, work: Callable[[Stop], Any]) -> Job:
        job = Job(work)
        with self._lock:
            if self._expected:
                self._expected.popleft()
            if self.closed:
                raise Refusal(503, "B", "the server is stopping", {"Retry-After": "5"})
            if self.full:
                raise self.turn_away()
            self._jobs[id(job)] = job
        number = id(job)  # the job's own future would keep the job alive, and with it an image
        job.future.add_done_callback(lambda _: self._leave(number))
        self._waiting.put(job)
        return job

    def _leave(self, number: int) -> None:
        with self._lock:
            self._jobs.pop(number, None)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            self._began = time.monotonic()
            job.do()
            if not job.future.cancelled():
                self.usual += USUAL * (time.monotonic() - self._began - self.usual)
            del job

    async def _watch(self, done: asyncio.Future, job: Job, gone: Gone) -> None:
        """Wait until a job is done, the client has gone or the time is up."""
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({done, left}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                if not done.cancelled():
                    done.exception()  # otherwise asyncio reports that it was never retrieved
                return
            if left.done():
                raise gone_away()
            raise Refusal(504, "T", f"it took longer than {self.seconds:g} s, the limit")
        finally:
            left.cancel()
            if not done.done():
                job.drop()
                done.cancel()


def _result(job: Job) -> Any:
    """Return the result of a finished job."""
    try:
        return job.future.result()
    except (CancelledError, Stopped) as error:
        raise Refusal(503, "B", "the server is stopping", {"Retry-After": "5"}) from error
