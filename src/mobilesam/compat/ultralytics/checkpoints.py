"""Which weights a name such as ``mobile_sam.pt`` stands for, and which network a file is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilesam.compat.ultralytics.detectors import HOW_TO
from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.text import printable
from mobilesam.weights import ALIASES, ENTRIES, WeightsEntry, entry_of, read_tensors
from mobilesam.weights.recognition import recognise_network, words_for
from mobilesam.weights.registry import ALSO_CALLED, ENDINGS

# ultralytics' names of published weights, without their ending, and ours for them.
NAMES = {"mobile_sam": "mobile_sam", **ALSO_CALLED}


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
    """Return the weights that a name or path stands for; an existing file comes first.

    Raises:
        ConfigError: for an unknown name.
        WeightsError: for a file that is damaged or of no known network.
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
    """Return what to add about a name that is a detector's."""
    detecting = name.casefold().startswith(("yolo", "fastsam", "rtdetr"))
    return f"; detectors: {HOW_TO}" if detecting else ""


def _whole_models() -> set[str]:
    """Our own names of models, without those that ultralytics has too."""
    names = {name for name in (*ENTRIES, *ALIASES) if entry_of(name).network}
    return names - {*NAMES}


def _entry_of_file(path: Path) -> WeightsEntry:
    """Return an entry whose network has a file's tensors."""
    found = recognise_network({name: tensor.shape for name, tensor in read_tensors(path).items()})
    for entry in ENTRIES.values():
        if found and entry.network == found:
            return entry
    raise WeightsError(f"{printable(path)}: holds {words_for(found)}; give weights of SAM or MobileSAM")
