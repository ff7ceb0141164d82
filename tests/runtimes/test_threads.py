"""How many threads a session takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mobilesam.core.errors import ConfigError
from mobilesam.runtimes.threads import AS_MANY_AS_CORES, VARIABLE, session_threads

COUNT = """
import os, numpy, mobilesam
before = len(os.listdir("/proc/self/task"))
model = mobilesam.load("pocket", threads={threads})
model.embed(numpy.zeros((64, 64, 3), numpy.uint8))
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.parametrize(
    ("variable", "given", "wanted"),
    [
        ("", None, AS_MANY_AS_CORES),
        ("3", None, 3),
        ("3,2", None, 3),
        ("3", 5, 5),
        ("many", None, AS_MANY_AS_CORES),
        ("-1", None, AS_MANY_AS_CORES),
        ("0", None, AS_MANY_AS_CORES),
        ("1025", None, AS_MANY_AS_CORES),
        ("9" * 5000, None, AS_MANY_AS_CORES),
        ("", 1024, 1024),
    ],
)
def test_the_given_number_then_the_variable_then_the_cores(variable, given, wanted, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, variable)
    assert session_threads(given) == wanted


@pytest.mark.parametrize("threads", [0, -1, "two", 1.5, True, 1025, 2**40])
def test_no_number_of_threads(threads: object) -> None:
    with pytest.raises(ConfigError, match=f"threads: is {threads!r}; must be a whole number from 1 to 1024"):
        session_threads(threads)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.parametrize(("variable", "given", "more"), [("1", None, 0), ("3", None, 2), ("1", 3, 2)])
def test_a_session_has_so_many(variable: str, given: int | None, more: int) -> None:
    """The caller's own thread is one of them."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(threads=given)],
        env=os.environ | {VARIABLE: variable, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == more
