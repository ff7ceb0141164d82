"""A teacher's store that a cluster makes: ``python -m tests.teacher_run PHOTOS OUT LOG [NAME=DEATHS ...]``.

A photo ends the process that looks at it so many times as is said of its name. Each photo is a shard of its own.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilesam.core.arrays import NamedArrays
from mobilesam.storage import shards
from mobilesam.train.store_options import StoreOptions
from mobilesam.train.teacher import Job, make_store
from mobilesam.work.ray import RayEngine
from tests.ray_run import WORKERS

OPTIONS = StoreOptions(image_size=64, device="cpu", threads=1)
Work = Callable[[Job], NamedArrays]


@dataclass(frozen=True)
class Deadly:
    """Does the work, where the process survives it; each photo that is begun is a line of a log."""

    work: Work
    log: Path
    deaths: Mapping[str, int]

    def __call__(self, job: Job) -> NamedArrays:
        name = job[0].path.name
        with self.log.open("a") as log:
            log.write(f"{name}\n")
        if self.log.read_text().split().count(name) <= self.deaths.get(name, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(job)


@dataclass(frozen=True)
class DeadlyEngine:
    """A cluster whose processes die of some photos, so many times each."""

    log: Path
    deaths: Mapping[str, int]

    def run(
        self, work: Work, jobs: Iterable[Job], give_up: Callable[[Job, str], NamedArrays]
    ) -> Iterator[NamedArrays]:
        yield from RayEngine(WORKERS).run(Deadly(work, self.log, self.deaths), jobs, give_up)


def main(photos: Path, out: Path, log: Path, deaths: Mapping[str, int]) -> None:
    shards.SHARD_BYTES = 1
    make_store(photos, out, OPTIONS, engine=DeadlyEngine(log, deaths))


if __name__ == "__main__":
    pairs = (pair.rsplit("=", 1) for pair in sys.argv[4:])
    main(*map(Path, sys.argv[1:4]), {name: int(count) for name, count in pairs})
