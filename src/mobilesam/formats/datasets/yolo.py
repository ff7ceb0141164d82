"""YOLO's sets: ``data.yaml``, and for each photo a text file with a line for each object.

A line is ``class x y w h`` (the middle and the sides of a box) or ``class x1 y1 x2 y2 ...`` (an outline), all in
0..1 of the photo's sides; a score may follow. The labels of ``images/a.jpg`` are ``labels/a.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import mask_ious
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.core.text import shortened
from mobilesam.formats.datasets.files import lines_of, photos_below, read_text
from mobilesam.formats.datasets.model import (
    UNNAMED,
    Box,
    Category,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    box_of,
    check_box_in,
    check_name,
    make_dataset,
)
from mobilesam.formats.datasets.shapes import LEAST_IOU, check_ring, fill_pixel_ring
from mobilesam.formats.datasets.yaml_lines import quoted, read_yaml
from mobilesam.formats.image import read_size
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.image_folder import resolved
from mobilesam.formats.yolo import mask_to_yolo_line

DATA, LABELS, IMAGES = "data.yaml", "labels", "images"
SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
BOX_NUMBERS = 4
TOLERANCES = (0.5, 0.0)  # pixels, the coarser first
SLACK = 1.0  # how far beyond the photo an outline may reach, in photos


def recognise(path: Path) -> bool:
    """Whether a folder is such a set, or a file its ``data.yaml``."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    if any(path.glob("*.yaml")) or any(path.glob("*.yml")) or (path / LABELS).is_dir():
        return True
    return any((path / name / LABELS).is_dir() for name in SPLIT_KEYS)


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read a set. The photos must be there, because their sizes are needed."""
    folder = path if path.is_dir() else path.parent
    settings = _read_settings(path)
    names = _read_names(settings.get("names", []), shown(str(path)))
    parts = _find_parts(folder, settings, follow_symlinks)
    photos, remarks = [], []
    highest = len(names) - 1
    for split, photo, labels in parts:
        size = read_size(photo)
        text = "" if labels is None else read_text(labels)
        objects = [_read_line(line, size, f"{shown(str(labels))}: line {n}") for n, line in lines_of(text)]
        highest = max([highest, *(number for number, _ in objects)])
        photos.append((split, photo, size, objects))
    if not photos:
        raise ConfigError(
            f"{shown(str(path))}: holds no photos of a YOLO set; they lie in images/ or in train/images/"
        )
    if highest >= len(names):
        if names:
            raise ConfigError(
                f"{shown(str(path))}: names: has {len(names)}, but labels have class {highest}; name them all"
            )
        names = [UNNAMED] if highest <= 0 else [f"class {i}" for i in range(highest + 1)]
        remarks.append("the classes have no names; they are numbered")
    labelled = [
        LabelledPhoto(
            photo.relative_to(folder).as_posix(),
            size,
            tuple(replace(one, label=names[number]) for number, one in objects),
            split=split,
        )
        for split, photo, size, objects in photos
    ]
    root, labelled = _without_images(folder, labelled)
    categories = [Category(i, name) for i, name in enumerate(names, start=1)]
    return make_dataset(labelled, categories, root=root, remarks=remarks)


def _without_images(folder: Path, photos: list[LabelledPhoto]) -> tuple[Path, list[LabelledPhoto]]:
    """Name photos by their paths below ``images``, if all of them lie there."""
    prefix = f"{IMAGES}/"
    if not all(photo.file_name.startswith(prefix) for photo in photos):
        return folder, photos
    return folder / IMAGES, [replace(one, file_name=one.file_name.removeprefix(prefix)) for one in photos]


def _read_settings(path: Path) -> dict[str, Any]:
    if path.is_dir():
        files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        named = [file for file in files if file.stem.lower() in ("data", "dataset")]
        chosen = (named or files)[:1]
        if not chosen:
            return {}
        path = chosen[0]
    return read_yaml(read_text(path), shown(str(path)))


def _read_names(value: Any, name: str) -> list[str]:
    """Return the classes' names in the order of their numbers."""
    if isinstance(value, str):
        return [] if not value else [check_name(value, f"{name}: names")]
    if isinstance(value, dict):
        try:
            numbers = {int(key): label for key, label in value.items()}
        except ValueError:
            raise ConfigError(f"{name}: names: the keys must be the classes' numbers") from None
        if sorted(numbers) != list(range(len(numbers))):
            raise ConfigError(f"{name}: names: must be numbered from 0 without gaps")
        value = [numbers[i] for i in range(len(numbers))]
    labels = [check_name(label, f"{name}: names[{i}]") for i, label in enumerate(value)]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"{name}: names: one is there twice; give each class a name of its own")
    return labels


