"""WebDataset's shards: tars in which each photo is followed by its labels, to be read in one stream.

They are also read, in any order: each photo by its place in its tar. Labels are a photo's ``KEY.json`` as it is written
here, or as SA-1B has it, whose tars are such shards.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from mobilesam.core.errors import ConfigError, ImageError, LimitError
from mobilesam.core.schema import Array, Record, Text, Whole, check
from mobilesam.core.text import printable
from mobilesam.formats.coco import UNNAMED, WORDS, SetPhoto
from mobilesam.formats.datasets.coco import ANNOTATION, dataset_to_coco, record_to_object
from mobilesam.formats.datasets.files import MAX_SMALL_BYTES, files_below
from mobilesam.formats.datasets.model import (
    SPLITS,
    Dataset,
    File,
    LabelledPhoto,
    check_name,
    make_dataset,
)
from mobilesam.formats.file_names import file_below
from mobilesam.formats.image import MAX_PIXELS, size_of_bytes, suffix_is_image
from mobilesam.formats.image_bytes import read_file, shown
from mobilesam.formats.json_text import read_json
from mobilesam.formats.stored import TAR, Stored, tar_members

FOLDER = "shards"
UNSPLIT = "all"
MAX_PHOTOS = 1000  # of a shard
MAX_BYTES = 128 * 2**20  # of its photos, but for the last one
KEY_DIGITS = 16  # of a photo's number, which has at most 52 bits
MODE = 0o644
REMEDY = "a shard holds the photos, so give --photos copy or link"
LABELS = ".json"
LOOKED_AT = 8  # first members of a tar, to see whether it has labels

LABELLED = Record(
    {**ANNOTATION.fields, "category": Text(1)}, required=("bbox",), open=True
)  # SA-1B's has no image_id
IMAGE = Record(
    {
        "id": Whole(),
        "image_id": Whole(),
        "file_name": Text(1),
        "width": Whole(1, MAX_PIXELS),
        "height": Whole(1, MAX_PIXELS),
        "source": WORDS,
    },
    required=("width", "height"),
    open=True,
)
PHOTO = Record({"image": IMAGE, "annotations": Array(LABELLED)}, required=("image", "annotations"), open=True)


@dataclass
class _Pair:
    """A photo in a tar and its labels, as far as they were seen."""

    photo: Stored | None = None
    name: PurePosixPath | None = None
    labels: Stored | None = None


def recognise(path: Path) -> bool:
    """Whether a file is a tar, or a folder has one in which there are labels beside the photos."""
    if path.is_file():
        return path.suffix.lower() == TAR
    return any(_has_labels(tar) for tar in _tars(path)[:1])


def _tars(folder: Path, *, follow_symlinks: bool = False) -> list[Path]:
    """Return the tars in ``shards/`` of a folder, or in the folder itself, or below."""
    inner = folder / FOLDER
    return files_below(
        inner if inner.is_dir() else folder,
        lambda path: path.suffix.lower() == TAR,
        follow_symlinks=follow_symlinks,
    )


def _has_labels(tar: Path) -> bool:
    try:
        for _, member in zip(range(LOOKED_AT), tar_members(tar), strict=False):
            if not isinstance(member, ImageError) and member.name.lower().endswith(LABELS):
                return True
    except ImageError:
        pass
    return False


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read a tar, or those in a folder; photos stay where they are, and are read by their places.

    Photos without labels have no objects. The names of shards say which split theirs are.

    Raises:
        ConfigError: for damaged tars and labels, names that lead elsewhere, and a name that two photos have.
        LimitError: for what is too large.
    """
    tars = [path] if not path.is_dir() else _tars(path, follow_symlinks=follow_symlinks)
    if not tars:
        raise ConfigError(f"{shown(str(path))}: holds no tar; give a tar, or the folder of several")
    photos: dict[str, LabelledPhoto] = {}
    for tar in tars:
        for photo in _read_tar(tar):
            before = photos.setdefault(photo.file_name, photo)
            if before is not photo:
                where = " and ".join(dict.fromkeys(shown(str(_place(one))) for one in (before, photo)))
                raise ConfigError(f"{where}: two photos are called {shown(photo.file_name)}; rename one")
    if not photos:
        raise ConfigError(f"{shown(str(path))}: its tars hold no photos named KEY.jpg or the like")
    return make_dataset(photos.values(), root=tars[0].parent)


