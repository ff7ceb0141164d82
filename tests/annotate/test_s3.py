"""Photos from a store that speaks S3, and the set back into it: moto's server on this machine's loopback, by s3fs.

Both are installed by hand: ``pip install "moto[server]" s3fs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilesam.cli.main import run
from mobilesam.formats.datasets.load import read_dataset
from mobilesam.formats.datasets.model import LabelledObject
from tests.annotate.test_set_run import tree
from tests.photos import cat, jpeg
from tests.tars import write_tar

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
moto = pytest.importorskip("moto.server", reason="moto's server is not installed")

pytestmark = pytest.mark.long
BEFORE = "3 of 3 photos were done before"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The store as s3fs has it, with three photos; only the environment says where it is, and its keys."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    if system.exists("shots"):
        system.rm("shots", recursive=True)
    system.mkdir("shots")
    Path("shots").mkdir()
    for i in range(3):
        photo = jpeg(np.roll(cat(), 9 * i, axis=1))
        Path("shots", f"{i}.jpg").write_bytes(photo)
        system.pipe_file(f"shots/run/{'below/' if i else ''}{i}.jpg", photo)
        members = {f"{i}.jpg": photo, f"{i}.json": b"{}"}
        system.pipe_file(f"shots/tars/run-{i}.tar", write_tar(Path(f"{i}.tar"), members).read_bytes())
    return system


def objects_of(folder: str) -> dict[str, list[LabelledObject]]:
    return {
        Path(photo.file_name).name: [replace(one, id=0) for one in photo.objects]
        for photo in read_dataset(folder).photos
    }


def test_from_a_bucket_and_back_into_it(store: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["annotate", "shots", "--out", "plain"]) == 0
    command = ["annotate", "s3://shots/run/", "--out", "set", "--workers", "2", "--format", "coco,yolo"]
    command += ["--upload", "s3://shots/set/"]
    assert run(command) == 0
    assert objects_of("set") == objects_of("plain")
    assert len(objects_of("set")["0.jpg"]) > 0
    assert sorted(store.find("shots/set")) == sorted(f"shots/set/{name}" for name in tree(Path("set")))
    for name, data in tree(Path("set")).items():
        assert store.cat_file(f"shots/set/{name}") == data, name
    written = tree(Path("set"))
    capfd.readouterr()
    store.rm_file("shots/set/images/below/1.jpg")
    assert run(command) == 0
    told = capfd.readouterr()
    assert BEFORE in told.err
    assert (
        "s3://shots/set/: 7 files copied" in told.out
    )  # the record, data.yaml, COCO, three labels, one photo
    assert tree(Path("set")) == written
    assert store.cat_file("shots/set/images/below/1.jpg") == written["images/below/1.jpg"]


def test_from_tars_in_a_bucket(store: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["annotate", "shots", "--out", "plain"]) == 0
    for place in ("s3://shots/tars/run-{0..2}.tar", "s3://shots/tars/run-*.tar", "s3://shots/tars"):
        assert run(["annotate", place, "--out", place[-1], "--workers", "2", "--photos", "none"]) == 0
        assert objects_of(place[-1]) == objects_of("plain")
    capfd.readouterr()
    assert run(["annotate", "s3://shots/tars", "--out", "s", "--photos", "none"]) == 0
    assert BEFORE in capfd.readouterr().err


def test_what_is_not_there_is_told_and_not_made(store: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for address in ("s3://shots/nothing/", "s3://shoots/run/"):
        assert run(["annotate", address, "--out", "set"]) == 2
        assert f"{address}: not found; check the address" in capfd.readouterr().err
    assert run(["annotate", "shots", "--out", "set", "--upload", "s3://shoots/set/"]) == 6
    assert "s3://shoots/set/: not found; check the address" in capfd.readouterr().err
    assert store.ls("") == ["shots"]
    assert not Path("set").exists()
