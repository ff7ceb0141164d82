"""Which weights there are, where they lie, and how their files are read and checked."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.formats.torch_file import read_torch_file

HOME_VARIABLE = "MOBILESAM_HOME"
DEFAULT_MODEL = "pocket"
NAMES_SHOWN = 5  # of missing or unexpected tensors, in messages


@dataclass(frozen=True)
class WeightsEntry:
    """One published set of weights.

    Attributes:
        name: what ``load`` calls it.
        network: name in ``networks.configs.NETWORKS``.
        file: its file name.
        sha256: of the file.
        licence: terms of the weights.
        about: one sentence.
        url: where users get it; empty for what the package carries.
        size: bytes of the file.
    """

    name: str
    network: str
    file: str
    sha256: str
    licence: str
    about: str
    url: str = ""
    size: int = 0

    @property
    def shipped(self) -> bool:
        """Whether the package carries the file."""
        return not self.url


SHIPPED = Path(__file__).parent / "shipped"
ENTRIES = {
    entry.name: entry
    for entry in (
        WeightsEntry(
            name="pocket-2",
            network="pocket",
            file="pocket-2.safetensors",
            sha256="1aac6fba682384df5ae2a5ac14f48ddc1d45042c6e8c0f4966b05f4751cb8689",
            licence="CC BY 4.0 for the weights; see the model card for the terms of what they were trained on",
            about="small model trained by this project from human masks; no part of it is SAM's or MobileSAM's weights",
        ),
        WeightsEntry(
            name="mobile_sam",
            network="vit_t",
            file="mobile_sam.pt",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            licence="Apache-2.0",
            about="MobileSAM as published: TinyViT distilled from SAM ViT-H",
            url="https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
            size=40_728_226,
        ),
    )
}
ALIASES = {"pocket": "pocket-2", "vit_t": "mobile_sam"}


def entry_of(name: str) -> WeightsEntry:
    """Return the entry called ``name``, by name or alias.

    Raises:
        ConfigError: for an unknown name.
    """
    entry = ENTRIES.get(ALIASES.get(name, name)) if isinstance(name, str) else None
    if entry is None:
        known = ", ".join(sorted({*ENTRIES, *ALIASES}))
        raise ConfigError(f"model {name!r}: unknown; choose one of {known}")
    return entry


def weights_home() -> Path:
    """Return the folder in which downloaded weights are looked for."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mobilesam"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "mobilesam"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobilesam"


def weights_path(entry: WeightsEntry) -> Path:
    """Return where an entry's file lies, or would lie."""
    return (SHIPPED if entry.shipped else weights_home()) / entry.file


def how_to_get(entry: WeightsEntry) -> str:
    """Return what to do to have an entry's file."""
    return f"download {entry.url} to {weights_path(entry)}"


def read_weights(entry: WeightsEntry, checkpoint: str | Path | None = None) -> dict[str, np.ndarray]:
    """Read an entry's tensors as float32 arrays by their names in the checkpoint.

    Args:
        entry: which weights. Their own file must have the published SHA-256.
        checkpoint: another ``.pt`` or ``.safetensors`` file for the same network; its
            content is checked but not its sum.

    Raises:
        WeightsError: if the file is missing, damaged, or holds what is not a finite number.
    """
    path = weights_path(entry) if checkpoint is None else Path(checkpoint)
    if not path.is_file():
        advice = how_to_get(entry) if checkpoint is None else "give the path of a .pt or .safetensors file"
        raise WeightsError(f"{path}: not found; {advice}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if checkpoint is None and hashlib.sha256(data).hexdigest() != entry.sha256:
        again = "install the package again" if entry.shipped else how_to_get(entry)
        raise WeightsError(f"{path}: is not the published file (its SHA-256 differs); {again}")
    return read_tensors(path, data)


def read_tensors(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Read the bytes of a ``.safetensors`` or PyTorch file; floating-point tensors become float32."""
    if data[:2] == b"PK":
        tensors = read_torch_file(path, data)
    elif path.suffix == ".safetensors":
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, KeyError, ValueError) as error:
            raise WeightsError(f"{path}: damaged, or not a safetensors file ({error})") from error
    else:
        raise WeightsError(f"{path}: neither a PyTorch checkpoint (zip form) nor a .safetensors file")
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f":
            tensors[name] = np.asarray(tensor, np.float32, order="C")
            if not np.isfinite(tensor).all():
                count = int((~np.isfinite(tensor)).sum())
                raise WeightsError(
                    f"{path}: tensor {name} has {count} values that are not finite; get it again"
                )
    return tensors


def check_tensors(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Check that ``tensors`` are exactly those of a network.

    Raises:
        WeightsError: names the first tensors that are missing, unexpected or of another shape.
    """
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes]
    if missing or unexpected:
        parts = [
            f"{word} {', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''}"
            for word, names in (("lacks", missing), ("also has", unexpected))
            if names
        ]
        raise WeightsError(f"{what}: not the weights of this network: {'; '.join(parts)}")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise WeightsError(
                f"{what}: tensor {name} has shape {tuple(tensors[name].shape)}, this network needs {tuple(shape)}"
            )


def shipped_metadata(entry: WeightsEntry) -> dict[str, str]:
    """Return the metadata in a shipped file's header: recipe, data, terms and scores."""
    with weights_path(entry).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)).get("__metadata__", {})
