"""A Ray cluster: processes of this machine or of many, each with a copy of the work and one job at a time.

The work, with its model, travels once to each process. A process that dies is replaced by another, and the jobs that
it had are begun again. A job that was being worked on each time that its process died is given up, alone.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import re
import signal
import socket
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic

from mobilesam.core.errors import ConfigError, DeadlineError, WorkerWarning, missing_extra
from mobilesam.core.ranges import check_whole_number
from mobilesam.core.text import shortened
from mobilesam.core.version import __version__
from mobilesam.work.base import Done, Job
from mobilesam.work.local import usable_cores

QUEUE = 2  # jobs of each process: one that is worked on, and one that waits there
WINDOW = 4  # jobs of each process that were taken and not yet yielded
MOST_DEATHS = 3  # of processes, after which their job is given up, or no more are started
MOST_WORKERS = 10_000
START_SECONDS = 600.0  # for the first process: a cluster may have to start a machine
LOOPBACK = "127.0.0.1"
# Ray would report its use, change which GPUs a process sees that asks for none, and print many lines to standard
# output for each process that dies.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}
HOST_PORT = re.compile(r"(?P<host>[^/:]+):(?P<port>[0-9]{1,5})")
CONNECT_SECONDS = 10.0  # Ray would try for minutes


@dataclass(frozen=True)
class RayEngine:
    """See :class:`mobilesam.work.base.Engine`.

    Attributes:
        workers: processes; where None, one for each core, or with ``gpu`` for each GPU.
        address: of a cluster that runs, ``HOST:PORT`` or ``auto``; where None, one is started on this
            machine, which listens on its loopback alone, and ended with the run.
        gpu: each process has a GPU, or a part of one where there are more processes than GPUs.

    Raises:
        MissingExtraError: if Ray is not installed.
        PromptError: for a number of workers below 1.
        LimitError: for too many.
    """

    workers: int | None = None
    address: str | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_whole_number("workers", self.workers, 1, MOST_WORKERS)
        _import_ray()

    def run(
        self, work: Callable[[Job], Done], jobs: Iterable[Job], give_up: Callable[[Job, str], Done]
    ) -> Iterator[Done]:
        """See :class:`mobilesam.work.base.Engine`.

        Raises:
            ConfigError: if the cluster cannot be reached, has no GPU, or its processes cannot begin.
            DeadlineError: if it has no room for a process for ten minutes.
        """
        waiting = iter(jobs)
        first = list(islice(waiting, 1))
        if first:
            with connected(self):
                yield from _Crew(self.count(), self.share(), work, give_up).run(chain(first, waiting))

    def count(self) -> int:
        """Return how many processes there shall be."""
        return self.workers or max(1, int(_amount("GPU" if self.gpu else "CPU")))

    def share(self) -> dict[str, float]:
        """Return what of a machine each process is promised."""
        if not self.gpu:
            return {"num_cpus": 1}
        gpus = int(_amount("GPU"))
        if not gpus:
            raise ConfigError(
                f"address {shortened(self.address or 'none')}: Ray finds no GPU there; leave out --device, "
                "or start Ray on a machine that has one"
            )
        return {"num_cpus": 0, "num_gpus": 1 / math.ceil(self.count() / gpus)}


def _import_ray() -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions  # a mere folder of that name has none
    except ImportError as error:
        raise missing_extra("--engine ray", "ray") from error
    return ray


def _amount(what: str) -> float:
    return _import_ray().cluster_resources().get(what, 0.0)


@contextlib.contextmanager
def connected(engine: RayEngine) -> Iterator[None]:
    """Be connected to the cluster; to the one that the caller is connected to already, if there is one."""
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    _check_there(engine.address)
    own: dict[str, Any] = {
        "num_cpus": engine.workers or usable_cores(),
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
    }
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            engine.address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if engine.address is not None else own),
        )
    except Exception as error:  # its classes for this are many, and no part of its interface
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _unreachable(engine.address, reason) from error
    with contextlib.suppress(ValueError, TypeError):  # not in the main thread, or none of Python's
        signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _check_there(address: str | None) -> None:
    """Refuse an address at which nobody answers, before Ray tries for minutes."""
    match = HOST_PORT.fullmatch(address or "")
    if match is None:
        return
    try:
        socket.create_connection((match["host"], int(match["port"])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str | None, reason: str) -> ConfigError:
    return ConfigError(
        f"address {shortened(address or 'none')}: no Ray cluster can be reached or started there ({reason}); "
        "give HOST:PORT of one with its token in your environment, or leave it out"
    )


class Worker:
    """What runs in each process: the work, ready to be given jobs.

    Args:
        work: what is done with each job.
        folder: in which relative names of files are meant.
    """

    def __init__(self, work: Callable[[Any], Any], folder: str) -> None:
        self.work = work
        with contextlib.suppress(OSError):  # what is missing there will be told by name
            os.chdir(folder)

    def version(self) -> str:
        """Return the version of this package here."""
        return __version__

    def do(self, job: Any) -> tuple[Any, Exception | None]:
        """Return what the work makes of a job, or what it raises."""
        try:
            return self.work(job), None
        except Exception as error:
            error.add_note(traceback.format_exc())
            return None, error


@dataclass
class _Place:
    """A process and the jobs it has, oldest first."""

    actor: Any
    ready: Any = None  # what it answers when it can begin; None from then on
    flight: deque[tuple[int, Any]] = field(default_factory=deque)  # numbers and answers to come

    @property
    def next(self) -> Any:
        """What is waited for; None if nothing is."""
        return self.ready if self.ready is not None else self.flight[0][1] if self.flight else None


class _Crew(Generic[Job, Done]):
    """Processes that share jobs.

    Args:
        count: of processes.
        share: what of a machine each is promised.
        work: what is done with each job.
        give_up: see :class:`mobilesam.work.base.Engine`.
    """

    def __init__(
        self,
        count: int,
        share: dict[str, float],
        work: Callable[[Job], Done],
        give_up: Callable[[Job, str], Done],
    ) -> None:
        self.ray = _import_ray()
        self._make = self.ray.remote(Worker).options(**share, max_restarts=0, max_task_retries=0)
        self._work = self.ray.put(work)
        self._give_up = give_up
        self._jobs: dict[int, Job] = {}  # that were taken and not yet yielded
        self._done: dict[int, Done] = {}
        self._again: list[int] = []  # a heap
        self._suspects: set[int] = set()  # jobs that were given to a process that died
        self._all_taken = False
        self._deaths: Counter[int] = Counter()
        self._failed_starts = 0
        self._any_began = False
        self._places = [self._start() for _ in range(count)]

    def run(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Yield what becomes of each job, in order."""
        waiting = enumerate(jobs)
        next_out = 0
        try:
            while self._hand_out(waiting):
                self._collect()
                while next_out in self._done:
                    del self._jobs[next_out]
                    yield self._done.pop(next_out)
                    next_out += 1
        finally:
            for place in self._places:
                self.ray.kill(place.actor)

    def _start(self) -> _Place:
        actor = self._make.remote(self._work, os.getcwd())
        return _Place(actor, actor.version.remote())

    def _hand_out(self, waiting: Iterator[tuple[int, Job]]) -> bool:
        """Give jobs to those that have room, evenly; return whether any job is left.

        A job whose process died goes to a process that has no other, so that the next death is not another's.
        """
        for depth in range(QUEUE):
            for place in self._places:
                if place.ready is not None or len(place.flight) > depth or self._is_alone(place):
                    continue
                if self._again and not place.flight:
                    number: int | None = heapq.heappop(self._again)
                else:
                    number = self._take(waiting)
                if number is not None:
                    place.flight.append((number, place.actor.do.remote(self._jobs[number])))
        return bool(self._jobs) or not self._all_taken

    def _is_alone(self, place: _Place) -> bool:
        return bool(place.flight) and place.flight[0][0] in self._suspects

    def _take(self, waiting: Iterator[tuple[int, Job]]) -> int | None:
        """Return the number of the next new job; None if there is none, or enough are in flight."""
        if len(self._jobs) >= WINDOW * len(self._places):
            return None
        for number, job in waiting:
            self._jobs[number] = job
            return number
        self._all_taken = True
        return None

    def _collect(self) -> None:
        """Wait until something is answered, and take all that is."""
        answers = {place.next: place for place in self._places if place.next is not None}
        limit = None if self._any_began else START_SECONDS
        ready, _ = self.ray.wait(list(answers), timeout=limit)
        if not ready:
            raise DeadlineError(
                f"Ray: had no room for a worker for {START_SECONDS:g} s; stop what else runs on the cluster, or "
                "give it more machines"
            )
        more, _ = self.ray.wait(list(answers), num_returns=len(answers), timeout=0)
        for answer in {*ready, *more}:
            place = answers[answer]
            try:
                value = self.ray.get(answer)
            except self.ray.exceptions.RayTaskError:
                raise  # not of a process that died: what it made cannot travel
            except self.ray.exceptions.RayError as error:
                self._replace(place, str(error))
                continue
            self._accept(place, value)

    def _accept(self, place: _Place, value: Any) -> None:
        if place.ready is not None:
            if value != __version__:
                raise ConfigError(
                    f"Ray: a machine of the cluster has mobilesam {value}, this one {__version__}; results would "
                    "differ, so install the same everywhere"
                )
            place.ready, self._any_began = None, True
            return
        number, _ = place.flight.popleft()
        made, error = value
        if error is not None:
            raise error
        self._done[number] = made
        self._suspects.discard(number)
        self._failed_starts = 0

    def _replace(self, place: _Place, reason: str) -> None:
        """Start another process for one that died; the job that it worked on is to blame, if it had one."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(place.actor)  # one that cannot be reached may be alive
        if place.ready is not None:
            self._failed_starts += 1
            if self._failed_starts >= MOST_DEATHS:
                told = [line.strip() for line in reason.splitlines() if line.strip()]
                raise ConfigError(f"Ray: workers cannot begin ({told[-1] if told else 'no reason is known'})")
        warnings.warn(
            "Ray: a worker's process died; what it had is begun again. Further deaths are not told",
            WorkerWarning,
            stacklevel=2,
        )
        for position, (number, _) in enumerate(place.flight):
            if position == 0:
                self._deaths[number] += 1
                if self._deaths[number] >= MOST_DEATHS:
                    self._done[number] = self._give_up(
                        self._jobs[number],
                        f"the worker's process died of it {MOST_DEATHS} times, out of memory or by a crash",
                    )
                    continue
            self._suspects.add(number)
            heapq.heappush(self._again, number)
        fresh = self._start()
        place.actor, place.ready, place.flight = fresh.actor, fresh.ready, deque()
