"""Shapes of requests and answers: requests are checked with them, and the OpenAPI document is made from them."""

from __future__ import annotations

import dataclasses
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from mobilesam.core.phrases import MAX_LABEL
from mobilesam.core.schema import (
    Array,
    CheckedLater,
    Flag,
    OneOf,
    OrNull,
    Real,
    Record,
    Shape,
    Text,
    Whole,
)
from mobilesam.formats.prompt_file import OBJECT, RUNS
from mobilesam.formats.result_shapes import FOUND_MASK
from mobilesam.formats.result_shapes import OBJECT as RESULT
from mobilesam.segment.cutout import CutoutOptions
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.session import ACTION, SESSION

MAX_MASKS = 1000  # in one request
FORMATS = ("png", "webp", "jpg", "tiff")
PLAIN: dict[type, Shape] = {bool: Flag(), int: Whole(), float: Real(), str: Text()}


def options_shape(cls: type) -> Record:
    """Return the shape of options as JSON: the fields of a dataclass that are numbers, texts or flags."""
    kinds = get_type_hints(cls)
    fields = {one.name: _shape_of(kinds[one.name]) for one in dataclasses.fields(cls)}
    return Record({name: shape for name, shape in fields.items() if shape is not None})


def _shape_of(kind: Any) -> Shape | None:
    if get_origin(kind) in (Union, UnionType):
        rest = [one for one in get_args(kind) if one is not NoneType]
        inner = PLAIN.get(rest[0]) if len(rest) == 1 else None
        return None if inner is None else OrNull(inner)
    return PLAIN.get(kind)


def closed(**fields: Shape) -> Record:
    """Return a record that has all of its fields, and no others."""
    return Record(fields, required=tuple(fields))


IMAGE = closed(
    id=Text(64, 64),
    width=Whole(1),
    height=Whole(1),
    expires=Text(),
    model=Text(),
    warnings=Array(Text()),
)
EVERYTHING_REQUEST = Record(
    {"preset": OneOf(("tidy", "recall")), "options": options_shape(EverythingOptions)}
)
EVERYTHING_LINE = Record(
    {
        "mask": FOUND_MASK,
        "progress": Array(Whole(), 2, 2),
        "done": closed(masks=Whole(), milliseconds=Real(0), warnings=Array(Text())),
        "error": Record({}, open=True),
    }
)
CUTOUT_REQUEST = Record(
    {
        "objects": Array(OBJECT, 0, MAX_MASKS),
        "subtract": Array(OBJECT, 0, MAX_MASKS),
        "masks": Array(RUNS, 0, MAX_MASKS),
        "options": options_shape(CutoutOptions),
        "format": OneOf(FORMATS),
    }
)
SESSION_REQUEST = Record(
    {
        "session": CheckedLater(OrNull(SESSION)),
        "action": Record({**ACTION.fields, "undo": OneOf((True,)), "redo": OneOf((True,))}),
    },
    required=("action",),
)
SESSION_ANSWER = closed(
    session=SESSION, object=OrNull(RESULT), undo=Flag(), redo=Flag(), warnings=Array(Text())
)
PHOTOS = closed(photos=Array(closed(index=Whole(), name=Text(), done=Flag())))
LABELS = Record(
    {
        "objects": Array(
            Record(
                {
                    "label": OrNull(Text(1, MAX_LABEL)),
                    "segmentation": RUNS,
                    "prompt": OrNull(Record({}, open=True)),
                },
                required=("segmentation",),
            ),
            0,
            MAX_MASKS,
        )
    },
    required=("objects",),
)
LABELS_ANSWER = closed(files=Array(Text()))
MODELS = closed(
    models=Array(
        closed(name=Text(), runtime=Text(), device=Text(), limits=Record({}, open=True)),
    )
)
ERROR = closed(
    error=Record(
        {
            "code": OneOf(("U", "S", "I", "L", "A", "B", "O", "T", "W", "X")),
            "message": Text(),
            "field": Text(),
            "request_id": Text(),
        },
        required=("code", "message", "request_id"),
    )
)
