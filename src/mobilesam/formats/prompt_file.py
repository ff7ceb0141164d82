"""Prompts as JSON: the form that the command line, and every later surface, reads.

    {"version": 1, "objects": [
        {"points": [[210, 140], [80, 60]], "labels": [1, 0]},
        {"box": [120, 40, 380, 300]},
        {"mask": "coarse.png"}]}

    {"version": 1, "texts": ["a dog", "leash"]}

Coordinates are pixels of the upright image. A mask is the name of an image file beside the
prompt file, or a COCO run-length code. Texts name objects, of which there may be any number.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mobilesam.core.errors import LimitError, PromptError
from mobilesam.core.phrases import check_texts
from mobilesam.core.prompts import MAX_PROMPTS, ValidPrompt
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.formats.image import MAX_PIXELS, read_mask

VERSION = 1
FILE_KEYS = ("version", "objects", "texts")
OBJECT_KEYS = ("points", "labels", "box", "mask")
MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class PromptFile:
    """What a prompt file holds: either of the two.

    Attributes:
        prompts: one for each object.
        texts: phrases that name objects.
    """

    prompts: tuple[Prompt, ...] = ()
    texts: tuple[str, ...] = ()


def read_prompts(path: str | Path) -> PromptFile:
    """Read a prompt file; its numbers are checked later, against each image.

    Raises:
        PromptError: if the file is missing, is not such JSON, or has unknown fields.
        LimitError: if it is too large or has too many objects or texts.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise LimitError(
                f"{printable(path)}: over {MAX_FILE_BYTES >> 20} MiB, the limit for a prompt file"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PromptError(f"{printable(path)}: cannot be read ({error.strerror})", code="U") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{printable(path)}: not a JSON file in UTF-8", code="U") from error
    return parse_prompts(text, name=printable(path), folder=path.parent)


def parse_prompts(text: str, *, name: str, folder: Path) -> PromptFile:
    """Read prompts from JSON text; mask files are looked for in ``folder``."""

    def refuse_constant(constant: str) -> NoReturn:
        raise PromptError(f"{name}: holds {constant}; must be finite numbers")

    def refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            keys = [key for key, _ in pairs]
            twin = next(key for key in keys if keys.count(key) > 1)
            raise PromptError(f"{name}: field {twin!r} stands twice in one object", code="U")
        return record

    try:
        content = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=refuse_twins)
    except PromptError:
        raise
    except (ValueError, RecursionError) as error:  # also for a number of thousands of digits
        raise PromptError(f"{name}: not JSON ({str(error)[:80]})", code="U") from error
    if not isinstance(content, dict):
        raise PromptError(f'{name}: must be an object such as {{"version": 1, "objects": [...]}}', code="U")
    _check_keys(content, FILE_KEYS, name)
    version = content.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        found = printable(str(version)[:20])
        raise PromptError(f"{name}: version {found}; this program reads version {VERSION}", code="U")
    if "texts" in content:
        if "objects" in content:
            raise PromptError(f"{name}: has objects and texts; write them into two files", code="U")
        return PromptFile(texts=check_texts(content["texts"], f"{name}: texts"))
    objects = content.get("objects")
    if not isinstance(objects, list):
        raise PromptError(f"{name}: objects: must be a list", code="U")
    if not objects:
        raise PromptError(f"{name}: objects: is empty; give at least one")
    if len(objects) > MAX_PROMPTS:
        raise LimitError(f"{name}: {len(objects)} objects; at most {MAX_PROMPTS} are allowed")
    prompts = (_object_to_prompt(record, f"{name}: objects[{i}]", folder) for i, record in enumerate(objects))
    return PromptFile(tuple(prompts))


def prompt_to_record(prompt: ValidPrompt) -> dict[str, Any]:
    """Return a prompt as a JSON object; of a mask prompt only that there was one."""
    record: dict[str, Any] = {}
    if len(prompt.points):
        record |= {"points": prompt.points.tolist(), "labels": prompt.labels.tolist()}
    if prompt.box is not None:
        record["box"] = prompt.box.tolist()
    if prompt.mask_input is not None:
        record["mask"] = True
    return record


def _object_to_prompt(record: Any, name: str, folder: Path) -> Prompt:
    if not isinstance(record, dict):
        raise PromptError(f"{name}: must be an object with points, box or mask", code="U")
    _check_keys(record, OBJECT_KEYS, name)
    mask = record.get("mask")
    if isinstance(mask, str):
        mask = read_mask(folder / mask, name=f"{name}.mask")
    elif isinstance(mask, dict):
        try:
            rle = dict_to_rle(mask)
            if rle.size[0] * rle.size[1] > MAX_PIXELS:
                raise LimitError(f"{name}.mask: over {MAX_PIXELS:,} pixels, the limit")
            mask = rle_to_mask(rle)
        except LimitError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PromptError(f"{name}.mask: not a run-length code ({error})") from error
    elif mask is not None:
        raise PromptError(f"{name}.mask: must be a file name or a run-length code", code="U")
    return Prompt(record.get("points"), record.get("labels"), record.get("box"), mask)


def _check_keys(record: dict[str, Any], known: tuple[str, ...], name: str) -> None:
    for key in record:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise PromptError(f"{name}: unknown field '{printable(key)}'{hint}", code="U")
