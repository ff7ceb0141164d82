"""Numbers that must lie in a range; others are refused with their name, their value and what is allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from mobilesam.core.errors import LimitError, PromptError

SHOWN = 40  # characters of a value that messages show


def check_number(name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse anything but a finite number from ``low`` to ``high``, or above ``low`` with ``above``.

    Raises:
        PromptError: names the argument, its value and the range.

    Example:
        >>> check_number("seconds", -1, 0.0, above=True)
        Traceback (most recent call last):
        mobilesam.core.errors.PromptError: seconds: is -1; must be a number above 0
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and low <= value <= high and value != math.inf and not (above and value == low):
        return
    allowed = f"above {low:g}" if above else f"from {low:g}"
    until = "" if high == math.inf else f" to {high:g}"
    raise PromptError(f"{name}: is {_shown(value)}; must be a number {allowed}{until}")


def check_whole_number(name: str, value: Any, low: int, limit: int | None = None) -> None:
    """Refuse anything but a whole number from ``low``, and what is over ``limit``.

    Raises:
        PromptError: names the argument, its value and the range.
        LimitError: if it is too large.
    """
    until = "" if limit is None else f" to {limit}"
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < low:
        raise PromptError(f"{name}: is {_shown(value)}; must be a whole number from {low}{until}")
    if limit is not None and int(value) > limit:
        raise LimitError(f"{name}: is {_shown(value)}; at most {limit} is allowed")


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**SHOWN:  # Python does not print the very long ones
        return f"{'-' if value < 0 else ''}2^{value.bit_length() - 1} or more"
    text = str(value) if isinstance(value, Real) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
