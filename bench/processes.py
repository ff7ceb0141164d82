"""How much memory several processes with the same model take together: ``python bench/processes.py``.

Each process loads ``pocket`` and segments a photo by a box, on one thread. All stay until the last is ready, and then
the kernel says what each takes: its proportional set size, in which a page that n processes share counts as 1/n.
Once from graphs that an earlier process prepared, and once without. Linux. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mobilesam.core.machine import machine, versions
from mobilesam.runtimes.prepared import VARIABLE
from mobilesam.weights.folders import HOME_VARIABLE

PROCESSES = (1, 2, 4)
STEPS = ("imports", "load", "first segment")
MIB = 1024  # of the KiB in which the kernel counts
CHILD = """
import sys
from skimage import data
import mobilesam, mobilesam.segment.model, mobilesam.runtimes.onnx

def ready():
    print(flush=True)
    sys.stdin.readline()

image = data.coffee()
ready()
model = mobilesam.load("pocket", threads=1)
ready()
model.segment(model.embed(image), mobilesam.Prompt(box=[150, 60, 450, 350]))
ready()
"""


def start(home: str, *, prepared: bool) -> subprocess.Popen[str]:
    """Start a process that does one step for each line that it is sent."""
    environment = os.environ | {VARIABLE: str(int(prepared)), HOME_VARIABLE: home}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def memory(process: int, field: str) -> float:
    """Return a field of what the kernel says of a process's memory, in MiB."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / MIB
    raise ValueError(f"/proc/{process}/smaps_rollup has no {field}")


def together(count: int, home: str, *, prepared: bool) -> list[tuple[float, float]]:
    """Return what ``count`` processes take after each step: proportional and resident set sizes, in MiB."""
    processes = [start(home, prepared=prepared) for _ in range(count)]
    found = []
    for _ in STEPS:
        for process in processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("a process ended")
        found.append(tuple(sum(memory(p.pid, field) for p in processes) for field in ("Pss", "Rss")))
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    for process in processes:
        process.communicate()
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", default=",".join(map(str, PROCESSES)))
    asked = parser.parse_args()
    print(f"{machine()['processor']}; ONNX Runtime {versions()['onnxruntime']}\n")
    print(f"| | processes | {' | '.join(STEPS)} | {STEPS[-1]}, resident |\n|{'---|' * (len(STEPS) + 3)}")
    with tempfile.TemporaryDirectory() as home:
        together(1, home, prepared=True)  # leaves the graphs prepared
        for prepared in (False, True):
            for count in map(int, asked.processes.split(",")):
                found = together(count, home, prepared=prepared)
                told = [f"{pss:.0f}" for pss, _ in found] + [f"{found[-1][1]:.0f}"]
                print(f"| {'prepared' if prepared else 'not prepared'} | {count} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
