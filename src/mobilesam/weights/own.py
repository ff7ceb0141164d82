"""The user's own named weights: files in the cache's folder ``own``, used by name like any model."""

from __future__ import annotations

import re
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened
from mobilesam.storage.atomic import write_bytes
from mobilesam.weights import registry
from mobilesam.weights.folders import own_folder
from mobilesam.weights.graph_index import network_specs
from mobilesam.weights.reading import network_of_file, open_weights
from mobilesam.weights.registry import ALIASES, ENTRIES, NOT_OFFERED, WeightsEntry

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
ENDING = ".safetensors"


def check_own_name(name: str) -> None:
    """Refuse names that own weights cannot have.

    Raises:
        ConfigError: for a published model's name, or one with other characters.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"name: is {shortened(name)}; must be letters, digits, - and _, up to 60, such as cells-1"
        )
    if name in (*ENTRIES, *ALIASES, *NOT_OFFERED):
        raise ConfigError(f"name: {name!r} is a published model's; choose another")


def add_own(path: Path, name: str) -> WeightsEntry:
    """Copy a file of weights into the cache under a name, replacing the one that had it.

    Raises:
        ConfigError: for a name that is not allowed.
        WeightsError: if the file is missing, or belongs to no known network.
        OutputError: if the cache cannot be written.
    """
    check_own_name(name)
    network_of_file(path)
    with open_weights(path, "give the path of a .safetensors file") as file:
        write_bytes(own_folder() / f"{name}{ENDING}", file.read())
    return entry_of(name)


def own_names() -> list[str]:
    """Return the names of all own weights."""
    folder = own_folder()
    return (
        sorted(p.stem for p in folder.glob(f"*{ENDING}") if NAME.fullmatch(p.stem)) if folder.is_dir() else []
    )


def entry_of(name: str) -> WeightsEntry:
    """Return the entry called ``name``: a published one by name or alias, or one of the user's own.

    Raises:
        ConfigError: for an unknown name, or one that is not offered.
        WeightsError: if own weights of this name cannot be read.
    """
    if isinstance(name, str) and name not in (*ENTRIES, *ALIASES) and NAME.fullmatch(name):
        path = own_folder() / f"{name}{ENDING}"
        if path.is_file():
            return own_entry(name, path)
    return registry.entry_of(name)


def own_entry(name: str, path: Path) -> WeightsEntry:
    """Return the entry of own weights in a file."""
    like = entry_of_network(network_of_file(path))
    return WeightsEntry(
        name=name,
        network=like.network,
        file=path.name,
        licence="your own",
        about=f"your own weights of the network of {like.name}",
        size=path.stat().st_size,
        thresholds=like.thresholds,
        own=True,
    )


def entry_of_network(network: str) -> WeightsEntry:
    """Return a network's first entry, or one without weights for a network that is only for training."""
    for entry in ENTRIES.values():
        if entry.network == network:
            return entry
    decoder = network_specs()[network].decoder
    like = next(e for e in ENTRIES.values() if e.network and network_specs()[e.network].decoder == decoder)
    return WeightsEntry(
        name=network,
        network=network,
        file=f"{network}{ENDING}",
        licence="your own",
        about=f"the network {network}, which has no published weights",
        thresholds=like.thresholds,
        own=True,
    )
