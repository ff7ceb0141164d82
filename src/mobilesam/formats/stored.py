"""Photos that are not files of their own: members of tar files, and what lies at addresses.

A tar is looked through once, header by header. Each photo is then read by its place in it, in any order and by any
process. WebDataset's shards are such tars.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mobilesam.core.errors import ImageError, LimitError
from mobilesam.core.text import printable
from mobilesam.formats.addresses import list_address, opened, read_range
from mobilesam.formats.image import suffix_is_image
from mobilesam.formats.image_bytes import MAX_FILE_BYTES, open_file, shown
from mobilesam.formats.image_folder import SkippedFile, why_skipped

TAR = ".tar"
PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst")
MAX_MEMBERS = 5_000_000
MAX_NAME = 4096  # characters
BLOCK = tarfile.BLOCKSIZE
ZEROS = bytes(BLOCK)
END_READ = 64 * BLOCK  # of what follows the last member
OTHER_REASON = "not named as a photo; in a tar that is KEY.jpg or the like, without further dots"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the bytes of a photo are.

    Attributes:
        place: a file, or an address.
        start: of the photo in it.
        length: in bytes.
        suffix: of its name.
    """

    place: Path | str
    start: int
    length: int
    suffix: str

    def read(self, name: str) -> bytes:
        """Read the bytes; ``name`` is what messages call the photo.

        Raises:
            ImageError: if the place cannot be read, or ends before the photo does.
            LimitError: for more than an image file may have.
        """
        if self.length > MAX_FILE_BYTES:
            limit = f"{MAX_FILE_BYTES >> 20} MiB"
            raise LimitError(
                f"{shown(name)}: {self.length:,} bytes, over the limit of {limit}; make it smaller"
            )
        if isinstance(self.place, str):
            data = read_range(self.place, self.start, self.length)
        else:
            with open_file(self.place, name=str(self.place)) as file:
                data = _read_at(file, self.start, self.length, name)
        if len(data) != self.length:
            raise ImageError(
                f"{shown(name)}: is cut; {shown(str(self.place))} ends within it, so copy that again"
            )
        return data

    def changed_since(self, nanoseconds: int) -> bool:
        """Whether the file was changed after a time; what lies at an address is told by its length alone."""
        if isinstance(self.place, str):
            return False
        status = self.place.stat()
        return max(status.st_mtime_ns, status.st_ctime_ns) >= nanoseconds


@dataclass(frozen=True)
class StoredPhoto:
    """A photo that is stored, or what keeps one from being read.

    Attributes:
        name: what messages call it.
        path: below what was given, which names its results.
        stored: where it is.
        problem: why it cannot be read.
    """

    name: str
    path: PurePosixPath
    stored: Stored
    problem: ImageError | None = None


@dataclass(frozen=True)
class StoredContents:
    """What a tar or an address holds: photos in their order, and members that are none."""

    photos: list[StoredPhoto]
    skipped: list[SkippedFile]


def is_tar(name: str) -> bool:
    """Whether a file's name is a tar's, also a packed one's, which is refused with what to do."""
    lower = name.lower()
    return lower.endswith((TAR, ".tgz")) or any(lower.endswith(TAR + ending) for ending in PACKED)


def look_into(place: Path | str) -> StoredContents:
    """Find the photos of a tar, or of an address: its files, and what is in its tars.

    Args:
        place: a tar, or an address of a file, a folder or several.

    Raises:
        ConfigError: for an address at which nothing is found, or that cannot be reached.
        LimitError: for too many photos.
    """
    contents = StoredContents([], [])
    for one in walk_into(place):
        if isinstance(one, StoredPhoto):
            contents.photos.append(one)
        else:
            contents.skipped.append(one)
    return contents


def walk_into(place: Path | str) -> Iterator[StoredPhoto | SkippedFile]:
    """Yield what :func:`look_into` returns, one by one."""
    if isinstance(place, Path):
        yield from _walk_into_tar(place, PurePosixPath(place.stem))
        return
    for file in list_address(place):
        if any(part.startswith(".") for part in file.below.parts):
            continue
        if is_tar(file.address):
            yield from _walk_into_tar(file.address, file.below.with_suffix(""))
        elif suffix_is_image(Path(file.below)):
            stored = Stored(file.address, 0, file.length, file.below.suffix)
            yield StoredPhoto(file.address, file.below, stored)
        else:
            yield SkippedFile(Path(file.below), why_skipped(Path(file.below)))


def tar_members(place: Path) -> Iterator[tarfile.TarInfo | ImageError]:
    """Yield the members of a tar that are files and not hidden, and for each damaged stretch an error.

    Raises:
        ImageError: if it cannot be read, or is no tar.
    """
    with _opened(place) as file:
        for member in _members(file, place):
            if isinstance(member, ImageError) or (member.isreg() and not _is_hidden(_inner_path(member))):
                yield member


