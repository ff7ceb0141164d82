"""LiteRT, formerly TensorFlow Lite: what Android runs, over files of ``mobilesam export litert`` (an extra)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mobilesam.core.arrays import NamedArrays
from mobilesam.runtimes.fixed import FixedRuntime
from mobilesam.runtimes.fixed_files import read_index, read_part
from mobilesam.runtimes.threads import session_threads
from mobilesam.weights.graph_index import graph_index

SUFFIX = ".tflite"


class LiteRtRuntime(FixedRuntime):
    """See :class:`mobilesam.runtimes.base.Runtime`.

    Args:
        folder: where the files lie.
        network: whose.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.
    """

    name = "litert"

    def __init__(self, folder: Path, network: str, *, threads: int | None = None) -> None:
        super().__init__(graph_index(network).spec)
        self._folder = folder
        self._index = read_index(folder, network, self.name)
        self._threads = session_threads(threads) or os.cpu_count() or 1
        self._lock = threading.Lock()  # an interpreter holds what one thread is working on
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
