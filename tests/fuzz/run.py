"""Look for inputs that a reader takes badly, led by what code they reach.

    make fuzz SECONDS=600
    python -m tests.fuzz.run --seconds 600 --finds FOLDER [TARGET ...]

Each target runs in a process of its own under atheris, which comes with
``pip install 'mobilesam[fuzz]'``. A find is kept as FOLDER/TARGET-NUMBER and told with its
place; the run goes on, and the exit code at the end is 1. A find is to become a test of a
few lines in ``tests/hostile``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.judge import Find, Judge
from tests.fuzz.targets import TARGETS

INSTRUMENTED = ("mobilesam", "PIL", "tomllib", "zipfile", "json")
HANGS_AFTER = 30  # seconds, for what no exception interrupts
MOST_MEGABYTES = 3000
REPORT_EVERY = 1.0
FUZZER_ITSELF = "prints: INFO: seed corpus"
SAME_PLACE = 3  # times that a process may die at once before its target is given up


def child(target: str, seconds: float, finds: Path, report: Path) -> None:
    """Fuzz one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
        chosen = TARGETS[target]
        seeds = chosen.seeds()
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            chosen.read(seeds[0])  # imports what is to be instrumented; the seed is judged below
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    words = corpus.with_suffix(".dict")
    words.write_text("".join(f'"{word_of(word)}"\n' for word in chosen.grammar))
    told: dict = {"executions": 0, "finds": {}}
    judge, last = None, 0.0

    def one_input(data: bytes) -> None:
        nonlocal judge, last
        judge = judge or Judge()  # only now, so that what the fuzzer says of itself is no find
        find = judge.try_input(chosen.read, data)
        if find is not None and FUZZER_ITSELF in find.kind:
            find = None
        told["executions"] += 1
        if find is not None and find.kind not in told["finds"]:
            told["finds"][find.kind] = keep(find, data, finds, target)
        if find is not None or time.monotonic() - last > REPORT_EVERY:
            last = time.monotonic()
            report.write_text(json.dumps(told))

    options = [
        f"-max_total_time={int(seconds)}",
        f"-timeout={HANGS_AFTER}",
        f"-rss_limit_mb={MOST_MEGABYTES}",
    ]
    options += ["-verbosity=0", "-max_len=65536", f"-artifact_prefix={finds / target}-"]
    options += [f"-dict={words}"] if chosen.grammar else []
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def word_of(word: str) -> str:
    return word.replace('"', '\\"')


def keep(find: Find, data: bytes, finds: Path, target: str) -> str:
    number = len(list(finds.glob(f"{target}-*[0-9]")))
    path = finds / f"{target}-{number}"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(
        f"{find.kind}\n{find.detail}\n", encoding="utf-8", errors="backslashreplace"
    )
    return path.name


def fuzz(target: str, seconds: float, finds: Path) -> tuple[int, list[str]]:
    """Run a target's process until its time is over, anew where an input ends it; return executions and finds."""
    executions, told, end, short = 0, [], time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 1 and short < SAME_PLACE:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            command = [sys.executable, "-m", "tests.fuzz.run", "--child", str(report), "--seconds", str(left)]
            begun = time.monotonic()
            done = subprocess.run([*command, "--finds", str(finds), target], capture_output=True, check=False)
            outcome = json.loads(report.read_text()) if report.exists() else {"executions": 0, "finds": {}}
        executions += outcome["executions"]
        told += [f"{name}: {kind}" for kind, name in outcome["finds"].items()]
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip()[-400:]
            told.append(f"{target}: the process ended with {done.returncode}: {last}")
            short += time.monotonic() - begun < HANGS_AFTER
    return executions, list(dict.fromkeys(told))


def main() -> int:
    """Fuzz the chosen targets in turn, each for its part of the time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600, help="of all targets together")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; by default all"
    )
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"TARGET: {', '.join(sorted(unknown))} is none; give of {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("needs packages that are not installed; pip install 'mobilesam[fuzz]'")
    options.finds.mkdir(parents=True, exist_ok=True)
    if options.child:
        child(options.targets[0], options.seconds, options.finds, options.child)
    targets, found = options.targets or list(TARGETS), 0
    for target in targets:
        executions, told = fuzz(target, options.seconds / len(targets), options.finds)
        found += len(told)
        print(f"{target}: {executions:,} inputs, {len(told)} finds", flush=True)
        for line in told:
            print(f"  {line}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
