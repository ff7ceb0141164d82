"""Named arrays of many things in checksummed files, written shard by shard, each wholly or not at all.

A folder has ``shard-00000.safetensors`` and so on, and ``shards.jsonl`` with a line for each: its file, its SHA-256
and the keys of what it holds. A shard is on disk before its line, so that a killed process leaves
a folder that is correct as far as it goes; the next one writes the rest, with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from mobilesam.core.errors import WeightsError
from mobilesam.storage.atomic import write_bytes
from mobilesam.storage.ledger import Ledger

INDEX = "shards.jsonl"
FILE = "shard-{:05d}.safetensors"
SHARD_BYTES = 2**26  # of arrays, roughly, after which a shard ends
READ_BYTES = 2**22

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """One line of the index.

    Attributes:
        file: its name in the folder.
        sha256: checksum of its bytes.
        keys: keys of what it holds, in order.
    """

    file: str
    sha256: str
    keys: tuple[str, ...]


class Shards:
    """A folder of shards, to read from.

    Args:
        folder: the store's folder.

    Raises:
        WeightsError: if the index is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.shards = read_index(self.folder)
        self._where = {key: shard for shard in self.shards for key in shard.keys}
        self._open: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __getstate__(self) -> dict[str, Any]:
        """Without open files, for another process."""
        return self.__dict__ | {"_open": {}}

    def read(self, key: str) -> dict[str, np.ndarray]:
        """Return the arrays of one thing by name. A shard's checksum is verified when it is first read.

        Raises:
            WeightsError: if the store lacks it, or the shard is damaged.
        """
        shard = self._where.get(key)
        if shard is None:
            raise WeightsError(
                f"{self.folder}: has nothing of {key}; complete the store with the command that made it"
            )
        if shard.file not in self._open:
            check_sum(self.folder / shard.file, shard.sha256)
            self._open[shard.file] = safe_open(self.folder / shard.file, "numpy")
        file, start = self._open[shard.file], f"{key}/"
        return {name[len(start) :]: file.get_tensor(name) for name in file.keys() if name.startswith(start)}

    def verify(self) -> None:
        """Verify the checksum of every shard.

        Raises:
            WeightsError: names the first damaged shard.
        """
        for shard in self.shards:
            check_sum(self.folder / shard.file, shard.sha256)


def read_index(folder: Path) -> list[Shard]:
    """Return the index's complete lines; a last one that was cut short is left out.

    Raises:
        WeightsError: if another line is damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    try:
        records = [json.loads(line) for line in lines]
        return [Shard(str(r["file"]), str(r["sha256"]), tuple(map(str, r["keys"]))) for r in records]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: damaged; make the store again in another folder") from error


def check_sum(path: Path, sha256: str) -> None:
    """Refuse a shard whose bytes are not those that were written.

    Raises:
        WeightsError: if it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); make the store again") from error
    if found != sha256:
        raise WeightsError(
            f"{path}: damaged (its SHA-256 is not the one in {INDEX}); delete the store and make it again"
        )


def write_shards(folder: Path, things: Iterable[tuple[str, Arrays]]) -> None:
    """Write the things that a folder still lacks; shards that are there stay.

    Args:
        folder: the store's folder, made if need be.
        things: key and arrays of each missing thing, in a fixed order.

    Raises:
        OutputError: if the folder cannot be written; what is there is correct as far as it goes.
    """
    path = folder / INDEX
    if not path.is_file():
        write_bytes(path, b"")
    number, whole = len(read_index(folder)), path.read_bytes()
    with Ledger(path, whole.rfind(b"\n") + 1) as ledger:
        for tensors, keys in _in_shards(things):
            data = save(tensors)
            name = FILE.format(number)
            write_bytes(folder / name, data)
            line = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "keys": keys}
            ledger.append(json.dumps(line).encode() + b"\n")
            number += 1


def _in_shards(things: Iterable[tuple[str, Arrays]]) -> Iterator[tuple[dict[str, np.ndarray], list[str]]]:
    tensors: dict[str, np.ndarray] = {}
    keys: list[str] = []
    for key, arrays in things:
        tensors |= {f"{key}/{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
        keys.append(key)
        if sum(array.nbytes for array in tensors.values()) >= SHARD_BYTES:
            yield tensors, keys
            tensors, keys = {}, []
    if keys:
        yield tensors, keys
