"""No row of the catalogue of hostile input is without a test: a row stands in its test's name or parameters' ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.series import value_of

IMAGES = [f"I{number:02}" for number in range(1, 73)]
PROMPTS = [f"Q{number:02}" for number in range(1, 67)]
WEIGHTS = [f"W{number:02}" for number in range(1, 65)]
ELSEWHERE = (
    "tests.e2e.test_weights_command",
    "tests.e2e.test_export",
)  # what takes servers, kills and exports
HTTP_ONLY = {
    "Q66": "sessions and embedding ids are a server's; in the library an embedding is a value",
}


def names_of_tests(holder: object) -> Iterator[str]:
    """The names of a module's or class's tests, and the ids of their parameters."""
    for name, value in vars(holder).items():
        if isinstance(value, type) and name.startswith("Test"):
            yield from names_of_tests(value)
        if not name.startswith("test_"):
            continue
        yield name
        for mark in getattr(value, "pytestmark", ()):
            if mark.name == "parametrize":
                ids = mark.kwargs.get("ids", ())
                yield from map(ids, map(value_of, mark.args[1])) if callable(ids) else ids


def rows() -> set[str]:
    here = [f"tests.hostile.{path.stem}" for path in Path(__file__).parent.glob("test_*.py")]
    names = [name for module in (*here, *ELSEWHERE) for name in names_of_tests(import_module(module))]
    return {row for name in names for row in re.findall(r"(?:^|_)([IQW]\d\d)(?=\W|_|$)", str(name))}


def test_no_row_is_missing() -> None:
    assert sorted(rows()) == sorted({*IMAGES, *PROMPTS, *WEIGHTS} - set(HTTP_ONLY))
