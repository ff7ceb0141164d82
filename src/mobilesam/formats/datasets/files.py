"""The files of a set: which ones are below a folder, how large photos are, and text and XML from unknown sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.text import printable
from mobilesam.formats.image import suffix_is_image
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.image_folder import resolved

MAX_TEXT_BYTES = 256 * 2**20
MAX_SMALL_BYTES = 16 * 2**20  # of one photo's labels
MAX_FILES = 5_000_000
DECLARATIONS = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
MAX_XML_DEPTH = 32


def files_below(
    folder: Path, matches: Callable[[Path], bool], *, follow_symlinks: bool = False
) -> list[Path]:
    """Return the files below a folder that match, in the order of their paths; hidden ones are left out.

    What links show from outside the folder is left out too, unless asked for.
    """
    root = resolved(folder)
    found = []
    for number, path in enumerate(folder.rglob("*")):
        if number > MAX_FILES:
            raise LimitError(f"{shown(str(folder))}: holds over {MAX_FILES:,} files, the limit")
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not matches(path):
            continue
        if path.is_file() and (follow_symlinks or root in resolved(path).parents):
            found.append(path)
    return sorted(found)


def photos_below(folder: Path, *, follow_symlinks: bool = False) -> dict[str, Path]:
    """Return the photos below a folder by their names without suffix, folders included."""
    photos: dict[str, Path] = {}
    for path in files_below(folder, suffix_is_image, follow_symlinks=follow_symlinks):
        photos.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return photos


def read_text(path: Path, *, max_bytes: int = MAX_SMALL_BYTES) -> str:
    """Read a text file in UTF-8.

    Raises:
        ConfigError: if it cannot be read or is not such text.
        LimitError: if it is too large.
    """
    data = read_bytes(path, max_bytes=max_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(str(path))}: not a text file in UTF-8") from error


def read_bytes(path: Path, *, max_bytes: int = MAX_SMALL_BYTES) -> bytes:
    """Read a whole file; see :func:`read_text`."""
    name = shown(str(path))
    try:
        if not path.is_file():
            raise ConfigError(f"{name}: not found, or not a file; check the path")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = printable(getattr(error, "strerror", None) or error)
        raise ConfigError(f"{name}: cannot be read ({reason})") from error
    if len(data) > max_bytes:
        raise LimitError(f"{name}: over {max_bytes >> 20} MiB, the limit for such a file")
    return data


def read_xml(path: Path, *, max_bytes: int = MAX_SMALL_BYTES) -> ElementTree.Element:
    """Read an XML file without a document type: entities, which may expand without end or name files, are refused.

    Raises:
        ConfigError: if it is not such XML, with line and column.
        LimitError: if it is too large.
    """
    return parse_xml(read_bytes(path, max_bytes=max_bytes), shown(str(path)))


def parse_xml(data: bytes, name: str) -> ElementTree.Element:
    """Read XML as :func:`read_xml` does; ``name`` is what messages call it.

    Raises:
        ConfigError: if it is not such XML.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise ConfigError(f"{name}: is not XML in UTF-8; save it in UTF-8")
    if DECLARATIONS.search(data):
        raise ConfigError(
            f"{name}: has a document type or entities, which labels need not; remove <!DOCTYPE ...>"
        )
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ConfigError(f"{name}: not XML ({printable(error)[:80]})") from error
    _check_depth(root, name)
    return root


def _check_depth(root: ElementTree.Element, name: str) -> None:
    waiting: list[tuple[ElementTree.Element, int]] = [(root, 1)]
    while waiting:
        element, depth = waiting.pop()
        if depth > MAX_XML_DEPTH:
            raise ConfigError(f"{name}: nested deeper than {MAX_XML_DEPTH} elements")
        waiting += [(inner, depth + 1) for inner in element]


def number_in(element: ElementTree.Element, key: str, place: str) -> float:
    """Return the number that an element has as an attribute, or as the text of an element inside it.

    Raises:
        ConfigError: if there is none.
    """
    text = element.get(key)
    if text is None:
        text = element.findtext(key)
    try:
        value = float(text if text is not None else "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise ConfigError(f"{place}.{key}: is {printable(repr(text)[:40])}; must be a number")
    return value


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, each with its number from 1."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()
