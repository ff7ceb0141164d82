"""The photographs and objects of a set that are scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.rle import Rle
from mobilesam.formats.coco import Photograph, read_instances

SMALLEST_OBJECT = 0.002  # of the photograph

Progress = Callable[[int, int], None]


def read_countable(folder: Path, smallest: float) -> list[Photograph]:
    """Read the photographs of a set that have an object that counts.

    Raises:
        ConfigError: if there is none.
    """
    photographs = [p for p in read_instances(folder) if countable(p, smallest)]
    if not photographs:
        raise ConfigError(f"{folder}: no object covers {smallest:g} of its photograph; lower --smallest")
    return photographs


def countable(photograph: Photograph, smallest: float) -> list[Rle]:
    """Return the runs of the objects that are large enough."""
    least = smallest * photograph.width * photograph.height
    return [i.segmentation for i in photograph.instances if i.segmentation.area >= max(least, 1)]
