"""How long labelling a folder takes: ``mobilesam annotate``'s engine beside a plain loop.

    python bench/annotate.py PHOTOS [--workers 1,2] [--limit 60]

Each way labels the same photos by pocket's own head, into memory; the loop uses all cores for each photo, the
engine one thread for each of several photos. The ways take turns, so that a busy machine is busy for all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from mobilesam import load
from mobilesam.annotate.labelling import ByDetector
from mobilesam.annotate.sources import Source, find_sources, read_photo
from mobilesam.detectors.load import detector_for
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.work.local import LocalEngine, usable_cores

ROUNDS = 3


def labeller(threads: int | None) -> ByDetector:
    """Return what labels photos by pocket and its own head, with so many threads."""
    model = load("pocket", threads=threads)
    return ByDetector(model.predictor, detector_for(model.runtime, model.name, threads=threads))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workers", default=f"1,{usable_cores()}")
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    sources = find_sources([options.photos]).sources[: options.limit]
    whole, single = labeller(usable_cores()), labeller(1)

    def label(by: ByDetector, source: Source) -> int:
        return len(by.label(read_photo(source, MAX_PIXELS), source.name).objects)

    ways = {f"loop, {usable_cores()} threads a photo": lambda: [label(whole, source) for source in sources]}
    for workers in map(int, options.workers.split(",")):
        engine = LocalEngine(workers)
        ways[f"engine, {workers} workers"] = lambda engine=engine: list(
            engine.run(lambda source: label(single, source), sources)
        )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, int] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = sum(way())
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(
            f"{name:<28}{middle:8.2f} s {len(sources) / middle:8.2f} photos a second, {found[name]} objects"
        )


if __name__ == "__main__":
    main()
