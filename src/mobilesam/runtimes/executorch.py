"""ExecuTorch: PyTorch's runtime for devices, over files of ``mobilesam export executorch`` (an extra)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.runtime import Runtime as Engine

from mobilesam.core.arrays import NamedArrays
from mobilesam.core.errors import ConfigError
from mobilesam.runtimes.fixed_files import FilesRuntime, read_part

SUFFIX = ".pte"


class ExecuTorchRuntime(FilesRuntime):
    """See :class:`mobilesam.runtimes.base.Runtime`. It takes as many threads as there are cores, one call at a time.

    Args:
        folder: where the files lie.
        network: whose.
    """

    name = "executorch"

    def __init__(self, folder: Path, network: str) -> None:
        super().__init__(folder, network)
        self._methods: dict[str, Any] = {}
        self._kept: list[Any] = []  # methods read what they were loaded from, and do not keep it

    def run(self, part: str, feed: NamedArrays) -> NamedArrays:
        with self._lock:
            if part not in self._methods:
                (data,) = read_part(self._folder, self._index.parts[part])
                program = Engine.get().load_program(data)
                self._methods[part] = program.load_method("forward")
                self._kept += [data, program]
            wanted = self._index.parts[part]
            # In the order of C, as the files were made.
            given = [torch.from_numpy(np.array(feed[name], np.float32, order="C")) for name in wanted.inputs]
            found = self._methods[part].execute(given)
            return {name: tensor.numpy().copy() for name, tensor in zip(wanted.outputs, found, strict=True)}


def open_files(folder: Path, network: str, *, threads: int | None = None) -> ExecuTorchRuntime:
    """Return a runtime; see :func:`mobilesam.runtimes.load.load_runtime`.

    Raises:
        ConfigError: for a number of threads, which this runtime does not take.
    """
    if threads is not None:
        raise ConfigError("threads: the executorch runtime takes as many as there are cores; leave it out")
    return ExecuTorchRuntime(folder, network)
