"""LabelMe's JSON: a file for each photo, with shapes; files of its forks are read too.

Parts of one object share a ``group_id``. An object with holes is a shape of type ``mask``: a picture in base64
in its box, which LabelMe has since 5.2, because its polygons have no holes.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError, MobileSamError
from mobilesam.core.rle import Rle, mask_to_rle, rle_to_mask, rle_union
from mobilesam.core.schema import Array, Either, OrNull, Real, Record, Text, Whole, check
from mobilesam.core.text import shortened
from mobilesam.formats.datasets.files import MAX_SMALL_BYTES, files_below
from mobilesam.formats.datasets.model import (
    SPLIT,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    box_of,
    check_box_in,
    check_name,
    make_dataset,
)
from mobilesam.formats.datasets.shapes import check_ring, fill_rings, fitting_polygons
from mobilesam.formats.file_names import open_at_once
from mobilesam.formats.image import MAX_PIXELS, decode_mask, image_to_png
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file

FOLDER, VERSION = "labelme", "5.5.0"
DECIMALS = 2
SHAPE = Record(
    {
        "label": Text(1),
        "points": Array(Array(Real(), 2, 2), 1),
        "shape_type": Text(),
        "group_id": OrNull(Either({int: Whole(), str: Text()})),
        "mask": OrNull(Text()),
        "flags": OrNull(Record({}, open=True)),
    },
    required=("label", "points"),
    open=True,
)
FILE = Record(
    {
        "imagePath": Text(1),
        "imageHeight": Whole(1, MAX_PIXELS),
        "imageWidth": Whole(1, MAX_PIXELS),
        "shapes": Array(SHAPE),
        "split": SPLIT,
    },
    required=("imagePath", "imageHeight", "imageWidth", "shapes"),
    open=True,
)


def recognise(path: Path) -> bool:
    """Whether a file is such JSON, or the first JSON files of a folder are."""
    files = [path] if path.is_file() else files_below(path, _is_json)[:3]
    return any(_looks_like(file) for file in files if _is_json(file))


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _looks_like(path: Path) -> bool:
    """Whether the file has the two fields at its beginning or its end; the photo itself may be between them."""
    try:
        with open_at_once(path) as file:
            begin = file.read(2**14)
            file.seek(max(0, path.stat().st_size - 2**14))
            text = begin + file.read(2**14)
    except OSError:
        return False
    return b'"shapes"' in text and b'"imagePath"' in text


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read the files below a folder, or one file."""
    path = path / FOLDER if (path / FOLDER).is_dir() else path
    files = [path] if path.is_file() else files_below(path, _is_json, follow_symlinks=follow_symlinks)
    folder = path if path.is_dir() else path.parent
    photos, skipped, roots = [], [], set()
    for file in files:
        name = shown(str(file))
        content = read_json_file(
            file, name, max_bytes=4 * MAX_SMALL_BYTES, fail=lambda message, code: ConfigError(message)
        )
        if not (isinstance(content, dict) and "shapes" in content):
            skipped.append(file.name)
            continue
        check(content, FILE, f"{name}: not a LabelMe file")
        photo, root = _read_photo(content, file, folder, name)
        photos.append(photo)
        roots.add(root)
    if not photos:
        raise ConfigError(f"{shown(str(path))}: holds no LabelMe file; they are .json files with shapes")
    remarks = [f"{len(skipped)} other JSON files skipped, the first is {skipped[0]}"] if skipped else []
    root = roots.pop() if len(roots) == 1 else folder
    return make_dataset(photos, root=root, remarks=remarks)


def _read_photo(content: dict[str, Any], file: Path, folder: Path, name: str) -> tuple[LabelledPhoto, Path]:
    """Return a photo with its objects, and the folder that its name is below.

    The name is that of the file of labels, with the photo's suffix; ``imagePath`` says where the photo lies.
    """
    size = (content["imageHeight"], content["imageWidth"])
    path = content["imagePath"].replace("\\", "/")
    file_name = file.relative_to(folder).with_suffix(Path(path).suffix).as_posix()
    place = Path(os.path.normpath(file.parent / path))
    root = place
    for _ in Path(file_name).parts:
        root = root.parent
    if (root / file_name) != place:
        root = folder
    groups: dict[Any, list[tuple[dict[str, Any], Rle | None, tuple]]] = {}
    for i, shape in enumerate(content["shapes"]):
        where = f"{name}: shapes[{i}]"
        mask, box = _read_shape(shape, size, where)
        group = shape.get("group_id")
        key = ("alone", i) if group is None else (group, shape["label"])
        groups.setdefault(key, []).append((shape, mask, box))
    objects = tuple(_join(shapes, f"{name}: shapes") for shapes in groups.values())
    return LabelledPhoto(file_name, size, objects, split=content.get("split", "")), root


