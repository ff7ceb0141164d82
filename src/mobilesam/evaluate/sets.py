"""The photographs and objects of a set that are scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobilesam.core.errors import ConfigError, Remedy
from mobilesam.core.rle import Rle
from mobilesam.formats.coco import Photograph
from mobilesam.formats.datasets.photographs import read_photographs

SMALLEST_OBJECT = 0.002  # of the photograph

Progress = Callable[[int, int], None]


def read_countable(folder: Path, smallest: float, *, follow_symlinks: bool = False) -> list[Photograph]:
    """Read the photographs of a set that have an object that counts.

    Args:
        folder: of the set.
        smallest: least part of its photograph that an object covers.
        follow_symlinks: read photographs that links show of the world outside the set.

    Raises:
        ConfigError: if there is none.
    """
    read = read_photographs(folder, follow_symlinks=follow_symlinks)
    photographs = [p for p in read if countable(p, smallest)]
    if not photographs:
        raise ConfigError(
            f"{folder}: no object covers {smallest:g} of its photo; choose another set",
            remedy=Remedy("smallest", 0.0, "to score every object"),
        )
    return photographs


def countable(photograph: Photograph, smallest: float) -> list[Rle]:
    """Return the runs of the objects that are large enough."""
    least = smallest * photograph.width * photograph.height
    return [i.segmentation for i in photograph.instances if i.segmentation.area >= max(least, 1)]
