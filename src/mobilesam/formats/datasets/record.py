"""``record.jsonl``: everything that is known about a set, without loss, a line for each photo.

The first line says how the labels came about. Every line has a checksum of the rest of it, so damage by a
crash or a bad disk is noticed. Lines are appended while photos are labelled; the last line of a photo
counts. All other formats are written from it.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.rle import dict_to_rle
from mobilesam.core.schema import Array, Flag, OneOf, OrNull, Real, Record, Text, Whole, check
from mobilesam.core.text import printable
from mobilesam.formats.datasets.model import (
    SPLIT,
    Category,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    StoredPhotos,
    check_box_in,
)
from mobilesam.formats.file_names import open_at_once
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.formats.json_text import read_json

NAME = "record.jsonl"
VERSION = 1
CHECKSUM_DIGITS = 16
PLACE = "Q"  # how arrays keep places in a file
MAX_LINE_BYTES = 256 * 2**20

RUNS = Record({"size": Array(Whole(1), 2, 2), "counts": Text()}, required=("size", "counts"))
OBJECT = Record(
    {
        "id": Whole(1),
        "label": Text(1),
        "box": Array(Real(), 4, 4),
        "mask": OrNull(RUNS),
        "score": OrNull(Real()),
        "iscrowd": Flag(),
        "area": OrNull(Real(0)),
        "facts": Record({}, open=True),
    },
    required=("id", "label", "box"),
)
PHOTO = Record(
    {
        "file_name": Text(1, about="below images/, with / between folders"),
        "id": Whole(1),
        "size": Array(Whole(1, MAX_PIXELS), 2, 2),
        "sha256": Text(),
        "file_bytes": Whole(),
        "source": Text(),
        "look": Text(),
        "split": SPLIT,
        "remarks": Array(Text()),
        "objects": Array(OBJECT),
    },
    required=("file_name", "id", "size", "objects"),
)
FAILURE = Record(
    {"file_name": Text(1), "path": Text(), "code": Text(), "reason": Text()},
    required=("file_name", "path", "code", "reason"),
)
HEAD = Record(
    {
        "mobilesam_record": OneOf((VERSION,)),
        "categories": Array(Record({"id": Whole(), "name": Text(1)}, required=("id", "name"))),
        "provenance": Record({}, open=True),
    },
    required=("mobilesam_record", "categories", "provenance"),
)


@dataclass(frozen=True)
class Failure:
    """A photo that could not be labelled.

    Attributes:
        file_name: its name in the set.
        path: where it lies.
        code: of the error contract.
        reason: in words.
    """

    file_name: str
    path: str
    code: str
    reason: str


@dataclass(frozen=True)
class Head:
    """The record's first line: categories, and how the labels came about."""

    categories: tuple[Category, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordFile:
    """What a record holds.

    Attributes:
        head: its first line.
        photos: where the line of each photo begins, in bytes, by file name, in the order of their first lines.
        failures: likewise, of photos that could not be labelled.
        whole_bytes: up to here the file is whole; what follows is a line that a crash cut off.
    """

    head: Head
    photos: dict[str, int]
    failures: dict[str, int]
    whole_bytes: int


def head_to_line(head: Head) -> bytes:
    """Return a record's first line."""
    categories = [{"id": one.id, "name": one.name} for one in head.categories]
    return record_to_line(
        {"mobilesam_record": VERSION, "categories": categories, "provenance": dict(head.provenance)}
    )


def photo_to_line(photo: LabelledPhoto) -> bytes:
    """Return a photo's line."""
    return record_to_line(
        {
            "file_name": photo.file_name,
            "id": photo.id,
            "size": list(photo.size),
            "sha256": photo.sha256,
            "file_bytes": photo.file_bytes,
            "source": photo.source,
            "look": photo.look,
            "split": photo.split,
            "remarks": list(photo.remarks),
            "objects": [_object_to_record(one) for one in photo.objects],
        }
    )


def failure_to_line(failure: Failure) -> bytes:
    """Return the line of a photo that could not be labelled."""
    return record_to_line({"failure": vars(failure)})


def _object_to_record(one: LabelledObject) -> dict[str, Any]:
    return {
        "id": one.id,
        "label": one.label,
        "box": list(one.box),
        "mask": None if one.mask is None else one.mask.to_dict(),
        "score": one.score,
        "iscrowd": one.iscrowd,
        "area": one.area,
        "facts": dict(one.facts),
    }


def record_to_line(record: dict[str, Any]) -> bytes:
    """Return the line of a record, with its checksum."""
    text = json.dumps(record, separators=(",", ":"))
    return f'{{"checksum":"{_checksum(text)}","line":{text}}}\n'.encode()


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_DIGITS]


