"""Prompts as JSON: the form that the command line, and every later surface, reads.

    {"version": 1, "objects": [
        {"points": [[210, 140], [80, 60]], "labels": [1, 0]},
        {"box": [120, 40, 380, 300], "label": "dog"},
        {"mask": "coarse.png"}]}

    {"version": 1, "texts": ["a dog", "leash"]}

Coordinates are pixels of the upright image. A mask is the name of an image file beside the
prompt file or below its folder, or a COCO run-length code. A label is what the object is called. Texts name
objects, of which there may be any number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilesam.core.errors import ConfigError, LimitError, PromptError
from mobilesam.core.phrases import MAX_CHARACTERS, MAX_LABEL, MAX_TEXTS, check_texts
from mobilesam.core.prompts import MAX_POINTS, MAX_PROMPTS, ValidPrompt
from mobilesam.core.rle import Rle, dict_to_rle, mask_to_rle
from mobilesam.core.schema import (
    Array,
    CheckedLater,
    Either,
    OneOf,
    OrNull,
    Real,
    Record,
    Table,
    Text,
    Whole,
    check,
    unknown_key,
)
from mobilesam.core.text import shortened
from mobilesam.core.types import Prompt
from mobilesam.formats.file_names import file_below
from mobilesam.formats.image import MAX_PIXELS, read_mask
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json, read_json_file

VERSION = 1
MAX_FILE_BYTES = 64 * 2**20

RUNS = Record(
    {
        "size": Array(Whole(1), 2, 2),
        "counts": Either({str: Text(about="COCO's compressed text"), list: Array(Whole())}),
    },
    required=("size", "counts"),
    open=True,
)
# What depends on the image is checked by core.prompts, as it is for Python.
OBJECT = Record(
    {
        "points": CheckedLater(OrNull(Array(Array(Real(0), 2, 2), 1, MAX_POINTS))),
        "labels": CheckedLater(OrNull(Array(OneOf((0, 1)), 1, MAX_POINTS))),
        "box": CheckedLater(OrNull(Array(Real(), 4, 4))),
        "mask": OrNull(
            Either(
                {
                    str: Text(1, about="image file beside the prompt file, or below its folder"),
                    dict: CheckedLater(RUNS),
                }
            )
        ),
        "label": CheckedLater(OrNull(Text(1, MAX_LABEL))),
    },
    later={
        "anyOf": [{"required": ["points"]}, {"required": ["box"]}, {"required": ["mask"]}],
        "dependentRequired": {"labels": ["points"]},
    },
)
PROMPTS = Record(
    {
        "version": OneOf((VERSION,)),
        "objects": Array(OBJECT, 0, MAX_PROMPTS),
        "texts": CheckedLater(Array(Text(1, MAX_CHARACTERS), 1, MAX_TEXTS)),
    },
    later={"oneOf": [{"required": ["objects"]}, {"required": ["texts"]}]},
)
TRACKED = Record({**OBJECT.fields, "frame": Whole(1), "object": Whole(1)}, later=OBJECT.later)
TRACKS = Record(
    {"version": OneOf((VERSION,)), "objects": Array(TRACKED, 1, MAX_PROMPTS)}, required=("objects",)
)
CUTOUT = Record({"objects": Array(OBJECT, 0, MAX_PROMPTS), "subtract": Array(OBJECT, 0, MAX_PROMPTS)})
CUTOUTS = Record(
    {"version": OneOf((VERSION,)), **CUTOUT.fields, "photos": Table(CUTOUT)},
    later={"anyOf": [{"required": ["objects"]}, {"required": ["photos"]}]},
)


@dataclass(frozen=True)
class CutoutPrompts:
    """What is cut out of a photo.

    Attributes:
        objects: prompts of what is joined.
        subtract: prompts of what is taken away.
    """

    objects: tuple[Prompt, ...] = ()
    subtract: tuple[Prompt, ...] = ()


@dataclass(frozen=True)
class CutoutFile:
    """What a prompt file of ``mobilesam cutout`` holds.

    Attributes:
        usual: for photos that are not named.
        photos: by the name of the photo, or its path in the given folder.
    """

    usual: CutoutPrompts = CutoutPrompts()
    photos: Mapping[str, CutoutPrompts] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptFile:
    """What a prompt file holds: one of the two. A list of objects may be empty, such as that of a detector.

    Attributes:
        prompts: one for each object.
        texts: phrases that name objects.
    """

    prompts: tuple[Prompt, ...] = ()
    texts: tuple[str, ...] = ()


def read_prompts(path: str | Path, *, follow_symlinks: bool = False) -> PromptFile:
    """Read a prompt file; its numbers are checked later, against each image.

    Args:
        path: the file.
        follow_symlinks: also follow links in its folder to masks outside it.

    Raises:
        PromptError: if the file is missing, is not such JSON, or has unknown fields.
        LimitError: if it is too large or has too many objects or texts.
    """
    path = Path(path)
    name = shown(str(path))
    content = read_json_file(path, name, max_bytes=MAX_FILE_BYTES, fail=_fail)
    return content_to_prompts(content, name=name, folder=path.parent, follow_symlinks=follow_symlinks)


def parse_prompts(text: str, *, name: str, folder: Path) -> PromptFile:
    """Read prompts from JSON text; mask files are looked for in ``folder``."""
    return content_to_prompts(read_json(text, name, _fail), name=name, folder=folder, follow_symlinks=False)


def read_cutouts(path: str | Path, *, follow_symlinks: bool = False) -> CutoutFile:
    """Read a prompt file of ``mobilesam cutout``.

    Args:
        path: the file, ``{"version": 1, "photos": {"a.jpg": {"objects": [...], "subtract": [...]}}}``; objects
            beside ``photos`` are for all other photos.
        follow_symlinks: also follow links in its folder to masks outside it.

    Raises:
        PromptError: if the file is missing, is not such JSON, or has unknown fields.
        LimitError: if it is too large or has too many objects.
    """
    path = Path(path)
    name = shown(str(path))
    content = read_json_file(path, name, max_bytes=MAX_FILE_BYTES, fail=_fail)
    check(content, CUTOUTS, name, _malformed)
    if "objects" not in content and "photos" not in content:
        raise _malformed(f"{name}: has neither objects nor photos; see docs/how-to/cutout.md")
    masks = _MaskFiles(path.parent, follow_symlinks=follow_symlinks)

    def prompts_of(record: dict[str, Any], place: str) -> CutoutPrompts:
        parts = {
            part: tuple(
                _object_to_prompt(one, f"{place}{part}[{i}]", masks)
                for i, one in enumerate(record.get(part, []))
            )
            for part in CUTOUT.fields
        }
        return CutoutPrompts(**parts)

    photos = content.get("photos", {})
    return CutoutFile(
        prompts_of(content, f"{name}: "),
        {photo: prompts_of(record, f"{name}: photos[{photo!r}].") for photo, record in photos.items()},
    )


def read_track_prompts(path: str | Path, *, follow_symlinks: bool = False) -> list[dict[str, Any]]:
    """Read a prompt file of ``mobilesam track``; its numbers are checked later, against each frame.

    Args:
        path: the file, ``{"version": 1, "objects": [{"box": [...], "frame": 1, "object": 1}, ...]}``.
        follow_symlinks: also follow links in its folder to masks outside it.

    Returns:
        Prompts as dicts, with ``frame`` and ``object`` if the file states them.

    Raises:
        PromptError: if the file is missing, is not such JSON, or has unknown fields.
        LimitError: if it is too large or has too many objects.
    """
    path = Path(path)
    name = shown(str(path))
    content = read_json_file(path, name, max_bytes=MAX_FILE_BYTES, fail=_fail)
    check(content, TRACKS, name, _malformed)
    masks = _MaskFiles(path.parent, follow_symlinks=follow_symlinks)
    prompts = []
    for i, record in enumerate(content["objects"]):
        prompt = _object_to_prompt(record, f"{name}: objects[{i}]", masks)
        placed = {key: record[key] for key in ("frame", "object") if key in record}
        prompts.append(vars(prompt) | placed)
    return prompts


def content_to_prompts(content: Any, *, name: str, folder: Path, follow_symlinks: bool) -> PromptFile:
    """Turn a prompt file's JSON into prompts."""
    if not isinstance(content, dict):
        raise PromptError(f'{name}: must be an object such as {{"version": 1, "objects": [...]}}', code="U")
    for key in content:
        if key not in PROMPTS.fields:
            raise PromptError(f"{name}: {unknown_key(key, PROMPTS.fields)}", code="U")
    version = content.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        raise PromptError(
            f"{name}: version {shortened(version, 20)}; this program reads version {VERSION}", code="U"
        )
    if "texts" in content and "objects" in content:
        raise PromptError(f"{name}: has objects and texts; write them into two files", code="U")
    if "texts" in content:
        return PromptFile(texts=check_texts(content["texts"], f"{name}: texts"))
    if "objects" not in content:
        raise PromptError(f"{name}: objects: must be a list", code="U")
    check(content, PROMPTS, name, _malformed)
    objects = content["objects"]
    masks = _MaskFiles(folder, follow_symlinks=follow_symlinks)
    return PromptFile(
        tuple(_object_to_prompt(record, f"{name}: objects[{i}]", masks) for i, record in enumerate(objects))
    )


