"""How a request is refused: the error contract as HTTP statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mobilesam.core.errors import LimitError, MobileSamError
from mobilesam.core.text import one_line

PLACE = re.compile(r"^(?:body: )?((?:[a-z_]+(?:\[\d+\])*\.?)+): ")
STATUSES = {"U": 400, "S": 422, "I": 422, "L": 422, "W": 500, "O": 507, "T": 504, "X": 500}
BUG = "an error of ours; please report it, with the request id"


class Refusal(MobileSamError):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        headers: the headers that go with it, such as ``Retry-After``.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def busy(what: str, seconds: float) -> Refusal:
    """Return the refusal of a request that there is no place for."""
    return Refusal(
        429,
        "B",
        f"{what}: all places are taken; try again later",
        {"Retry-After": f"{max(1, round(seconds))}"},
    )


def gone_away() -> Refusal:
    """Return the refusal of a request whose client has hung up; nobody reads it."""
    return Refusal(499, "A", "the client has hung up")


def refusal_of(error: BaseException) -> Refusal:
    """Return how an error is reported over HTTP; nothing is revealed about our own bugs."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, MemoryError):
        return Refusal(422, LimitError.code, "not enough memory; give a smaller image or fewer prompts")
    if isinstance(error, MobileSamError) and error.code in STATUSES:
        return Refusal(
            STATUSES[error.code], error.code, BUG if error.code == "X" else one_line(error.message)
        )
    return Refusal(500, "X", BUG)


def to_body(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """Return what the client reads."""
    place = PLACE.match(refusal.message)
    field = {"field": place[1]} if place else {}
    return {"error": {"code": refusal.code, "message": refusal.message, **field, "request_id": request_id}}
