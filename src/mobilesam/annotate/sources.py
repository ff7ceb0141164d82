"""Where photos come from: files, folders, tars, addresses, or bytes in memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path, PurePath

from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.core.text import printable
from mobilesam.formats.image import read_with_remarks
from mobilesam.formats.image_bytes import read_file
from mobilesam.formats.image_folder import SkippedFile, look_through, resolved, tell_skipped
from mobilesam.formats.stored import Stored, is_tar, look_into

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


@dataclass(frozen=True)
class FoundSources:
    """What files and folders hold.

    Attributes:
        sources: the photos.
        remarks: which other files are skipped, and why.
    """

    sources: list[Source]
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


@dataclass(frozen=True)
class _Found:
    """A photo that was found, and the path that names its results."""

    name: str
    path: PurePath
    content: Path | Stored
    problem: ImageError | None


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
    found: dict[Path | str, list[_Found]] = {}  # by what is read, so that nothing is read twice
    skipped: list[SkippedFile] = []
    for path in paths:
        if isinstance(path, str) or (tars and is_tar(path.name) and path.is_file()):
            place = path if isinstance(path, str) else resolved(path)
            if place not in found:
                found[place] = _in_store(path, PurePath(), skipped)
        elif _is_folder(path):
            _add_folder(path, beside, follow_symlinks, tars, found, skipped)
        else:
            found.setdefault(resolved(path), [_Found(printable(path), PurePath(path.name), path, None)])
    return FoundSources(_name(list(chain.from_iterable(found.values()))), tell_skipped(skipped))


def _add_folder(
    folder: Path,
    beside: Path | None,
    follow_symlinks: bool,
    tars: bool,
    found: dict[Path | str, list[_Found]],
    skipped: list[SkippedFile],
) -> None:
    """Add the photos below a folder to what was found; in the folder's tars, too, if they count."""
    if beside is not None and resolved(beside) == resolved(folder):
        raise ConfigError(
            f"{printable(folder)}: is the folder of the results, too; give another one for the results"
        )
    inside = look_through(folder, leave_out=beside, follow_symlinks=follow_symlinks)
    shards = [file for file in inside.skipped if tars and is_tar(file.path.name)]
    others = [file for file in inside.skipped if file not in shards]
    if not follow_symlinks:
        outside = [file for file in shards if resolved(folder) not in resolved(file.path).parents]
        shards = [file for file in shards if file not in outside]
        others += [SkippedFile(file.path, OUTSIDE_REASON) for file in outside]
    if not inside.images and not shards:
        raise ConfigError("; ".join([f"{printable(folder)}: holds no images", *tell_skipped(others)]))
    skipped += others
    for image in inside.images:
        one = _Found(printable(image.path), image.path.relative_to(folder), image.path, image.problem)
        found.setdefault(resolved(image.path), [one])
    for shard in shards:
        if resolved(shard.path) not in found:
            below = shard.path.relative_to(folder).parent
            found[resolved(shard.path)] = _in_store(shard.path, below, skipped)


def _in_store(place: Path | str, below: PurePath, skipped: list[SkippedFile]) -> list[_Found]:
    inside = look_into(place)
    if not inside.photos:
        raise ConfigError("; ".join([f"{printable(place)}: holds no images", *tell_skipped(inside.skipped)]))
    skipped += inside.skipped
    return [_Found(printable(one.name), below / one.path, one.stored, one.problem) for one in inside.photos]


def _name(found: Sequence[_Found]) -> list[Source]:
    """Give each photo a stem of its own."""
    plain = Counter(_stem(one.path).casefold() for one in found)
    taken: set[str] = set()
    sources: list[Source] = []
    for one in found:
        stem = _stem(one.path)
        if plain[stem.casefold()] > 1:
            stem = f"{stem}_{one.path.suffix[1:]}"
        candidates = (stem if i == 1 else f"{stem}_{i}" for i in count(1))
        stem = next(c for c in candidates if c.casefold() not in taken)
        taken.add(stem.casefold())
        sources.append(Source(one.name, stem, one.content, one.problem, len(sources) + 1))
    return sources


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
