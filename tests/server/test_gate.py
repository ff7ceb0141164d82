"""What happens to prompts that there is no place for: at the gate, in the lane, and on the connection afterwards."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mobilesam.server.lanes import LATEST, Lane
from mobilesam.server.refusals import Refusal
from tests.photos import cat, jpeg
from tests.server.running import Running, running

TOKEN = "0123456789abcdef"
PROMPT = json.dumps({"objects": [{"points": [[210, 140]]}]}).encode()
LONG = json.dumps(
    {"objects": [{"points": [[9 + i, 140]]} for i in range(80)]}
).encode()  # takes a second and more


@pytest.fixture(scope="module")
def one_place() -> Iterator[Running]:
    with running(["serve", "--prompt-queue", "1"], {"MOBILESAM_TOKEN": TOKEN}) as server:
        yield server


@pytest.fixture(scope="module")
def address(one_place: Running) -> str:
    with one_place.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        return f"/v1/images/{client.post('/v1/images', content=jpeg(cat())).json()['id']}/segment"


def message(
    address: str, body: bytes = PROMPT, *more: str, token: str = TOKEN, host: str = "localhost"
) -> bytes:
    lines = [
        f"POST {address} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {token}",
        f"Content-Length: {len(body)}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Line:
    """A connection."""

    def __init__(self, server: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        return status, headers, self.file.read(int(headers["content-length"]))

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def full(one_place: Running, address: str) -> Iterator[None]:
    """No place is left for prompts until the end."""
    with one_place.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        holders = [Line(one_place) for _ in range(2)]
        for one in holders:
            one.send(message(address, LONG))
        while client.get("/ready").status_code != 503:
            time.sleep(0.02)
        yield
        for one in holders:
            one.close()
        while client.get("/ready").status_code != 200:
            time.sleep(0.02)


@pytest.fixture
def line(one_place: Running) -> Iterator[Line]:
    one = Line(one_place)
    yield one
    one.close()


@pytest.mark.usefixtures("full")
def test_a_refusal_at_the_gate_says_what_others_do(one_place: Running, address: str, line: Line) -> None:
    """The chunked one takes the whole way through the server."""
    line.send(message(address, PROMPT, "X-Request-Id: mine"))
    status, headers, body = line.answer()
    assert status == 429 and int(headers["retry-after"]) >= 1 and headers["x-request-id"] == "mine"
    line.send(
        message(address, b"", "Transfer-Encoding: chunked", "X-Request-Id: mine").replace(
            b"Content-Length: 0\r\n", b""
        )
        + f"{len(PROMPT):x}\r\n".encode()
        + PROMPT
        + b"\r\n0\r\n\r\n"
    )
    whole_status, whole_headers, whole_body = line.answer()
    assert (whole_status, json.loads(whole_body)) == (status, json.loads(body))
    assert {*whole_headers} == {*headers}
    changing = ("date", "retry-after")
    assert all(whole_headers[name] == headers[name] for name in headers if name not in changing)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("pieces", [1, 2, 60])
def test_requests_may_come_in_any_pieces(address: str, line: Line, pieces: int) -> None:
    data = message(address) + message(address, PROMPT, "X-Request-Id: second")
    for piece in np.array_split(np.frombuffer(data, np.uint8), pieces):
        line.send(piece.tobytes())
        time.sleep(0.002 if pieces > 1 else 0)
    answers = [line.answer() for _ in range(2)]
    assert [status for status, _, _ in answers] == [429, 429]
    assert answers[1][1]["x-request-id"] == "second"


@pytest.mark.usefixtures("full")
def test_the_gate_lets_nobody_in_whom_the_door_refuses(address: str, line: Line) -> None:
    line.send(message(address, token="wrong"))
    assert line.answer()[0] == 401
    line.send(message(address, host="evil.example"))
    assert line.answer()[0] == 421
    line.send(message(address, PROMPT, "Origin: http://evil.example"))
    assert line.answer()[0] == 403


def test_refusals_are_counted_and_told_together(
    one_place: Running, address: str, line: Line, full: None
) -> None:
    def count() -> int:
        with one_place.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            lines = client.get("/metrics").text.splitlines()
        head = 'mobilesam_requests_total{method="POST",route="/v1/images/{id}/segment",status="429"} '
        return sum(int(one.removeprefix(head)) for one in lines if one.startswith(head))

    before = count()
    for _ in range(50):
        line.send(message(address))
        assert line.answer()[0] == 429
    assert count() == before + 50
    time.sleep(1.2)
    told = [one for one in map(json.loads, one_place.log) if one["event"] == "refused"]
    assert told[-1]["status"] == 429 and told[-1]["requests"] >= 1
    assert sum(one["requests"] for one in told) >= 50


def test_the_connection_of_a_refusal_is_used_again(one_place: Running, address: str, line: Line) -> None:
    """A refusal whose body comes late, and then an answer."""
    holders = [Line(one_place) for _ in range(2)]
    for one in holders:
        one.send(message(address, LONG))
    with one_place.client() as client:
        while client.get("/ready").status_code != 503:
            time.sleep(0.02)
        data = message(address)
        line.send(data[: -len(PROMPT)])
        assert line.answer()[0] == 429
        for one in holders:
            one.close()
        while client.get("/ready").status_code != 200:
            time.sleep(0.02)
    line.send(PROMPT[:5])
    line.send(PROMPT[5:] + data)
    status, _, body = line.answer()
    assert status == 200 and json.loads(body)["images"][0]["objects"]


def test_many_may_wait_until_one_is_refused_then_nobody_for_long() -> None:
    async def go() -> None:
        lane = Lane("decoder", 3, 60.0, 0.5)
        begun, end = threading.Event(), threading.Event()
        lane.usual = 0.2

        def work(stop: object) -> None:
            begun.set()
            end.wait(10)

        async def never() -> None:
            await asyncio.sleep(60)

        jobs = [asyncio.ensure_future(lane.run(work, never)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await lane.run(work, never)
        assert refused.value.status == 429
        end.set()
        await asyncio.gather(*jobs)
        assert not lane.full  # idle

        begun.clear()
        end.clear()
        lane.usual = 0.2
        running = asyncio.ensure_future(lane.run(work, never))
        await asyncio.to_thread(begun.wait)
        assert lane.full  # the running job has just begun
        await asyncio.sleep((1 - LATEST) * lane.usual + 0.05)
        assert not lane.full  # it ends soon
        lane.expect()
        assert lane.full  # that place is for one alone
        await asyncio.sleep(0.6)
        assert not lane.full  # no refusal for a while
        end.set()
        await running
        assert lane.close(1.0)

    asyncio.run(go())
