"""Routes as values: each with its handler, and what the OpenAPI document says about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mobilesam.core.errors import PromptError
from mobilesam.core.schema import Shape
from mobilesam.server.answers import Answer
from mobilesam.server.refusals import Refusal
from mobilesam.server.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]
ANYTHING = "*/*"
ROUTE = "mobilesam.route"  # key in a request's scope for the route that answers it


@dataclass(frozen=True)
class Endpoint:
    """A route.

    Attributes:
        method: HTTP method.
        path: with its parameters in braces.
        handler: answers a request.
        about: one sentence.
        body: shape of the request's JSON; None where it has none.
        bodies: further media types that a request may have.
        answers: by media type, the shape of the answer, or None where it is not JSON.
        query: by name, the shape of each query parameter.
        any_query: whether any parameter is accepted; the handler checks it.
        status: status of success.
        errors: statuses of refusals, besides those that any request may get.
    """

    method: str
    path: str
    handler: Handler
    about: str
    body: Shape | None = None
    bodies: tuple[str, ...] = ()
    answers: Mapping[str, Shape | None] = field(default_factory=dict)
    query: Mapping[str, Shape] = field(default_factory=dict)
    any_query: bool = False
    status: int = 200
    errors: tuple[int, ...] = ()

    def to_route(self, service: Service) -> Route:
        """Return it as Starlette's route."""

        async def answer(request: Request) -> Response:
            request.scope[ROUTE] = self.path
            for name in request.query_params:
                if name not in self.query and not self.any_query:
                    known = ", ".join(self.query) or "none"
                    raise PromptError(
                        f"{name[:40]}: unknown; this address takes {known} after the ?", code="U"
                    )
            return await self.handler(service, request)

        return Route(self.path, answer, methods=[self.method])


def to_response(answer: Answer, status: int = 200) -> Response:
    """Return an answer as Starlette's response."""
    return Response(answer.content, status, answer.headers, answer.kind)


def choose_kind(request: Request, kinds: tuple[str, ...]) -> str:
    """Return which of several media types a client prefers; the first where it does not mind.

    Raises:
        Refusal: 406 where it wants none of them.
    """
    accept = request.headers.get("accept", ANYTHING)
    wanted = sorted(map(_weighed, accept.split(",")), key=lambda one: -one[1])
    for pattern, weight in wanted:
        for kind in kinds:
            if weight > 0 and pattern in (kind, ANYTHING, f"{kind.partition('/')[0]}/*"):
                return kind
    raise Refusal(406, "A", f"accept: this address sends {', '.join(kinds)}")


def _weighed(part: str) -> tuple[str, float]:
    """Return a media range and its weight, 0..1."""
    pattern, *parameters = (one.strip().lower() for one in part.split(";"))
    weight = 1.0
    for one in parameters:
        if one.startswith("q="):
            try:
                weight = float(one[2:])
            except ValueError:
                weight = 0.0
    return pattern or ANYTHING, weight


def flag_of(request: Request, name: str) -> bool | None:
    """Return a query parameter that is true or false; None where it is missing.

    Raises:
        PromptError: for another value.
    """
    value = request.query_params.get(name)
    if value is None:
        return None
    if value not in ("true", "false"):
        raise PromptError(f"{name}: is {value[:40]!r}; must be true or false", code="U")
    return value == "true"


def whole_of(request: Request, name: str, low: int, high: int) -> int | None:
    """Return a query parameter that is a whole number; None where it is missing.

    Raises:
        PromptError: for another value.
    """
    value = request.query_params.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and low <= int(value) <= high):
        raise PromptError(
            f"{name}: is {value[:40]!r}; must be a whole number from {low} to {high:,}", code="U"
        )
    return int(value)
