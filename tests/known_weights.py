"""Weights whose published file is at hand: pocket's own, as if they were fetched from elsewhere.

``python -m tests.known_weights ARGUMENTS`` is the command line with this entry in the registry.
"""

from __future__ import annotations

from pathlib import Path

from mobilesam.cli.main import main
from mobilesam.weights import ENTRIES, WeightsEntry, entry_of, weights_path

CONTENT: bytes = weights_path(entry_of("pocket")).read_bytes()
KNOWN = WeightsEntry(
    name="known",
    network="pocket",
    file="known.safetensors",
    licence="CC BY 4.0",
    about="weights that the tests serve on this machine",
    sha256=entry_of("pocket").sha256,
    urls=("https://example.invalid/known.safetensors",),
    size=len(CONTENT),
)


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


if __name__ == "__main__":
    ENTRIES[KNOWN.name] = KNOWN
    main()
