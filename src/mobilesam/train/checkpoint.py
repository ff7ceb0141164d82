"""A training run's state on disk: written whole or not at all, the last two kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.storage.atomic import write_bytes
from mobilesam.train.recipe import Recipe

KEPT = 2
PATTERN = "step-{:08d}.safetensors"


def fingerprint(recipe: Recipe) -> str:
    """Return a short hash of everything in a recipe; a run only continues under its own."""
    content = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def save_state(
    folder: Path,
    step: int,
    losses: list[float],
    recipe: Recipe,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> Path:
    """Write weights, averaged weights and the optimiser's moments after ``step`` steps.

    ``losses`` are those of the steps that the log has no line for yet.
    """
    tensors = {f"weights/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{key}": value for key, value in moments.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"step": str(step), "losses": json.dumps(losses), "recipe": fingerprint(recipe)}
    path = folder / PATTERN.format(step)
    write_bytes(path, save(tensors, metadata))
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
        old.unlink()
    return path


def load_state(
    folder: Path,
    recipe: Recipe,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, list[float]]:
    """Restore the newest readable state of ``folder``; return its step and losses, 0 and none without one.

    Raises:
        ConfigError: if the state belongs to another recipe.
        WeightsError: if states are there and none can be read.
    """
    paths = sorted(folder.glob("step-*.safetensors"), reverse=True)
    for path in paths:
        try:
            data = path.read_bytes()
            tensors = load(data)
            metadata = read_metadata(data)
        except (SafetensorError, OSError, ValueError):
            continue
        if metadata["recipe"] != fingerprint(recipe):
            raise ConfigError(
                f"{path}: belongs to another recipe; go on with that one, or choose another folder"
            )
        network.load_state_dict(_part(tensors, "weights/"))
        for name, value in _part(tensors, "average/").items():
            average[name].copy_(value)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer/").items():
            number, key = name.split("/")
            state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return int(metadata["step"]), json.loads(metadata["losses"])
    if paths:
        raise WeightsError(f"{folder}: no checkpoint in it can be read; choose another folder")
    return 0, []


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata in a safetensors file's header."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
