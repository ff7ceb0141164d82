"""SA-1B's form: a JSON file for each photo with run-length codes. It has no categories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilesam.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.rle import dict_to_rle
from mobilesam.core.schema import Array, Real, Record, Text, Whole, check
from mobilesam.formats.coco import SET_RUNS
from mobilesam.formats.datasets.files import MAX_SMALL_BYTES, files_below, photos_below
from mobilesam.formats.datasets.model import (
    UNNAMED,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    check_box_in,
    make_dataset,
)
from mobilesam.formats.file_names import file_below, open_at_once
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file

FOLDER = "sa1b"
FACTS = ("predicted_iou", "stability_score", "crop_box", "point_coords")
ANNOTATION = Record(
    {
        "id": Whole(),
        "segmentation": SET_RUNS,
        "bbox": Array(Real(), 4, 4),
        "area": Real(0),
        "predicted_iou": Real(),
        "stability_score": Real(),
        "crop_box": Array(Real(), 4, 4),
        "point_coords": Array(Array(Real(), 2, 2)),
    },
    required=("segmentation", "bbox"),
    open=True,
)
IMAGE = Record(
    {
        "image_id": Whole(),
        "width": Whole(1, MAX_PIXELS),
        "height": Whole(1, MAX_PIXELS),
        "file_name": Text(1),
    },
    required=("width", "height", "file_name"),
    open=True,
)
FILE = Record(
    {"image": IMAGE, "annotations": Array(ANNOTATION)}, required=("image", "annotations"), open=True
)


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def recognise(path: Path) -> bool:
    """Whether a file is such JSON, or the first JSON files of a folder are."""
    files = [path] if path.is_file() else files_below(path, _is_json)[:3]
    return any(_looks_like(file) for file in files if _is_json(file))


def _looks_like(path: Path) -> bool:
    try:
        with open_at_once(path) as file:
            file.seek(max(0, path.stat().st_size - 2**12))
            end = file.read(2**12)
            file.seek(0)
            text = file.read(2**12) + end
    except OSError:
        return False
    return b'"image"' in text and b'"annotations"' in text and b'"images"' not in text


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read the files below a folder, or one file; every object's category is ``object``."""
    path = path / FOLDER if (path / FOLDER).is_dir() else path
    files = [path] if path.is_file() else files_below(path, _is_json, follow_symlinks=follow_symlinks)
    folder = path if path.is_dir() else path.parent
    photos = []
    for file in files:
        name = shown(str(file))
        content = read_json_file(
            file, name, max_bytes=4 * MAX_SMALL_BYTES, fail=lambda message, code: ConfigError(message)
        )
        if not (isinstance(content, dict) and "image" in content):
            continue
        check(content, FILE, f"{name}: not SA-1B's JSON")
        photos.append(_read_photo(content, name, folder))
    if not photos:
        raise ConfigError(f"{shown(str(path))}: holds no JSON of SA-1B's form")
    places = (folder / "images", folder.parent / "images", folder)
    root = next((place for place in places if place.is_dir() and photos_below(place)), folder)
    return make_dataset(photos, root=root)


def _read_photo(content: dict[str, Any], name: str, folder: Path) -> LabelledPhoto:
    image = content["image"]
    size = (image["height"], image["width"])
    place = f"{name}: image.file_name"
    file_below(folder, image["file_name"], follow_symlinks=True, place=place, fail=ConfigError)
    objects = []
    for i, record in enumerate(content["annotations"]):
        where = f"{name}: annotations[{i}]"
        try:
            mask = dict_to_rle(record["segmentation"])
        except (ConfigError, LimitError) as error:
            raise type(error)(f"{where}.segmentation.{error}") from error
        if mask.size != size:
            raise ConfigError(f"{where}.segmentation: is {mask.size}, the photo {size}; they must agree")
        box = check_box_in(xywh_to_xyxy(tuple(record["bbox"])), size, f"{where}.bbox")
        facts = {key: record[key] for key in FACTS if key in record}
        objects.append(LabelledObject(UNNAMED, box, mask, area=record.get("area"), facts=facts))
    return LabelledPhoto(image["file_name"], size, tuple(objects), image.get("image_id", 0))


def write(dataset: Dataset) -> Iterator[File]:
    """Yield a file for each photo, in ``sa1b/``; objects without a mask are left out."""
    for photo in dataset.photos:
        height, width = photo.size
        image = {"image_id": photo.id, "width": width, "height": height, "file_name": photo.file_name}
        annotations = [_object_to_record(one, photo) for one in photo.objects if one.mask is not None]
        document = {"image": image, "annotations": annotations}
        yield f"{FOLDER}/{photo.stem}.json", (json.dumps(document) + "\n").encode()


def _object_to_record(one: LabelledObject, photo: LabelledPhoto) -> dict[str, Any]:
    assert one.mask is not None
    height, width = photo.size
    x0, y0, x1, y1 = one.box
    score = 1.0 if one.score is None else one.score
    unknown = {
        "predicted_iou": score,
        "stability_score": 1.0,
        "crop_box": [0, 0, width, height],
        "point_coords": [[(x0 + x1) / 2, (y0 + y1) / 2]],
    }
    return {
        "id": one.id,
        "segmentation": one.mask.to_dict(),
        "bbox": list(xyxy_to_xywh(one.box)),
        "area": one.pixels,
        **{key: one.facts.get(key, value) for key, value in unknown.items()},
    }
