"""segment_anything's ``modeling``: the network's class, for annotations and ``isinstance``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mobilesam.core.errors import missing_extra

if TYPE_CHECKING:
    from mobilesam.compat.segment_anything.sam import Sam as Sam


def __getattr__(name: str) -> Any:
    if name != "Sam":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from mobilesam.compat.segment_anything.sam import Sam
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra("modeling.Sam", "torch") from error
    return Sam
