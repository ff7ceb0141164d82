"""Exported files of fixed shapes: a network's parts, and beside them a JSON file that says what they are."""

from __future__ import annotations

import hashlib
import json
import shlex
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.text import printable
from mobilesam.runtimes.fixed import FixedRuntime
from mobilesam.weights.folders import weights_home
from mobilesam.weights.graph_index import graph_index

FORMAT = 1
MAX_BYTES = 10_000_000  # of the JSON file
Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Part:
    """One step's files.

    Attributes:
        files: SHA-256 of each, by its name beside the JSON file.
        inputs: their shapes, in the file's order.
        outputs: likewise.
    """

    files: dict[str, str]
    inputs: Shapes
    outputs: Shapes


@dataclass(frozen=True)
class FixedFiles:
    """Files of a network for a runtime, as ``mobilesam export`` writes them.

    Attributes:
        target: the runtime.
        network: its name.
        sha256_of_tensors: of the weights that are in the files.
        versions: of what converted them.
        parts: by their names.
    """

    target: str
    network: str
    sha256_of_tensors: str
    versions: dict[str, str]
    parts: dict[str, Part]

    def to_json(self) -> bytes:
        """The file's bytes."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()


def index_name(network: str, target: str) -> str:
    """Return the name of the JSON file."""
    return f"{network}-{target}.json"


def default_folder(target: str) -> Path:
    """Return where a runtime looks for its files: a folder of its name in the cache of weights."""
    return weights_home() / target


def read_index(folder: Path, network: str, target: str) -> FixedFiles:
    """Read what a folder says of a network's files for a runtime.

    Raises:
        WeightsError: if it is not there or not such a file.
    """
    path = folder / index_name(network, target)
    how = f"mobilesam export {target} --model NAME --out {shlex.quote(str(folder))}"
    if not path.is_file():
        raise WeightsError(
            f"{path}: not found; the {target} runtime reads exported files, which are written by {how}"
        )
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = json.loads(file.read(MAX_BYTES))
        if content.pop("format") != FORMAT:
            raise ValueError("is of another version")
        parts = {name: Part(**part) for name, part in content.pop("parts").items()}
        index = FixedFiles(**content, parts=parts)
        if (index.network, index.target) != (network, target):
            raise ValueError(f"is of {index.network} for {index.target}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: not what export writes ({printable(str(error))[:200]}); write it again by {how}"
        ) from error
    return index


class FilesRuntime(FixedRuntime):
    """A runtime over a folder of exported files.

    Args:
        folder: where the files lie.
        network: whose.

    Raises:
        WeightsError: if the folder does not have them.
    """

    def __init__(self, folder: Path, network: str) -> None:
        super().__init__(graph_index(network).spec)
        self._folder = folder
        self._index = read_index(folder, network, self.name)
        self._lock = threading.Lock()


def read_part(folder: Path, part: Part) -> list[bytes]:
    """Return the bytes of a part's files, which are those that were written.

    Raises:
        WeightsError: if one is missing or another.
    """
    found = []
    for name, sha256 in part.files.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise WeightsError(f"{path}: not found; export again")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise WeightsError(
                f"{path}: is not the file that was exported (its SHA-256 is another); export again"
            )
        found.append(data)
    return found


def only_float32_on_cpu(runtime: str, device: str | None, dtype: str | None) -> None:
    """Refuse what a runtime of fixed files has not.

    Raises:
        ConfigError: for another device or type.
    """
    if dtype not in (None, "float32"):
        raise ConfigError(
            f"dtype {dtype!r}: the {runtime} runtime has float32; pass runtime='torch' for others"
        )
    if device not in (None, "cpu"):
        raise ConfigError(f"device {device!r}: the {runtime} runtime has cpu; pass runtime='onnx' for cuda")
