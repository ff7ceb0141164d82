"""One validator for all text files, and the schemas that are published of it."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.schema import (
    Array,
    Either,
    Flag,
    OneOf,
    OrNull,
    Real,
    Record,
    Shape,
    Table,
    Text,
    Whole,
    check,
)
from mobilesam.formats.coco import masks_to_coco
from tests.schemas import REFERENCE, SCHEMAS, schema_text

ROOT = Path(__file__).parents[2]
SHAPES: list[Shape] = [
    Flag(),
    Whole(-3, 9),
    Real(),
    Real(0, 1),
    Real(0, 1, above=True),
    Text(1, 3),
    OneOf((0, 1)),
    OneOf(("a", 2)),
    Array(Whole(0, 5), 1, 3),
    Array(Real(0, 2)),
    Array(Array(Text()), 2, 2),
    Table(Whole()),
    OrNull(Text()),
    Either({str: Text(1), list: Array(Whole()), bool: Flag()}),
    Record({"a": Whole(), "b": Text()}, required=("a",)),
    Record({"a": Array(Record({"b": Flag()}))}, open=True),
]
leaves = st.none() | st.booleans() | st.integers(-5, 12) | st.sampled_from([0.5, -0.5, 1.25, 1e30, 2**60]) | st.text("ab", max_size=4)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", SCHEMAS)
def test_published_schemas_are_what_files_are_checked_with(name: str) -> None:
    published = (REFERENCE / f"{name}.schema.json").read_text()
    assert published == schema_text(name), "run python -m tests.schemas"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


def test_every_published_schema_is_made_here() -> None:
    assert {path.name for path in REFERENCE.glob("*.schema.json")} == {f"{n}.schema.json" for n in SCHEMAS}


@settings(max_examples=400)
@given(st.sampled_from(SHAPES), values)
def test_the_validator_says_what_jsonschema_says(shape: Shape, value: Any) -> None:
    valid = jsonschema.Draft202012Validator(shape.to_json()).is_valid(value)
    try:
        check(value, shape, "f")
        assert valid
    except (ConfigError, LimitError) as error:
        assert not valid
        assert str(error).startswith("f: ")
        assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("value", "shape", "message"),
    [
        ({"a": [{"b": 1}]}, Record({"a": Array(Record({"b": Flag()}))}), "f: a[0].b: is 1; must be true or false"),
        ([1, float("nan")], Array(Real()), "f: [1]: is nan; must be a finite number"),
        ([float("inf")], Array(Real()), "f: [0]: is inf; must be a finite number"),
        ([10**400], Array(Real()), "f: [0]: is about 2^1328; must be a finite number from -2^53 to 2^53"),
        ([True], Array(Whole()), "f: [0]: is true; must be a whole number 0 or more"),
        ([1.0], Array(Whole(0, 5)), "f: [0]: is 1.0; must be a whole number from 0 to 5"),
        ({"k" * 5000: 1}, Record({"a": Flag()}), f"f: unknown field '{'k' * 40}'; known are a"),
        ({"lables": 1}, Record({"labels": Flag()}), "f: unknown field 'lables', did you mean 'labels'?"),
        ({"k" * 5000: "x"}, Table(Flag()), f"f: {'k' * 40}: is 'x'; must be true or false"),
        ("x" * 5000, Flag(), f"f: is '{'x' * 59}...; must be true or false"),
        ({}, Record({"a": Flag(), "b": Flag()}, required=("a", "b")), "f: lacks a, b"),
    ],
)  # fmt: skip
def test_messages_name_the_place_and_what_is_allowed(value: Any, shape: Shape, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(value, shape, "f")
    assert str(caught.value) == message


def test_what_is_too_long_is_over_a_limit() -> None:
    for value, shape in (([1] * 4, Array(Whole(), 0, 3)), ("abcd", Text(0, 3))):
        with pytest.raises(LimitError, match="at most 3 are allowed"):
            check(value, shape, "f")


def test_shipped_recipes_and_written_sets_fit_the_published_schemas() -> None:
    for path in (ROOT / "recipes").glob("*.toml"):
        content = tomllib.loads(path.read_text())
        kind = "distill" if "mode" in content else "recipe"
        recipe = json.loads((REFERENCE / f"{kind}.schema.json").read_text())
        jsonschema.validate(content, recipe)
        broken = copy.deepcopy(content)
        broken["stages"][0]["steps"] = 0
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, recipe)
    jsonschema.validate(masks_to_coco([], (4, 5), file_name="a.png"), json.loads((REFERENCE / "set.schema.json").read_text()))  # fmt: skip
