"""LiteRT, formerly TensorFlow Lite: what Android runs, over files of ``mobilesam export litert`` (an extra)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mobilesam.core.arrays import NamedArrays
from mobilesam.runtimes.fixed_files import FilesRuntime, read_part
from mobilesam.runtimes.threads import session_threads

SUFFIX = ".tflite"


class LiteRtRuntime(FilesRuntime):
    """See :class:`mobilesam.runtimes.base.Runtime`. An interpreter holds what one thread is working on.

    Args:
        folder: where the files lie.
        network: whose.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.
    """

    name = "litert"

    def __init__(self, folder: Path, network: str, *, threads: int | None = None) -> None:
        super().__init__(folder, network)
        self._threads = session_threads(threads) or os.cpu_count() or 1
        self._runners: dict[str, Any] = {}

    def run(self, part: str, feed: NamedArrays) -> NamedArrays:
        with self._lock:
            runner = self._runner(part)
            wanted = self._index.parts[part].inputs
            return dict(runner(**{name: np.ascontiguousarray(feed[name]) for name in wanted}))

    def _runner(self, part: str) -> Any:
        if part not in self._runners:
            (data,) = read_part(self._folder, self._index.parts[part])
            interpreter = Interpreter(model_content=data, num_threads=self._threads)
            self._runners[part] = interpreter.get_signature_runner()
        return self._runners[part]


def open_files(folder: Path, network: str, *, threads: int | None = None) -> LiteRtRuntime:
    """Return a runtime; see :func:`mobilesam.runtimes.load.load_runtime`."""
    return LiteRtRuntime(folder, network, threads=threads)
