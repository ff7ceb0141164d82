"""COCO instance files: one JSON file for a folder of photos, also as Roboflow and CVAT export it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobilesam.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.schema import Array, Either, Flag, OneOf, OrNull, Real, Record, Text, Whole, check
from mobilesam.core.text import shortened
from mobilesam.formats.coco import (
    CORNERS,
    MAX_SET_BYTES,
    SET_IMAGE,
    SET_RUNS,
    UNNAMED,
    WORDS,
    SetPhoto,
    record_to_instance,
)
from mobilesam.formats.datasets.model import (
    SPLITS,
    Category,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    check_box_in,
    check_name,
    make_dataset,
)
from mobilesam.formats.datasets.shapes import fitting_polygons, rings_of
from mobilesam.formats.file_names import file_below, is_file, open_at_once
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file
from mobilesam.storage.spool import Spool

NAME = "instances.json"
ROBOFLOW = "_annotations.coco.json"
SCORES = ("predicted_iou", "stability_score", "text_score")
DECIMALS = 2  # of a polygon's coordinates

ANNOTATION = Record(
    {
        "id": Whole(),
        "image_id": Whole(),
        "category_id": WORDS,
        "original_category": WORDS,
        "segmentation": OrNull(Either({dict: SET_RUNS, list: Array(Array(Real(), 2 * CORNERS))})),
        "bbox": Array(Real(), 4, 4),
        "area": Real(0),
        "score": Real(),
        "iscrowd": Either({int: OneOf((0, 1)), bool: Flag()}),
    },
    required=("image_id", "bbox"),
    open=True,
)
CATEGORY = Record({"id": Whole(), "name": Text(1)}, required=("id", "name"), open=True)
FILE = Record(
    {"images": Array(SET_IMAGE), "annotations": Array(ANNOTATION), "categories": Array(CATEGORY)},
    required=("images", "annotations"),
    open=True,
)


def recognise(path: Path) -> list[tuple[Path, str]]:
    """Return the instance files of a folder, or the file itself, each with its split; perhaps none."""
    if path.is_file():
        return [(path, "")] if path.suffix.lower() == ".json" and _looks_like(path) else []
    if (path / NAME).is_file():
        return [(path / NAME, "")]
    found = [(path / ROBOFLOW, "")] if (path / ROBOFLOW).is_file() else []
    for folder, split in (("train", "train"), ("valid", "val"), ("val", "val"), ("test", "test")):
        if (path / folder / ROBOFLOW).is_file():
            found.append((path / folder / ROBOFLOW, split))
    if found:
        return found
    files = sorted(path.glob("annotations/*.json")) or sorted(path.glob("*.json"))
    return [(file, _split_in(file.stem)) for file in files if _looks_like(file)]


def _looks_like(path: Path) -> bool:
    """Whether a file begins like an instance file; it may be too large to read it all for that."""
    try:
        with open_at_once(path) as file:
            begin = file.read(2**16).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError:
        return False
    words = (b'"images"', b'"annotations"', b'"categories"')
    return begin.startswith(b"{") and any(word in begin for word in words) and b'"shapes"' not in begin


def _known_split(value: Any) -> str:
    return value if value in SPLITS else ""


def _split_in(stem: str) -> str:
    name = stem.lower()
    return next((split for split in ("train", "val", "test") if split in name), "")


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read the instance files of a folder, or one file, as one set."""
    files = recognise(path)
    if not files:
        raise ConfigError(f"{shown(str(path))}: holds no COCO instance file; give the file or its folder")
    base = path if path.is_dir() else path.parent
    photos: list[LabelledPhoto] = []
    categories: dict[str, Category] = {}
    for file, split in files:
        part, own, root = _read_file(file, split, follow_symlinks)
        if len(files) > 1:
            part = [replace(one, file_name=_below(base, root, one.file_name)) for one in part]
        photos += part
        for one in own:
            categories.setdefault(one.name, one)
    in_order: list[Category] = sorted(categories.values(), key=lambda one: one.id)
    return make_dataset(photos, in_order, root=base if len(files) > 1 else root)


def _below(base: Path, root: Path, name: str) -> str:
    try:
        return (root / name).relative_to(base).as_posix()
    except ValueError:
        return name


def _root_of(file: Path, names: Sequence[str]) -> Path:
    """Return the folder that the photos lie in: ``images`` beside the file, the file's own, or as in COCO's own sets."""
    beside, split = file.parent, file.stem.removeprefix("instances_")
    candidates = [
        beside / "images",
        beside,
        beside.parent / "images",
        beside.parent / split,
        beside.parent / "images" / split,
        beside.parent,
    ]
    for folder in candidates[: None if file.name != NAME else 2]:
        with contextlib.suppress(ConfigError):
            if names and is_file(
                file_below(folder, names[0], follow_symlinks=True, place="", fail=ConfigError)
            ):
                return folder
    return candidates[0]


