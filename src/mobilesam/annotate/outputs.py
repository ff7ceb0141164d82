"""Where results go: a folder, one file, or a stream such as standard output.

An output's name leaves out the photo's: it is an ending and the number of an object. A place turns it
into a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from mobilesam.annotate.sources import Source
from mobilesam.core.errors import ConfigError, OutputError
from mobilesam.core.text import printable
from mobilesam.formats.image_folder import resolved
from mobilesam.storage.atomic import refuse_existing, write_bytes


class Name(NamedTuple):
    """The name of an output, without its photo's.

    Attributes:
        ending: such as ``mask.png``.
        number: of the object, from 0; None for the whole image.
        folder: whether it is a folder of files.
    """

    ending: str
    number: int | None = None
    folder: bool = False


class Place(Protocol):
    """Takes the outputs of one photo."""

    def path(self, name: Name) -> Path | None:
        """Return where an output goes; None for a stream."""
        ...

    def write(self, name: Name, data: bytes) -> None:
        """Write one whole output."""
        ...


class Destination(Protocol):
    """Takes the outputs of a run."""

    def place(self, source: Source, names: Sequence[Name]) -> Place:
        """Return where a photo's outputs go.

        Raises:
            OutputError: if one exists and may not be replaced, or cannot be looked for.
            ConfigError: for more outputs than can be taken.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """Outputs that are named after their photo: ``STEM_1_mask.png``, ``STEM_overlay.png``.

    Existing files stay. A further run over a photo takes the next numbers: ``STEM_2_mask.png``,
    ``STEM_2_overlay.png``.

    Attributes:
        out: the folder; nothing is written elsewhere.
        overwrite: replace existing outputs instead.
        inputs: files, resolved, that are never replaced; an output with such a name takes the next number.
    """

    out: Path
    overwrite: bool = False
    inputs: frozenset[Path] = frozenset()

    def place(self, source: Source, names: Sequence[Name]) -> FolderPlace:
        """See :class:`Destination`."""
        for first in count(1):
            place = FolderPlace(self, source.stem, first)
            if not any(self._is_taken(place.path(name)) for name in names):
                return place
        raise AssertionError  # count() does not end

    def _is_taken(self, path: Path) -> bool:
        if _is_there(path) and not self.overwrite:
            return True
        where = resolved(path)
        return any(where == one or where in one.parents for one in self.inputs)


@dataclass(frozen=True)
class FolderPlace:
    """A photo's outputs in a folder; see :class:`Place`.

    Attributes:
        folder: the folder.
        stem: what their names begin with.
        first: number of the run's first object.
    """

    folder: Folder
    stem: str
    first: int

    def path(self, name: Name) -> Path:
        """See :class:`Place`."""
        if name.number is not None:
            middle = f"_{self.first + name.number}"
        else:
            middle = f"_{self.first}" if self.first > 1 else ""
        return self.folder.out / f"{self.stem}{middle}_{name.ending}"

    def write(self, name: Name, data: bytes) -> None:
        """See :class:`Place`."""
        write_bytes(self.path(name), data, overwrite=self.folder.overwrite)


@dataclass(frozen=True)
class OneFile:
    """The one output of one photo, as a file of that name.

    Attributes:
        file: its path.
        overwrite: replace what is there.
    """

    file: Path
    overwrite: bool = False

    def place(self, source: Source, names: Sequence[Name]) -> OneFile:
        """See :class:`Destination`."""
        _check_one(names, str(self.file))
        refuse_existing(self.file, overwrite=self.overwrite)
        return self

    def path(self, name: Name) -> Path:
        """See :class:`Place`."""
        return self.file

    def write(self, name: Name, data: bytes) -> None:
        """See :class:`Place`."""
        write_bytes(self.file, data, overwrite=self.overwrite)


@dataclass(frozen=True)
class Stream:
    """The one output of one photo, written to a stream.

    Attributes:
        stream: open for writing.
    """

    stream: BinaryIO

    def place(self, source: Source, names: Sequence[Name]) -> Stream:
        """See :class:`Destination`."""
        _check_one(names, "standard output")
        return self

    def path(self, name: Name) -> None:
        """See :class:`Place`."""

    def write(self, name: Name, data: bytes) -> None:
        """See :class:`Place`."""
        self.stream.write(data)
        self.stream.flush()


def _check_one(names: Sequence[Name], where: str) -> None:
    """Refuse what is not one file."""
    numbers = {name.number for name in names if name.number is not None}
    of = f" of {len(numbers)} objects" if len(numbers) > 1 else ""
    if len(names) != 1 or any(name.folder for name in names):
        many = "a folder of files" if any(name.folder for name in names) else f"{len(names)} files{of}"
        raise ConfigError(f"{printable(where)}: takes one file, and the result is {many}; give a folder")


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError as error:
        raise OutputError(f"{printable(path)}: cannot be written ({error.strerror})") from error
