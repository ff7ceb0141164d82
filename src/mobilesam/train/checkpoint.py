"""A training run's state on disk: written wholly or not at all; the last two are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mobilesam.core.errors import ConfigError, Remedy, WeightsError
from mobilesam.storage.atomic import write_bytes

KEPT = 2
PATTERN = "step-{:08d}.safetensors"
FORCE = Remedy("force", True, "to resume anyway")


@dataclass
class State:
    """Where a run stands.

    Attributes:
        network: with its current weights.
        average: the average of its weights, by name.
        optimizer: with its moments.
        step: steps done.
        losses: losses of the steps that are not in the log yet.
    """

    network: nn.Module
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Identity:
    """What a run's steps depend on: it only resumes with the same.

    Attributes:
        recipe: fingerprint of the recipe.
        data: fingerprint of the photos and their masks.
    """

    recipe: str
    data: str = ""


def fingerprint(recipe: Any) -> str:
    """Return a short hash of everything in a recipe; a run only resumes under its own."""
    content = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def save_state(folder: Path, state: State, identity: Identity) -> Path:
    """Write the weights, the averaged weights and the optimiser's moments after ``state.step`` steps."""
    tensors = {f"weights/{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in state.average.items()}
    for i, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{key}": value for key, value in moments.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"step": str(state.step), "losses": json.dumps(state.losses), **dataclasses.asdict(identity)}
    path = folder / PATTERN.format(state.step)
    write_bytes(path, save(tensors, metadata))
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
        old.unlink()
    return path


def load_state(folder: Path, state: State, identity: Identity, *, force: bool = False) -> None:
    """Restore the newest readable state of ``folder``; without one, leave the state as it is.

    Args:
        folder: of the run.
        state: filled in here.
        identity: identity of the run as it is now.
        force: resume even if recipe or data differ.

    Raises:
        ConfigError: if the state belongs to another recipe, or was made with other data.
        WeightsError: if there are states and none can be read, or they are another network's.
    """
    paths = sorted(folder.glob("step-*.safetensors"), reverse=True)
    for path in paths:
        try:
            data = path.read_bytes()
            tensors = load(data)
            metadata = read_metadata(data)
        except (SafetensorError, OSError, ValueError):
            continue
        if not force:
            _check_identity(path, metadata, identity)
        _restore(path, tensors, state)
        state.step, state.losses = int(metadata["step"]), json.loads(metadata["losses"])
        return
    if paths:
        raise WeightsError(f"{folder}: no checkpoint in it can be read; choose another folder")


def _check_identity(path: Path, metadata: dict[str, str], identity: Identity) -> None:
    if metadata["recipe"] != identity.recipe:
        raise ConfigError(
            f"{path}: belongs to another recipe; resume with that one, or choose another folder", remedy=FORCE
        )
    before = metadata.get("data", "")
    if before and identity.data and before != identity.data:
        raise ConfigError(
            f"{path}: the photos or masks have changed since; put them back, or choose another folder",
            remedy=FORCE,
        )


def _restore(path: Path, tensors: dict[str, Tensor], state: State) -> None:
    try:
        state.network.load_state_dict(_part(tensors, "weights/"))
    except RuntimeError as error:  # PyTorch's, for names or shapes of another network
        raise WeightsError(f"{path}: holds another network's weights; choose another folder") from error
    for name, value in _part(tensors, "average/").items():
        state.average[name].copy_(value)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer/").items():
        number, key = name.split("/")
        moments.setdefault(int(number), {})[key] = value
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata in a safetensors file's header."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
