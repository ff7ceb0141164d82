"""CVAT's own export, "CVAT for images 1.1": one ``annotations.xml`` for all photos. It is read, not written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError
from mobilesam.core.rle import Rle, mask_to_rle, rle_union
from mobilesam.core.text import shortened
from mobilesam.formats.datasets.files import MAX_TEXT_BYTES, number_in, read_xml
from mobilesam.formats.datasets.model import (
    Dataset,
    LabelledObject,
    LabelledPhoto,
    box_of,
    check_box_in,
    check_name,
    make_dataset,
)
from mobilesam.formats.datasets.shapes import check_ring, fill_rings
from mobilesam.formats.file_names import file_below, open_at_once
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.formats.image_bytes import shown

NAME = "annotations.xml"
READ = ("box", "polygon", "mask")
OTHERS = ("polyline", "points", "ellipse", "cuboid", "skeleton", "tag")


def _file_of(path: Path) -> Path:
    return path / NAME if path.is_dir() else path


def recognise(path: Path) -> bool:
    """Whether a folder has such a file, or a file is one."""
    file = _file_of(path)
    try:
        with open_at_once(file) as opened:
            return b"<annotations>" in opened.read(2**12)
    except OSError:
        return False


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read such a file; shapes without an area are left out, and a remark says so."""
    file = _file_of(path)
    name = shown(str(file))
    root = read_xml(file, max_bytes=MAX_TEXT_BYTES)
    if root.tag != "annotations":
        raise ConfigError(f"{name}: is <{shortened(root.tag)}>; CVAT's export for images is <annotations>")
    if root.find("track") is not None:
        raise ConfigError(f"{name}: holds tracks of a video; export it as 'CVAT for images 1.1'")
    folder = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    labels = [
        check_name(label.text or "", f"{name}: label") for label in root.iterfind("meta//labels/label/name")
    ]
    left_out: Counter[str] = Counter()
    photos = []
    for i, element in enumerate(root.iterfind("image")):
        place = f"{name}: image[{i}]"
        file_name = element.get("name", "")
        file_below(
            folder, file_name, follow_symlinks=follow_symlinks, place=f"{place}.name", fail=ConfigError
        )
        size = (int(number_in(element, "height", place)), int(number_in(element, "width", place)))
        if not (size[0] > 0 and size[1] > 0 and size[0] * size[1] <= MAX_PIXELS):
            raise ConfigError(f"{place}: is {size[1]} x {size[0]}; must be 1 to {MAX_PIXELS:,} pixels")
        left_out.update(one.tag for one in element if one.tag in OTHERS)
        photos.append(
            LabelledPhoto(
                file_name,
                size,
                _read_objects(element, size, place),
                split=_split(element.get("subset", "")),
            )
        )
    told = ", ".join(f"{count} of type {kind}" for kind, count in sorted(left_out.items()))
    remarks = [f"shapes without an area are left out: {told}"] if told else []
    return make_dataset(photos, list(dict.fromkeys(labels)), root=folder, remarks=remarks)


def _split(subset: str) -> str:
    return {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}.get(
        subset.lower(), ""
    )


def _read_objects(element: ElementTree.Element, size: Size, place: str) -> tuple[LabelledObject, ...]:
    """Return a photo's objects: polygons and masks of one group and label are parts of one object."""
    groups: dict[tuple, list[LabelledObject]] = {}
    for i, shape in enumerate(element):
        if shape.tag not in READ:
            continue
        one = _read_shape(shape, size, f"{place}.{shape.tag}[{i}]")
        group = shape.get("group_id") or "0"
        alone = group == "0" or one.mask is None
        groups.setdefault(("alone", str(i)) if alone else (group, one.label), []).append(one)
    return tuple(_join(parts) for parts in groups.values())


def _join(parts: list[LabelledObject]) -> LabelledObject:
    if len(parts) == 1:
        return parts[0]
    mask = rle_union([part.mask for part in parts if part.mask is not None])
    return LabelledObject(parts[0].label, box_of(mask), mask)


def _read_shape(shape: ElementTree.Element, size: Size, place: str) -> LabelledObject:
    label = check_name(shape.get("label", ""), f"{place}.label")
    if shape.tag == "box":
        if abs(float(shape.get("rotation") or 0)) > 1e-6:
            raise ConfigError(f"{place}: is rotated; boxes are upright, draw a polygon")
        corners = [number_in(shape, key, place) for key in ("xtl", "ytl", "xbr", "ybr")]
        return LabelledObject(label, check_box_in(corners, size, place))
    if shape.tag == "mask":
        mask = _read_mask(shape, size, place)
        return LabelledObject(label, box_of(mask), mask)
    try:
        pairs = [[float(v) for v in point.split(",")] for point in shape.get("points", "").split(";")]
        ring = check_ring(np.array(pairs), size, f"{place}.points")
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{place}.points: must be x,y;x,y;... ") from None
    filled = fill_rings([ring], size)
    if not filled.area:
        return LabelledObject(label, check_box_in([*ring.min(0), *ring.max(0)], size, place))
    return LabelledObject(label, box_of(filled), filled)


def _read_mask(shape: ElementTree.Element, size: Size, place: str) -> Rle:
    """Return the mask whose runs are listed row by row in its box, background first."""
    x, y, width, height = (int(number_in(shape, key, place)) for key in ("left", "top", "width", "height"))
    inside = 0 <= x and 0 <= y and 0 < width and 0 < height and x + width <= size[1] and y + height <= size[0]
    if not inside:
        raise ConfigError(f"{place}: its box is {width} x {height} at {x}, {y}; must lie in the photo")
    try:
        runs = np.array([int(value) for value in shape.get("rle", "").split(",")], np.int64)
    except (ValueError, OverflowError):
        raise ConfigError(f"{place}.rle: must be whole numbers joined by commas") from None
    if (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        raise ConfigError(f"{place}.rle: the runs must add up to {width} x {height}")
    window = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    whole = np.zeros(size, bool)
    whole[y : y + height, x : x + width] = window
    return mask_to_rle(whole)
