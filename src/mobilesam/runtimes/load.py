"""Choose a runtime and give it a model's weights.

A new runtime is a file with ``open_runtime``, and a line in ``RUNTIMES``; one that runs files of ``mobilesam export``
has ``open_files`` and its line in ``FROM_FILES``.
"""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from mobilesam.core.errors import ConfigError, WeightsError, missing_extra
from mobilesam.core.text import shortened
from mobilesam.runtimes.base import Runtime
from mobilesam.runtimes.fixed_files import default_folder, index_name, only_float32_on_cpu
from mobilesam.runtimes.prepared import prepared_graphs
from mobilesam.weights import WeightsEntry, check_published, read_weights, weights_path

# Each with the package that it needs, which is also the name of the extra that brings it.
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
FROM_FILES = {"litert": "ai_edge_litert", "executorch": "executorch", "ncnn": "ncnn"}
DEFAULT_RUNTIME = "onnx"


def load_runtime(
    entry: WeightsEntry,
    *,
    checkpoint: str | Path | None = None,
    decoder: str | Path | None = None,
    runtime: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    rectangular: bool = False,
) -> Runtime:
    """Return a runtime with an entry's weights; see :func:`mobilesam.load` for the arguments."""
    runtime = DEFAULT_RUNTIME if runtime is None else runtime
    if not isinstance(runtime, str) or runtime not in RUNTIMES | FROM_FILES:
        known = ", ".join(RUNTIMES | FROM_FILES)
        raise ConfigError(f"runtime {shortened(runtime)}: unknown; choose one of {known}")
    package = (RUNTIMES | FROM_FILES)[runtime]
    try:
        module = import_module(f"mobilesam.runtimes.{runtime}")
    except ModuleNotFoundError as error:
        if error.name not in (package, "onnx", "torch"):
            raise
        raise missing_extra(f"runtime {runtime!r}", runtime if runtime in FROM_FILES else package) from error
    if runtime in FROM_FILES:
        if decoder is not None:
            raise ConfigError(
                f"decoder: the {runtime} runtime reads exported files; export a model that has it"
            )
        if rectangular:
            raise ConfigError(f"rectangular: the {runtime} runtime takes only squares; leave the option out")
        only_float32_on_cpu(runtime, device, dtype)
        index = exported_index(entry, runtime, checkpoint)
        opened: Runtime = module.open_files(index.parent, entry.network, threads=threads)
        return opened
    what = f"{checkpoint or weights_path(entry)} as {entry.name}"
    asked = {"device": device, "dtype": dtype, "threads": threads, "what": what, "rectangular": rectangular}
    if runtime == "onnx" and device in (None, "cpu") and checkpoint is None and decoder is None:
        return _open_published(entry, module, asked)
    return module.open_runtime(entry.network, read_weights(entry, checkpoint, decoder), **asked)


def _open_published(entry: WeightsEntry, module: Any, asked: dict[str, Any]) -> Runtime:
    """Return ONNX Runtime with an entry's own file, which is only read where nothing is prepared."""
    prepared = prepared_graphs(entry, rectangular=asked["rectangular"])
    read = partial(read_weights, entry)
    if prepared is None or not prepared.has_first_parts():
        return module.open_runtime(entry.network, read(), **asked, prepared=prepared)
    check_published(entry)
    return module.open_runtime(entry.network, read, **asked, prepared=prepared)


def check_is_folder(runtime: str | None, checkpoint: str | Path | None) -> None:
    """Refuse a file for a runtime that reads a folder of exported files.

    Raises:
        WeightsError: if ``checkpoint`` is given for such a runtime and is no folder.
    """
    if isinstance(runtime, str) and runtime in FROM_FILES and checkpoint is not None:
        if not os.path.isdir(checkpoint):
            raise WeightsError(
                f"{checkpoint}: is not a folder; "
                f"for the {runtime} runtime, give the folder that mobilesam export {runtime} has written"
            )


def exported_index(entry: WeightsEntry, runtime: str, checkpoint: str | Path | None) -> Path:
    """Return the file that says what a model's exported files are; ``checkpoint`` is their folder."""
    folder = default_folder(runtime) if checkpoint is None else Path(checkpoint)
    return folder / index_name(entry.network, runtime)
