"""The door: who may come in, and what every answer carries. Whatever goes wrong inside becomes one line here."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import json
import logging
import re
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobilesam.core.text import printable
from mobilesam.server.endpoints import ROUTE
from mobilesam.server.options import ServeOptions
from mobilesam.server.refusals import Refusal, refusal_of, to_body
from mobilesam.server.service import Service

LOG = logging.getLogger("mobilesam.server")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_TARGET = 2048  # bytes of an address
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 2**10
NOT_THE_PAGE = ("/v1/", "/api/", "/metrics", "/openapi", "/setup", "/predict")
OPEN = ("/health", "/ready")  # for whoever watches the server, without a token
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; worker-src 'self' blob:; "
        "script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    ),
}


class Door:
    """Checks each request, and answers for those that fail.

    Args:
        app: what is behind it.
        service: its options and token apply.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = Visit(scope, send, self.service)
        try:
            check_request(scope, self.service)
            await self.app(scope, receive, visit.send)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.code == "X":
                LOG.error("bug", exc_info=error, extra={"facts": {"request_id": visit.id}})
            await visit.refuse(refusal)
        finally:
            visit.tell()


class Visit:
    """One request: its id, its answer, and how long it took."""

    def __init__(self, scope: Scope, send: Send, service: Service) -> None:
        self.scope, self.out, self.service = scope, send, service
        self.id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = self.id
        self.start = time.perf_counter()
        self.status, self.bytes = 0, 0
        self.cut = False

    async def send(self, message: Message) -> None:
        """Pass a message on to the client, with what every answer carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.id
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self.out(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error; an answer that has already begun is just cut off."""
        if self.status:
            self.cut = True
            return
        body = b"" if refusal.status == 499 else (json.dumps(to_body(refusal, self.id)) + "\n").encode()
        if self.scope["method"] == "HEAD":
            body = b""
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    def tell(self) -> None:
        """Count the request, and log it in one line of JSON."""
        seconds = time.perf_counter() - self.start
        method = self.scope["method"] if self.scope["method"] in METHODS else "other"
        self.service.metrics.observe(method, self.scope.get(ROUTE, "other"), self.status, seconds)
        facts: dict[str, Any] = {
            "request_id": self.id,
            "client": (self.scope.get("client") or ("",))[0],
            "method": method,
            "path": printable(self.scope["path"])[:200],
            "status": self.status,
            "milliseconds": round(seconds * 1000, 1),
            "bytes": self.bytes,
        }
        LOG.info("request", extra={"facts": facts | ({"cut": True} if self.cut else {})})


def request_id_of(scope: Scope) -> str:
    """Return a request's id: the client's own, if it sent one that can be used, or a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def check_request(scope: Scope, service: Service) -> None:
    """Refuse requests from another site's page, under a host name that is not ours, or without the token.

    Raises:
        Refusal: 401, 403, 414, 421 or 431.
    """
    if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_TARGET:
        raise Refusal(414, "A", f"address: has more than {MAX_TARGET:,} bytes")
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if len(scope["headers"]) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Refusal(431, "A", f"headers: are more than {MAX_HEADERS}, or over {MAX_HEADER_BYTES:,} bytes")
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not is_own_host(hosts[0], service.options):
        raise Refusal(421, "A", "host: is not this server's; allow a further name with --allow-host")
    _check_origin(scope, headers, hosts[0])
    if service.token is not None and _needs_token(scope):
        if not hmac.compare_digest(token_in(headers).encode(), service.token.encode()):
            raise Refusal(
                401, "A", "authorization: needs Bearer and the server's token", {"WWW-Authenticate": "Bearer"}
            )


def token_in(headers: Headers) -> str:
    """Return the token of a request; a client that only knows passwords sends it as one (``Basic``)."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def is_own_host(value: str, options: ServeOptions) -> bool:
    """Whether a Host names this server: an address, localhost, or an allowed name.

    A page that makes its own name lead here (DNS rebinding) gives itself away by that name; an address has none.
    """
    try:
        name = urlsplit(f"//{value}").hostname
    except ValueError:
        return False
    if not name or "@" in value or "/" in value:
        return False
    if name == "localhost" or name in {options.host, options.allow_host}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(scope: Scope, headers: Headers, host: str) -> None:
    """Refuse requests from another site's page."""
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        leads_here = scope["method"] in SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
        if not leads_here:
            raise Refusal(403, "A", "origin: is another site; open the page of this server")
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Refusal(403, "A", "origin: is another site; open the page of this server")


def _needs_token(scope: Scope) -> bool:
    """Whether a request is for more than the page's own files or the server's health."""
    path = scope["path"]
    page = scope["method"] in ("GET", "HEAD") and not path.startswith(NOT_THE_PAGE)
    return path not in OPEN and not page
