"""The directory of a TIFF file: its tags, read within bounds.

Any number of tags may claim the same bytes, and one tag may claim all of them, so a
decoder that reads every tag can be made to fill the memory from a small file. Here a
tag's values are read when they are asked for, and only as many as are needed.
"""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import dataclass

import numpy as np

from mobilesam.core.errors import LimitError

MAX_TAGS = 4096  # real files have dozens
MAX_CLAIMS = 4  # how many times a file's bytes its tags' values may claim
MAX_LOOKS = 100  # places that may be the beginning of EXIF
BREADTH_OF_CLAIMS = 2**16  # bytes that they may claim in any file
TAG_TYPES = {  # NumPy's name for a tag's values, by TIFF's number; what is not a number counts as bytes
    **{1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i8"},
    **{11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"},
}
WHOLE_NUMBERS = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)


@dataclass(frozen=True)
class Tag:
    """Where a tag's values lie: how many of which type, and from which byte of the file on."""

    kind: int
    count: int
    start: int

    @property
    def size(self) -> int:
        """Bytes that the values claim."""
        return self.count * np.dtype(TAG_TYPES.get(self.kind, "u1")).itemsize


@dataclass(frozen=True)
class Directory:
    """The tags of one page.

    Attributes:
        data: the whole file.
        order: ``<`` or ``>``, the order of a number's bytes.
        tags: by their number.
        whole: whether all of them lie within the file.
    """

    data: bytes
    order: str
    tags: dict[int, Tag]
    whole: bool = True

    def numbers(self, tag: int, at_most: int = 64) -> tuple[int, ...]:
        """Return a tag's first whole numbers; none if the tag is absent or holds something else."""
        return tuple(self.array(tag, at_most).tolist())

    def array(self, tag: int, at_most: int) -> np.ndarray:
        """Return a tag's first whole numbers as an array.

        Raises:
            ValueError: if they lie beyond the file's end.
        """
        entry = self.tags.get(tag)
        if entry is None or entry.kind not in WHOLE_NUMBERS:
            return np.empty(0, np.uint8)
        count, dtype = min(entry.count, at_most), np.dtype(self.order + TAG_TYPES[entry.kind])
        if entry.start + count * dtype.itemsize > len(self.data):
            raise ValueError(f"the values of tag {tag} lie beyond the end")
        return np.frombuffer(self.data, dtype, count, entry.start)

    def number(self, tag: int, default: int) -> int:
        """Return a tag's first whole number."""
        return next(iter(self.numbers(tag, 1)), default)

    @property
    def claimed(self) -> int:
        """Bytes that all values claim together."""
        return sum(tag.size for tag in self.tags.values())


def first_directory(data: bytes, name: str) -> Directory:
    """Read the directory that a TIFF's header points to.

    Args:
        data: the whole file, or EXIF, which has the same form.
        name: what messages call it.

    Raises:
        ValueError: if the directory lies beyond the file's end.
        LimitError: for more tags than any honest file has.
    """
    order, big = ("<" if data[:2] == b"II" else ">"), data[2:4] in (b"+\0", b"\0+")
    start, count_form, entry_form, following = (8, "Q", "HHQ8x", "Q") if big else (4, "H", "HHI4x", "I")
    entry, field = struct.Struct(order + entry_form), struct.calcsize(following)
    try:
        (offset,) = struct.unpack_from(order + following, data, start)
        (count,) = struct.unpack_from(order + count_form, data, offset)
    except struct.error as error:
        raise ValueError("its directory lies beyond the end") from error
    if count > MAX_TAGS:
        raise LimitError(
            f"{name}: {count:,} tags, over the limit of {MAX_TAGS:,} for a TIFF file; save it again"
        )
    first = offset + struct.calcsize(count_form)
    there = min(count, (len(data) - first) // entry.size)
    tags: dict[int, Tag] = {}
    for position in range(first, first + there * entry.size, entry.size):
        number, kind, values = entry.unpack_from(data, position)
        tag = Tag(kind, values, position + entry.size - field)
        if tag.size > field:
            tag = Tag(kind, values, struct.unpack_from(order + following, data, tag.start)[0])
        tags.setdefault(number, tag)
    return Directory(data, order, tags, whole=there == count)


def claims_too_much(page: Directory) -> bool:
    """Whether the tags' values claim far more bytes than there are."""
    return page.claimed > MAX_CLAIMS * len(page.data) + BREADTH_OF_CLAIMS


def exif_claims_too_much(exif: bytes) -> bool:
    """Whether EXIF could lead a decoder astray that reads it whole; damaged EXIF counts as such."""
    try:
        return claims_too_much(first_directory(exif, "EXIF"))
    except (ValueError, LimitError):
        return True


def find_greedy_exif(data: bytes) -> bool:
    """Whether a file has EXIF anywhere that claims far more bytes than there are."""
    starts = itertools.islice(re.finditer(rb"II\*\0|MM\0\*", data), MAX_LOOKS)
    return any(_claims(data[start.start() :]) for start in starts)


def _claims(data: bytes) -> bool:
    try:
        return claims_too_much(first_directory(data, "EXIF"))
    except LimitError:
        return True
    except ValueError:
        return False
