"""Average several weights of one network into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from mobilesam.core.errors import ConfigError
from mobilesam.storage.atomic import refuse_existing, write_bytes
from mobilesam.weights.reading import (
    FORMAT_SINCE,
    NEEDS_KEY,
    check_tensors,
    read_detector,
    read_tensors,
    read_weights,
)
from mobilesam.weights.registry import ALIASES, ENTRIES, entry_of


def average_weights(
    sources: Sequence[str | Path], out: str | Path, *, parts: Sequence[float] = (), overwrite: bool = False
) -> Path:
    """Average weights of one network, tensor by tensor, and write them as float32 safetensors.

    The average of some weights and of what they became by further training mostly keeps what the first could
    do and gains what the second learned (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    Args:
        sources: names of models, or ``.pt`` and ``.safetensors`` files; two or more.
        out: the file to write.
        parts: share of each source, in any unit; equal by default.
        overwrite: whether to replace an existing file.

    Raises:
        ConfigError: for fewer than two sources, or unless there is a positive part for each.
        OutputError: if ``out`` exists, or cannot be written.
        WeightsError: if a file cannot be read, or its tensors are not those of the first.
    """
    if len(sources) < 2:
        raise ConfigError(f"sources: {len(sources)} given; an average needs at least two weights")
    shares = [1.0] * len(sources) if len(parts) == 0 else [float(part) for part in parts]
    if len(shares) != len(sources):
        raise ConfigError(f"parts: {len(shares)} for {len(sources)} weights; give one for each")
    if not all(part > 0 and math.isfinite(part) for part in shares):
        raise ConfigError(f"parts: {', '.join(f'{part:g}' for part in shares)}; each must be above 0")
    out = Path(out)
    refuse_existing(out, overwrite=overwrite)
    shares = [share / sum(shares) for share in shares]
    mean: dict[str, np.ndarray] = {}
    for source, share in zip(sources, shares, strict=True):
        tensors = _read(source)
        if not mean:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            mean = {
                name: tensor * share if is_averaged(tensor) else tensor for name, tensor in tensors.items()
            }
            continue
        check_tensors(tensors, shapes, str(source))
        for name, tensor in tensors.items():
            if is_averaged(tensor):
                mean[name] += tensor * np.float32(share)
    made_of = ", ".join(f"{Path(s).name} {share:.3g}" for s, share in zip(sources, shares, strict=True))
    arrays = {name: np.asarray(tensor) for name, tensor in mean.items()}
    write_bytes(out, save(arrays, {NEEDS_KEY: FORMAT_SINCE, "averaged_from": made_of}), overwrite=overwrite)
    return out


def is_averaged(tensor: np.ndarray) -> bool:
    """Whether a tensor is averaged; whole numbers, such as a count of batches, come from the first weights."""
    return tensor.dtype.kind == "f"


def _read(source: str | Path) -> dict[str, np.ndarray]:
    if str(source) in ENTRIES or str(source) in ALIASES:
        entry = entry_of(str(source))
        return read_detector(entry) if entry.detector else read_weights(entry)
    return read_tensors(source)