def dataset_to_record(dataset: Dataset) -> Iterator[bytes]:
    """Yield the lines of a set's record."""
    yield head_to_line(Head(dataset.categories, dataset.provenance))
    yield from map(photo_to_line, dataset.photos)


def write_record(dataset: Dataset) -> Iterator[File]:
    """Yield the record's one file."""
    yield NAME, dataset_to_record(dataset)


def read_record(path: Path) -> Dataset:
    """Read a record as a set; its photos lie in ``images`` beside it."""
    (_, head), *lines = _read_lines(path)
    assert isinstance(head, Head)
    photos: dict[str, LabelledPhoto] = {}
    failures: set[str] = set()
    for _, one in lines:
        if isinstance(one, LabelledPhoto):
            failures.discard(one.file_name)
            photos[one.file_name] = one
        elif isinstance(one, Failure):
            photos.pop(one.file_name, None)
            failures.add(one.file_name)
    remarks = (f"{len(failures)} photos could not be labelled",) if failures else ()
    return Dataset(tuple(photos.values()), head.categories, path.parent / "images", head.provenance, remarks)


def read_record_file(path: Path) -> RecordFile:
    """Read a record with all that a run needs to go on: where it has what.

    Raises:
        ConfigError: if it is not a record, or a line before the last one is damaged.
        LimitError: for a line that is far too long.
    """
    head: Head | None = None
    photos: dict[str, int] = {}
    failures: dict[str, int] = {}
    start = 0
    for end, one in _read_lines(path):
        if isinstance(one, Head):
            head = one
        else:
            mine, others = (photos, failures) if isinstance(one, LabelledPhoto) else (failures, photos)
            others.pop(one.file_name, None)
            mine[one.file_name] = start
        start = end
    assert head is not None
    return RecordFile(head, photos, failures, start)


def _read_lines(path: Path) -> Iterator[tuple[int, Head | LabelledPhoto | Failure]]:
    """Yield what each line says, and where it ends, in bytes; the first is the head."""
    name = printable(path)
    end = 0
    for number, line in enumerate(_lines(path, name), start=1):
        place = f"{name}: line {number}"
        if not line.endswith(b"\n"):
            break  # cut off by a crash
        end += len(line)
        record = read_json(_body_of(line, place), place, lambda message, code: ConfigError(message))
        if not isinstance(record, dict):
            raise _damage(place)
        if number == 1:
            yield end, _read_head(record, place)
        elif "failure" in record:
            check(record["failure"], FAILURE, place)
            yield end, Failure(**record["failure"])
        else:
            yield end, record_to_photo(record, place)
    if not end:
        raise ConfigError(f"{name}: has no whole first line; it is not a record, or was cut: remove it")


