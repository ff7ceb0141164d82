"""Which weights a name such as ``mobile_sam.pt`` stands for, and whose a file is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilesam.compat.ultralytics.detectors import HOW_TO
from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.text import printable
from mobilesam.weights import ALIASES, ENTRIES, WeightsEntry, entry_of, read_tensors
from mobilesam.weights.graph_index import graph_index, has_graphs
from mobilesam.weights.recognition import WORDS, recognise_network

# ultralytics' names for published weights, without their ending, for ours.
NAMES = {"mobile_sam": "mobile_sam", "sam_b": "sam_vit_b", "sam_l": "sam_vit_l", "sam_h": "sam_vit_h"}
ENDINGS = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Weights: an entry of the registry, or a file for the entry's network.

    Attributes:
        entry: in the registry.
        path: of the file, or None for the entry's own.
    """

    entry: WeightsEntry
    path: Path | None = None


def find_checkpoint(model: str | Path) -> Checkpoint:
    """Return the weights that a name or path stands for; a file that is there comes first.

    Raises:
        ConfigError: for an unknown name.
        WeightsError: for a file that is damaged or of no network that there is.
    """
    if not isinstance(model, str | Path):
        raise ConfigError(
            f"model: is a {type(model).__name__}; give a name such as 'mobile_sam.pt', or a path"
        )
    path = Path(model)
    if path.is_file():
        return Checkpoint(_entry_of_file(path), path)
    name = path.name.removesuffix(path.suffix) if path.suffix in ENDINGS else path.name
    if str(path) == path.name and name in {*NAMES, *ENTRIES, *ALIASES}:
        return Checkpoint(entry_of(NAMES.get(name, name)))
    if path.name and str(path) != path.name:
        raise WeightsError(f"{printable(path)}: not found; check the path")
    known = ", ".join([*(f"{name}.pt" for name in NAMES), *sorted(_whole_models())])
    raise ConfigError(
        f"model {printable(model)!r}: no such file, and no known name; choose a file or one of {known}{_if_detector(name)}"
    )


def _if_detector(name: str) -> str:
    """Return what to say further of a name that is a detector's."""
    detecting = name.casefold().startswith(("yolo", "fastsam", "rtdetr"))
    return f"; detectors: {HOW_TO}" if detecting else ""


def _whole_models() -> set[str]:
    """Our own names of models, without those that are ultralytics' too."""
    names = {name for name in (*ENTRIES, *ALIASES) if entry_of(name).network}
    return names - {*NAMES}


def _entry_of_file(path: Path) -> WeightsEntry:
    """Return an entry whose network has a file's tensors."""
    shapes = {name: tensor.shape for name, tensor in read_tensors(path).items()}
    family = recognise_network(shapes)
    related = [
        entry
        for entry in ENTRIES.values()
        if family and entry.network.startswith(family) and has_graphs(entry.network)
    ]
    if not related:
        raise WeightsError(
            f"{printable(path)}: holds {WORDS.get(family, family)}; give weights of SAM or MobileSAM"
        )
    return next((entry for entry in related if _fits(shapes, entry.network)), related[0])


def _fits(shapes: Mapping[str, Sequence[int]], network: str) -> bool:
    """Whether tensors of these shapes are all that a network has."""
    return {name: tuple(shape) for name, shape in shapes.items()} == graph_index(network).tensors
