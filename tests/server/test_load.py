"""More requests than one machine can answer, and servers that are killed: what is answered, how soon, and what is left."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.photos import cat, jpeg
from tests.server.running import Running, running

SECONDS = float(os.environ.get("MOBILESAM_LOAD_SECONDS", "20"))
AFTER_REFUSAL = 0.05  # seconds that a client waits; it is told to wait longer
CONNECTIONS = 64
ROUNDS = int(os.environ.get("MOBILESAM_LOAD_ROUNDS", "200"))
PROMPT = {"objects": [{"points": [[210, 140]]}]}
LOGITS = {"Accept": "application/vnd.mobilesam.logits"}


@dataclass
class Seen:
    """What clients saw: seconds of the answers, and how often each other status came."""

    answered: list[float] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)

    def p99(self) -> float:
        return float(np.percentile(self.answered, 99))


def ask(server: Running, address: str, seen: Seen, lock: threading.Lock, until: float) -> None:
    """Ask again and again on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps(PROMPT)
    while (start := time.monotonic()) < until:
        connection.request("POST", address, body, LOGITS)
        answer = connection.getresponse()
        answer.read()
        took = time.monotonic() - start
        with lock:
            if answer.status == 200:
                seen.answered.append(took)
            else:
                seen.others[answer.status] = seen.others.get(answer.status, 0) + 1
        if answer.status != 200:
            time.sleep(AFTER_REFUSAL)
    connection.close()


def load(server: Running, address: str, connections: int, seconds: float) -> Seen:
    """Ask on many connections at once."""
    seen, lock, until = Seen(), threading.Lock(), time.monotonic() + seconds
    threads = [
        threading.Thread(target=ask, args=(server, address, seen, lock, until)) for _ in range(connections)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return seen


@pytest.mark.long
def test_more_than_it_can_answer(record_property: Callable[[str, object], None]) -> None:
    with running(["serve", "--quiet", "--prompt-queue", "1"]) as server, server.client() as client:
        identity = client.post("/v1/images", content=jpeg(cat())).json()["id"]
        address = f"/v1/images/{identity}/segment"
        load(server, address, 1, 3)  # warm
        alone = load(server, address, 1, SECONDS)
        peak = load(server, address, 2, SECONDS)
        over = load(server, address, CONNECTIONS, SECONDS)
        assert client.get("/health").status_code == 200
    facts = {
        "alone": f"{len(alone.answered) / SECONDS:.1f}/s, p99 {alone.p99() * 1000:.0f} ms",
        "peak": f"{len(peak.answered) / SECONDS:.1f}/s, p99 {peak.p99() * 1000:.0f} ms",
        "over": f"{len(over.answered) / SECONDS:.1f}/s, p99 {over.p99() * 1000:.0f} ms, others {over.others}",
    }
    print(json.dumps(facts))
    record_property("load", facts)
    assert set(over.others) == {429}
    assert len(over.answered) >= 0.7 * len(peak.answered)  # the clients run on the same cores


@pytest.mark.long
def test_kills_and_restarts(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(jpeg(cat()))
    rng = np.random.default_rng(0)
    mask = {"size": [300, 451], "counts": [1000, 90, 134210]}
    labels = [{"objects": [{"label": f"label {i}", "segmentation": mask}]} for i in range(2)]
    for number in range(ROUNDS):
        with running(["ui", str(tmp_path), "--no-browser"]) as server, server.client() as client:
            saved = client.get("/v1/photos/0/labels").json()
            assert saved in [{"objects": []}, *labels], number  # whole, or not there
            ending = threading.Timer(rng.uniform(0.05, 0.6), server.process.send_signal, [signal.SIGKILL])
            ending.start()
            try:
                client.post("/v1/images", content=jpeg(cat()))
                while True:
                    for one in labels:
                        client.put("/v1/photos/0/labels", json=one)
            except httpx.TransportError:
                pass
            ending.join()
        left = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".mobilesam.tmp")}
        assert left <= {"cat.jpg", "cat.json"}, left
        assert (tmp_path / "cat.jpg").read_bytes() == jpeg(cat())
