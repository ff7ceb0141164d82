"""Which parameters of a test belong to the short series, and which to the long one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def one_in(n: int, values: Iterable) -> list:
    """Return a test's parameters: the first of every ``n`` is in the short series, the others in the long one."""
    return [value if i % n == 0 else long(value) for i, value in enumerate(values)]


def long(value: object) -> object:
    """Return a parameter, or a tuple of them, of the long series."""
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.long)


def value_of(parameter: object) -> object:
    """Return the first value of a parameter, whichever series it is of."""
    return parameter.values[0] if isinstance(parameter, type(pytest.param())) else parameter
