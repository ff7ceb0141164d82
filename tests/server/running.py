"""Servers that run as users start them: a process of their own on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import mobilesam

SOURCE = Path(mobilesam.__file__).parents[1]


@dataclass
class Running:
    """A server's process.

    Attributes:
        process: to be signalled.
        address: what it said.
        log: what it wrote on standard error.
    """

    process: subprocess.Popen
    address: str
    log: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60, trust_env=False, **options)

    def end(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start ``mobilesam ARGUMENTS``, wait until it answers, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mobilesam", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr), daemon=True)
    reader.start()
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, (line, log)
        yield Running(process, found[0], log)
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        process.stdout.close()
        process.stderr.close()
