"""A set's folder as it is written: photos below ``images/``, labels beside it, all from the neutral model."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mobilesam.core.errors import ConfigError, OutputError
from mobilesam.core.text import printable
from mobilesam.formats.datasets.load import write_dataset
from mobilesam.formats.datasets.model import Dataset, LabelledPhoto
from mobilesam.formats.file_names import file_below
from mobilesam.storage.atomic import atomic_write, refuse_existing, sync_folder, write_bytes

IMAGES = "images"
COPY, LINK, NONE = PHOTOS = ("copy", "link", "none")


def check_photos(photos: str) -> str:
    """Return the way photos are taken over, if it is a known one.

    Raises:
        ConfigError: otherwise.
    """
    if photos not in PHOTOS:
        raise ConfigError(f"photos: is {printable(photos)!r}; choose one of {', '.join(PHOTOS)}")
    return photos


def put_photo(source: Path, out: Path, file_name: str, photos: str, *, overwrite: bool = False) -> None:
    """Put a photo below ``out/images``, unless it is there with the same content.

    Args:
        source: the photo, which is only read.
        out: the set's folder.
        file_name: below ``images``.
        photos: ``copy``, ``link`` for a symbolic link, or ``none`` to do nothing.
        overwrite: replace another file of that name.

    Raises:
        OutputError: if another file is there or it cannot be written.
        ConfigError: for a name that leads elsewhere.
    """
    if photos == NONE:
        return
    place = f"{printable(file_name)}"
    target = file_below(out / IMAGES, file_name, follow_symlinks=True, place=place, fail=ConfigError)
    if _is_same(source, target):
        return
    refuse_existing(target, overwrite=overwrite)
    if photos == COPY:
        with atomic_write(target, overwrite=overwrite) as file, source.open("rb") as opened:
            shutil.copyfileobj(opened, file, 2**20)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        os.symlink(os.path.relpath(source.resolve(), target.parent.resolve()), target)
        sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{printable(target)}: cannot be linked ({error.strerror})") from error


def put_bytes(data: bytes, out: Path, file_name: str) -> None:
    """Write a photo's bytes below ``out/images``, unless they are there.

    Raises:
        OutputError: if they cannot be written.
        ConfigError: for a name that leads elsewhere.
    """
    target = file_below(
        out / IMAGES, file_name, follow_symlinks=True, place=printable(file_name), fail=ConfigError
    )
    if not (target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data):
        write_bytes(target, data)


def _is_same(source: Path, target: Path) -> bool:
    """Whether a photo is there already: the same file, or one with the same bytes."""
    try:
        if os.path.samefile(source, target):
            return True
        if source.stat().st_size != target.stat().st_size:
            return False
        with source.open("rb") as one, target.open("rb") as other:
            while chunk := one.read(2**20):
                if chunk != other.read(2**20):
                    return False
        return True
    except OSError:
        return False


def write_set(
    dataset: Dataset, out: Path, formats: Sequence[str], *, photos: str = NONE, overwrite: bool = False
) -> list[str]:
    """Write a set with its photos; return in words what could not be written.

    Raises:
        OutputError: if something is there or cannot be written.
        ConfigError: for formats that cannot be written together.
    """
    remarks = []
    if photos != NONE:
        missing = [photo for photo in dataset.photos if not _is_there(dataset, photo)]
        if missing:
            first = printable(missing[0].file_name)
            remarks.append(
                f"{len(missing):,} photos were not found, the first is {first}; their labels are written"
            )
        absent = {photo.file_name for photo in missing}
        for photo in dataset.photos:
            if photo.stored is not None:
                if photos == LINK:
                    raise ConfigError(f"{printable(photo.file_name)}: lies in a tar; write --photos copy")
                put_bytes(photo.stored.read(photo.file_name), out, photo.file_name)
            elif photo.file_name not in absent:
                put_photo(dataset.path(photo), out, photo.file_name, photos, overwrite=overwrite)
    write_dataset(dataset, out, formats, overwrite=overwrite)
    return remarks


def _is_there(dataset: Dataset, photo: LabelledPhoto) -> bool:
    return photo.stored is not None or (dataset.root is not None and dataset.path(photo).is_file())
