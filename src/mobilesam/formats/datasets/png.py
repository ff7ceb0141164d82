"""Masks as black and white pictures, one for each object, and a list of what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilesam.core.errors import ConfigError, MobileSamError
from mobilesam.core.rle import Rle, mask_to_rle, rle_to_mask
from mobilesam.core.schema import Array, Flag, OneOf, OrNull, Real, Record, Text, Whole, check
from mobilesam.formats.coco import MAX_SET_BYTES
from mobilesam.formats.datasets.model import (
    SPLIT,
    Category,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    check_box_in,
    make_dataset,
)
from mobilesam.formats.file_names import file_below
from mobilesam.formats.image import MAX_PIXELS, image_to_png, read_mask
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file

FOLDER, LIST = "masks", "objects.json"
OBJECT = Record(
    {
        "file": OrNull(Text(1)),
        "id": Whole(1),
        "label": Text(1),
        "box": Array(Real(), 4, 4),
        "score": OrNull(Real()),
        "iscrowd": Flag(),
    },
    required=("label", "box"),
    open=True,
)
PHOTO = Record(
    {
        "file_name": Text(1),
        "id": Whole(1),
        "width": Whole(1, MAX_PIXELS),
        "height": Whole(1, MAX_PIXELS),
        "split": SPLIT,
        "objects": Array(OBJECT),
    },
    required=("file_name", "width", "height", "objects"),
    open=True,
)
FILE = Record(
    {
        "mobilesam_masks": OneOf((1,)),
        "categories": Array(Record({"id": Whole(), "name": Text(1)}, required=("id", "name"))),
        "photos": Array(PHOTO),
    },
    required=("mobilesam_masks", "categories", "photos"),
    open=True,
)


def _list_of(path: Path) -> Path | None:
    """Return the list of a folder's masks, if it has one."""
    candidates = [path] if path.is_file() else [path / FOLDER / LIST, path / LIST]
    return next((file for file in candidates if file.name == LIST and file.is_file()), None)


def recognise(path: Path) -> bool:
    """Whether a folder has such a list, or a file is one."""
    return _list_of(path) is not None


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read a list and its pictures."""
    file = _list_of(path)
    if file is None:
        raise ConfigError(f"{shown(str(path))}: has no {FOLDER}/{LIST}")
    name = shown(str(file))
    content = read_json_file(
        file, name, max_bytes=MAX_SET_BYTES, fail=lambda message, code: ConfigError(message)
    )
    check(content, FILE, f"{name}: not a list of masks")
    photos = [
        _read_photo(record, file.parent, f"{name}: photos[{i}]", follow_symlinks)
        for i, record in enumerate(content["photos"])
    ]
    categories = [Category(one["id"], one["name"]) for one in content["categories"]]
    return make_dataset(photos, categories, root=file.parent.parent / "images")


def _read_photo(record: dict[str, Any], folder: Path, place: str, follow_symlinks: bool) -> LabelledPhoto:
    size = (record["height"], record["width"])
    objects = []
    for i, one in enumerate(record["objects"]):
        where = f"{place}.objects[{i}]"
        mask = None
        if one.get("file") is not None:
            picture = file_below(
                folder,
                one["file"],
                follow_symlinks=follow_symlinks,
                place=f"{where}.file",
                fail=ConfigError,
            )
            mask = _read_mask(picture, size, f"{where}.file")
        box = check_box_in(one["box"], size, f"{where}.box")
        more = (one.get("score"), one.get("iscrowd", False), one.get("id", 0))
        objects.append(LabelledObject(one["label"], box, mask, *more))
    return LabelledPhoto(
        record["file_name"], size, tuple(objects), record.get("id", 0), split=record.get("split", "")
    )


def _read_mask(path: Path, size: tuple[int, int], place: str) -> Rle:
    try:
        mask = read_mask(path)
    except MobileSamError as error:
        raise ConfigError(f"{place}: {error}") from error
    if mask.shape != size:
        raise ConfigError(
            f"{place}: is {mask.shape[1]} x {mask.shape[0]}, the photo {size[1]} x {size[0]}; they must agree"
        )
    return mask_to_rle(mask)


def write(dataset: Dataset) -> Iterator[File]:
    """Yield ``masks/STEM/0001.png`` and so on for each photo, and ``masks/objects.json``."""
    for photo in dataset.photos:
        for i, one in enumerate(photo.objects, start=1):
            if one.mask is not None:
                yield f"{FOLDER}/{_file_of(photo, i)}", image_to_png(rle_to_mask(one.mask))
    yield f"{FOLDER}/{LIST}", _document(dataset)


def _file_of(photo: LabelledPhoto, number: int) -> str:
    return f"{photo.stem}/{number:04}.png"


def _document(dataset: Dataset) -> Iterator[bytes]:
    """Yield the list photo by photo, indented by a space for each level."""
    categories = [{"id": one.id, "name": one.name} for one in dataset.categories]
    text = json.dumps({"mobilesam_masks": 1, "categories": categories, "photos": []}, indent=1)
    yield text.removesuffix("]\n}").encode()
    before = "\n"
    for photo in dataset.photos:
        lines = json.dumps(_photo_to_record(photo), indent=1).splitlines()
        yield (before + "\n".join(f"  {line}" for line in lines)).encode()
        before = ",\n"
    yield b"]\n}\n" if before == "\n" else b"\n ]\n}\n"


def _photo_to_record(photo: LabelledPhoto) -> dict[str, Any]:
    objects = [
        {
            "file": None if one.mask is None else _file_of(photo, i),
            "id": one.id,
            "label": one.label,
            "box": list(one.box),
            "score": one.score,
            "iscrowd": one.iscrowd,
        }
        for i, one in enumerate(photo.objects, start=1)
    ]
    height, width = photo.size
    record = {"file_name": photo.file_name, "id": photo.id, "width": width, "height": height}
    return record | ({"split": photo.split} if photo.split else {}) | {"objects": objects}
