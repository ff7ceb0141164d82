"""The application: the door, the routes behind it, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from mobilesam.server import images, photo_routes, status
from mobilesam.server.door import METHODS, Door
from mobilesam.server.endpoints import Endpoint
from mobilesam.server.integrations import label_studio, osam, rembg
from mobilesam.server.openapi import make_document
from mobilesam.server.page import Page
from mobilesam.server.refusals import Refusal
from mobilesam.server.service import Service

OWN = (*images.ENDPOINTS, *photo_routes.ENDPOINTS, *status.ENDPOINTS)
ENDPOINTS = (*OWN, *rembg.ENDPOINTS, *osam.ENDPOINTS, *label_studio.ENDPOINTS)
DOCUMENT = make_document(ENDPOINTS)


async def openapi(service: Service, request: Request) -> Response:
    """Send the OpenAPI document."""
    return JSONResponse(DOCUMENT)


def make_app(service: Service) -> Starlette:
    """Return a service's application; when it ends, the service is closed."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    document = Endpoint("GET", "/openapi.json", openapi, "This document.")
    endpoints = (*ENDPOINTS, document)
    routes = [one.to_route(service) for one in endpoints]
    return Starlette(
        routes=[*routes, *other_methods(endpoints), Mount("/", Page(), name="page")],
        middleware=[Middleware(Door, service=service)],
        exception_handlers={HTTPException: refuse},  # type: ignore[dict-item]
        lifespan=lifespan,
    )


def other_methods(endpoints: Sequence[Endpoint]) -> list[Route]:
    """Return routes that refuse methods that an address does not have; all other addresses belong to the page."""
    allowed: dict[str, list[str]] = {}
    for one in endpoints:
        allowed.setdefault(one.path, []).extend([one.method, "HEAD"] if one.method == "GET" else [one.method])
    return [
        Route(path, refuse_method(there), methods=[one for one in METHODS if one not in there])
        for path, there in allowed.items()
    ]


def refuse_method(allowed: Sequence[str]) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that refuses a method and names the allowed ones."""

    async def refuse_it(request: Request) -> Response:
        names = ", ".join(allowed)
        raise Refusal(405, "A", f"method: this address has {names}", {"Allow": names})

    return refuse_it


async def refuse(request: Request, error: HTTPException) -> Response:
    """Turn Starlette's refusals into the door's."""
    words = {404: "address: there is nothing here", 405: "method: is not allowed at this address"}
    raise Refusal(error.status_code, "A", words.get(error.status_code, "request: was refused"), error.headers)
