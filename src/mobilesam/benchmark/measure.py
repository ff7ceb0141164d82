"""Rows of the benchmark: each system beside a reference, the two in turns, so that a busy moment hits both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.benchmark.process import OUR_WORKER, Worker, WorkerFailed
from mobilesam.benchmark.protocol import PHASES
from mobilesam.core.errors import ConfigError, DeadlineError

Tell = Callable[[str], None]


@dataclass(frozen=True)
class BenchmarkOptions:
    """How long is measured.

    Attributes:
        threads: processor threads of each system.
        runs: most runs of each phase, after those that warm up.
        warm_up: runs that are not counted.
        seconds: most time for the runs of one phase of one system; one run counts in any case.
        macs: also count multiplications, of our own systems.
        answer: most seconds for one answer of a system.
    """

    threads: int = 1
    runs: int = 20
    warm_up: int = 2
    seconds: float = 10.0
    macs: bool = True
    answer: float = 900.0

    def __post_init__(self) -> None:
        for name, least in (("threads", 1), ("runs", 1), ("warm_up", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{name}: is {value!r}; must be a whole number from {least}")
        if not self.seconds > 0:
            raise ConfigError(f"seconds: is {self.seconds!r}; must be more than 0")


@dataclass(frozen=True)
class Candidate:
    """A system to measure, and the process that measures it.

    Attributes:
        name: what the worker calls it.
        label: what the table calls it.
        command: starts its worker.
        environment: variables of its process.
    """

    name: str
    label: str
    command: tuple[str, ...] = OUR_WORKER
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Timing:
    """Runs of one phase.

    Attributes:
        seconds: time of each run that counts.
        processor_seconds: of each, over all cores.
        joules: of each, if the system reports them; everything that runs on the processors counts.
        warm_up: seconds of the first run.
        spent: seconds of all runs but the first.
    """

    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    warm_up: float = 0.0
    spent: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Median, 90th percentile and spread, in milliseconds."""
        times = 1000 * np.array(self.seconds)
        energy = {"joules": round(float(np.median(self.joules)), 4)} if self.joules else {}
        return energy | {
            "n": len(times),
            "median_ms": round(float(np.median(times)), 3),
            "p90_ms": round(float(np.quantile(times, 0.9)), 3),
            "least_ms": round(float(times.min()), 3),
            "most_ms": round(float(times.max()), 3),
            "processor_ms": round(1000 * float(np.median(self.processor_seconds)), 3),
        }


@dataclass
class Row:
    """What was measured of a system.

    Attributes:
        label: what the table calls it.
        facts: see :mod:`mobilesam.benchmark.protocol`.
        cold_start: seconds from the start of its process until it is loaded.
        first_call: seconds of its first encoder and decoder run, or of its first pass.
        phases: by name.
        ratios: of its median to the reference's in the same turns, by phase.
        peak_bytes: most memory held.
        problem: why nothing was measured; empty otherwise.
    """

    label: str
    facts: dict[str, Any] = field(default_factory=dict)
    cold_start: float = 0.0
    first_call: float = 0.0
    phases: dict[str, Timing] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON has it."""
        if self.problem:
            return {"label": self.label, "problem": self.problem}
        return {
            "label": self.label,
            "facts": self.facts,
            "cold_start_ms": round(1000 * self.cold_start, 1),
            "first_call_ms": round(1000 * self.first_call, 1),
            "peak_mb": None if self.peak_bytes is None else round(self.peak_bytes / 1e6, 1),
            "phases": {name: timing.to_dict() for name, timing in self.phases.items()},
            "ratios": {name: round(value, 3) for name, value in self.ratios.items()},
        }


def measure_each(
    candidates: Sequence[Candidate],
    photo: Path,
    options: BenchmarkOptions,
    phases: Sequence[str] = tuple(PHASES),
    tell: Tell = lambda text: None,
) -> Iterator[Row]:
    """Measure systems, the first of which is the reference for all, and yield the row of each when it is done.

    Args:
        candidates: at least one.
        photo: the photo that all are given.
        options: how long.
        phases: some of ``PHASES``.
        tell: called with what comes next.

    Yields:
        A row for each; one that failed says why.

    Raises:
        ConfigError: if the reference fails.
    """
    reference = candidates[0]
    for candidate in candidates:
        tell(candidate.label)
        together = [candidate] if candidate is reference else [reference, candidate]
        try:
            *_, row = _in_turns(together, photo, options, phases)
        except (WorkerFailed, DeadlineError, OSError) as error:
            row = Row(candidate.label, problem=str(error))
        if row.problem and candidate is reference:
            raise ConfigError(
                f"{candidate.label}: cannot be measured ({row.problem}); it is the reference for all"
            )
        yield row


def _in_turns(
    candidates: Sequence[Candidate], photo: Path, options: BenchmarkOptions, phases: Sequence[str]
) -> list[Row]:
    with ExitStack() as stack:
        workers, rows = [], []
        for candidate in candidates:
            worker = stack.enter_context(
                Worker(
                    candidate.command,
                    threads=options.threads,
                    seconds=options.answer,
                    environment=candidate.environment,
                )
            )
            workers.append(worker)
            rows.append(_load(worker, candidate, photo, options))
        for phase in phases:
            own = [(w, row) for w, row in zip(workers, rows, strict=True) if phase in row.facts["phases"]]
            _run_phase(phase, own, options)
        for worker, row in zip(workers, rows, strict=True):
            row.peak_bytes = worker.ask(do="memory")["peak_bytes"]
            if options.macs and row is rows[-1]:
                row.facts["macs"] = worker.ask(do="count")["macs"]
            names = ("encoder", "decoder, 1 prompt", "one pass")
            row.first_call = sum(row.phases[name].warm_up for name in names if name in row.phases)
    for row in rows[1:]:
        for phase, timing in row.phases.items():
            if phase in rows[0].phases:
                row.ratios[phase] = float(
                    np.median(timing.seconds) / np.median(rows[0].phases[phase].seconds)
                )
    return rows


def _load(worker: Worker, candidate: Candidate, photo: Path, options: BenchmarkOptions) -> Row:
    question = {"do": "load", "system": candidate.name, "photo": str(photo), "threads": options.threads}
    answer = worker.ask(**question)
    cold = time.perf_counter() - worker.started
    return Row(candidate.label, answer["facts"] | {"phases": answer["phases"]}, cold_start=cold)


def _run_phase(phase: str, own: Sequence[tuple[Worker, Row]], options: BenchmarkOptions) -> None:
    """Run a phase of some systems in turns, each until it has its runs or its seconds."""
    for worker, row in own:
        first = worker.ask(do="run", phase=phase)["seconds"]  # sessions start in this run, so it never counts
        row.phases[phase] = Timing(warm_up=first)
    left = [(worker, row.phases[phase]) for worker, row in own]
    for turn in range(1, max(1, options.warm_up) + options.runs):
        for worker, timing in left:
            if timing.seconds and timing.spent >= options.seconds:
                continue
            run = worker.ask(do="run", phase=phase)
            timing.spent += run["seconds"]
            if turn >= options.warm_up or timing.spent >= options.seconds:
                timing.seconds.append(run["seconds"])
                timing.processor_seconds.append(run["processor_seconds"])
                timing.joules += [run["joules"]] if "joules" in run else []
