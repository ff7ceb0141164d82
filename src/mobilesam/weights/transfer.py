"""Fetch a file over HTTPS, piece by piece, from where an earlier transfer ended.

The address is not trusted: the checksum of whatever it sends is verified afterwards. Here it
is only kept from wasting time and space, and errors are reported.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from mobilesam.weights.registry import WeightsEntry

CHUNK = 2**20
TRIES = 5
MAX_WAIT = 10.0  # seconds between two tries, whatever the server asks for
MAX_REDIRECTS = 5
MAX_REASON = 120
PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml")
WEB_PAGE = "sends a web page, not the file"
PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
AGENT = "mobilesam"


class TransferError(Exception):
    """A transfer that failed; the message is the reason, with no more of the server's words than fit on a line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason[:MAX_REASON])


class _Interrupted(TransferError):
    """A transfer that may succeed if it is tried again after ``wait`` seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Silence(_Interrupted):
    """The server sent nothing until the timeout."""


class _RangeRefused(TransferError):
    """The server has nothing from the requested byte on."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of a file.

    Attributes:
        offset: where they belong. It goes back to 0 if a server starts over.
        data: the bytes.
        total: how many the file has, as far as is known.
        continues: whether the bytes before them came with another answer.
    """

    offset: int
    data: bytes
    total: int
    continues: bool


def pieces(url: str, start: int, entry: WeightsEntry, timeout: float) -> Iterator[Piece]:
    """Fetch an entry's file from one address in several tries, each from where the last one ended.

    Args:
        url: an https address; http only on this machine.
        start: how many bytes have already arrived.
        entry: says how large the file is.
        timeout: seconds without a byte after which a try is given up; after one that
            brought no bytes at all there is no other.

    Raises:
        TransferError: if no try succeeds.
    """
    done = start
    for attempt in range(1, TRIES + 1):
        before = done
        try:
            for piece in _one_try(url, done, entry, timeout):
                done = piece.offset + len(piece.data)
                yield piece
            return
        except _RangeRefused:
            if done == 0 or attempt == TRIES:
                raise
            done = 0
        except _Interrupted as error:
            if attempt == TRIES or (isinstance(error, Silence) and done <= before):
                raise
            wait = 2.0 ** (attempt - 2) if error.wait is None else error.wait
            time.sleep(0 if done > before else min(wait, MAX_WAIT))


def _one_try(url: str, start: int, entry: WeightsEntry, timeout: float) -> Iterator[Piece]:
    check_address(url)
    headers = {"User-Agent": AGENT} | ({"Range": f"bytes={start}-"} if start else {})
    with _told_plainly(url, timeout):
        try:
            response = _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise _status_error(error) from error
        with response:
            done, announced = _check_answer(response, start, entry)
            continues = done > 0
            total = announced or entry.largest  # of an endless body no more than this is taken
            while done < total and (data := response.read1(min(CHUNK, total - done))):
                if done == 0 and data.lstrip().lower().startswith(PAGE_STARTS):
                    raise TransferError(WEB_PAGE)
                yield Piece(done, data, announced or entry.size, continues)
                done += len(data)
    if done < total and (announced or not entry.rounded):
        raise _Interrupted(f"the connection was cut after {done:,} of {total:,} bytes")


def _check_answer(response: Any, start: int, entry: WeightsEntry) -> tuple[int, int]:
    """Return the byte at which an answer starts, and the declared size of the whole file, or 0."""
    if response.headers.get_content_type() == "text/html":
        raise TransferError(WEB_PAGE)
    total = response.headers.get("Content-Length", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != start:
            raise _RangeRefused("continues at another place than it was asked to")
        total = span[2]
    else:
        start = 0
    if not total.isdecimal():
        return start, 0
    if int(total) > entry.largest or (int(total) != entry.size and not entry.rounded):
        about = "about " if entry.rounded else ""
        raise TransferError(f"sends {int(total):,} bytes, the published file has {about}{entry.size:,}")
    return start, int(total)


def check_address(url: str, origin: str = "") -> None:
    """Check that an address is https, or http on this machine without a redirect from elsewhere.

    Args:
        url: the address.
        origin: the address that redirects to it, if any.

    Raises:
        TransferError: if it is not.
    """
    local = _is_loopback(url)
    scheme = urlsplit(url).scheme
    from_here = _is_loopback(origin) if origin else local
    if scheme == "https" and local <= from_here:
        return
    if scheme == "http" and local and from_here and not origin.startswith("https"):
        return
    words = "redirects to" if origin else "the address is"
    where = f"{scheme}://{urlsplit(url).hostname or ''}"
    raise TransferError(f"{words} {where}; only https is used (http on this machine only)")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects are followed only to https, and not endlessly."""

    max_redirections = MAX_REDIRECTS

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        target = headers.get("Location")
        try:
            if target:
                check_address(urljoin(req.full_url, target), req.full_url)
        except (TransferError, ValueError):
            fp.close()
            raise
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that knows only http, https and the environment's proxies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _status_error(error: urllib.error.HTTPError) -> TransferError:
    if 300 <= error.code < 400:
        return TransferError("redirects without end")
    reason = f"{error.code} {error.reason}"
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _RangeRefused(reason)
    if error.code in PASSING_STATUSES:
        asked = error.headers.get("Retry-After", "")
        return _Interrupted(reason, float(asked) if asked.isdecimal() else None)
    return TransferError(reason)


@contextlib.contextmanager
def _told_plainly(url: str, timeout: float) -> Iterator[None]:
    """Turn errors of the network libraries into reasons that a user can act on."""
    try:
        yield
    except (http.client.HTTPException, OSError, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _connection_error(url, cause, timeout) from error


def _connection_error(url: str, cause: Any, timeout: float) -> TransferError:
    proxy = _proxy_of(url)
    who = f"the proxy {proxy}" if proxy else "the server"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TransferError(f"its TLS certificate is not valid ({cause.verify_message})")
    if isinstance(cause, ssl.SSLError):
        return TransferError(f"no secure connection ({cause.reason or cause})")
    if "Tunnel connection failed" in str(cause):
        return TransferError(f"{who} refused ({str(cause).partition('failed: ')[2]})")
    if isinstance(cause, socket.gaierror):
        return TransferError(f"no network, or {'the proxy' if proxy else 'its name'} is not known")
    if isinstance(cause, TimeoutError):
        return Silence(f"{who} sent nothing for {timeout:g} s")
    if isinstance(cause, ConnectionRefusedError):
        return TransferError(f"{who} refused the connection")
    if isinstance(cause, http.client.HTTPException | ConnectionError):
        return _Interrupted("the connection was cut")
    return TransferError(f"no connection ({getattr(cause, 'strerror', None) or cause})")


def _proxy_of(url: str) -> str:
    """Return the host of the proxy through which an address is reached, without its password."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    return (urlsplit(proxy if "//" in proxy else f"//{proxy}").hostname or "") if proxy else ""
