"""The asking side of :mod:`mobilesam.benchmark.protocol`: a system in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilesam.core.errors import DeadlineError, MobileSamError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OUR_WORKER = (sys.executable, "-m", "mobilesam.benchmark.worker")
TOLD = 2000  # characters of a worker's output that a message shows


class WorkerFailed(MobileSamError):
    """A system could not do what it was asked; the message is its own."""

    code = "X"
    exit_code = 5


class Worker:
    """One system in a process.

    Args:
        command: starts it.
        threads: processor threads for it, set by the usual variables.
        seconds: most time for one answer.
        environment: variables for it besides those of this process.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        threads: int,
        seconds: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), **(environment or {})}
        self.started = time.perf_counter()
        self.seconds = seconds
        self._told = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            env=variables,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._told.close()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Ask one question and return the answer.

        Raises:
            WorkerFailed: if the system failed, or its process ended.
            DeadlineError: if no answer came in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        over = threading.Timer(self.seconds, self._process.kill)
        over.start()
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            while line and not line.startswith("{"):  # what a library prints while it is imported
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not over.is_alive()
            over.cancel()
        if late and not line:
            raise DeadlineError(f"no answer within {self.seconds:g} s to {question}")
        if not line:
            self._process.wait()
            self._told.seek(0)
            words = self._told.read().decode(errors="replace").strip().splitlines()
            raise WorkerFailed(f"the process ended: {words[-1][:TOLD] if words else 'it said nothing'}")
        try:
            answer = json.loads(line)
        except json.JSONDecodeError as error:
            raise WorkerFailed(f"answered something that is not JSON:  {line[:80]!r}") from error
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return dict(answer)
