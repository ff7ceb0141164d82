"""What a text file may hold, said once: checked from here, and published from here as JSON Schema.

A :class:`Shape` is a small value, such as ``Whole(1, 100)`` or ``Array(Text())``. ``check`` refuses
what does not fit and names the place, such as ``objects[3].box[2]``; ``to_json`` is the same as JSON
Schema, which docs/reference holds. Numbers must be finite everywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_type_hints, runtime_checkable

from mobilesam.core.errors import ConfigError, LimitError, MobileSamError
from mobilesam.core.text import printable, shortened

MAX_NUMBER = 2**53  # up to here a double tells whole numbers apart
FITS = " from -2^53 to 2^53"
MAX_KEY = 40  # characters of a key that messages show
MAX_PATH = 160  # characters of a place that messages show

Fail = Callable[[str], MobileSamError]
Step = str | int  # a key or an index


class Misfit(ConfigError):
    """What is wrong with a value and, added on the way out, where; :func:`check` makes the error from it."""

    def __init__(self, text: str, *, limit: bool = False) -> None:
        super().__init__(text)
        self.text, self.limit = text, limit
        self.path: list[Step] = []


@runtime_checkable  # the tests check types at run time
class Shape(Protocol):
    """What a value may be."""

    def check(self, value: Any) -> None:
        """Raise :class:`Misfit` for another value."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON Schema."""
        ...


def check(value: Any, shape: Shape, name: str, fail: Fail = ConfigError) -> None:
    """Refuse a value that does not fit, in one line.

    Args:
        value: what was read from JSON or TOML.
        shape: what it may be.
        name: what messages call it, usually the file.
        fail: makes the error from the message.

    Raises:
        MobileSamError: what ``fail`` makes; names the place, what is there and what is allowed.
        LimitError: for a list or a text that is too long.

    Example:
        >>> check({"sides": [3, "four"]}, Record({"sides": Array(Whole(1, 9))}), "a.json")
        Traceback (most recent call last):
        mobilesam.core.errors.ConfigError: a.json: sides[1]: is 'four'; must be a whole number from 1 to 9
    """
    try:
        shape.check(value)
    except Misfit as misfit:
        place = place_of(misfit.path)
        message = f"{name}: {place}: {misfit.text}" if place else f"{name}: {misfit.text}"
        raise (LimitError(message) if misfit.limit else fail(message)) from None


def place_of(path: Sequence[Step]) -> str:
    """Return a place as messages write it: ``objects[3].box``."""
    place = ""
    for step in path:
        key = printable(step[:MAX_KEY]) if isinstance(step, str) else ""
        place += f"[{step}]" if isinstance(step, int) else f".{key}" if place else key
        if len(place) > MAX_PATH:
            return f"{place[:MAX_PATH]}..."
    return place


def _range(low: int | float, high: int | float) -> str:
    return f"from {low:,} to {high:,}" if high < MAX_NUMBER else f"{low:,} or more"


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, bool):
            raise Misfit(f"is {shortened(value)}; must be true or false")

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Whole:
    """A whole number, written without a point.

    Attributes:
        low: the least.
        high: the greatest.
    """

    low: int = 0
    high: int = MAX_NUMBER

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise Misfit(f"is {shortened(value)}; must be a whole number {_range(self.low, self.high)}")

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Real:
    """A finite number.

    Attributes:
        low: the least.
        high: the greatest.
        above: whether it must be more than ``low``.
    """

    low: int | float = -MAX_NUMBER
    high: int | float = MAX_NUMBER
    above: bool = False

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if type(value) not in (int, float):
            raise Misfit(f"is {shortened(value)}; must be a number{self._allowed()}")
        if not self.low <= value <= self.high or (self.above and value == self.low):  # NaN is neither
            allowed = self._allowed() or (FITS if MAX_NUMBER < abs(value) < math.inf else "")
            raise Misfit(f"is {shortened(value)}; must be a finite number{allowed}")

    def _allowed(self) -> str:
        if self.low <= -MAX_NUMBER:
            return ""
        if self.above:
            return f" above {self.low:g}" + (f", up to {self.high:g}" if self.high < MAX_NUMBER else "")
        return f" {_range(self.low, self.high)}"

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        least = {"exclusiveMinimum" if self.above else "minimum": self.low}
        return {"type": "number", **least, "maximum": self.high}


