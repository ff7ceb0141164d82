"""Writing is whole or not at all, and outputs of two images never share a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilesam.annotate.sources import find_sources
from mobilesam.core.errors import ConfigError, OutputError
from mobilesam.storage.atomic import atomic_write, write_bytes


def test_write_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b.bin", b"one")
    write_bytes(tmp_path / "a" / "b.bin", b"two")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"two"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_no_overwriting_unasked(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"old")
    with pytest.raises(OutputError, match="exists already"):
        write_bytes(tmp_path / "x", b"new", overwrite=False)


@pytest.mark.parametrize("path", ["file/below", "folder"])
def test_what_cannot_be_written_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=path):
        write_bytes(tmp_path / path, b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_full_disk_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    import errno

    from mobilesam.storage.atomic import _reason

    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert "disk is full" in _reason(caught.value)


def test_sources(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.webp", "sub/a.jpg", ".c.jpg", ".git/d.jpg", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [source.stem for source in find_sources([tmp_path]).sources] == ["a", "b", str(Path("sub") / "a")]


def test_a_clash_in_case_alone(tmp_path: Path) -> None:
    for name in ("a.jpg", "A.JPG"):
        (tmp_path / name).write_bytes(b"")
    stems = [source.stem for source in find_sources([tmp_path]).sources]
    assert len({stem.casefold() for stem in stems}) == 2


def test_same_stem_keeps_its_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.webp"):
        (tmp_path / name).write_bytes(b"")
    assert [source.stem for source in find_sources([tmp_path]).sources] == ["a_jpg", "a_png", "b"]
    assert [source.stem for source in find_sources([tmp_path / "a.jpg"]).sources] == ["a"]


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    for folder in "xy":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"")
    sources = find_sources([tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"]).sources
    assert [source.stem for source in sources] == ["a_jpg", "a_jpg_2"]


def test_names_that_look_like_ours(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a_jpg.png", "a_jpg_2.png"):
        (tmp_path / name).write_bytes(b"")
    stems = [source.stem for source in find_sources([tmp_path]).sources]
    assert len(set(stems)) == 4


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(ConfigError, match="holds no images"):
        find_sources([tmp_path])
