"""What docs/explanation/millions.md reckons with: the parts of labelling very many photos, each measured by itself.

    python bench/many_machines.py PHOTOS [--workers 2] [--limit 60]

Seconds of a photo are those of its thread, which a busy machine changes little; all else is by the clock. Ray runs in
this machine's network, on its loopback.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tars import write_tar

from mobilesam import load
from mobilesam.annotate.labelling import ByDetector
from mobilesam.annotate.set_run import Job, SetRun, name_in_set
from mobilesam.annotate.sources import find_sources
from mobilesam.detectors.load import detector_for
from mobilesam.formats.datasets import record
from mobilesam.formats.datasets.load import write_dataset
from mobilesam.formats.datasets.model import Dataset, LabelledPhoto, all_categories
from mobilesam.formats.stored import look_into
from mobilesam.storage.ledger import Ledger
from mobilesam.work.local import LocalEngine
from mobilesam.work.ray import RayEngine

JOBS = 20_000  # of no work
EVERY = 8  # job of some ends its process
LINES = 2_000
MEMBERS = 50_000
KEPT = 20_000  # photos of a set


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    """Print how many of something there were in a second."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    print(f"{what:<44}{seconds:9.2f} s{count / seconds:12,.1f} a second", flush=True)


class Timed:
    """Labels a job and tells the seconds of its thread."""

    def __init__(self, run: SetRun) -> None:
        self.run = run

    def __call__(self, job: Job) -> tuple[LabelledPhoto, float]:
        """Label a photo."""
        start = time.thread_time()
        made = self.run.label(job)
        assert isinstance(made, LabelledPhoto)
        return made, time.thread_time() - start


class DiesOnce:
    """Labels a job; some of the jobs end their process the first time."""

    def __init__(self, work: Timed, folder: Path) -> None:
        self.work, self.folder = work, folder

    def __call__(self, job: tuple[int, Job]) -> tuple[LabelledPhoto, float]:
        """Label a photo, or end."""
        number, one = job
        mark = self.folder / f"died-{number}"
        if number % EVERY == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(one)


def no_work(number: int) -> int:
    """Do nothing."""
    return number


def photos(options: argparse.Namespace, folder: Path) -> list[LabelledPhoto]:
    """Label photos on both engines, in turns; return what was made."""
    model = load("pocket", threads=1)
    labeller = ByDetector(model.predictor, detector_for(model.runtime, model.name, threads=1))
    sources = find_sources([options.photos]).sources[: options.limit]
    jobs = [Job(source, name_in_set(source)) for source in sources]
    work = Timed(SetRun(labeller, LocalEngine(1), folder, ("coco",), photos="none"))
    made: list[tuple[LabelledPhoto, float]] = []
    for name, engine in (("threads", LocalEngine(options.workers)), ("Ray", RayEngine(options.workers))) * 2:
        begun = time.perf_counter()
        with timed(f"{len(jobs)} photos, {options.workers} workers, {name}", len(jobs)):
            results = engine.run(work, jobs, lambda job, reason: reason)
            made = [next(results)]
            print(f"{'  until the first':<44}{time.perf_counter() - begun:9.2f} s")
            made += results
        seconds = sorted(one[1] for one in made)
        print(
            f"{'  seconds of a photo, middle and longest':<44}{seconds[len(seconds) // 2]:9.3f} s{seconds[-1]:10.3f} s"
        )
    seconds = []
    for work_of_one in (DiesOnce(work, folder), DiesOnce(work, folder)):  # the second time nobody dies
        begun = time.perf_counter()
        list(RayEngine(1).run(work_of_one, list(enumerate(jobs[:24])), lambda job, reason: reason))
        seconds.append(time.perf_counter() - begun)
    print(f"{'seconds that a death costs':<44}{(seconds[0] - seconds[1]) / 3:9.1f} s")
    return [one for one, _ in made]


def memory(made: list[LabelledPhoto], folder: Path) -> None:
    """Print what a line is, how fast lines are written, and what photos are in memory."""
    lines = [record.photo_to_line(one) for one in made]
    objects = sum(len(one.objects) for one in made)
    print(
        f"{'objects and bytes of a line, for each photo':<44}{objects / len(made):9.1f}{sum(map(len, lines)) / len(made):12,.0f}"
    )
    path = folder / "lines"
    path.write_bytes(b"")
    with Ledger(path, 0) as ledger, timed(f"{LINES:,} lines, each on disk", LINES):
        for i in range(LINES):
            ledger.append(lines[i % len(lines)])
    whole = folder / record.NAME
    with whole.open("wb") as file:
        file.write(record.head_to_line(record.Head(())))
        for i in range(KEPT):
            one = made[i % len(made)]
            file.write(record.photo_to_line(LabelledPhoto(f"{i}.jpg", one.size, one.objects, i + 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with timed(f"{KEPT:,} photos read from a record", KEPT):
        kept = record.read_record_file(whole)
    photos = record.RecordPhotos(whole, array(record.PLACE, kept.photos.values()))
    labels = {one.label for photo in made for one in photo.objects}
    with timed(f"{KEPT:,} photos written as COCO", KEPT):
        write_dataset(Dataset(photos, all_categories((), labels)), folder / "set", ["coco"])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{'  bytes of a photo in memory':<44}{grown * 1024 / len(kept.photos):9,.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / record.NAME).write_bytes(b"")
        made = photos(options, folder)
        with timed(f"{JOBS:,} jobs of no work, Ray", JOBS):
            for _ in RayEngine(options.workers).run(no_work, range(JOBS), lambda job, reason: job):
                pass
        memory(made, folder)
        tar = write_tar(folder / "a.tar", {f"{i:06}.jpg": b"x" * 500 for i in range(MEMBERS)})
        with timed(f"{MEMBERS:,} members of a tar found", MEMBERS):
            look_into(tar)


if __name__ == "__main__":
    main()
