"""Prompts that come at a rate, answered or not: ``python -m tests.server.open_load PORT PATH RATE SECONDS CONNECTIONS``.

A process of its own with one thread and plain sockets, so that it takes little of the processor, and tells how much.
A request that had to be sent late, as no connection was free or the processor was busy, counts from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque

BODY = b'{"objects": [{"points": [[210, 140]]}]}'
STEP = 0.002  # seconds between looks at what is due
WARM = 2.0  # seconds before those that count: the server learns that it is overrun
LAST = 30.0  # seconds that the last answers may take


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.load.free.append(self)

    def send(self, due: float) -> None:
        self.due, self.head, self.missing = due, b"", -1  # while the head is incomplete
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.head[:end].lower(), self.head[end + 4 :]
            self.status = int(head[9:12])
            self.missing = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        self.missing -= len(data)
        if self.missing == 0:
            self.load.note(self.status, self.due)
            self.load.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.load.open:
            raise RuntimeError("the server has closed a connection")


class Load:
    """Requests at a rate, and what came back."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/vnd.mobilesam.logits\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        )
        self.request = head.encode() + BODY
        self.free: deque[Connection] = deque()
        self.took: dict[int, list[float]] = {}
        self.sent = self.came = 0
        self.start = 0.0  # of what counts
        self.open = True

    def note(self, status: int, due: float) -> None:
        self.came += 1
        if due >= self.start:
            self.took.setdefault(status, []).append(time.monotonic() - due)

    async def run(self, rate: float, seconds: float, connections: int) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
        rng = random.Random(0)
        processor = time.process_time()
        begin = time.monotonic()
        self.start, end = begin + WARM, begin + WARM + seconds
        due = begin + rng.expovariate(rate)
        while (now := time.monotonic()) < end:
            while due <= now and self.free:
                self.free.popleft().send(due)
                self.sent += 1
                due += rng.expovariate(rate)
            await asyncio.sleep(STEP)
        share = (time.process_time() - processor) / (now - begin)
        in_time = {status: len(took) for status, took in self.took.items()}
        while self.came < self.sent and time.monotonic() < now + LAST:
            await asyncio.sleep(STEP)
        self.open = False
        return {
            "seconds": now - self.start,
            "sent": self.sent,
            "unanswered": self.sent - self.came,
            "processor": share,
            "in_time": in_time,
            "took": self.took,
        }


def main(port: str, path: str, rate: str, seconds: str, connections: str) -> None:
    load = Load(int(port), path)
    print(json.dumps(asyncio.run(load.run(float(rate), float(seconds), int(connections)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
