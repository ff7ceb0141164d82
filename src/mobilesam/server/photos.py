"""The photos that the page may open, and what is saved beside them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesam.annotate.sources import find_sources
from mobilesam.core.arrays import Size
from mobilesam.core.errors import ImageError, OutputError, PromptError
from mobilesam.core.schema import Array, Record, Text, check
from mobilesam.formats.datasets.labelme import photo_to_document
from mobilesam.formats.datasets.model import LabelledObject, LabelledPhoto, box_of
from mobilesam.formats.file_names import is_there, open_at_once
from mobilesam.formats.image import read_size
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file
from mobilesam.formats.prompt_file import VERSION, content_to_prompts, runs_to_rle
from mobilesam.server.refusals import Refusal
from mobilesam.storage.atomic import write_bytes

MARK = "mobilesam"  # a field that marks files written by a server
BEGIN = f'{{\n "{MARK}": '.encode()  # how such a file begins
SAVED = Record(
    {"files": Array(Text(1)), "objects": Array(Record({}, open=True))}, required=("files", "objects")
)
UNNAMED = "object"
MAX_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class OpenPhoto:
    """A photo that the page may open.

    Attributes:
        path: where it is.
        name: what the page calls it: its path in the given folder, or its name.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Photos:
    """The photos that the page may open, in order."""

    all: tuple[OpenPhoto, ...] = ()

    def at(self, index: str) -> OpenPhoto:
        """Return a photo by its number.

        Raises:
            Refusal: 404 for another number.
        """
        if not index.isdecimal() or len(index) > 9 or int(index) >= len(self.all):
            raise Refusal(404, "A", f"photo: unknown number; there are {len(self.all)}, numbered from 0")
        return self.all[int(index)]

    def records(self) -> list[dict[str, Any]]:
        """Return what the page lists."""
        return [
            {"index": i, "name": photo.name, "done": labels_path(photo.path) is not None}
            for i, photo in enumerate(self.all)
        ]


def find_photos(paths: Sequence[Path], *, follow_symlinks: bool = False) -> tuple[Photos, list[str]]:
    """Return the photos among files and folders, and remarks.

    Raises:
        ConfigError: if a folder holds no photo.
        ImageError: if something is not there.
    """
    for path in paths:
        if not is_there(path):
            raise ImageError(f"{shown(str(path))}: not found; check the path")
    found = find_sources(paths, follow_symlinks=follow_symlinks)
    folders = [path for path in paths if path.is_dir()]
    photos = tuple(
        OpenPhoto(source.content, name_in(source.content, folders))
        for source in found.sources
        if isinstance(source.content, Path)
    )
    return Photos(photos), found.remarks


def name_in(path: Path, folders: Iterable[Path]) -> str:
    """Return a photo's path in the folder that holds it, or its name."""
    inside = [path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)]
    return min(inside, key=len) if inside else path.name


def labels_path(photo: Path) -> Path | None:
    """Return the labels file that a server has written for a photo; None if there is none."""
    return next((path for path in names_of(photo, "json") if _begins_as_ours(path)), None)


def names_of(photo: Path, ending: str) -> tuple[Path, Path]:
    """Return the name of a file beside a photo, and the one to use if somebody else's file has that name."""
    return photo.with_suffix(f".{ending}"), photo.with_suffix(f".{MARK}.{ending}")


def _begins_as_ours(path: Path) -> bool:
    try:
        with open_at_once(path) as file:
            return file.read(len(BEGIN)) == BEGIN
    except OSError:
        return False


def read_labels(photo: Path) -> dict[str, Any]:
    """Return the objects that were saved for a photo, as the page sent them."""
    return {"objects": _saved(photo)["objects"]}


def _saved(photo: Path) -> dict[str, Any]:
    """Return what a server has written for a photo: the objects, and the names of the files."""
    path = labels_path(photo)
    if path is None:
        return {"objects": [], "files": []}
    content = read_json_file(path, path.name, max_bytes=MAX_FILE_BYTES, fail=_fail)
    check(content.get(MARK) if isinstance(content, dict) else None, SAVED, f"{path.name}: {MARK}")
    saved: dict[str, Any] = content[MARK]
    return saved


def write_labels(photo: Path, objects: Sequence[dict[str, Any]], max_pixels: int) -> list[str]:
    """Save objects beside a photo; only files written by a server are replaced.

    Args:
        photo: its file.
        objects: each with ``segmentation`` and perhaps ``label`` and ``prompt``; if none, the files are removed.
        max_pixels: limit on the photo's pixels.

    Returns:
        The names of the files.

    Raises:
        PromptError: for a mask of another size, or a malformed prompt.
        OutputError: if nothing can be written there.
    """
    size = read_size(photo, max_pixels=max_pixels)
    labelled = tuple(_to_object(one, size, f"objects[{i}]") for i, one in enumerate(objects))
    prompts = [_to_prompt(one, f"objects[{i}]") for i, one in enumerate(objects) if one.get("prompt")]
    before = {photo.with_name(name) for name in _saved(photo)["files"]}
    if not objects:
        return _remove(before)
    labels = _free(names_of(photo, "json"), before)
    names = [labels]
    if prompts:
        names.append(_free(names_of(photo, "prompts.json"), before))
        document = {"version": VERSION, "objects": prompts}
        write_bytes(names[1], (json.dumps(document) + "\n").encode())
    written = [name.name for name in names]
    mark = {MARK: {"files": written, "objects": list(objects)}}
    document = mark | photo_to_document(LabelledPhoto(photo.name, size, labelled), photo.name)
    write_bytes(labels, (json.dumps(document, indent=1) + "\n").encode())
    _remove(before - set(names))
    return written


def _free(names: Sequence[Path], ours: Collection[Path]) -> Path:
    """Return the first name that is free or ours."""
    for path in names:
        if path in ours or not (path.exists() or path.is_symlink()):
            return path
    raise OutputError(f"{names[-1].name}: belongs to somebody else and is not replaced; move it away")


def _remove(paths: Iterable[Path]) -> list[str]:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path.name}: cannot be removed ({error.strerror})") from error
    return []


def _to_object(record: dict[str, Any], size: Size, place: str) -> LabelledObject:
    mask = runs_to_rle(record["segmentation"], f"{place}.segmentation")
    if mask.size != tuple(size):
        raise PromptError(
            f"{place}.segmentation: is {mask.size[1]} x {mask.size[0]}, the photo is {size[1]} x {size[0]}"
        )
    if not mask.area:
        raise PromptError(f"{place}.segmentation: is empty; leave the object out")
    return LabelledObject(record.get("label") or UNNAMED, box_of(mask), mask)


def _to_prompt(record: dict[str, Any], place: str) -> dict[str, Any]:
    """Return an object of a prompt file, checked in the same way."""
    prompt = {**record["prompt"], **({"label": record["label"]} if record.get("label") else {})}
    if isinstance(prompt.get("mask"), str):
        raise PromptError(f"{place}.prompt.mask: is a string; give a run-length code", code="U")
    content_to_prompts({"objects": [prompt]}, name=f"{place}.prompt", folder=Path(), follow_symlinks=False)
    return prompt


def _fail(message: str, code: str) -> PromptError:
    return PromptError(message, code=code)
