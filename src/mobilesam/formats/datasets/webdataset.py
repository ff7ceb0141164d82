"""WebDataset's shards: tars in which each photo is followed by its labels, to be read in one stream."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.text import printable
from mobilesam.formats.datasets.coco import dataset_to_coco
from mobilesam.formats.datasets.model import Dataset, File, LabelledPhoto
from mobilesam.formats.file_names import file_below
from mobilesam.formats.image_bytes import read_file

FOLDER = "shards"
UNSPLIT = "all"
MAX_PHOTOS = 1000  # of a shard
MAX_BYTES = 128 * 2**20  # of its photos, but for the last one
KEY_DIGITS = 16  # of a photo's number, which has at most 52 bits
MODE = 0o644
REMEDY = "a shard holds the photos, so give --photos copy or link"


def write(dataset: Dataset) -> Iterator[File]:
    """Yield shards of at most 1,000 photos, in ``shards/``, those of each split by themselves.

    A photo's key is its number, so that no name clashes with another. Equal sets give equal bytes.

    Raises:
        ConfigError: where a photo is not there.
    """
    for split in dataset.splits or [""]:
        photos = (photo for photo in dataset.photos if photo.split == split)
        for number, first in enumerate(photos):
            yield f"{FOLDER}/{split or UNSPLIT}-{number:06}.tar", _shard(dataset, chain([first], photos))


def _shard(dataset: Dataset, photos: Iterable[LabelledPhoto]) -> Iterator[bytes]:
    """Yield a shard photo by photo; those for which it has no room are not taken."""
    file, length = io.BytesIO(), 0
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for photo in islice(photos, MAX_PHOTOS):
            data = _read(dataset, photo)
            key = f"{photo.id:0{KEY_DIGITS}}"
            _add(tar, f"{key}{Path(photo.file_name).suffix.lower()}", data)
            _add(tar, f"{key}.json", photo_to_json(dataset, photo))
            tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
            yield _taken_from(file)
            length += len(data)
            if length >= MAX_BYTES:
                break
    yield _taken_from(file)


def _taken_from(file: io.BytesIO) -> bytes:
    """Return what was written since the last time."""
    data = file.getvalue()
    file.seek(0)
    file.truncate()
    return data


def photo_to_json(dataset: Dataset, photo: LabelledPhoto) -> bytes:
    """Return a photo's labels: COCO's records of the image and its annotations, each with its category's name."""
    document = dataset_to_coco(Dataset((photo,), dataset.categories))
    annotations = [
        record | {"category": one.label}
        for record, one in zip(document["annotations"], photo.objects, strict=True)
    ]
    return json.dumps({"image": document["images"][0], "annotations": annotations}).encode()


def _read(dataset: Dataset, photo: LabelledPhoto) -> bytes:
    name = printable(photo.file_name)
    if dataset.root is None:
        raise ConfigError(f"{name}: the labels do not say where it lies; {REMEDY}")
    path = file_below(dataset.root, photo.file_name, follow_symlinks=True, place=name, fail=ConfigError)
    if not path.is_file():
        raise ConfigError(f"{name}: is not there; {REMEDY}")
    return read_file(path, name=str(path))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # without owner and time, which would make equal sets differ
    info.size, info.mode = len(data), MODE
    tar.addfile(info, io.BytesIO(data))