def _read_file(
    path: Path, split: str, follow_symlinks: bool
) -> tuple[list[LabelledPhoto], list[Category], Path]:
    """Return a file's photos and categories, and the folder that the photos lie in."""
    name = shown(str(path))
    content = read_json_file(
        path, name, max_bytes=MAX_SET_BYTES, fail=lambda message, code: ConfigError(message)
    )
    check(content, FILE, f"{name}: not a COCO instance file")
    root = _root_of(path, [record["file_name"] for record in content["images"]])
    photos = _read_photos(content["images"], name, root, follow_symlinks)
    categories = _read_categories(content.get("categories", []), content["annotations"], name)
    by_number = {one["id"]: str(one["name"]).strip() for one in content.get("categories", [])}
    objects: dict[int, list[LabelledObject]] = {number: [] for number in photos}
    seen: set[int] = set()
    for i, record in enumerate(content["annotations"]):
        place = f"{name}: annotations[{i}]"
        number = record.get("id")
        if number in seen:
            raise ConfigError(f"{place}.id: {number} is there twice; each annotation has an id of its own")
        if number is not None:
            seen.add(number)
        photo = photos.get(record["image_id"])
        if photo is None:
            raise ConfigError(f"{place}.image_id: is {record['image_id']}, and there is no such image")
        objects[record["image_id"]].append(_read_object(record, photo, by_number, place))
    labelled = [
        LabelledPhoto(
            record["file_name"],
            (record["height"], record["width"]),
            tuple(objects[record["id"]]),
            record["id"],
            split=split or _known_split(record.get("split")),
            sha256=str(record.get("sha256") or ""),
            source="" if record.get("source") is None else str(record["source"]),
        )
        for record in content["images"]
    ]
    return labelled, list(categories.values()), root


def _read_photos(
    records: list[dict[str, Any]], name: str, root: Path, follow_symlinks: bool
) -> dict[int, SetPhoto]:
    """Return the photos by their ids, without objects yet; each file has one id."""
    photos: dict[int, SetPhoto] = {}
    ids: dict[Path, int] = {}
    for i, record in enumerate(records):
        place, number = f"{name}: images[{i}]", record["id"]
        if number in photos:
            raise ConfigError(f"{place}.id: {number} is there twice; each image has an id of its own")
        pixels = record["width"] * record["height"]
        if pixels > MAX_PIXELS:
            raise LimitError(f"{place}: has {pixels:,} pixels; at most {MAX_PIXELS:,} are allowed")
        path = file_below(
            root,
            record["file_name"],
            follow_symlinks=follow_symlinks,
            place=f"{place}.file_name",
            fail=ConfigError,
        )
        if path in ids:
            raise ConfigError(
                f"{place}.file_name: {shortened(record['file_name'])} is the file of image {ids[path]} too; "
                "give a file one id, and its objects that one"
            )
        ids[path] = number
        photos[number] = SetPhoto(path, record["width"], record["height"])
    return photos


def _read_categories(
    records: list[dict[str, Any]], annotations: list[dict[str, Any]], name: str
) -> dict[str, Category]:
    """Return the categories by name; of several with the same name, as Roboflow writes them, the one in use.

    Roboflow's category 0 is the group of all others, and no object belongs to it.
    """
    used = {record.get("category_id") for record in annotations}
    categories: dict[str, Category] = {}
    for i, record in enumerate(records):
        label = check_name(record["name"], f"{name}: categories[{i}].name")
        if record["id"] == 0 and record.get("supercategory") == "none" and 0 not in used and len(records) > 1:
            continue
        before = categories.get(label)
        if before is None or before.id not in used:
            categories[label] = Category(record["id"], label)
    return categories


def _read_object(
    record: dict[str, Any], photo: SetPhoto, names: dict[int, str], place: str
) -> LabelledObject:
    label = names.get(record.get("category_id", -1))
    if label is None:
        if names and "category_id" in record:
            raise ConfigError(
                f"{place}.category_id: is {record['category_id']}, and there is no such category"
            )
        label = UNNAMED
    return record_to_object(record, photo, label, place)


def record_to_object(record: dict[str, Any], photo: SetPhoto, label: str, place: str) -> LabelledObject:
    """Turn COCO's record of an object into one with this label.

    Raises:
        ConfigError: names the field below ``place`` and what is wrong.
        LimitError: for what is too large.
    """
    size = (photo.height, photo.width)
    original = record.get("original_category")
    facts = {key: record[key] for key in (*SCORES, "facts") if key in record}
    facts |= facts.pop("facts", {}) or {}
    if original is not None:
        facts["original_category"] = original
    mask = None
    if record.get("segmentation"):
        mask = record_to_instance(record, photo, place).segmentation
    box = check_box_in(xywh_to_xyxy(tuple(record["bbox"])), size, f"{place}.bbox")
    return LabelledObject(
        label,
        box,
        mask,
        record.get("score"),
        bool(record.get("iscrowd", 0)),
        record.get("id", 0),
        record.get("area"),
        facts,
    )


