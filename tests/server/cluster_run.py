"""A server on a Ray cluster in a network of its own, one of whose processes dies under load: ``python -m tests.server.cluster_run``."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

import mobilesam
from mobilesam.core.rle import mask_to_rle
from tests.photos import cat, jpeg
from tests.server.running import Running, running

IMAGES = 6
SECONDS = 40.0
KILL_AFTER = 8.0
REPLICA = b"ray::ServeReplica"
POINT = {"points": [[210, 140]]}


def replicas() -> set[int]:
    """Return the processes that do the work."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(REPLICA):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def ask(
    server: Running, data: bytes, wanted: dict, seen: Counter[str], lock: threading.Lock, until: float
) -> None:
    """Ask about one image again and again; send it again if the server says so."""
    with server.client() as client:
        identity = client.post("/v1/images", content=data).json()["id"]
        while time.monotonic() < until:
            answer = client.post(f"/v1/images/{identity}/segment", json={"objects": [POINT]})
            kind = str(answer.status_code)
            if answer.status_code == 200:
                (found,) = answer.json()["images"][0]["objects"]
                best = found["masks"][found["chosen"]]["segmentation"]
                kind = "200" if best == wanted else "wrong"
            with lock:
                seen[kind] += 1
            if answer.status_code in (404, 410):
                sent = client.post("/v1/images", content=data)
                with lock:
                    seen[f"sent again {sent.status_code}"] += 1
            elif answer.status_code != 200:
                time.sleep(0.5)


def main() -> None:
    photos = [jpeg(np.roll(cat(), 40 * i, axis=1)) for i in range(IMAGES)]
    model = mobilesam.load("pocket")
    prompt = mobilesam.Prompt(**POINT)
    wanted = [mask_to_rle(model.segment(model.embed(one), prompt).mask).to_dict() for one in photos]
    seen: Counter[str] = Counter()
    lock = threading.Lock()
    with running(["serve", "--quiet", "--engine", "ray", "--workers", "2"]) as server:
        until = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=ask, args=(server, photo, rle, seen, lock, until))
            for photo, rle in zip(photos, wanted, strict=True)
        ]
        for one in threads:
            one.start()
        time.sleep(KILL_AFTER)
        before, dead = replicas(), min(replicas())
        done = dict(seen)
        os.kill(dead, signal.SIGKILL)
        for one in threads:
            one.join()
        after = replicas()
        with httpx.Client(base_url=server.address, timeout=60) as client:
            strange = client.get("/v1/models", headers={"Host": "evil.example"}).status_code
            lines = client.post(f"/v1/images/{'0' * 64}/everything", json={}).status_code
            identity = client.post("/v1/images", content=photos[0]).json()["id"]
            options = {"options": {"max_prompts": 8}}
            with client.stream("POST", f"/v1/images/{identity}/everything", json=options) as answer:
                last = json.loads(list(answer.iter_lines())[-1])
        server.end(seconds=60)
    facts = {
        "before": done,
        "seen": dict(seen),
        "processes": [len(before), len(after), dead in after],
        "evil host": strange,
        "unknown id": lines,
        "everything ends with": list(last),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
