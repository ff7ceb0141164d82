"""Photos in tars and at addresses: each is found and read by its place; what is damaged is told, and the rest is read."""

from __future__ import annotations

import gzip
import random
import tarfile
from pathlib import Path, PurePosixPath

import fsspec
import pytest

from mobilesam.core.errors import ConfigError, ImageError, LimitError, MobileSamError
from mobilesam.formats import stored
from mobilesam.formats.addresses import list_address
from mobilesam.formats.image_bytes import MAX_FILE_BYTES
from mobilesam.formats.stored import Stored, look_into
from tests.tars import header_of, write_tar

MEMBERS = {f"{i:03}.jpg": bytes([i]) * (300 + 400 * i) for i in range(6)}


def contents(place: Path | str) -> dict[str, bytes | str]:
    """Return each photo's bytes, or what is wrong with it."""
    found: dict[str, bytes | str] = {}
    for photo in look_into(place).photos:
        try:
            if photo.problem is not None:
                raise photo.problem
            found[str(photo.path)] = photo.stored.read(photo.name)
        except MobileSamError as error:
            found[str(photo.path)] = str(error)
    return found


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_member_is_read_by_its_place(form: int, tmp_path: Path) -> None:
    names = ["./a/001.JPG", "b.png", "b/" + "long" * 40 + "/c.webp", "häuser.jpg"]
    if form == tarfile.USTAR_FORMAT:
        names[2] = "b/" + "long" * 20 + "/" + "x" * 60 + "/c.webp"
    members = {name: name.encode() * 99 for name in names}
    found = contents(write_tar(tmp_path / "shots-000.tar", members, form))
    assert found == {f"shots-000/{PurePosixPath(name).as_posix()}": data for name, data in members.items()}


def test_only_photos_are_taken(tmp_path: Path) -> None:
    others = ["1.json", "1.cls", "1.seg.png", "2.txt", ".hidden.jpg", "._1.jpg", "x/.d/1.jpg", "noending"]
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"one"} | dict.fromkeys(others, b"x"))
    with tarfile.open(path, "a") as tar:
        for name, kind in (
            ("dir.jpg", tarfile.DIRTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    inside = look_into(path)
    assert [str(photo.path) for photo in inside.photos] == ["a/1.jpg"]
    assert [str(file.path) for file in inside.skipped] == [
        "1.json",
        "1.cls",
        "1.seg.png",
        "2.txt",
        "noending",
    ]


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", {"../../x.jpg": b"x", "/etc/y.jpg": b"y", "ok/../z.jpg": b"z", "1.jpg": b"1"}
    )
    found = contents(path)
    assert found.pop("a/1.jpg") == b"1"
    assert len(found) == 3
    assert all("its name leads out of the tar; rename it" in str(told) for told in found.values())
    assert not any(".." in name or name.startswith("/") for name in found)


def test_a_damaged_member_is_told_and_those_behind_it_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    data = bytearray(path.read_bytes())
    start, end = header_of(path, "002.jpg"), header_of(path, "003.jpg")
    data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)
    found = contents(path)
    (told,) = [text for text in found.values() if isinstance(text, str)]
    assert f"a.tar: is damaged from byte {start:,} to byte {end:,}; members there are lost" in told
    assert {name: one for name, one in found.items() if one != told} == {
        f"a/{name}": one for name, one in MEMBERS.items() if name != "002.jpg"
    }


def test_a_tar_that_is_cut_has_the_members_before(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[: header_of(path, "004.jpg") + 512 + 700])
    found = contents(path)
    assert "a.tar/004.jpg: is cut; " in str(found.pop("a/004.jpg"))
    assert found == {f"a/{name}": MEMBERS[name] for name in list(MEMBERS)[:4]}


def test_tars_one_after_the_other_are_one(tmp_path: Path) -> None:
    first, second = (
        write_tar(tmp_path / "a.tar", {"1.jpg": b"1"}),
        write_tar(tmp_path / "b.tar", {"2.jpg": b"2"}),
    )
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert contents(first) == {"a/1.jpg": b"1", "a/2.jpg": b"2"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is no tar file, or its beginning is damaged; copy it again"),
        (b"no tar at all" * 99, "is no tar file, or its beginning is damaged; copy it again"),
        (
            gzip.compress(b"x" * 9999),
            "is compressed, so that no member can be read by itself; unpack it to .tar",
        ),
    ],
    ids=["empty", "text", "gzip"],
)
def test_what_is_no_tar_is_one_problem(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    assert list(contents(tmp_path / "a.tar")) == ["a"]
    assert told in str(contents(tmp_path / "a.tar")["a"])


def test_any_damage_ends_in_errors_of_ours(tmp_path: Path) -> None:
    """Whatever is changed, the bytes of a member are those that were written, or something is told."""
    whole = write_tar(
        tmp_path / "whole.tar", MEMBERS | {"x" * 150 + ".jpg": b"long"}, tarfile.PAX_FORMAT
    ).read_bytes()
    rng = random.Random(7)
    told = 0
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(1, 40)):
            if data:
                place = (
                    rng.randrange(len(data))
                    if rng.random() < 0.5
                    else rng.randrange(0, len(data), 512) + rng.randrange(200)
                )
                data[min(place, len(data) - 1)] = rng.randrange(256)
        (tmp_path / "a.tar").write_bytes(data)
        told += any(isinstance(one, str) for one in contents(tmp_path / "a.tar").values())
    assert told > 100


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    with pytest.raises(LimitError, match="over the limit of 512 MiB"):
        Stored(path, 0, MAX_FILE_BYTES + 1, ".jpg").read("a.jpg")
    monkeypatch.setattr(stored, "MAX_MEMBERS", 3)
    with pytest.raises(LimitError, match="holds over 3 members"):
        look_into(path)


def test_addresses_are_read_as_folders_are(tmp_path: Path) -> None:
    write_tar(tmp_path / "shots" / "x-000.tar", {"1.jpg": b"one", "2.jpg": b"two"})
    write_tar(tmp_path / "shots" / "deep" / "x-001.tar", {"1.jpg": b"three"})
    (tmp_path / "shots" / "a.jpg").write_bytes(b"plain")
    (tmp_path / "shots" / ".hidden.jpg").write_bytes(b"no")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "shots"), "/bucket/shots", recursive=True)
    wanted = {
        "a.jpg": b"plain",
        "deep/x-001/1.jpg": b"three",
        "x-000/1.jpg": b"one",
        "x-000/2.jpg": b"two",
    }
    for address in ("memory://bucket/shots", "memory://bucket/shots/", f"file://{tmp_path}/shots"):
        assert contents(address) == wanted
    assert list(contents("memory://bucket/shots/x-*.tar")) == ["x-000/1.jpg", "x-000/2.jpg"]
    assert list(contents("memory://bucket/shots/a.jpg")) == ["a.jpg"]
    photo = look_into("memory://bucket/shots/a.jpg").photos[0]
    memory.rm("/bucket/shots/a.jpg")
    with pytest.raises(ImageError, match=r"memory://.*a\.jpg: not found; check the address"):
        photo.stored.read(photo.name)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("memory://bucket/none", "not found; check the address"),
        ("nosuch://bucket/x", r"cannot be read \(Protocol not known: nosuch"),
        ("s3://bucket/x", "s3fs"),
    ],
)
def test_addresses_that_are_none(address: str, told: str) -> None:
    if address.startswith("s3") and __import__("importlib").util.find_spec("s3fs"):
        pytest.skip("s3fs is installed, and would ask the network")
    with pytest.raises(ConfigError, match=told):
        list_address(address)
