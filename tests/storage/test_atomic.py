"""Writing is whole or not at all, and what a killed process left is removed, never a neighbour's file."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mobilesam.core.errors import OutputError
from mobilesam.storage import atomic
from mobilesam.storage.atomic import atomic_write, check_folder, remove_remains, write_bytes, write_pieces

LOCKS = pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks and signals")
WRITER = """
import sys
from mobilesam.storage.atomic import atomic_write
with atomic_write("out/mask.png") as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_write_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b.bin", b"one")
    write_bytes(tmp_path / "a" / "b.bin", b"two")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"two"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.bin"]


@pytest.mark.parametrize("before", [None, b"", b"one", b"one two", b"one two three", b"on", b"xne two"])
def test_pieces_become_a_file_and_the_same_file_stays(before: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if before is not None:
        path.write_bytes(before)
        os.utime(path, (1, 1))
    write_pieces(path, iter([b"one", b" ", b"", b"two"]))
    assert path.read_bytes() == b"one two"
    assert (path.stat().st_mtime == 1) == (before == b"one two")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_pieces_do_not_replace_a_file_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        write_pieces(path, [b"new"], overwrite=False)
    write_pieces(path, [b"o", b"ld"], overwrite=False)
    assert path.read_bytes() == b"old"


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
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert "disk is full" in atomic.reason_for(caught.value)


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen:
    """A process in the middle of writing ``out/mask.png``."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.communicate()


def begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look into folders as one that has just started."""
    monkeypatch.setattr(atomic, "_cleaned", set())


@LOCKS
def test_what_a_killed_process_left_is_removed_by_the_next(
    tmp_path: Path, writer: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (left,) = os.listdir(out)
    begin_anew(monkeypatch)
    write_bytes(out / "a.png", b"a")
    assert sorted(os.listdir(out)) == sorted([left, "a.png"])  # its writer lives
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    write_bytes(out / "b.png", b"b")
    assert left in os.listdir(out)  # a process looks once
    begin_anew(monkeypatch)
    write_bytes(out / "c.png", b"c")
    assert sorted(os.listdir(out)) == ["a.png", "b.png", "c.png"]


@LOCKS
def test_a_neighbour_finishes_what_it_writes(tmp_path: Path, writer: subprocess.Popen) -> None:
    for _ in range(100):
        remove_remains(tmp_path / "out")
    writer.communicate(timeout=60)
    assert writer.returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"mask.png": b"half"}


@LOCKS
def test_only_names_of_ours_are_removed(tmp_path: Path) -> None:
    others = [
        "a.tmp",
        ".mobilesam.tmp",
        ".0123456789abcdef.tmp",
        ".0123456789ABCDEF.mobilesam.tmp",
        "0123456789abcdef.mobilesam.tmp",
        ".0123456789abcdef.mobilesam.tmp.png",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"a user's")
    (tmp_path / ".aaaaaaaaaaaaaaaa.mobilesam.tmp").mkdir()
    (tmp_path / ".bbbbbbbbbbbbbbbb.mobilesam.tmp").symlink_to("a.tmp")
    os.mkfifo(tmp_path / ".cccccccccccccccc.mobilesam.tmp")
    kept = sorted(os.listdir(tmp_path))
    (tmp_path / ".0123456789abcdef.mobilesam.tmp").write_bytes(b"of a dead process")
    remove_remains(tmp_path)
    assert sorted(os.listdir(tmp_path)) == kept
    remove_remains(tmp_path / "none")


@LOCKS
def test_writing_and_removing_side_by_side(tmp_path: Path) -> None:
    """Who makes a file and who removes it may meet between its making and its lock."""
    stop, failures = threading.Event(), []

    def remove() -> None:
        while not stop.is_set():
            remove_remains(tmp_path)

    def write(name: str) -> None:
        try:
            for i in range(30):
                write_bytes(tmp_path / name, f"{name}{i}".encode())
        except OutputError as error:
            failures.append(error)

    removers = [threading.Thread(target=remove) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in (*removers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in removers:
        thread.join()
    assert failures == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: f"{name}29".encode() for name in "abc"
    }


@LOCKS
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic, "try_lock", unsupported)
    (tmp_path / ".0123456789abcdef.mobilesam.tmp").write_bytes(b"whose?")
    write_bytes(tmp_path / "a", b"a")
    remove_remains(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".0123456789abcdef.mobilesam.tmp", "a"]


def test_a_folder_is_checked_before_work_begins(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "folder"]
    (tmp_path / "file").write_bytes(b"a")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="part of the path is a file; choose another folder"):
            check_folder(place)
    with pytest.raises(OutputError, match="the name is too long; choose a shorter one"):
        write_bytes(tmp_path / ("a" * 300), b"")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.EROFS])
def test_a_failure_to_write_says_what_to_do(number: int) -> None:
    assert "; choose" in atomic.reason_for(OSError(number, os.strerror(number)))
