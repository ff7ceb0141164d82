"""Sets as evaluation and training need them: photos that exist, with objects that have masks."""

from __future__ import annotations

import warnings
from pathlib import Path

from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError, SetWarning
from mobilesam.formats.coco import Instance, SetPhoto
from mobilesam.formats.datasets.coco import NAME
from mobilesam.formats.datasets.load import READABLE, read_dataset, recognise
from mobilesam.formats.datasets.model import Dataset, LabelledObject
from mobilesam.formats.file_names import is_file
from mobilesam.formats.image_bytes import shown


def read_photos(path: str | Path, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read a set in any format that is read.

    Args:
        path: a folder or a file of labels. ``instances.json`` comes first in a folder that has several formats.
        follow_symlinks: also follow links in the folder to files outside it.

    Raises:
        ConfigError: if it is not a set, names photos that do not exist, or does not follow its format.
        LimitError: for what is too large.

    Warns:
        SetWarning: for crowds and for objects without a mask, which are left out.
    """
    path = Path(path)
    own = path / NAME
    try:
        name = "coco" if is_file(own) else recognise(path)
    except ConfigError as error:
        raise ConfigError(
            f"{shown(str(path / NAME))}: not found; a set is a folder with {NAME} and images/, "
            f"or one in another format: {', '.join(READABLE)}"
        ) from error
    dataset = read_dataset(path, format=name, follow_symlinks=follow_symlinks)
    return dataset_to_photos(dataset, shown(str(own if is_file(own) else path)))


def dataset_to_photos(dataset: Dataset, name: str) -> list[SetPhoto]:
    """Turn a set into photos; see :func:`read_photos`."""
    missing = [photo for photo in dataset.photos if not (photo.stored or is_file(dataset.path(photo)))]
    if missing:
        first = shown(str(dataset.path(missing[0])))
        raise ConfigError(f"{name}: {len(missing)} of its photos are missing, the first is {first}")
    objects = [one for photo in dataset.photos for one in photo.objects]
    for count, what in (
        (sum(one.iscrowd for one in objects), "crowds mark groups, not objects"),
        (sum(one.mask is None and not one.iscrowd for one in objects), "objects have boxes, but no masks"),
    ):
        if count:
            warnings.warn(f"{name}: {count} {what}; they are left out", SetWarning, stacklevel=3)
    return [
        SetPhoto(
            dataset.path(photo),
            photo.size[1],
            photo.size[0],
            tuple(instance for one in photo.objects if (instance := _to_instance(one)) is not None),
            photo.source,
            photo.ignored,
            photo.stored,
        )
        for photo in dataset.photos
    ]


def _to_instance(one: LabelledObject) -> Instance | None:
    if one.mask is None or one.iscrowd:
        return None
    name = str(one.facts.get("original_category", one.label))
    return Instance(one.mask, name, xyxy_to_xywh(one.box), float(one.pixels))
