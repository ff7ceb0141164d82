"""What is refused: each with its status and one line, and nothing of the server in it."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from mobilesam.cli.main import run
from mobilesam.core.rle import mask_to_rle
from mobilesam.server.app import ENDPOINTS
from mobilesam.server.options import ServeOptions, check_token
from tests.photos import cat, jpeg
from tests.server.running import Running, running

TOKEN = "a-token-that-is-long-enough"


def error_of(answer: httpx.Response) -> dict:
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "\n" not in error["message"] and "Traceback" not in answer.text and "/work" not in answer.text
    assert str(Path(__file__).parents[2]) not in answer.text
    return error


BAD_PROMPTS = [
    ({"objects": [{"points": [[451, 0]]}]}, 422, "S", "objects[0].points[0].x"),
    ({"objects": [{"box": [300, 10, 20, 90]}]}, 422, "S", "objects[0].box"),
    (
        {"objects": [{"points": [[5, 5]]}, {"points": [[5, 5]], "labels": [7]}]},
        422,
        "S",
        "objects[1].labels[0]",
    ),
    ({"objects": [{}]}, 422, "S", None),
    ({"objects": [{"mask": "../secret.png"}]}, 400, "U", "objects[0].mask"),
    ({"objects": [{"mask": {"size": [300, 451], "counts": [5, 3]}}]}, 422, "S", None),
    ({"objects": [{"mask": {"size": [9, 9], "counts": [81]}}]}, 422, "S", "objects[0].mask"),
    ({"objects": [{"mask": {"size": [90000, 90000], "counts": [90000 * 90000]}}]}, 422, "L", None),
    ({"objekts": []}, 400, "U", None),
    ({"texts": ["a dog"]}, 400, "U", "texts"),
    ({}, 400, "U", None),
    ([], 400, "U", None),
    ({"objects": [{"points": [[1, 1]]}] * 9}, 422, "L", "objects"),
    ({"objects": [{"points": [[1, 1]] * 1001}]}, 422, "L", None),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), BAD_PROMPTS)
def test_prompts_are_refused_as_everywhere(
    client: httpx.Client, image: dict, body: object, status: int, code: str, field: str | None
) -> None:
    answer = client.post(f"/v1/images/{image['id']}/segment", json=body)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (status, code), error
    if field is not None:
        assert error["field"] == field, error


RAW = [
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b'{"objects": [{"points": [[NaN, 1]]}]}', 422),
    (b'{"objects": [{"points": [[1e400, 1]]}]}', 422),
    (b'{"objects": [], "objects": []}', 400),
    (b"[" * 100_000, 400),
    (b'{"objects": ' + b"[" * 70 + b"]" * 70 + b"}", 400),
    (b'{"objects": [{"points": [[' + b"9" * 5000 + b", 1]]}]}", 422),
]


@pytest.mark.parametrize(("body", "status"), RAW, ids=range(len(RAW)))
def test_bodies_that_are_no_json_of_ours(client: httpx.Client, image: dict, body: bytes, status: int) -> None:
    answer = client.post(f"/v1/images/{image['id']}/segment", content=body)
    assert (answer.status_code, len(error_of(answer)["message"]) < 400) == (status, True), answer.text


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "I"),
        (b"hello, this is text", 415, "I"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "I"),
        (jpeg(cat())[:900], 422, "I"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0\x8b\xfe\x0b\xc5", 422, None),
        (b"x" * (2**20 + 1), 413, "L"),
    ],
    ids=["empty", "text", "svg", "truncated", "bomb", "too many bytes"],
)
def test_images_are_refused(client: httpx.Client, data: bytes, status: int, code: str | None) -> None:
    answer = client.post("/v1/images", content=data)
    error = error_of(answer)
    assert answer.status_code == status and code in (None, error["code"]), error


def test_forms_that_are_none(client: httpx.Client) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/images", content=b"no form", headers=kind).status_code == 400
    assert client.post("/v1/images", data={"a": "b"}, files={}).status_code in (400, 415)
    two = {"a": ("a.jpg", jpeg(cat())), "b": ("b.jpg", jpeg(cat()))}
    assert client.post("/v1/images", files=two).status_code == 400


OPTIONS = [
    ({"options": {"max_prompts": 0}}, "everything", 422),
    ({"options": {"sampler": "magic"}}, "everything", 400),
    ({"options": {"point_grids": []}}, "everything", 400),
    ({"preset": "best"}, "everything", 400),
    ({"options": {"seconds": -1}}, "everything", 422),
    ({"options": {"feather": 1e9}}, "cutout", 422),
    ({"options": {"grow": 3, "shrink": 3}}, "cutout", 400),
    ({"format": "gif"}, "cutout", 400),
    ({"masks": [{"size": [9, 9], "counts": [81]}]}, "cutout", 422),
    ({"masks": [{"size": [300, 451], "counts": [135300]}], "objects": [{"points": [[1, 1]]}]}, "cutout", 400),
    ({"action": {}}, "session", 400),
    ({"action": {"point": [1, 1], "box": [1, 1, 5, 5]}}, "session", 400),
    ({"action": {"point": [999, 1]}}, "session", 422),
    ({"action": {"choose": 2}}, "session", 422),
    ({"action": {"stroke": [[1, 1], [5, 500]]}}, "session", 422),
    ({"action": {"point": [1, 1]}, "session": {"version": 2}}, "session", 400),
    ({"action": {"mask": {"size": [9, 9], "counts": [81]}}}, "session", 422),
]


@pytest.mark.parametrize(("body", "what", "status"), OPTIONS, ids=lambda v: str(v)[:40])
def test_options_and_actions_are_refused(
    client: httpx.Client, image: dict, body: dict, what: str, status: int
) -> None:
    answer = client.post(f"/v1/images/{image['id']}/{what}", json=body)
    assert answer.status_code == status, answer.text
    error_of(answer)


def test_a_session_of_another_image_is_refused(client: httpx.Client, image: dict) -> None:
    other = client.post("/v1/images", content=jpeg(cat()[:, ::-1])).json()["id"]
    begun = client.post(f"/v1/images/{other}/session", json={"action": {"point": [9, 9]}}).json()["session"]
    answer = client.post(
        f"/v1/images/{image['id']}/session", json={"session": begun, "action": {"undo": True}}
    )
    assert answer.status_code == 422 and "another image" in error_of(answer)["message"]
    assert client.delete(f"/v1/images/{other}").status_code == 204
    assert client.delete(f"/v1/images/{other}").status_code == 410


def test_addresses_and_methods_that_are_not_there(client: httpx.Client, image: dict) -> None:
    assert client.get("/v1/nothing").status_code == 404
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.get("/%2e%2e/%2e%2e/pyproject.toml").status_code == 404
    assert client.post("/v1/images/0/segment", json={"objects": []}).status_code == 404
    wrong = client.get("/v1/images")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST") and error_of(wrong)["code"] == "A"
    assert client.post("/health").status_code == 405
    assert client.get("/health?verbose=1").status_code == 400
    assert client.get(f"/health?{'x' * 3000}").status_code == 414
    assert client.get("/health", headers={f"x-{i}": "1" for i in range(120)}).status_code == 431
    side = f"/v1/images/{image['id']}/picture?side="
    assert [client.get(side + one).status_code for one in ("0", "-5", "x", "99999999999")] == [400] * 4


HOSTS = [
    "evil.example",
    "127.0.0.1.evil.example",
    "",
    "evil.example:80",
    "a@127.0.0.1",
    "localhost.evil.example",
]
OWN_HOSTS = ["localhost", "127.0.0.1", "[::1]", "192.168.1.7:8260", "LOCALHOST"]


def raw_status(port: int, head: str) -> int:
    """The status that a server answers to some bytes."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head.encode())
        return int(connection.recv(100).split()[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [*((h, 421) for h in HOSTS[:2] + HOSTS[3:]), ("", 421), *((h, 200) for h in OWN_HOSTS)],
)
def test_only_its_own_names_are_answered(server: Running, host: str, status: int) -> None:
    assert raw_status(server.port, f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n") == status


def test_two_hosts_are_none(server: Running) -> None:
    head = "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw_status(server.port, head) in (400, 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1.evil.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_pages_of_other_sites_are_refused(client: httpx.Client, headers: dict, method: str) -> None:
    answer = client.request(method, "/v1/images", headers=headers)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_link_from_another_site_opens_the_page(client: httpx.Client, server: Running) -> None:
    follows = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=follows).status_code == 200
    assert client.get("/health", headers={"Origin": server.address}).status_code == 200


def test_request_ids_are_taken_or_made(client: httpx.Client) -> None:
    assert client.get("/health", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = client.get("/health", headers={"X-Request-Id": "no; good"}).headers["x-request-id"]
    assert made != "no; good" and len(made) == 16


def test_without_a_token_only_loopback() -> None:
    check_token(None, ServeOptions())
    check_token(None, ServeOptions(host="::1"))
    for host in ("0.0.0.0", "192.168.1.7", "example.org", "::"):
        with pytest.raises(Exception, match="needs a token"):
            check_token(None, ServeOptions(host=host))
    with pytest.raises(Exception, match="16 or more characters"):
        check_token("short", ServeOptions())


def test_limits_in_time_and_places() -> None:
    """A server with one place: others are told to come again, those who leave make room, and SIGTERM ends it."""
    options = ["serve", "--queue", "1", "--memory", "1", "--max-objects", "256"]
    with running(options, {"MOBILESAM_TOKEN": TOKEN}) as server:
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: lo")
        begun = time.monotonic()
        with server.client() as stranger:
            check_strangers(stranger)
        with server.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            check_places(client, server)
        with slow:  # a head that does not come to its end
            slow.settimeout(12)
            assert slow.recv(100) == b""
            assert 8 < time.monotonic() - begun < 25
        with socket.create_connection(("127.0.0.1", server.port)) as stuck:  # and a body
            stuck.sendall(f"{head_of('/v1/images')}Content-Length: 9\r\n\r\nx".encode())
            time.sleep(0.3)
            start = time.monotonic()
            assert server.end(signal.SIGTERM) == 0
            assert time.monotonic() - start < 12
    log = [json.loads(line) for line in server.log]
    assert {"request_id", "method", "path", "status", "milliseconds"} <= set(log[0])
    assert any(line.get("status") == 499 or line.get("cut") for line in log), log
    assert TOKEN not in "".join(server.log)


def head_of(path: str) -> str:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"


def check_strangers(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200 and client.get("/").status_code == 200
    refused = client.get("/v1/models")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401


def check_places(client: httpx.Client, server: Running) -> None:
    first = client.post("/v1/images", content=jpeg(cat())).json()["id"]
    second = client.post("/v1/images", content=jpeg(cat()[::-1])).json()["id"]  # 1 MB holds the latest only
    gone = client.post(f"/v1/images/{first}/segment", json={"objects": []})
    assert gone.status_code == 410 and "send it again" in gone.json()["error"]["message"]

    # Somebody searches long, and a second one waits. The third is told to come again.
    body = json.dumps({"options": {"sampler": "grid", "seconds": 30}}).encode()
    holders = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    for one in holders:
        head = f"{head_of(f'/v1/images/{second}/everything')}Content-Length: {len(body)}\r\n\r\n"
        one.sendall(head.encode() + body)
    wait_until(lambda: client.get("/ready").status_code == 503)
    busy = client.post("/v1/images", content=jpeg(cat()[:, ::-1]))
    assert (busy.status_code, busy.json()["error"]["code"]) == (429, "B"), busy.text
    assert int(busy.headers["retry-after"]) >= 1
    assert client.get("/health").status_code == 200
    prompt = {"objects": [{"points": [[9, 9]]}]}
    assert (
        client.post(f"/v1/images/{second}/segment", json=prompt).status_code == 200
    )  # the quick lane goes on
    for one in holders:
        one.close()
    wait_until(lambda: client.get("/ready").status_code == 200)  # who has hung up does not hold a place


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_route_has_a_shape_for_its_json() -> None:
    for one in ENDPOINTS:
        for kind, shape in one.answers.items():
            assert shape is not None or not kind.endswith("json") or "+" in kind, one.path


def test_a_taken_port_is_told(server: Running, capsys: pytest.CaptureFixture) -> None:
    from mobilesam.cli.main import run

    assert run(["serve", "--port", str(server.port)]) == 2
    assert "choose another port" in capsys.readouterr().err


def test_a_mask_of_labels_may_not_be_empty(client: httpx.Client) -> None:
    empty = mask_to_rle(np.zeros((300, 451), bool)).to_dict()
    answer = client.put("/v1/photos/0/labels", json={"objects": [{"segmentation": empty}]})
    assert answer.status_code == 422 and error_of(answer)["field"] == "objects[0].segmentation"


def test_a_photo_that_is_not_there_is_not_opened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["ui", str(tmp_path / "no.jpg"), "--no-browser", "--port", "0"]) == 3
    assert "no.jpg: not found; check the path" in capsys.readouterr().err
