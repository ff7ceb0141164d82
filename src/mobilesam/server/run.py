"""The server's process: its socket, its signals, its log, and clients that are too slow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mobilesam.core.errors import ConfigError
from mobilesam.server.app import make_app
from mobilesam.server.door import LOG
from mobilesam.server.gate import Gate
from mobilesam.server.memory import keep_little
from mobilesam.server.options import ServeOptions
from mobilesam.server.service import Service

HEAD_SECONDS = 10.0  # within which a request's head must arrive
KEEP_ALIVE = 5  # seconds that a connection may idle
GRACE = 8  # seconds that requests have to end when the server is stopped
MAX_HEAD = 32 * 2**10  # bytes
LAST_JOB = 1.0  # seconds that the running job may still take when all requests have ended
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Protocol(H11Protocol):
    """HTTP with a gate before it, and a deadline for a request's head, which uvicorn does not have."""

    gate: Gate  # set in the class of each server
    refused: Refused
    _late: asyncio.TimerHandle | None = None
    _unread = 0  # bytes still to come of a request that was refused at the gate

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Refuse at the gate, or stop the clock when the head is complete."""
        while data := self._after_gate(data):
            if not self._turned_away(data):
                self._read(data)
                return

    def _after_gate(self, data: bytes) -> bytes:
        """Return what belongs to no request that was refused at the gate."""
        skipped = min(self._unread, len(data))
        self._unread -= skipped
        return data[skipped:]

    def _turned_away(self, data: bytes) -> bool:
        if self.conn.our_state is not h11.IDLE or self.conn.trailing_data[0] or self.transport.is_closing():
            return False
        turned = self.gate.turn_away(data, self.server_state.default_headers)
        if turned is None:
            return False
        self._stop_waiting()
        self._unread = turned.length
        self.transport.write(turned.answer)
        self.refused.count(self.loop)
        self.on_response_complete()
        return True

    def _read(self, data: bytes) -> None:
        if self._late is None and not self._answering:
            self._wait_for_head()
        super().data_received(data)
        if self._answering:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Refused:
    """Tells the log how many requests were refused at the gate, once a second."""

    def __init__(self) -> None:
        self.many = 0

    def count(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count one."""
        if not self.many:
            loop.call_later(1.0, self._tell)
        self.many += 1

    def _tell(self) -> None:
        LOG.info("refused", extra={"facts": {"status": 429, "requests": self.many}})
        self.many = 0


class Server(uvicorn.Server):
    """A server that answers its requests before it ends, and does not pass the signal on.

    Args:
        config: uvicorn's.
        service: learns when the server is ending.
        on_ready: called once, when requests are being answered.
    """

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self.on_ready = service, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let a signal end the server, and a second one end it at once; neither is passed on afterwards."""
        before = {number: signal.signal(number, self._end) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: Any) -> None:
        if self.should_exit:
            os._exit(0)
        self.service.stopping = True
        self.should_exit = True


class JsonLines(logging.Formatter):
    """A line of JSON for each event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        facts: dict[str, Any] = {"time": f"{now}.{int(record.msecs):03}Z", "level": record.levelname.lower()}
        facts |= {"event": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)


def open_socket(options: ServeOptions) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: if the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # Unless the protocol is named, asyncio lets small answers wait for each other (Nagle's algorithm).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows this would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((options.host, options.port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"host, port: cannot listen at {options.host}:{options.port} ({reason}); "
            "choose another port, or 0 for a free one"
        ) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """Return the address that a browser opens."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def run_server(
    service: Service,
    listening: socket.socket,
    *,
    on_ready: Callable[[], None],
    quiet: bool = False,
    cluster: ASGIApp | None = None,
) -> None:
    """Answer requests until a signal arrives; then finish those that are running.

    Args:
        service: answers them.
        listening: a socket that listens.
        on_ready: called once, when requests are being answered.
        quiet: log only warnings and errors.
        cluster: the application, where others do the work.
    """
    log_to(sys.stderr, quiet=quiet)
    if cluster is None:
        keep_little()
        service.warm()
    config = uvicorn.Config(
        cluster or make_app(service),
        http=type("GatedProtocol", (Protocol,), {"gate": Gate(service), "refused": Refused()}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    asyncio.run(Server(config, service, on_ready).serve([listening]))
    if not service.close(LAST_JOB):
        sys.stdout.flush()
        os._exit(0)  # a job is still inside the network, and nobody waits for it


def log_to(stream: Any, *, quiet: bool) -> None:
    """Write the log as lines of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name, level in (
        ("mobilesam.server", logging.WARNING if quiet else logging.INFO),
        ("uvicorn", logging.WARNING),
    ):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)