def _place(photo: LabelledPhoto) -> Path | str:
    assert photo.stored is not None
    return photo.stored.place


def _read_tar(tar: Path) -> Iterator[LabelledPhoto]:
    """Yield the photos of a tar with their labels."""
    split = next((one for one in SPLITS if tar.name.startswith(f"{one}-")), "")
    for pair in _pairs(tar).values():
        if pair.photo is None or pair.name is None:
            continue
        name = shown(f"{tar}/{pair.name}")
        try:
            if pair.labels is not None:
                yield _labelled(pair.photo, pair.name, _read_labels(pair.labels, name), name, split)
            else:
                size = size_of_bytes(pair.photo.read(name), name)
                yield LabelledPhoto(f"{tar.stem}/{pair.name}", size, split=split, stored=pair.photo)
        except ImageError as error:
            raise ConfigError(str(error)) from error


def _pairs(tar: Path) -> dict[str, _Pair]:
    """Return the photos of a tar and their labels by their keys: the names up to the first dot."""
    pairs: dict[str, _Pair] = {}
    try:
        for member in tar_members(tar):
            if isinstance(member, ImageError):
                raise member
            name = member.name.removeprefix("./")
            file_below(
                tar.parent, name, follow_symlinks=True, place=f"{shown(str(tar))}: a name", fail=ConfigError
            )
            inner = PurePosixPath(name)
            key, _, ending = inner.name.partition(".")
            stored = Stored(tar, member.offset_data, member.size, f".{ending.lower()}")
            pair = pairs.setdefault(str(inner.with_name(key)), _Pair())
            if stored.suffix == LABELS:
                pair.labels = stored
            elif "." not in ending and suffix_is_image(Path(f"photo{stored.suffix}")):
                if pair.photo is not None:
                    raise ConfigError(
                        f"{shown(str(tar))}: holds {shown(str(pair.name))} and {shown(name)}; rename one"
                    )
                pair.photo, pair.name = stored, inner
    except ImageError as error:
        raise ConfigError(str(error)) from error
    return pairs


def _read_labels(labels: Stored, name: str) -> dict[str, Any]:
    if labels.length > 4 * MAX_SMALL_BYTES:
        raise LimitError(f"{name}: its labels have over {4 * MAX_SMALL_BYTES >> 20} MiB, the limit")
    try:
        text = labels.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: its labels are not JSON in UTF-8") from error
    content = read_json(text, f"{name}: its labels", lambda message, code: ConfigError(message))
    check(content, PHOTO, f"{name}: its labels")
    return content


def _labelled(
    stored: Stored, inner: PurePosixPath, content: dict[str, Any], name: str, split: str
) -> LabelledPhoto:
    image = content["image"]
    file_name = image.get("file_name", str(inner))
    assert isinstance(stored.place, Path)
    place = f"{name}: its labels: image.file_name"
    path = file_below(stored.place.parent, file_name, follow_symlinks=True, place=place, fail=ConfigError)
    photo = SetPhoto(path, image["width"], image["height"])
    objects = []
    for i, record in enumerate(content["annotations"]):
        where = f"{name}: its labels: annotations[{i}]"
        label = check_name(record.get("category", UNNAMED), f"{where}.category")
        objects.append(record_to_object(record, photo, label, where))
    return LabelledPhoto(
        file_name,
        (photo.height, photo.width),
        tuple(objects),
        image.get("id", image.get("image_id", 0)),
        split=split,
        source="" if image.get("source") is None else str(image["source"]),
        stored=stored,
    )


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
    if photo.stored is not None:
        return photo.stored.read(name)
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