def _inner_path(member: tarfile.TarInfo) -> PurePosixPath:
    return PurePosixPath(*(part for part in PurePosixPath(member.name).parts if part != "."))


def _is_hidden(inner: PurePosixPath) -> bool:
    return any(part.startswith(".") and part != ".." for part in inner.parts)


def _walk_into_tar(place: Path | str, path: PurePosixPath) -> Iterator[StoredPhoto | SkippedFile]:
    photos = members = 0
    try:
        with _opened(place) as file:
            for member in _members(file, place):
                if isinstance(member, ImageError):
                    one: StoredPhoto | SkippedFile | None = _problem(place, path / f"damage-{photos}", member)
                else:
                    one = _sorted_in(member, place, path, photos)
                if one is None:
                    continue
                yield one
                photos += isinstance(one, StoredPhoto)
                members += 1
                if members > MAX_MEMBERS:
                    raise LimitError(f"{shown(str(place))}: holds over {MAX_MEMBERS:,} members, the limit")
    except ImageError as error:
        yield _problem(place, path, error)


def _problem(place: Path | str, path: PurePosixPath, error: ImageError) -> StoredPhoto:
    """Return what stands for photos that cannot be told from each other."""
    return StoredPhoto(str(place), path, Stored(place, 0, 0, TAR), error)


def _sorted_in(
    member: tarfile.TarInfo, place: Path | str, path: PurePosixPath, number: int
) -> StoredPhoto | SkippedFile | None:
    """Return what a member is: a photo, skipped, or nothing, as folders, links and hidden ones are.

    Args:
        member: the member.
        place: of the tar.
        path: what names its results.
        number: of photos before it.
    """
    inner = _inner_path(member)
    if not member.isreg() or _is_hidden(inner):
        return None
    kind = f".{inner.name.partition('.')[2]}"
    if not suffix_is_image(Path(f"photo{kind}")) or "." in kind[1:]:
        return SkippedFile(Path(inner), OTHER_REASON)
    name = f"{place}/{member.name[:MAX_NAME]}"
    problem = None
    if inner.is_absolute() or ".." in inner.parts or len(member.name) > MAX_NAME:
        problem = ImageError(f"{shown(name)}: its name leads out of the tar; rename it")
        inner = PurePosixPath(f"outside-{number}{kind}")
    elif member.issparse():
        problem = ImageError(f"{shown(name)}: is stored with holes; pack the tar without --sparse")
    stored = Stored(place, member.offset_data, member.size, sys.intern(kind))
    return StoredPhoto(name, path / inner, stored, problem)


@contextlib.contextmanager
def _opened(place: Path | str) -> Iterator[BinaryIO]:
    if isinstance(place, str):
        with opened(place) as file:
            yield file
        return
    with open_file(place, name=str(place)) as file:
        yield file


def _members(file: BinaryIO, place: Path | str) -> Iterator[tarfile.TarInfo | ImageError]:
    """Yield the members of a tar, and for each stretch that is damaged an error; what follows it is found again."""
    name = shown(str(place))
    _check_beginning(file, name)
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    end = 0  # of the last member, in whole blocks
    try:
        with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as tar:
            while (member := tar.next()) is not None and member.offset >= end and member.size >= 0:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
                if member.offset > end and _read_at(file, end, BLOCK, name) != ZEROS:
                    yield _damage(name, end, member.offset)
                yield member
                size = member.size if member.isreg() else 0
                end = member.offset_data + -(-size // BLOCK) * BLOCK
                if end > length:
                    return  # the tar ends within it, which its own reading tells
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, ImageError):
            raise
    if _read_at(file, end, END_READ, name).strip(b"\0"):
        yield _damage(name, end, None)


def _check_beginning(file: BinaryIO, name: str) -> None:
    first = _read_at(file, 0, BLOCK, name)
    if first == ZEROS:
        return  # a tar without members
    try:
        tarfile.TarInfo.frombuf(first, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError as error:
        packed = first.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        told = (
            "is compressed, so that no member can be read by itself; unpack it to .tar"
            if packed
            else "is no tar file, or its beginning is damaged; copy it again"
        )
        raise ImageError(f"{name}: {told}") from error


def _damage(name: str, start: int, end: int | None) -> ImageError:
    until = "its end" if end is None else f"byte {end:,}"
    return ImageError(
        f"{name}: is damaged from byte {start:,} to {until}; members there are lost, so copy it again"
    )


def _read_at(file: BinaryIO, start: int, length: int, name: str) -> bytes:
    try:
        file.seek(start)
        return file.read(length)
    except OSError as error:
        raise ImageError(f"{shown(name)}: cannot be read ({printable(error.strerror or error)})") from error
