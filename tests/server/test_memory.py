"""A server's memory under full load: images that push each other out, all kinds of questions, clients that hang up."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import httpx
import numpy as np
import pytest

from mobilesam.core.allocator import VARIABLE
from tests.photos import cat, jpeg
from tests.server.running import Running, running

MINUTES = float(os.environ.get("MOBILESAM_MEMORY_MINUTES", "10"))
CLIENTS = 3
EVERY = 2.0  # seconds between readings
WARM = 0.4  # part of the time before those that count: the allocator has not yet seen everything
GROWTH = 1.05  # times the first half's median that the second half's may be
CLOSED = -1  # in place of a status
PROMPT = {"objects": [{"points": [[90, 70]]}]}
SEARCH = {"options": {"max_prompts": 16}}


def resident(pid: int) -> float:
    """Return the megabytes of memory that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallinfo2"),
    reason="needs glibc 2.33, which tells what it has mapped",
)


def usual_allocator() -> dict[str, str]:
    """The environment without what somebody set for the allocator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


class Client:
    """Asks everything there is, in random order."""

    def __init__(self, server: Running, seed: int, seen: Counter[str]) -> None:
        self.server, self.seen = server, seen
        self.rng = np.random.default_rng(seed)
        self.address = ""

    def go(self, until: float) -> None:
        with self.server.client() as client:
            self.send(client)
            actions = [self.send, self.prompt, self.prompt, self.session, self.cut_out, self.everything]
            actions += [self.hang_up, self.forget, self.malformed, self.picture]
            while time.monotonic() < until:
                action = actions[self.rng.integers(len(actions))]
                try:
                    status = action(client)
                except httpx.TransportError:  # such as an idle connection that the server has just closed
                    status = CLOSED
                self.seen[f"{action.__name__} {status}"] += 1
                if status in (404, 410):
                    self.send(client)

    def send(self, client: httpx.Client) -> int:
        size = self.rng.integers(120, 300), self.rng.integers(160, 451)
        image = np.roll(cat(), self.rng.integers(451), axis=1)[: size[0], : size[1]]
        answer = client.post("/v1/images", content=jpeg(image))
        if answer.is_success:
            self.address = f"/v1/images/{answer.json()['id']}"
        return answer.status_code

    def prompt(self, client: httpx.Client) -> int:
        kinds = ["application/json", "image/png", "application/geo+json", "application/vnd.mobilesam.logits"]
        accept = {"Accept": kinds[self.rng.integers(4)]}
        return client.post(f"{self.address}/segment", json=PROMPT, headers=accept).status_code

    def session(self, client: httpx.Client) -> int:
        session = None
        for x in self.rng.integers(10, 150, 4).tolist():
            body = {"session": session, "action": {"point": [x, 60], "label": 1}}
            answer = client.post(f"{self.address}/session", json=body)
            if not answer.is_success:
                return answer.status_code
            session = answer.json()["session"]
        return 200

    def cut_out(self, client: httpx.Client) -> int:
        return client.post(f"{self.address}/cutout", json=PROMPT).status_code

    def everything(self, client: httpx.Client) -> int:
        return client.post(f"{self.address}/everything", json=SEARCH).status_code

    def hang_up(self, client: httpx.Client) -> int:
        route, body = [("segment", PROMPT), ("everything", SEARCH)][self.rng.integers(2)]
        data = json.dumps(body).encode()
        head = (
            f"POST {self.address}/{route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.server.port)) as one:
            one.sendall(head.encode() + data[: len(data) if self.rng.integers(3) else 5])
            time.sleep(self.rng.uniform(0, 0.1))
        return 0

    def forget(self, client: httpx.Client) -> int:
        return client.delete(self.address).status_code if self.rng.integers(4) == 0 else 0

    def malformed(self, client: httpx.Client) -> int:
        return client.post(f"{self.address}/segment", content=b'{"objects": [{"points": 3}]}').status_code

    def picture(self, client: httpx.Client) -> int:
        return client.get(f"{self.address}/picture?side=64").status_code


@pytest.mark.long
def test_memory_is_flat_at_full_load(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """``MOBILESAM_MEMORY_LOG`` names a file for the readings: seconds, requests, megabytes."""
    seen: Counter[str] = Counter()
    log = Path(os.environ.get("MOBILESAM_MEMORY_LOG", tmp_path / "memory.csv"))
    with running(["serve", "--quiet", "--memory", "100"]) as server, log.open("w") as out:
        start = time.monotonic()
        until = start + 60 * MINUTES
        clients = [
            threading.Thread(target=Client(server, i, seen).go, args=(until,), daemon=True)
            for i in range(CLIENTS)
        ]
        for one in clients:
            one.start()
        readings = []
        while time.monotonic() < until:
            time.sleep(EVERY)
            readings.append((time.monotonic() - start, seen.total(), resident(server.process.pid)))
            print("{:.0f},{},{:.1f}".format(*readings[-1]), file=out, flush=True)
        for one in clients:
            one.join(120)
        with server.client() as client:
            assert client.get("/health").status_code == 200
            kept = client.get("/metrics").text
    counted = [megabytes for _, _, megabytes in readings[int(WARM * len(readings)) :]]
    halves = counted[: len(counted) // 2], counted[len(counted) // 2 :]
    first, second = (float(np.median(half)) for half in halves)
    facts = {
        "minutes": MINUTES,
        "requests": seen.total(),
        "MB in either half": [first, second],
        "peak": max(counted),
        "answers": dict(sorted(seen.items())),
    }
    print(json.dumps(facts))
    print("\n".join(line for line in kept.splitlines() if line.startswith("mobilesam_image")))
    record_property("memory", facts)
    assert not any(name.endswith(" 500") for name in seen), seen
    closed = sum(many for name, many in seen.items() if name.endswith(f" {CLOSED}"))
    assert closed <= 0.01 * seen.total(), seen
    assert second <= GROWTH * first, facts


class Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


@needs_glibc
@pytest.mark.parametrize(
    ("beginning", "environment", "place"),
    [
        ("", {}, "heap"),
        ("return_large_blocks()", {}, "mapped"),
        ("return_large_blocks()", {VARIABLE: str(2**25)}, "heap"),  # somebody chose otherwise
    ],
)
def test_large_blocks_are_given_back(beginning: str, environment: dict[str, str], place: str) -> None:
    """By itself, glibc takes blocks of 8 MB from its heap as soon as one of 20 MB was freed."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS.format(beginning=beginning)],
        capture_output=True,
        text=True,
        check=True,
        env=usual_allocator() | environment,
    )
    assert done.stdout.strip() == place


BLOCKS = """
import ctypes
import numpy as np
from mobilesam.core.allocator import return_large_blocks
from tests.server.test_memory import Mallinfo

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
{beginning}
np.ones(20 * 2**20, np.uint8)
before = mallinfo().hblkhd
block = np.ones(8 * 2**20, np.uint8)
print("mapped" if mallinfo().hblkhd - before >= block.nbytes else "heap")
"""