class RecordPhotos(StoredPhotos):
    """The photos of a record, each read from its line when it is asked for.

    Args:
        path: the record, whose lines were checked.
        places: where the photos' lines begin, in bytes, in the photos' order.
    """

    def __init__(self, path: Path, places: array[int]) -> None:
        self.path, self.places = path, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> LabelledPhoto: ...

    @overload
    def __getitem__(self, index: slice) -> RecordPhotos: ...

    def __getitem__(self, index: int | slice) -> LabelledPhoto | RecordPhotos:
        if isinstance(index, slice):
            return RecordPhotos(self.path, self.places[index])
        place = self.places[index]
        return next(iter(RecordPhotos(self.path, array(PLACE, [place]))))

    def __iter__(self) -> Iterator[LabelledPhoto]:
        return (_make_photo(one, f"{self.path.name}: {one['file_name']}") for one in self.records())

    def heads(self) -> Iterator[LabelledPhoto]:
        """See :class:`mobilesam.formats.datasets.model.StoredPhotos`."""
        return (_make_photo(one | {"objects": []}, "") for one in self.records())

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the photos as their lines have them."""
        for line, place in zip(lines_at(self.path, self.places), self.places, strict=True):
            yield json.loads(_body_of(line, f"{printable(self.path)}: at byte {place:,}"))


def failures_at(path: Path, places: Iterable[int]) -> Iterator[Failure]:
    """Yield the failures whose lines begin at some places of a record, whose lines were checked."""
    for line in lines_at(path, places):
        yield Failure(**json.loads(_body_of(line, printable(path)))["failure"])


def lines_at(path: Path, places: Iterable[int]) -> Iterator[bytes]:
    """Yield the lines of a file that begin at some places."""
    try:
        with open_at_once(path) as file:
            for place in places:
                file.seek(place)
                yield file.readline()
    except OSError as error:
        raise _unreadable(printable(path), error) from error


def _lines(path: Path, name: str) -> Iterator[bytes]:
    try:
        with open_at_once(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise LimitError(f"{name}: a line has over {MAX_LINE_BYTES >> 20} MiB, the limit")
                yield line
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: OSError | ValueError) -> ConfigError:
    reason = printable(getattr(error, "strerror", None) or error)
    return ConfigError(f"{name}: cannot be read ({reason})")


def _damage(place: str) -> ConfigError:
    return ConfigError(f"{place}: is damaged; restore the file, or remove this line to label its photo again")


def _body_of(line: bytes, place: str) -> str:
    """Return the JSON of a line, if its checksum is right."""
    try:
        text = line.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise _damage(place) from error
    start, end = text[:14], text[13 : 13 + CHECKSUM_DIGITS]
    body = text[13 + CHECKSUM_DIGITS + 9 : -1]
    framed = f'{{"checksum":"{end}","line":{body}}}'
    if not start.startswith('{"checksum":"') or framed != text or _checksum(body) != end:
        raise _damage(place)
    return body


def _read_head(record: dict[str, Any], place: str) -> Head:
    check(record, HEAD, f"{place}: is not a record's first line")
    categories = tuple(Category(one["id"], one["name"]) for one in record["categories"])
    return Head(categories, record["provenance"])


def record_to_photo(record: dict[str, Any], place: str) -> LabelledPhoto:
    """Turn a photo's record into the photo.

    Raises:
        ConfigError: names the field and what is wrong with it.
    """
    check(record, PHOTO, place)
    return _make_photo(record, place)


def _make_photo(record: dict[str, Any], place: str) -> LabelledPhoto:
    height, width = record["size"]
    objects = tuple(
        _record_to_object(one, (height, width), f"{place}: objects[{i}]")
        for i, one in enumerate(record["objects"])
    )
    more = {key: record[key] for key in ("sha256", "file_bytes", "source", "look", "split") if key in record}
    remarks: Sequence[str] = record.get("remarks", ())
    return LabelledPhoto(
        record["file_name"], (height, width), objects, record["id"], remarks=tuple(remarks), **more
    )


def _record_to_object(record: dict[str, Any], size: tuple[int, int], place: str) -> LabelledObject:
    mask = None if record.get("mask") is None else dict_to_rle(record["mask"])
    if mask is not None and mask.size != size:
        raise ConfigError(f"{place}.mask: is {mask.size}, the photo {size}; they must agree")
    return LabelledObject(
        record["label"],
        check_box_in(record["box"], size, f"{place}.box"),
        mask,
        record.get("score"),
        record.get("iscrowd", False),
        record["id"],
        record.get("area"),
        record.get("facts", {}),
    )
