"""Runs of a labeller on Ray, in processes with a network of their own: ``python -m tests.ray_run PHOTOS OUT LOG [NAME=DEATHS ...]``.

A photo ends the process that labels it so many times as is said of its name. ``CLUSTER`` in the environment is the
address of a cluster that runs; photos then take some time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilesam.annotate.labelling import Labels
from mobilesam.annotate.sources import Photo, find_sources
from mobilesam.work.ray import RayEngine
from tests.bright import Bright, bright_run

WORKERS = 2


@dataclass(frozen=True)
class Deadly:
    """Labels as ``Bright`` does, where the process survives it."""

    log: Path
    deaths: Mapping[str, int]
    seconds: float = 0.0

    def label(self, photo: Photo, file_name: str) -> Labels:
        labels = Bright(self.log, self.seconds).label(photo, file_name)
        if self.log.read_text().split().count(file_name) <= self.deaths.get(file_name, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return labels


def main(photos: Path, out: Path, log: Path, deaths: Mapping[str, int]) -> None:
    cluster = os.environ.get("CLUSTER")
    labeller = Deadly(log, deaths, 0.3 if cluster else 0.0)
    run = bright_run(out, labeller=labeller, engine=RayEngine(WORKERS, cluster))
    for step in run.over(find_sources([photos], beside=out).sources):
        print(step.done, flush=True)


if __name__ == "__main__":
    pairs = (pair.rsplit("=", 1) for pair in sys.argv[4:])
    main(*map(Path, sys.argv[1:4]), {name: int(count) for name, count in pairs})