@dataclass(frozen=True)
class Text:
    """A text.

    Attributes:
        least: least number of characters.
        most: greatest number, if there is a limit besides the file's.
        about: what it is, for readers of the schema.
    """

    least: int = 0
    most: int | None = None
    about: str = ""

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, str):
            raise Misfit(f"is {shortened(value)}; must be a text")
        if self.most is not None and len(value) > self.most:
            raise Misfit(f"has {len(value):,} characters; at most {self.most:,} are allowed", limit=True)
        if len(value) < self.least:
            raise Misfit("is an empty text; write one")

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        about = {"description": self.about} if self.about else {}
        least = {"minLength": self.least} if self.least else {}
        most = {} if self.most is None else {"maxLength": self.most}
        return {"type": "string", **least, **most, **about}


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[str | int, ...]

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if not any(type(value) is type(one) and value == one for one in self.values):
            raise Misfit(f"is {shortened(value)}; must be {' or '.join(map(str, self.values))}")

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class Array:
    """A list.

    Attributes:
        item: what each entry is.
        least: least number of entries.
        most: greatest number.
    """

    item: Shape
    least: int = 0
    most: int | None = None

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, list):
            raise Misfit(f"is {shortened(value)}; must be a list")
        if self.most is not None and self.least == self.most != len(value):
            raise Misfit(f"has {len(value):,} entries; must have {self.most}")
        if self.most is not None and len(value) > self.most:
            raise Misfit(f"has {len(value):,} entries; at most {self.most:,} are allowed", limit=True)
        if len(value) < self.least:
            what = f"has {len(value)} entries" if value else "is empty"
            raise Misfit(f"{what}; give at least {self.least}")
        if self._all_fit(value):
            return
        for i, entry in enumerate(value):
            try:
                self.item.check(entry)
            except Misfit as misfit:
                misfit.path.insert(0, i)
                raise

    def _all_fit(self, value: list[Any]) -> bool:
        """Whether a list holds nothing but numbers that fit: sets have millions of them."""
        if not isinstance(self.item, Whole | Real) or not value:
            return False
        kinds = {int} if isinstance(self.item, Whole) else {int, float}
        if not set(map(type, value)) <= kinds or getattr(self.item, "above", False):
            return False
        in_range = self.item.low <= min(value) and max(value) <= self.item.high
        return in_range and math.isfinite(sum(value))  # NaN has no place in an order

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        least = {"minItems": self.least} if self.least else {}
        most = {} if self.most is None else {"maxItems": self.most}
        return {"type": "array", **least, **most, "items": self.item.to_json()}


@dataclass(frozen=True)
class Record:
    """An object.

    Attributes:
        fields: what each of its fields is.
        required: fields that it must have.
        open: whether it may have others, which are ignored.
        later: what JSON Schema says about its fields together; whoever reads them checks it.
    """

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    open: bool = False
    later: Mapping[str, Any] = field(default_factory=dict)

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, dict):
            raise Misfit(f"is {shortened(value)}; must be an object with {', '.join(self.fields)}")
        if not self.open:
            for key in value:
                if key not in self.fields:
                    raise Misfit(unknown_key(key, self.fields))
        missing = [key for key in self.required if key not in value]
        if missing:
            raise Misfit(f"lacks {', '.join(missing)}")
        for key, shape in self.fields.items():
            if key in value:
                try:
                    shape.check(value[key])
                except Misfit as misfit:
                    misfit.path.insert(0, key)
                    raise

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {
            "type": "object",
            "additionalProperties": self.open,
            **({"required": list(self.required)} if self.required else {}),
            **self.later,
            "properties": {key: shape.to_json() for key, shape in self.fields.items()},
        }


def unknown_key(key: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Say that a field is unknown, and which one may be meant."""
    near = difflib.get_close_matches(key[:MAX_KEY], list(known), 1)
    hint = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
    return f"unknown field '{printable(key[:MAX_KEY])}'{hint}"


@dataclass(frozen=True)
class Table:
    """An object whose keys are the user's own.

    Attributes:
        item: what each value is.
    """

    item: Shape

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, dict):
            raise Misfit(f"is {shortened(value)}; must be an object")
        for key, entry in value.items():
            try:
                self.item.check(entry)
            except Misfit as misfit:
                misfit.path.insert(0, key)
                raise

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"type": "object", "additionalProperties": self.item.to_json()}


@dataclass(frozen=True)
class Either:
    """A value of one of several shapes, each a different kind of JSON value.

    Attributes:
        shapes: what it may be, by Python's type of it.
    """

    shapes: Mapping[type, Shape] = field(default_factory=dict)

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        shape = self.shapes.get(type(value))
        if shape is None:
            kinds = {str: "a text", list: "a list", dict: "an object", bool: "true or false", int: "a number"}
            raise Misfit(f"is {shortened(value)}; must be {' or '.join(kinds[kind] for kind in self.shapes)}")
        shape.check(value)

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"anyOf": [shape.to_json() for shape in self.shapes.values()]}


@dataclass(frozen=True)
class OrNull:
    """A value, or null, which means no value.

    Attributes:
        shape: what it may be otherwise.
    """

    shape: Shape

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""
        if value is not None:
            self.shape.check(value)

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"anyOf": [self.shape.to_json(), {"type": "null"}]}


@dataclass(frozen=True)
class CheckedLater:
    """A value that is checked where it is used, because checking needs more information; here it is only published.

    Attributes:
        shape: what it may be.
    """

    shape: Shape

    def check(self, value: Any) -> None:
        """See :class:`Shape`."""

    def to_json(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return self.shape.to_json()


def shape_of(kind: type, **more: Shape) -> Record:
    """Return the shape of a dataclass whose fields are annotated: ``steps: Annotated[int, Whole(1, 99)]``.

    Fields without a default are required.

    Args:
        kind: the dataclass.
        more: shapes of fields that are not annotated with one.
    """
    hints = get_type_hints(kind, include_extras=True)
    shapes = {
        name: more[name] if name in more else hints[name].__metadata__[0]
        for name in (one.name for one in dataclasses.fields(kind))
    }
    required = [
        one.name
        for one in dataclasses.fields(kind)
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    return Record(shapes, tuple(required))


def document(title: str, shape: Shape) -> dict[str, Any]:
    """Return a whole JSON Schema document, as docs/reference holds it."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return {**head, **shape.to_json()}
