"""Choose a runtime and give it a model's weights. A new runtime is a file with ``open_runtime``, and a line in ``RUNTIMES``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from mobilesam.core.errors import ConfigError, missing_extra
from mobilesam.core.text import shortened
from mobilesam.runtimes.base import Runtime
from mobilesam.weights import WeightsEntry, read_weights, weights_path

# Each with the package that it needs, which is also the name of the extra that brings it.
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
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
) -> Runtime:
    """Return a runtime with an entry's weights; see :func:`mobilesam.load` for the arguments."""
    runtime = DEFAULT_RUNTIME if runtime is None else runtime
    if not isinstance(runtime, str) or runtime not in RUNTIMES:
        raise ConfigError(f"runtime {shortened(runtime)}: unknown; choose one of {', '.join(RUNTIMES)}")
    try:
        module = import_module(f"mobilesam.runtimes.{runtime}")
    except ModuleNotFoundError as error:
        if error.name not in (RUNTIMES[runtime], "onnx"):
            raise
        raise missing_extra(f"runtime {runtime!r}", RUNTIMES[runtime]) from error
    return module.open_runtime(
        entry.network,
        read_weights(entry, checkpoint, decoder),
        device=device,
        dtype=dtype,
        threads=threads,
        what=f"{checkpoint or weights_path(entry)} as {entry.name}",
    )
