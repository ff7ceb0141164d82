"""Where photos come from: files, folders, or bytes in memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.core.text import printable
from mobilesam.formats.image import read_with_remarks
from mobilesam.formats.image_bytes import read_file
from mobilesam.formats.image_folder import FoundImage, SkippedFile, look_through, resolved, tell_skipped

MAX_STEM_BYTES = 200  # file systems allow 255 for a name, and endings take some of them


@dataclass(frozen=True)
class Source:
    """One photo to work on.

    Attributes:
        name: what messages and results call it.
        stem: what the names of its outputs begin with.
        content: its path, or its bytes.
        problem: why it is not read.
        number: of the photo in the run, from 1; it is the id in COCO's files, so that they can be joined.
    """

    name: str
    stem: str
    content: Path | bytes = field(repr=False)
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
    if keep_file and isinstance(content, Path):
        content = read_file(content, name=source.name)
    image, remarks = read_with_remarks(content, max_pixels=max_pixels, name=source.name)
    image.flags.writeable = False
    return Photo(source, image, remarks, content if keep_file and isinstance(content, bytes) else None)


def find_sources(
    paths: Iterable[Path], *, beside: Path | None = None, follow_symlinks: bool = False
) -> FoundSources:
    """Return the photos among files and folders, in order, each with a stem of its own.

    A folder stands for the photos below it; hidden ones and everything below ``beside``,
    where the outputs go, are left out. Photos whose outputs would have the same name
    keep their suffix in it, and get a number if that is taken too: ``a.jpg`` and ``a.png``
    become ``a_jpg`` and ``a_png``, ``x/a.jpg`` and ``y/a.jpg`` become ``a_jpg`` and
    ``a_jpg_2``. Very long stems are cut.

    Args:
        paths: files and folders.
        beside: the folder of the outputs.
        follow_symlinks: also read what links in a folder point to outside it.

    Raises:
        ConfigError: if a folder holds no photo.
    """
    files: dict[Path, tuple[FoundImage, Path]] = {}  # resolved -> (image, what of it names the output)
    skipped: list[SkippedFile] = []
    for path in paths:
        if not _is_folder(path):
            files.setdefault(resolved(path), (FoundImage(path), Path(path.name)))
            continue
        if beside is not None and resolved(beside) == resolved(path):
            raise ConfigError(
                f"{printable(path)}: is the folder of the results, too; give another one for the results"
            )
        inside = look_through(path, leave_out=beside, follow_symlinks=follow_symlinks)
        if not inside.images:
            raise ConfigError(
                "; ".join([f"{printable(path)}: holds no images", *tell_skipped(inside.skipped)])
            )
        skipped += inside.skipped
        for image in inside.images:
            files.setdefault(resolved(image.path), (image, image.path.relative_to(path)))
    plain = Counter(_stem(name).casefold() for _, name in files.values())
    taken: set[str] = set()
    sources: list[Source] = []
    for image, name in files.values():
        stem = _stem(name)
        if plain[stem.casefold()] > 1:
            stem = f"{stem}_{name.suffix[1:]}"
        candidates = (stem if i == 1 else f"{stem}_{i}" for i in count(1))
        stem = next(c for c in candidates if c.casefold() not in taken)
        taken.add(stem.casefold())
        sources.append(Source(printable(image.path), stem, image.path, image.problem, len(sources) + 1))
    return FoundSources(sources, tell_skipped(skipped))


def _stem(name: Path) -> str:
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