def _join(shapes: list[tuple[dict[str, Any], Rle | None, tuple]], place: str) -> LabelledObject:
    """Make one object from the shapes of a group."""
    first = shapes[0][0]
    masks = [mask for _, mask, _ in shapes if mask is not None]
    mask = None if not masks else masks[0] if len(masks) == 1 else rle_union(masks)
    boxes = np.array([box for _, _, box in shapes])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    score = first.get("score")
    flags = first.get("flags") or {}
    return LabelledObject(
        check_name(first["label"], place),
        box_of(mask) if mask is not None and mask.area else box,
        mask,
        float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None,
        bool(flags.get("iscrowd", False)),
    )


def _read_shape(shape: dict[str, Any], size: Size, place: str) -> tuple[Rle | None, tuple]:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    least = {"polygon": 3, "rectangle": 2, "mask": 2, "circle": 2}.get(kind)
    if least is None:
        raise ConfigError(
            f"{place}.shape_type: is {shortened(kind)}; shapes that are read are polygon, rectangle, circle and mask"
        )
    ring = check_ring(np.array(points), size, f"{place}.points", least=least)
    if kind == "mask":
        mask = _read_mask(shape.get("mask"), ring, size, f"{place}.mask")
        return mask, box_of(mask)
    if kind == "rectangle":
        box = (*ring.min(0).tolist(), *ring.max(0).tolist())
        return None, check_box_in(box, size, f"{place}.points")
    if kind == "circle":
        (x, y), radius = ring[0], float(np.hypot(*(ring[1] - ring[0])))
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
        check_ring(ring, size, f"{place}.points")
    mask = fill_rings([ring], size)
    box = box_of(mask) if mask.area else (*ring.min(0).tolist(), *ring.max(0).tolist())
    return (mask if mask.area else None), check_box_in(box, size, f"{place}.points")


def _read_mask(text: str | None, ring: np.ndarray, size: Size, place: str) -> Rle:
    """Put a picture in base64 into its box."""
    try:
        data = base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{place}: is not base64") from error
    try:
        window = decode_mask(data, name=place)
    except MobileSamError as error:
        raise ConfigError(str(error)) from error
    x, y = (round(float(value)) for value in ring.min(0))
    height, width = window.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise ConfigError(f"{place}: is {width} x {height} at {x}, {y}; reaches beyond the photo")
    whole = np.zeros(size, bool)
    whole[y : y + height, x : x + width] = window
    return mask_to_rle(whole)


def write(dataset: Dataset) -> Iterator[File]:
    """Yield a file for each photo, in ``labelme/``; it names the photo in ``images/`` beside that folder."""
    for photo in dataset.photos:
        up = "../" * (1 + photo.file_name.count("/"))
        document = photo_to_document(photo, f"{up}images/{photo.file_name}")
        yield f"{FOLDER}/{photo.stem}.json", (json.dumps(document, indent=1) + "\n").encode()


def photo_to_document(photo: LabelledPhoto, image_path: str) -> dict[str, Any]:
    """Return the content of a photo's file; ``image_path`` leads from it to the photo."""
    shapes = [
        shape for group, one in enumerate(photo.objects, start=1) for shape in _object_to_shapes(one, group)
    ]
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": photo.size[0],
        "imageWidth": photo.size[1],
    } | ({"split": photo.split} if photo.split else {})


def _object_to_shapes(one: LabelledObject, group: int) -> list[dict[str, Any]]:
    def shape(kind: str, points: np.ndarray, group_id: int | None = None, **more: Any) -> dict[str, Any]:
        rounded = [[round(float(x), DECIMALS), round(float(y), DECIMALS)] for x, y in points]
        flags = {"iscrowd": True} if one.iscrowd else {}
        score = {} if one.score is None else {"score": one.score}
        base = {"label": one.label, "points": rounded, "group_id": group_id, "description": ""}
        return {**base, "shape_type": kind, "flags": flags, **score, **more}

    corners = np.array(one.box).reshape(2, 2)
    if one.mask is None or not one.mask.area:
        return [shape("rectangle", corners)]
    polygons = fitting_polygons(one.mask)
    if any(polygon.holes for polygon in polygons):
        x0, y0, x1, y1 = map(int, box_of(one.mask))
        window = rle_to_mask(one.mask)[y0:y1, x0:x1]
        text = base64.b64encode(image_to_png(window)).decode()
        return [shape("mask", np.array([[x0, y0], [x1 - 1, y1 - 1]]), mask=text)]
    group_id = group if len(polygons) > 1 else None
    return [shape("polygon", polygon.exterior, group_id) for polygon in polygons]