def _fail(message: str, code: str) -> PromptError:
    return PromptError(message, code=code)


def _malformed(message: str) -> PromptError:
    return PromptError(message, code="U")


def prompt_to_record(prompt: ValidPrompt) -> dict[str, Any]:
    """Return a prompt as a JSON object; for a mask prompt, only that there was one."""
    record: dict[str, Any] = {}
    if len(prompt.points):
        record |= {"points": prompt.points.tolist(), "labels": prompt.labels.tolist()}
    if prompt.box is not None:
        record["box"] = prompt.box.tolist()
    if prompt.mask_input is not None:
        record["mask"] = True
    return record


class _MaskFiles:
    """Reads the mask files of one prompt file, each once, and keeps them as runs, which take little memory."""

    def __init__(self, folder: Path, *, follow_symlinks: bool) -> None:
        self.folder, self.follow_symlinks = folder, follow_symlinks
        self.read: dict[Path, Rle] = {}

    def __call__(self, name: str, place: str) -> Rle:
        path = file_below(
            self.folder, name, follow_symlinks=self.follow_symlinks, place=place, fail=_malformed
        )
        if path not in self.read:
            self.read[path] = mask_to_rle(read_mask(path, name=place))
        return self.read[path]


def _object_to_prompt(record: dict[str, Any], name: str, masks: _MaskFiles) -> Prompt:
    mask = record.get("mask")
    place = f"{name}.mask"
    if isinstance(mask, str):
        mask = masks(mask, place)
    elif mask is not None:
        mask = runs_to_rle(mask, place)
    return Prompt(record.get("points"), record.get("labels"), record.get("box"), mask, record.get("label"))


def runs_to_rle(record: dict[str, Any], place: str) -> Rle:
    """Return the mask of a COCO run-length code.

    Args:
        record: ``size`` and ``counts``.
        place: what messages call it.

    Raises:
        PromptError: for runs that do not fill their size.
        LimitError: for one with more pixels than an image may have.
    """
    try:
        rle = dict_to_rle(record)
    except ConfigError as error:
        raise PromptError(f"{place}.{error}") from error
    except LimitError:
        rle = None
    if rle is None or rle.size[0] * rle.size[1] > MAX_PIXELS:
        raise LimitError(f"{place}: over {MAX_PIXELS:,} pixels, the limit")
    return rle
