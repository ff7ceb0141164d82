"""The gate: prompts that there is no place for, refused before the rest of the server sees them.

To read HTTP, find a route and ask the lane takes a millisecond and more. When far more come than can be answered, that
time would be missing for the answers. The gate knows one form of request, and passes all others on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mobilesam.server.door import SECURITY, check_request, request_id_of
from mobilesam.server.endpoints import ROUTE
from mobilesam.server.refusals import Refusal, to_body
from mobilesam.server.service import Service

HEAD = re.compile(
    rb"POST (/v1/images/[0-9a-f]{64}/(segment|session))(?:\?([!-~]*))? HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]+:[\t -~]*\r\n)+)\r\n"
)
MAX_HEAD = 4096  # bytes; longer ones are read in full
KNOWN_HEADS = 256  # a client's next head is mostly the same
UNUSUAL = {b"transfer-encoding", b"expect", b"upgrade"}  # headers that change how a request is read
USUAL = b"keep-alive"  # the only value of Connection that changes nothing
LENGTH = re.compile(rb"[0-9]{1,9}")
ALWAYS = "".join(
    f"{name}: {value}\r\n"
    for name, value in {"Content-Type": "application/json", **SECURITY, "Cache-Control": "no-store"}.items()
)


@dataclass(frozen=True)
class Head:
    """The head of a prompt that may come in.

    Attributes:
        scope: what the door would see of it.
        length: bytes of the whole request.
    """

    scope: dict[str, Any]
    length: int


@dataclass(frozen=True)
class TurnedAway:
    """A request that was refused.

    Attributes:
        answer: the bytes of the whole answer.
        length: bytes of the request, of which some may not have arrived.
    """

    answer: bytes
    length: int


class Gate:
    """Refuses prompts that there is no place for.

    Args:
        service: has the lane of prompts.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._read = lru_cache(KNOWN_HEADS)(self._read_head)

    def turn_away(self, data: bytes, more_headers: list[tuple[bytes, bytes]]) -> TurnedAway | None:
        """Return the refusal of a prompt; None if there is a place for it, or if it must be read in full.

        Args:
            data: what has arrived on a connection since its last request.
            more_headers: that every answer of this server has.
        """
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
        head = self._read(data[:end]) if data.startswith(b"POST /v1/images/") else None
        if head is None or self.service.stopping:
            return None
        lane = self.service.prompting
        if not lane.full:
            if len(data) >= head.length:
                lane.expect()
            return None
        refusal = lane.turn_away()
        self.service.metrics.observe("POST", head.scope[ROUTE], refusal.status, 0.0)
        return TurnedAway(_to_answer(refusal, request_id_of(head.scope), more_headers), head.length)

    def _read_head(self, data: bytes) -> Head | None:
        """Return a head; None if it is not of the form that is known here, or if the door would refuse it."""
        match = HEAD.fullmatch(data)
        if match is None:
            return None
        path, action, query, block = match.groups()
        lines = (line.partition(b":") for line in block[:-2].split(b"\r\n"))
        headers = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
        length = _length_of(headers)
        if length is None or length > self.service.options.max_bytes:
            return None
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path.decode(),
            "raw_path": path,
            "query_string": query or b"",
            "headers": headers,
            ROUTE: f"/v1/images/{{id}}/{action.decode()}",
        }
        try:
            check_request(scope, self.service)
        except Refusal:
            return None  # the door says why
        return Head(scope, len(data) + length)


def _length_of(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the bytes of a request's body; None if they are not told in the one usual way."""
    found = [value for name, value in headers if name == b"content-length"]
    for name, value in headers:
        if name in UNUSUAL or (name == b"connection" and value.lower() != USUAL):
            return None
    return int(found[0]) if len(found) == 1 and LENGTH.fullmatch(found[0]) else None


def _to_answer(refusal: Refusal, request_id: str, more_headers: list[tuple[bytes, bytes]]) -> bytes:
    body = json.dumps(to_body(refusal, request_id)) + "\n"
    more = b"".join(b"%b: %b\r\n" % one for one in more_headers).decode()
    own = "".join(f"{name}: {value}\r\n" for name, value in refusal.headers.items())
    return (
        f"HTTP/1.1 {refusal.status} Too Many Requests\r\n{more}{own}{ALWAYS}"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n\r\n{body}"
    ).encode()
