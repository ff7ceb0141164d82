"""Command-line options from the fields of dataclasses: one home for a name, its default and what it means.

An option is named after its field. Its help is what the class's docstring says about the field under
``Attributes:``; its default is the field's. A command takes an instance of the class:

>>> @dataclass(frozen=True)
... class Size:
...     '''How large.
...
...     Attributes:
...         width: pixels from left to right.
...     '''
...
...     width: int = 3
>>> @click.command()
... @options_from(Size, "size")
... def show(size: Size) -> None:
...     click.echo(size)
>>> show(["--width", "4"], standalone_mode=False)
Size(width=4)

A class of a lower storey may put ``metavar`` and ``shown_default`` into its fields' metadata.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import click

EMPTY = "is empty; give a path"
CLICK = "click"  # a field's metadata: what click's option takes besides what follows from the field


A_PATH = re.compile("DIR|FILE|FOLDER")  # what the metavar of an option has whose value is a path


class NumberType(click.ParamType):
    """A number; anything else is handed on, because the library says best what is allowed."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int, a float or the text."""
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return value


class NameType(click.types.StringParamType):
    """A text that is called NAME."""

    name = "NAME"


class FileType(click.Path):
    """A path that is called FILE."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)
        self.name = "FILE"  # click sets "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path; an empty text, as an unset variable gives it, does not mean the current folder."""
        if value == "":
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


def option_field(default: Any, *flags: str, shown_default: str = "", **settings: Any) -> Any:
    """Return a dataclass field with what its option needs beyond name, default and docstring.

    Args:
        default: of the field.
        flags: of the option, if they are not just the field's name: ``--out``, ``-o``.
        shown_default: what help prints as the default, where the field's own does not say it.
        settings: what :func:`click.option` takes, such as ``metavar``.
    """
    return field(default=default, metadata={CLICK: Extra(flags, shown_default, settings)})


@dataclass(frozen=True)
class Extra:
    """What an option needs beyond its field's name, default and docstring; see :func:`option_field`."""

    flags: tuple[str, ...] = ()
    shown_default: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """A field as its option shows it.

    Attributes:
        name: of the field.
        flags: of the option: ``--max-boxes``.
        about: what it means, without a dot at the end.
        default: as it is printed; empty where there is none to show.
        metavar: what stands for the value; empty for a switch.
        settings: what :func:`click.option` takes.
    """

    name: str
    flags: tuple[str, ...]
    about: str
    default: str
    metavar: str
    settings: dict[str, Any]


def described(cls: type) -> list[Described]:
    """Return the fields of a dataclass that can be options: plain ones, and those of :func:`option_field`."""
    about = attribute_texts(cls)
    kinds = typing.get_type_hints(cls)
    return [
        _describe(one, _plain_kind(kinds[one.name]), about[one.name])
        for one in fields(cls)
        if CLICK in one.metadata or _plain_kind(kinds[one.name]) is not None
    ]


def _describe(one: Field, kind: type | None, about: str) -> Described:
    extra = one.metadata.get(CLICK) or _plain_extra(one)
    flags = extra.flags or (f"--{one.name.replace('_', '-')}",)
    settings = dict(extra.settings)
    if kind is bool:
        settings.setdefault("is_flag", True)
        metavar = ""
    else:
        settings.setdefault("type", _click_type(kind))
        metavar = str(settings.get("metavar") or settings["type"].name)
        settings["metavar"] = metavar
    return Described(one.name, flags, about, extra.shown_default or _shown(one.default), metavar, settings)


def _plain_extra(one: Field) -> Extra:
    """Return what a field of a class that knows nothing of click may say about its option."""
    settings = {"metavar": one.metadata["metavar"]} if "metavar" in one.metadata else {}
    return Extra(one.metadata.get("flags", ()), one.metadata.get("shown_default", ""), settings)


def attribute_texts(cls: type) -> dict[str, str]:
    """Return what a class's docstring says about each attribute, on one line and without the dot at its end.

    Without docstrings, as under ``python -OO``, these are empty.
    """
    texts = {one.name: "" for one in fields(cls)}
    part = re.search(r"^Attributes:\n((?:    .*\n?|\n)*)", inspect.getdoc(cls) or "", re.MULTILINE)
    for name, text in re.findall(r"^    (\w+): (.*(?:\n      .*)*)", part[1] if part else "", re.MULTILINE):
        texts[name] = re.sub(r"\s+", " ", text).rstrip(".")
    return texts


def options_from(
    cls: type, name: str, *, make: Callable[..., Any] | None = None
) -> Callable[[Callable], Callable]:
    """Add an option for each field of a dataclass; the command gets an instance of it as ``name``.

    Args:
        cls: the dataclass. What is not given on the command line is left to its defaults.
        name: of the command's parameter.
        make: called with what was given, in place of the class; ``dict`` hands it on as it is.
    """
    chosen = described(cls)

    def add(command: Callable) -> Callable:
        @wraps(command)
        def call(*arguments: Any, **values: Any) -> Any:
            given = {one.name: values.pop(one.name) for one in chosen}
            for one in chosen:
                if given[one.name] == "" and A_PATH.search(one.metavar):
                    raise click.UsageError(f"{one.flags[0]}: {EMPTY}")
            made = (make or cls)(**{key: value for key, value in given.items() if value is not None})
            return command(*arguments, **values, **{name: made})

        result: Callable = call
        for one in reversed(chosen):
            default = f"  [default: {one.default}]" if one.default else ""
            about = f"{one.about[:1].upper()}{one.about[1:]}.{default}".replace("``", "")
            result = click.option(*one.flags, one.name, help=about, **one.settings)(result)
        return result

    return add


def _plain_kind(kind: Any) -> type | None:
    """Return bool, int, float, str or Path for such a type or one that may also be None; otherwise None."""
    if get_origin(kind) in (Union, UnionType):
        rest = [one for one in get_args(kind) if one is not NoneType]
        kind = rest[0] if len(rest) == 1 else None
    return kind if kind in (bool, int, float, str, Path) else None


def _click_type(kind: type | None) -> click.ParamType:
    if kind in (int, float):
        return NumberType()
    return FileType() if kind is Path else NameType()


def _shown(default: Any) -> str:
    if default is MISSING or default is None or default is False or default == ():
        return ""
    if isinstance(default, float):
        return f"{default:.3g}"
    return f"{default:,}" if isinstance(default, int) else str(default)
