"""The photos and objects of a set that are scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.errors import ConfigError, Remedy
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.formats.coco import SetPhoto
from mobilesam.formats.datasets.photos import read_photos

SMALLEST_OBJECT = 0.002  # of the photo

Progress = Callable[[int, int], None]


def read_countable(folder: Path, smallest: float, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read the photos of a set that have an object that counts.

    Args:
        folder: of the set.
        smallest: least share of its photo that an object covers.
        follow_symlinks: also follow links to photos outside the set.

    Raises:
        ConfigError: if there is none.
    """
    read = read_photos(folder, follow_symlinks=follow_symlinks)
    photos = [p for p in read if countable(p, smallest)]
    if not photos:
        raise ConfigError(
            f"{folder}: no object covers {smallest:g} of its photo; choose another set",
            remedy=Remedy("smallest", 0.0, "to score every object"),
        )
    return photos


def countable(photo: SetPhoto, smallest: float) -> list[Rle]:
    """Return the runs of the objects that are large enough."""
    least = smallest * photo.width * photo.height
    return [i.segmentation for i in photo.instances if i.segmentation.area >= max(least, 1)]


def decided(photo: SetPhoto) -> Mask:
    """Return the pixels (H, W) of a photo that count: all but those that nobody decided on."""
    if photo.ignored is None:
        return np.ones((photo.height, photo.width), bool)
    return ~rle_to_mask(photo.ignored)
