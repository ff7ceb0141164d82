from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.photos import cat, jpeg
from tests.server.running import Running, running


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that the page may open."""
    path = tmp_path_factory.mktemp("shots")
    (path / "more").mkdir()
    (path / "cat.jpg").write_bytes(jpeg(cat()))
    (path / "more" / "small.jpg").write_bytes(jpeg(cat()[::3, ::3]))
    return path


@pytest.fixture(scope="package")
def server(folder: Path) -> Iterator[Running]:
    with running(["ui", str(folder), "--no-browser", "--max-megabytes", "1", "--max-objects", "8"]) as one:
        yield one


@pytest.fixture(scope="package")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as one:
        yield one


@pytest.fixture(scope="package")
def image(client: httpx.Client) -> dict:
    """What the server says of the cat."""
    return client.post("/v1/images", content=jpeg(cat())).json()
