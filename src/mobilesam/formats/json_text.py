"""JSON from unknown sources: what Python's reader lets pass, or dies of, is refused with its place.

That is NaN and infinite numbers, fields that occur twice, endlessly nested lists, and whole
numbers of thousands of digits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobilesam.core.errors import LimitError, MobileSamError
from mobilesam.core.schema import Step, place_of
from mobilesam.core.text import printable, shortened
from mobilesam.formats.file_names import open_at_once

MAX_DEPTH = 64  # nested lists and objects
CHUNK = 2**20  # bytes read at once: a pipe does not say how many come
MAX_DIGITS = 4000  # of a whole number; Python's own limit is a setting
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)

# Makes the error from a message; its second argument is the contract's code.
Fail = Callable[[str, str], MobileSamError]


class _Fault:
    """Stands in the tree for something that is not allowed.

    Args:
        tell: makes the message from the place.
        code: the contract's.
    """

    def __init__(self, tell: Callable[[str], str], code: str) -> None:
        self.tell, self.code = tell, code


def read_json_file(path: Path, name: str, *, max_bytes: int, fail: Fail) -> Any:
    """Read a JSON file; see :func:`read_json`.

    Raises:
        MobileSamError: what ``fail`` makes, also if the file cannot be read.
        LimitError: if it is larger than ``max_bytes``.
    """
    try:
        with open_at_once(path) as file:
            chunks, size = [], 0
            while size <= max_bytes and (chunk := file.read(CHUNK)):
                chunks.append(chunk)
                size += len(chunk)
    except FileNotFoundError as error:
        raise fail(f"{name}: not found; check the path", "U") from error
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise fail(f"{name}: cannot be read ({printable(reason)})", "U") from error
    if size > max_bytes:
        raise LimitError(f"{name}: over {max_bytes >> 20} MiB, the limit for such a file")
    try:
        text = b"".join(chunks).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail(f"{name}: not a JSON file in UTF-8", "U") from error
    return read_json(text, name, fail)


def read_json(text: str, name: str, fail: Fail) -> Any:
    """Read JSON text.

    Args:
        text: the JSON.
        name: what messages call it.
        fail: makes the error from a message and the contract's code.

    Raises:
        MobileSamError: what ``fail`` makes: for anything but JSON, and for what the module's text lists.
    """
    try:
        try:
            content = _parse(text, int)
        except ValueError as error:
            if "digits" not in str(error):
                raise
            content = _parse(text, _short_whole)
    except RecursionError as error:
        raise fail(f"{name}: {_too_deep(place_of(_deep_place(text)))}", "U") from error
    except ValueError as error:
        raise fail(f"{name}: not JSON ({printable(error)[:80]})", "U") from error
    found = _first_fault(content)
    if found is not None:
        path, fault = found
        raise fail(f"{name}: {fault.tell(place_of(path))}", fault.code)
    return content


def _parse(text: str, parse_int: Callable[[str], Any]) -> Any:
    return json.loads(text, parse_constant=_not_finite, object_pairs_hook=_without_twins, parse_int=parse_int)


def _not_finite(what: str) -> _Fault:
    return _Fault(lambda place: f"holds {what} at {place or 'the top'}; must be finite numbers", "S")


def _short_whole(digits: str) -> int | _Fault:
    return int(digits) if len(digits) <= MAX_DIGITS else _not_finite(f"a number of {len(digits):,} digits")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Fault:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    twice = f"field {shortened(key)} is there twice in one object"
    return _Fault(lambda place: f"{place}: {twice}" if place else twice, "U")


def _too_deep(place: str) -> str:
    return f"not JSON that can be read: nested deeper than {MAX_DEPTH} lists and objects at {place}"


def _first_fault(content: Any) -> tuple[list[Step], _Fault] | None:
    """Return the first fault and its place; without recursion, which has a limit of its own."""
    waiting: list[tuple[Any, Any]] = [(content, None)]  # a value, and its place as a chain of steps
    while waiting:
        value, chain = waiting.pop()
        depth = chain[2] if chain else 0
        if isinstance(value, _Fault):
            return _path(chain), value
        if type(value) is float and not math.isfinite(value):
            return _path(chain), _not_finite("a number beyond 1.8e308")
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                return _path(chain), _Fault(_too_deep, "U")
            steps = value.items() if isinstance(value, dict) else enumerate(value)
            inner = [(v, (chain, step, depth + 1)) for step, v in steps if _is_followed(v)]
            waiting.extend(reversed(inner))
    return None


def _is_followed(value: Any) -> bool:
    return type(value) in (dict, list, _Fault) or (type(value) is float and not math.isfinite(value))


def _path(chain: Any) -> list[Step]:
    path = []
    while chain:
        chain, step, _ = chain
        path.append(step)
    return path[::-1]


def _deep_place(text: str) -> list[Step]:
    """Return where a text that is nested too deep for Python's reader is nested too deep for us."""
    path: list[Step] = []
    word = '""'
    for match in TOKEN.finditer(text):
        token = match[0]
        if token in "[{":
            if len(path) >= MAX_DEPTH:
                break
            path.append(0 if token == "[" else "")
        elif token in "]}":
            path.pop()
        elif token == ",":
            if isinstance(path[-1], int):
                path[-1] += 1
        elif token == ":":
            path[-1] = json.loads(word)
        else:
            word = token
    return path
