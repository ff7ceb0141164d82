"""A server on this machine that serves one file, honestly or not.

The first part of an address says how: ``http://127.0.0.1:PORT/cut/known.safetensors``.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = b"<!DOCTYPE html><title>Sign in to the network</title>"
PIECE = 2**16
PIECE_SECONDS = 0.004  # between two pieces of a slow answer


class Server(ThreadingHTTPServer):
    """Counts what it is asked for and what it sends."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.requests: list[tuple[str, str]] = []  # way of serving, Range
        self.sent = 0
        self.stop = threading.Event()

    def address(self, way: str, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.server_address[1]}/{way}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or is killed, is no error."""


class Handler(BaseHTTPRequestHandler):
    """Each way of serving is a method."""

    server: Server

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        self.server.requests.append((way, self.headers.get("Range", "")))
        getattr(self, f"serve_{way}")()

    def do_CONNECT(self) -> None:
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:
        pass

    # --- what answers are made of

    @property
    def start(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data: bytes, seconds: float = 0.0) -> None:
        for offset in range(0, len(data), PIECE):
            self.wfile.write(data[offset : offset + PIECE])
            self.server.sent += len(data[offset : offset + PIECE])
            time.sleep(seconds)

    def part(self, until: int | None = None, seconds: float = 0.0) -> None:
        """Send the file from where it is asked for; cut the connection at ``until``."""
        whole = len(self.server.content)
        if self.start >= whole:
            return self.head(416, Content_Range=f"bytes */{whole}")
        span = {"Content_Range": f"bytes {self.start}-{whole - 1}/{whole}"} if self.start else {}
        self.head(206 if self.start else 200, Content_Length=whole - self.start, **span)
        self.send(self.server.content[self.start : until], seconds)

    def whole(self, data: bytes, **headers: object) -> None:
        self.head(200, **headers)
        self.send(data)

    def first_of_way(self) -> bool:
        return [way for way, _ in self.server.requests].count(self.path.split("/")[1]) == 1

    # --- honest ways

    def serve_honest(self) -> None:
        self.part()

    def serve_slow(self) -> None:
        self.part(seconds=PIECE_SECONDS)

    def serve_without_range(self) -> None:
        self.whole(self.server.content, Content_Length=len(self.server.content))

    def serve_without_length(self) -> None:
        self.whole(self.server.content)

    def serve_chunked(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.head(200, Transfer_Encoding="chunked", Connection="close")
        for offset in range(0, len(self.server.content), PIECE):
            piece = self.server.content[offset : offset + PIECE]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def serve_moved(self) -> None:
        self.head(302, Location="/honest/known.safetensors")

    def serve_busy_once(self) -> None:
        self.head(503, Retry_After=0) if self.first_of_way() else self.part()

    def serve_cut_once(self) -> None:
        self.part(until=len(self.server.content) // 2 if self.first_of_way() else None)

    def serve_cut_at_thirds(self) -> None:
        self.part(until=self.start + len(self.server.content) // 3 + 1)

    def serve_dripping(self) -> None:
        """The last bytes come one by one; each is a sign of life."""
        end = len(self.server.content)
        self.part(until=end - 20)
        for byte in self.server.content[-20:]:
            self.wfile.write(bytes([byte]))
            time.sleep(PIECE_SECONDS)

    def serve_cut_then_without_range(self) -> None:
        self.serve_cut_once() if self.first_of_way() else self.serve_without_range()

    def serve_cut_then_elsewhere(self) -> None:
        """Go on at another byte than asked for."""
        if self.first_of_way() or not self.start:
            return self.serve_cut_once()
        whole = len(self.server.content)
        self.head(206, Content_Range=f"bytes 5-{whole - 1}/{whole}", Content_Length=whole - 5)
        self.send(self.server.content[5:])

    def serve_cut_then_changed(self) -> None:
        """The first half is another file's; the whole is right."""
        if not self.first_of_way():
            return self.part()
        self.head(200, Content_Length=len(self.server.content))
        self.send(bytes(len(self.server.content) // 2))

    # --- ways that cannot succeed

    def serve_short(self) -> None:
        self.whole(self.server.content[:-1000], Content_Length=len(self.server.content) - 1000)

    def serve_long(self) -> None:
        self.whole(self.server.content + bytes(1000), Content_Length=len(self.server.content) + 1000)

    def serve_short_without_length(self) -> None:
        self.whole(self.server.content[: len(self.server.content) // 2])

    def serve_endless(self) -> None:
        self.head(200)
        while not self.server.stop.is_set():
            self.wfile.write(bytes(PIECE))

    def serve_wrong(self) -> None:
        self.whole(bytes(len(self.server.content)), Content_Length=len(self.server.content))

    def serve_page(self) -> None:
        self.whole(PAGE, Content_Type="text/html; charset=utf-8", Content_Length=len(PAGE))

    def serve_page_as_file(self) -> None:
        size = len(self.server.content)
        self.whole(PAGE.ljust(size), Content_Type="application/octet-stream", Content_Length=size)

    def serve_missing(self) -> None:
        self.send_error(404)

    def serve_forbidden(self) -> None:
        self.send_error(403)

    def serve_down(self) -> None:
        self.head(503, Retry_After=0)

    def serve_silent(self) -> None:
        self.head(200, Content_Length=len(self.server.content))
        self.server.stop.wait(60)

    def serve_silent_at_half(self) -> None:
        self.part(until=len(self.server.content) // 2)
        self.server.stop.wait(60)

    def serve_nonsense(self) -> None:
        self.wfile.write(b"hello\r\n\r\n")

    def serve_loop(self) -> None:
        self.head(302, Location="/loop/known.safetensors")

    def serve_to_http(self) -> None:
        self.head(302, Location="http://example.invalid/known.safetensors")

    def serve_to_file(self) -> None:
        self.head(302, Location="file:///etc/passwd")

    def serve_to_nowhere(self) -> None:
        self.head(302, Location="http://[")


@contextmanager
def serving(content: bytes, certificate: Path | None = None) -> Iterator[Server]:
    """Run a server in a thread, with TLS if there is a file with a certificate and its key."""
    with Server(content) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()
