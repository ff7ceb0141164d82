"""What a data set is, whatever file it came from: photos, and in each the objects that a person or program labelled.

A reader makes a :class:`Dataset` from files, a writer makes files from it; no format knows about another.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.core.schema import OneOf
from mobilesam.core.text import printable, shortened
from mobilesam.formats.coco import UNNAMED as UNNAMED
from mobilesam.formats.stored import Stored

ID_BITS = 52  # of numbers made from names: evaluators keep ids as doubles
SPLITS = ("train", "val", "test")
SPLIT = OneOf(("", *SPLITS))

Box = tuple[float, float, float, float]
# A set's file: its name and its content. That may be pieces, which are taken before the next file is asked for.
File = tuple[str, bytes | Iterable[bytes]]


@dataclass(frozen=True)
class Category:
    """What kind an object can be: a number, which files refer to, and a name."""

    id: int
    name: str


@dataclass(frozen=True)
class LabelledObject:
    """One object of a photo.

    Attributes:
        label: name of its category.
        box: x0, y0, x1, y1 in pixels, far edges exclusive.
        mask: of the photo's size; None if only the box is known.
        score: how sure its finder is, 0..1; None for human labels.
        iscrowd: whether it stands for a group of things that were not told apart.
        id: stays the same from format to format, if they have one.
        area: the one that the file states, if it does.
        facts: what else is known by name, such as ``predicted_iou``; numbers, texts and lists of these.
    """

    label: str
    box: Box
    mask: Rle | None = field(default=None, repr=False)
    score: float | None = None
    iscrowd: bool = False
    id: int = 0
    area: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pixels(self) -> float:
        """The area: what the file states, otherwise the mask's, otherwise the box's."""
        if self.area is not None:
            return self.area
        if self.mask is not None:
            return float(self.mask.area)
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo with its objects.

    Attributes:
        file_name: below the set's folder of photos, with ``/`` between folders.
        size: (height, width) of the upright image.
        objects: what is in it.
        id: its number.
        sha256: of the file, in hexadecimal digits; empty if not taken.
        file_bytes: length of the file; 0 if not taken.
        split: ``train``, ``val``, ``test`` or empty.
        source: where the set got it from, or empty.
        look: sixteen hexadecimal digits that photos which look alike share except for a few bits; empty if
        not taken.
        remarks: what was said about it when it was labelled.
        ignored: pixels that nobody decided on, which count in no score; None without any.
        stored: where the photo's bytes are if it is no file of its own.
    """

    file_name: str
    size: Size
    objects: tuple[LabelledObject, ...] = ()
    id: int = 0
    sha256: str = ""
    file_bytes: int = 0
    split: str = ""
    source: str = ""
    look: str = ""
    remarks: tuple[str, ...] = ()
    ignored: Rle | None = field(default=None, repr=False)
    stored: Stored | None = None

    @property
    def stem(self) -> str:
        """The file's name without its suffix, folders included: the name of its files of labels."""
        return str(Path(self.file_name).with_suffix("").as_posix())


class StoredPhotos(Sequence[LabelledPhoto]):
    """Photos that are not in memory: each is read when it is asked for."""

    @abstractmethod
    def heads(self) -> Iterator[LabelledPhoto]:
        """Yield the photos without their objects, which takes less time."""


@dataclass(frozen=True)
class Dataset:
    """Photos with labels.

    Attributes:
        photos: in the order of the files. They may be read from a disk each time that they are gone through.
        categories: in the order of their numbers; every label is the name of one.
        root: folder that the photos' names are below; None if it is not known.
        provenance: how the labels came about: model, SHA-256 of its weights, options.
        remarks: what a reader left out, or had to take for granted.
    """

    photos: Sequence[LabelledPhoto]
    categories: tuple[Category, ...]
    root: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def category_ids(self) -> dict[str, int]:
        """The number of each category by its name."""
        return {one.name: one.id for one in self.categories}

    @property
    def class_numbers(self) -> dict[str, int]:
        """The place of each category among all, from 0, by its name: YOLO's numbers."""
        return {one.name: i for i, one in enumerate(self.categories)}

    def path(self, photo: LabelledPhoto) -> Path:
        """Return where a photo lies.

        Raises:
            ConfigError: if that is not known.
        """
        if self.root is None:
            raise ConfigError(f"{printable(photo.file_name)}: the labels do not say where it lies")
        return self.root / photo.file_name

    @property
    def splits(self) -> list[str]:
        """The splits that the set has, ``train`` first; empty without any."""
        there = {photo.split for photo in self.heads} - {""}
        return sorted(there, key=SPLITS.index)

    @property
    def heads(self) -> Iterable[LabelledPhoto]:
        """The photos; without their objects, where these would have to be read from a disk."""
        return self.photos.heads() if isinstance(self.photos, StoredPhotos) else self.photos