def _find_parts(
    folder: Path, settings: dict[str, Any], follow_symlinks: bool
) -> list[tuple[str, Path, Path | None]]:
    """Return split, photo and labels of everything that a set has."""
    base = folder
    inner = str(settings.get("path", "") or "")
    if inner and (candidate := _inside(folder, inner)) is not None and candidate.is_dir():
        base = candidate
    found: dict[Path, tuple[str, Path | None]] = {}
    for key, split in SPLIT_KEYS.items():
        values = settings.get(key, [])
        for value in [values] if isinstance(values, str) else values:
            for photo in _photos_of(base, str(value), follow_symlinks):
                found.setdefault(photo, (split, _labels_of(base, photo, follow_symlinks)))
    if not found:
        places = [("", base / IMAGES)]
        places += [(split, base / key / IMAGES) for key, split in SPLIT_KEYS.items()]
        for split, place in places:
            for photo in (
                photos_below(place, follow_symlinks=follow_symlinks).values() if place.is_dir() else ()
            ):
                inner_split = SPLIT_KEYS.get(photo.relative_to(place).parts[0], "") if not split else split
                found.setdefault(photo, (inner_split, _labels_of(base, photo, follow_symlinks)))
    chosen = [(split, photo, labels) for photo, (split, labels) in found.items()]
    if {split for split, _, _ in chosen} == {"train"} and _one_for_all(settings):
        chosen = [("", photo, labels) for _, photo, labels in chosen]
    return sorted(chosen, key=lambda part: part[1])


def _one_for_all(settings: dict[str, Any]) -> bool:
    """Whether training and validation are the same photos, which is not a split."""
    return settings.get("train") == settings.get("val")