def write(dataset: Dataset, *, polygons: bool = False) -> Iterator[File]:
    """Yield ``instances.json`` and, if the set is split, ``instances_train.json`` and so on.

    Args:
        dataset: what is written.
        polygons: masks as polygons, whose holes are reached by bridges; otherwise as runs, which are exact.
    """
    with ExitStack() as stack:
        spools = {split: stack.enter_context(Spool()) for split in dataset.splits}
        images = (_photo_to_record(photo) for photo in dataset.heads)
        annotations = _annotations(dataset, spools, polygons=polygons)
        yield NAME, _document(dataset, images, annotations)
        for split, spool in spools.items():
            images = (_photo_to_record(photo) for photo in dataset.heads if photo.split == split)
            yield f"instances_{split}.json", _document(dataset, images, spool.pieces())


def write_polygons(dataset: Dataset) -> Iterator[File]:
    """Yield the same as :func:`write`, with polygons."""
    return write(dataset, polygons=True)


def _document(
    dataset: Dataset, images: Iterable[dict[str, Any]], annotations: Iterable[bytes]
) -> Iterator[bytes]:
    """Yield a document record by record, as a large set has no place in memory.

    Args:
        dataset: what it is of.
        images: their records.
        annotations: pieces of the records' text, with commas between them.
    """
    head = "".join(f"{_to_json(key)}:{_to_json(value)}," for key, value in _info(dataset).items())
    yield f'{{{head}"images":['.encode()
    for number, record in enumerate(images):
        yield f"{',' if number else ''}{_to_json(record)}".encode()
    yield b'],"annotations":['
    yield from annotations
    yield f'],"categories":{_to_json(_categories(dataset))}}}\n'.encode()


def _annotations(dataset: Dataset, spools: Mapping[str, Spool], *, polygons: bool) -> Iterator[bytes]:
    """Yield the annotations photo by photo, and keep those of each split for its own document."""
    numbers = dataset.category_ids
    begun = False
    for photo in dataset.photos:
        records = (
            _object_to_record(one, photo.id, numbers[one.label], polygons=polygons) for one in photo.objects
        )
        text = ",".join(map(_to_json, records)).encode()
        if not text:
            continue
        yield b"," + text if begun else text
        begun = True
        if photo.split in spools:
            spool = spools[photo.split]
            spool.add(b"," + text if spool.length else text)


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def dataset_to_coco(dataset: Dataset) -> dict[str, Any]:
    """Return a set as COCO's document."""
    numbers = dataset.category_ids
    return {
        **_info(dataset),
        "images": [_photo_to_record(photo) for photo in dataset.photos],
        "annotations": [
            _object_to_record(one, photo.id, numbers[one.label], polygons=False)
            for photo in dataset.photos
            for one in photo.objects
        ],
        "categories": _categories(dataset),
    }


def _info(dataset: Dataset) -> dict[str, Any]:
    return {"info": {"provenance": dict(dataset.provenance)}} if dataset.provenance else {}


def _categories(dataset: Dataset) -> list[dict[str, Any]]:
    return [{"id": one.id, "name": one.name} for one in dataset.categories]


def _photo_to_record(photo: LabelledPhoto) -> dict[str, Any]:
    height, width = photo.size
    more = {
        key: value
        for key, value in (("source", photo.source), ("sha256", photo.sha256), ("split", photo.split))
        if value
    }
    return {"id": photo.id, "file_name": photo.file_name, "width": width, "height": height, **more}


def _object_to_record(one: LabelledObject, image_id: int, category: int, *, polygons: bool) -> dict[str, Any]:
    segmentation: Any = []
    if one.mask is not None:
        segmentation = one.mask.to_dict()
        if polygons and not one.iscrowd:
            rings = rings_of(fitting_polygons(one.mask))
            segmentation = [[_short(value) for value in ring.ravel()] for ring in rings]
    facts = {key: value for key, value in one.facts.items() if key in (*SCORES, "original_category")}
    others = {key: value for key, value in one.facts.items() if key not in facts}
    record = {
        "id": one.id,
        "image_id": image_id,
        "category_id": category,
        "segmentation": segmentation,
        "bbox": [_short(value) for value in xyxy_to_xywh(one.box)],
        "area": _short(one.pixels),
        "iscrowd": int(one.iscrowd),
        **facts,
    }
    if one.score is not None:
        record["score"] = one.score
    return record | ({"facts": others} if others else {})


def _short(value: float) -> int | float:
    rounded = round(float(value), DECIMALS)
    return int(rounded) if rounded == int(rounded) else rounded