def number_of(*parts: object) -> int:
    """Return a number from 1 that depends only on names, so that it is the same in every run and set.

    Example:
        >>> number_of("a.jpg") == number_of("a.jpg") != number_of("b.jpg")
        True
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - ID_BITS)) or 1


def split_of(sha256: str, val: float) -> str:
    """Return ``val`` for about this share of all photos, and ``train`` for the rest, by their content alone.

    Example:
        >>> split_of("00" * 32, 0.2), split_of("ff" * 32, 0.2), split_of("00" * 32, 0)
        ('val', 'train', '')
    """
    if not val:
        return ""
    return "val" if int(sha256[:8], 16) / 2**32 < val else "train"


def numbered(photo: LabelledPhoto) -> LabelledPhoto:
    """Return a photo with numbers for itself and for those of its objects that have none."""
    objects = tuple(
        one if one.id else replace(one, id=number_of(photo.file_name, i))
        for i, one in enumerate(photo.objects)
    )
    return replace(photo, id=photo.id or number_of(photo.file_name), objects=objects)


def make_dataset(
    photos: Iterable[LabelledPhoto],
    labels: Sequence[str | Category] = (),
    *,
    root: Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    remarks: Iterable[str] = (),
) -> Dataset:
    """Return a data set in which everything has a number and each number occurs once.

    Args:
        photos: with their objects.
        labels: categories in their order; labels that are missing there follow in alphabetical order.
        root: folder of the photos.
        provenance: see :class:`Dataset`.
        remarks: see :class:`Dataset`.
    """
    named = [numbered(photo) for photo in photos]
    known = [one if isinstance(one, Category) else Category(i, one) for i, one in enumerate(labels, start=1)]
    categories = all_categories(known, {one.label for photo in named for one in photo.objects})
    return Dataset(_once(named), categories, root, dict(provenance or {}), tuple(remarks))


def all_categories(known: Sequence[Category], labels: Iterable[str]) -> tuple[Category, ...]:
    """Return the known categories, and after them those of other labels in alphabetical order."""
    others = sorted(set(labels) - {one.name for one in known})
    first = max((one.id for one in known), default=0) + 1
    return (*known, *(Category(first + i, name) for i, name in enumerate(others)))


def _once(photos: Sequence[LabelledPhoto]) -> tuple[LabelledPhoto, ...]:
    images, objects = Numbers(), Numbers()
    kept = []
    for photo in photos:
        own = tuple(replace(one, id=objects.take(one.id)) for one in photo.objects)
        kept.append(replace(photo, id=images.take(photo.id), objects=own))
    return tuple(kept)


class Numbers:
    """Gives anything that shares a number with something before it the next free one.

    Args:
        unique: numbers that are known to occur once, so that none of them need be remembered.
    """

    def __init__(self, unique: bool = False) -> None:
        self._taken: set[int] | None = None if unique else set()

    def take(self, number: int) -> int:
        """Return a number, or the next free one."""
        if self._taken is None:
            return number
        while number in self._taken:
            number += 1
        self._taken.add(number)
        return number


def occur_once(numbers: array[int]) -> bool:
    """Whether no number is there twice."""
    ordered = np.sort(np.asarray(numbers))
    return not (ordered[1:] == ordered[:-1]).any()


def box_of(mask: Rle) -> Box:
    """Return the tight box of a mask."""
    x0, y0, x1, y1 = mask_to_box(rle_to_mask(mask))
    return float(x0), float(y0), float(x1), float(y1)


def check_box_in(box: Sequence[float], size: Size, place: str) -> Box:
    """Return a box (x0, y0, x1, y1) as floats, cut at the photo's edges.

    Raises:
        ConfigError: if it lies elsewhere, or its corners are in the wrong order.
    """
    height, width = size
    x0, y0, x1, y1 = map(float, box)
    far = not (-width <= x0 and -height <= y0 and x1 <= 2 * width and y1 <= 2 * height)
    if not np.isfinite([x0, y0, x1, y1]).all() or far or x1 < x0 or y1 < y0:
        raise ConfigError(
            f"{place}: is {x0:g}, {y0:g}, {x1:g}, {y1:g}; must be x0, y0, x1, y1 in the photo of {width} x {height}"
        )
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def check_name(label: object, place: str) -> str:
    """Return a category's name, checked.

    Raises:
        ConfigError: if it is not valid.
    """
    text = str(label).strip()
    if not text or len(text) > 256 or any(ord(c) < 32 or "\ud800" <= c <= "\udfff" for c in text):
        raise ConfigError(f"{place}: is {shortened(text)}; must be a name of 1 to 256 characters in one line")
    return text