def _inside(folder: Path, value: str) -> Path | None:
    """Return what a path in ``data.yaml`` means below the set's folder; some exports begin it with ``../``."""
    parts = [part for part in value.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if Path(value).is_absolute():
        return None
    for start in range(len(parts) + 1):
        candidate = folder.joinpath(*parts[start:])
        if candidate.exists():
            return candidate
    return None


def _photos_of(base: Path, value: str, follow_symlinks: bool) -> list[Path]:
    place = _inside(base, value)
    if place is None:
        return []
    if place.is_dir():
        return list(photos_below(place, follow_symlinks=follow_symlinks).values()) if place != base else []
    listed = []
    for number, line in lines_of(read_text(place)):
        photo = _inside(place.parent, line)
        if photo is None or not photo.is_file():
            raise ConfigError(
                f"{shown(str(place))}: line {number}: is {shortened(line)}; must be a photo below the folder"
            )
        listed.append(photo)
    return listed


def _labels_of(base: Path, photo: Path, follow_symlinks: bool) -> Path | None:
    """Return a photo's labels, where the last ``images`` of its path becomes ``labels``; or those beside it."""

    def is_ours(labels: Path) -> bool:
        inside = follow_symlinks or resolved(base) in resolved(labels).parents
        return inside and labels.is_file()

    parts = list(photo.relative_to(base).with_suffix(".txt").parts)
    if IMAGES in parts:
        last = len(parts) - 1 - parts[::-1].index(IMAGES)
        parts[last] = LABELS
        labels = base.joinpath(*parts)
        if is_ours(labels):
            return labels
    beside = photo.with_suffix(".txt")
    return beside if is_ours(beside) else None


def _read_line(line: str, size: Size, place: str) -> tuple[int, LabelledObject]:
    """Return the class and the object of a line."""
    words = line.split()
    try:
        values = np.array(words[1:], np.float64)
        number = int(float(words[0]))
        if number != float(words[0]) or number < 0 or number > 100_000:
            raise ValueError
    except (ValueError, OverflowError):
        raise ConfigError(f"{place}: is {shortened(line)}; must be a class from 0 and numbers") from None
    if not np.isfinite(values).all():
        raise ConfigError(f"{place}: is {shortened(line)}; must be finite numbers")
    scored = len(values) % 2 == 1
    score = float(values[-1]) if scored else None
    values = values[:-1] if scored else values
    if len(values) == BOX_NUMBERS:
        return number, LabelledObject("", _to_box(values, size, place), score=score)
    if len(values) < 6 or np.abs(values).max() > 1 + SLACK:
        raise ConfigError(
            f"{place}: has {len(words)} numbers, or some beyond the photo; must be a class and x y w h, or x y of at "
            "least 3 points, in 0..1"
        )
    height, width = size
    ring = check_ring(values.reshape(-1, 2) * [width, height], size, place)
    mask = fill_pixel_ring(ring, size)
    box = box_of(mask) if mask.area else (*ring.min(0).tolist(), *ring.max(0).tolist())
    return number, LabelledObject("", check_box_in(box, size, place), mask if mask.area else None, score)


def _to_box(values: np.ndarray, size: Size, place: str) -> Box:
    height, width = size
    x, y, w, h = values * [width, height, width, height]
    return check_box_in([x - w / 2, y - h / 2, x + w / 2, y + h / 2], size, place)


def write(dataset: Dataset, *, boxes: bool = False) -> Iterator[File]:
    """Yield ``data.yaml``, the lists of the splits' photos, and the labels of each photo.

    Args:
        dataset: what is written; crowds are left out.
        boxes: boxes instead of outlines.
    """
    numbers = dataset.class_numbers
    splits = dataset.splits
    lists = {split: f"{split}.txt" for split in splits} or {"train": IMAGES, "val": IMAGES}
    lists.setdefault("train", lists.get("val", IMAGES))
    lists.setdefault("val", lists["train"])
    ordered = sorted(lists.items(), key=lambda item: ("train", "val", "test").index(item[0]))
    rows = [f"{split}: {value}" for split, value in ordered]
    classes = [f"  {number}: {quoted(name)}" for name, number in numbers.items()]
    # Without a path, which training would take as relative to where it runs, everything lies beside this file.
    yield DATA, "\n".join([*rows, "names:", *classes, ""]).encode()
    for split in splits:
        names = (photo.file_name for photo in dataset.heads if photo.split == split)
        yield f"{split}.txt", (f"./{IMAGES}/{name}\n".encode() for name in names)
    for photo in dataset.photos:
        lines = (
            _object_to_line(one, numbers[one.label], photo.size, boxes=boxes)
            for one in photo.objects
            if not one.iscrowd
        )
        yield f"{LABELS}/{photo.stem}.txt", "".join(f"{line}\n" for line in lines if line).encode()


def write_boxes(dataset: Dataset) -> Iterator[File]:
    """Yield the same as :func:`write`, with boxes."""
    return write(dataset, boxes=True)


def _mask_to_line(mask: Rle, number: int) -> str:
    """Return a mask's line, as coarse as possible while training still fills the mask."""
    array, (height, width) = rle_to_mask(mask), mask.size
    line = ""
    for tolerance in TOLERANCES:
        line = mask_to_yolo_line(array, number, tolerance=tolerance)
        ring = np.array(line.split()[1:], np.float64).reshape(-1, 2) * [width, height]
        if not len(ring) or mask_ious([fill_pixel_ring(ring, mask.size)], [mask])[0, 0] >= LEAST_IOU:
            break
    return line


def _object_to_line(one: LabelledObject, number: int, size: Size, *, boxes: bool) -> str:
    if not boxes and one.mask is not None:
        return _mask_to_line(one.mask, number)
    height, width = size
    x0, y0, x1, y1 = one.box
    middle_and_sides = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
    values = middle_and_sides / [width, height, width, height]
    return " ".join([str(number), *(f"{value:.7g}" for value in values)])
