"""Photos to learn from without human masks: from a set or a plain folder."""

from __future__ import annotations

import warnings
from pathlib import Path

from mobilesam.core.errors import ConfigError, SetWarning
from mobilesam.formats.coco import SetPhoto
from mobilesam.formats.datasets.load import recognise
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.file_names import is_file
from mobilesam.formats.image import read_size
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.image_folder import find_images


def read_any_photos(path: Path, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read the photos of a set with their objects, or those in a folder and below it without.

    Raises:
        ConfigError: if there are no photos.

    Warns:
        SetWarning: for photos that cannot be read, which are left out.
    """
    if is_file(path / "instances.json") or _is_set(path):
        photos = read_photos(path, follow_symlinks=follow_symlinks)
    else:
        photos = _photos_below(path, follow_symlinks)
    if not photos:
        raise ConfigError(f"{shown(str(path))}: has no photos; give a folder of photos, or a set")
    return photos


def _is_set(path: Path) -> bool:
    try:
        recognise(path)
    except ConfigError:
        return False
    return True


def _photos_below(folder: Path, follow_symlinks: bool) -> list[SetPhoto]:
    photos, failed = [], []
    for found in find_images(folder, follow_symlinks=follow_symlinks):
        try:
            if found.problem is not None:
                raise found.problem
            height, width = read_size(found.path)
            photos.append(SetPhoto(found.path, width, height))
        except (OSError, ValueError) as error:
            failed.append(str(error))
    if failed:
        warnings.warn(
            f"{shown(str(folder))}: {len(failed)} photos cannot be read and are left out; the first: {failed[0]}",
            SetWarning,
            stacklevel=3,
        )
    return photos
