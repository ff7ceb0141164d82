"""Where photos come from: files, folders, tars, addresses, or bytes in memory."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePath
from typing import overload

import numpy as np

from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.core.text import printable
from mobilesam.formats.image import read_with_remarks
from mobilesam.formats.image_bytes import read_file
from mobilesam.formats.image_folder import FoundImage, SkippedFile, SkippedTally, resolved, walk
from mobilesam.formats.stored import Stored, StoredPhoto, is_tar, walk_into

OUTSIDE_REASON = "a symbolic link out of the folder; copy the tar into it, or pass --follow-symlinks"
MAX_STEM_BYTES = 200  # file systems allow 255 for a name, and endings take some of them


@dataclass(frozen=True)
class Source:
    """One photo to work on.

    Attributes:
        name: what messages and results call it.
        stem: what the names of its outputs begin with.
        content: its path, its bytes, or where they are stored: in a tar, or at an address.
        problem: why it is not read.
        number: of the photo in the run, from 1; it is the id in COCO's files, so that they can be joined.
    """

    name: str
    stem: str
    content: Path | bytes | Stored = field(repr=False)
    problem: ImageError | None = None
    number: int = 1

    @property
    def file_name(self) -> str:
        """What COCO's and SA-1B's files call the photo: its name without folders."""
        return Path(self.name).name


@dataclass(frozen=True, eq=False)
class Photo:
    """A source that was read.

    Attributes:
        source: where it came from.
        image: (H, W, 3).
        remarks: what was read but may not be intended.
        file: its bytes, if the question needs more of the file than the image.
    """

    source: Source
    image: Image
    remarks: tuple[str, ...] = ()
    file: bytes | None = field(default=None, repr=False)

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.image.shape[:2]


class SourceList(Sequence[Source]):
    """Sources in little memory: of each only what tells it from others, and made anew when it is asked for."""

    def __init__(self) -> None:
        self._stems: list[str] = []
        self._contents: list[str | Stored] = []  # the text of a path
        self._names: dict[int, str] = {}  # of those that are stored; others are called as their paths
        self._problems: dict[int, ImageError] = {}

    def __len__(self) -> int:
        return len(self._stems)

    @overload
    def __getitem__(self, index: int) -> Source: ...

    @overload
    def __getitem__(self, index: slice) -> list[Source]: ...

    def __getitem__(self, index: int | slice) -> Source | list[Source]:
        numbers = range(len(self))[index]
        return [self._make(i) for i in numbers] if isinstance(numbers, range) else self._make(numbers)

    def _make(self, i: int) -> Source:
        content = self._contents[i]
        name = self._names.get(i) or printable(content)
        where = Path(content) if isinstance(content, str) else content
        return Source(name, self._stems[i], where, self._problems.get(i), i + 1)

    def add(self, path: PurePath, content: Path | Stored, name: str, problem: ImageError | None) -> None:
        """Add a photo, whose results a path names."""
        number = len(self)
        self._stems.append(_stem(path))
        self._contents.append(content if isinstance(content, Stored) else str(content))
        if isinstance(content, Stored):
            self._names[number] = name
        if problem is not None:
            self._problems[number] = problem

    def tell_apart(self) -> None:
        """Give each photo a stem of its own."""
        hashes = np.array(array("q", (hash(stem.casefold()) for stem in self._stems)), np.int64)
        values, counts = np.unique(hashes, return_counts=True)
        if (counts == 1).all():
            return
        several = set(values[counts > 1].tolist())
        taken: set[str] = set()
        for i, stem in enumerate(self._stems):
            if hash(stem.casefold()) in several:
                content = self._contents[i]
                suffix = PurePath(content).suffix if isinstance(content, str) else content.suffix
                stem = f"{stem}_{suffix[1:]}"
            candidates = (stem if n == 1 else f"{stem}_{n}" for n in count(1))
            stem = next(one for one in candidates if one.casefold() not in taken)
            taken.add(stem.casefold())
            self._stems[i] = stem


@dataclass(frozen=True)
class FoundSources:
    """What files and folders hold.

    Attributes:
        sources: the photos.
        remarks: which other files are skipped, and why.
    """

    sources: Sequence[Source]
    remarks: list[str]


def read_photo(source: Source, max_pixels: int, *, keep_file: bool = False) -> Photo:
    """Read a source, once.

    Args:
        source: what is read.
        max_pixels: limit on its pixels.
        keep_file: keep the file's bytes beside the image.

    Raises:
        ImageError: if it cannot be read.
        LimitError: if it is too large.
    """
    if source.problem is not None:
        raise source.problem
    content = source.content
    if isinstance(content, Stored):
        content = content.read(source.name)
    elif keep_file and isinstance(content, Path):
        content = read_file(content, name=source.name)
    image, remarks = read_with_remarks(content, max_pixels=max_pixels, name=source.name)
    image.flags.writeable = False
    return Photo(source, image, remarks, content if keep_file and isinstance(content, bytes) else None)


def find_sources(
    paths: Iterable[Path | str],
    *,
    beside: Path | None = None,
    follow_symlinks: bool = False,
    tars: bool = False,
) -> FoundSources:
    """Return the photos among files and folders, in order, each with a stem of its own.

    A folder stands for the photos below it; hidden ones and everything below ``beside``,
    where the outputs go, are left out. Photos whose outputs would have the same name
    keep their suffix in it, and get a number if that is taken too: ``a.jpg`` and ``a.png``
    become ``a_jpg`` and ``a_png``, ``x/a.jpg`` and ``y/a.jpg`` become ``a_jpg`` and
    ``a_jpg_2``. Very long stems are cut.

    Args:
        paths: files and folders; addresses as texts.
        beside: the folder of the outputs.
        follow_symlinks: also read what links in a folder point to outside it.
        tars: a tar stands for the photos in it, in a folder, too.

    Raises:
        ConfigError: if a folder, a tar or an address holds no photo.
    """
    found = _Found(beside, follow_symlinks, tars)
    for path in paths:
        if isinstance(path, str) or (tars and is_tar(path.name) and path.is_file()):
            found.add_store(path, PurePath())
        elif _is_folder(path):
            found.add_folder(path)
        else:
            found.add_file(path, PurePath(path.name), None)
    found.sources.tell_apart()
    return FoundSources(found.sources, found.skipped.lines())


class _Found:
    """Gathers photos, each once.

    Args:
        beside: see :func:`find_sources`, as the others.
        follow_symlinks: likewise.
        tars: likewise.
    """

    def __init__(self, beside: Path | None, follow_symlinks: bool, tars: bool) -> None:
        self.beside, self.follow_symlinks, self.tars = beside, follow_symlinks, tars
        self.sources, self.skipped = SourceList(), SkippedTally()
        self._places: set[str] = set()  # so that nothing is read twice

    def _is_new(self, place: Path | str) -> bool:
        key = place if isinstance(place, str) else str(resolved(place))
        is_new = key not in self._places
        self._places.add(key)
        return is_new

    def add_file(self, path: Path, below: PurePath, problem: ImageError | None) -> None:
        """Add a photo."""
        if self._is_new(path):
            self.sources.add(below, path, printable(path), problem)

    def add_store(self, place: Path | str, below: PurePath) -> None:
        """Add the photos of a tar or an address."""
        if not self._is_new(place):
            return
        before, skipped = len(self.sources), SkippedTally()
        for one in walk_into(place):
            if isinstance(one, StoredPhoto):
                self.sources.add(below / one.path, one.stored, printable(one.name), one.problem)
            else:
                skipped.add(one)
        self._check_any(place, before, skipped)

    def add_folder(self, folder: Path) -> None:
        """Add the photos below a folder; in the folder's tars, too, if they count."""
        if self.beside is not None and resolved(self.beside) == resolved(folder):
            raise ConfigError(
                f"{printable(folder)}: is the folder of the results, too; give another one for the results"
            )
        holds_any, shards, skipped = False, [], SkippedTally()
        for one in walk(folder, leave_out=self.beside, follow_symlinks=self.follow_symlinks):
            if isinstance(one, FoundImage):
                self.add_file(one.path, one.path.relative_to(folder), one.problem)
                holds_any = True
            elif not (self.tars and is_tar(one.path.name)):
                skipped.add(one)
            elif self.follow_symlinks or resolved(folder) in resolved(one.path).parents:
                shards.append(one.path)
            else:
                skipped.add(SkippedFile(one.path, OUTSIDE_REASON))
        if not holds_any and not shards:
            raise ConfigError("; ".join([f"{printable(folder)}: holds no images", *skipped.lines()]))
        self.skipped.add_all(skipped)
        for shard in shards:
            self.add_store(shard, shard.relative_to(folder).parent)

    def _check_any(self, place: Path | str, before: int, skipped: SkippedTally) -> None:
        if len(self.sources) == before:
            raise ConfigError("; ".join([f"{printable(place)}: holds no images", *skipped.lines()]))
        self.skipped.add_all(skipped)


def _stem(name: PurePath) -> str:
    """Return a name without its suffix, short enough for an output's endings."""
    stem = os.fsencode(name.stem)
    if len(stem) > MAX_STEM_BYTES:
        stem = stem[: MAX_STEM_BYTES - 9] + b"_" + hashlib.sha256(stem).hexdigest()[:8].encode()
    return str(name.with_name(os.fsdecode(stem))) if stem else str(name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # reading it will say what is wrong
