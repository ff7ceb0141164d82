"""A set is made in memory that hardly grows with the number of photos: each leaves a name and a few numbers."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam.annotate.review import write_review
from mobilesam.annotate.sources import find_sources
from mobilesam.work.base import Done, Job
from tests.bright import bright_run

ROOT = Path(__file__).parents[2]
MOST_BYTES = 1200  # of a photo


def write_photos(folder: Path, count: int) -> Path:
    """Write small photos that do not look alike, each with an object."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 99, (24, 32, 3), np.uint8)
        image[6:18, 8:20] = 200
        Image.fromarray(image).save(folder / f"{i:05}.png")
    return folder


class OneByOne:
    """An engine with nothing in flight while a result is looked at."""

    def run(
        self, work: Callable[[Job], Done], jobs: Iterable[Job], give_up: Callable[[Job, str], Done]
    ) -> Iterator[Done]:
        return map(work, jobs)


def peak_of(photos: Path, out: Path) -> int:
    """Return the most bytes that Python had at a time, beyond those before, from finding photos to the review.

    What is taken for a moment while a photo is labelled does not count.
    """
    gc.collect()
    tracemalloc.start()
    try:
        sources = find_sources([photos]).sources
        most = [tracemalloc.get_traced_memory()[1]]
        run = bright_run(out, formats=("coco",), photos="none", val=0.3, engine=OneByOne())
        for step in run.over(sources):
            most.append(tracemalloc.get_traced_memory()[step.dataset is not None])
            tracemalloc.reset_peak()
            dataset = step.dataset
        assert dataset is not None
        write_review(dataset, out)
        return max(*most, tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_a_photo_takes_a_few_hundred_bytes(tmp_path: Path) -> None:
    few, many = (write_photos(tmp_path / f"shots-{count}", count) for count in (20, 100))
    peak_of(few, tmp_path / "first")  # what is imported, and kept once, does not count
    begun = [peak_of(photos, tmp_path / photos.name.replace("shots", "set")) for photos in (few, many)]
    again = [peak_of(photos, tmp_path / photos.name.replace("shots", "set")) for photos in (few, many)]
    for how, (small, large) in (("a run", begun), ("one that goes on", again)):
        each = (large - small) / 80
        print(f"{how}: {each:.0f} bytes of a photo")
        assert each < MOST_BYTES, how


RUN = """
import sys
from pathlib import Path
from mobilesam.annotate.sources import find_sources
from tests.bright import bright_run
photos, out = map(Path, sys.argv[1:])
for _ in bright_run(out, formats=("coco", "yolo"), photos="none").over(find_sources([photos]).sources):
    pass
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_ten_thousand_photos(tmp_path: Path) -> None:
    """Prints the row of docs/explanation/long-series.md."""
    peaks = {}
    for count in (100, 1000, 10_000):
        photos = write_photos(tmp_path / f"shots-{count}", count)
        command = [sys.executable, "-c", RUN, str(photos), str(tmp_path / f"set-{count}")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks[count] = float(done.stdout)
    print(", ".join(f"{count:,} photos: {peak:.1f} MB" for count, peak in peaks.items()))
    assert peaks[10_000] - peaks[100] < 12
