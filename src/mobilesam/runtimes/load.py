"""Choose a runtime and give it a model's weights."""

from __future__ import annotations

from pathlib import Path

from mobilesam.core.errors import ConfigError, missing_extra
from mobilesam.runtimes.base import Runtime
from mobilesam.weights import WeightsEntry, read_weights, weights_path

RUNTIMES = ("onnx", "torch")


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
    runtime = runtime or "onnx"
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r}: unknown; choose one of {', '.join(RUNTIMES)}")
    what = f"{checkpoint or weights_path(entry)} as {entry.name}"
    if runtime == "onnx":
        if dtype not in (None, "float32"):
            raise ConfigError(
                f"dtype {dtype!r}: the onnx runtime has float32; pass runtime='torch' for others"
            )
        from mobilesam.runtimes.onnx import OnnxRuntime

        weights = read_weights(entry, checkpoint, decoder)
        return OnnxRuntime(entry.network, weights, device=device or "cpu", threads=threads, what=what)
    if threads is not None:
        raise ConfigError("threads: only for the onnx runtime; PyTorch's are set by torch.set_num_threads")
    try:
        from mobilesam.runtimes.torch import TorchRuntime
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra("runtime 'torch'", "torch") from error
    weights = read_weights(entry, checkpoint, decoder)
    return TorchRuntime.from_weights(
        entry.network, weights, device=device, dtype=dtype or "float32", what=what
    )
