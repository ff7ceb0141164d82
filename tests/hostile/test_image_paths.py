"""Hostile paths, rows I58 to I69: what is no regular file is refused at once; folders tell what they leave out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobilesam.annotate.sources import find_sources
from mobilesam.cli.main import run
from mobilesam.core.errors import ImageError, LimitError
from mobilesam.formats.image import read_image
from tests.hostile.image_parts import PNG_START, header, jpeg, picture, png

pty = pytest.importorskip("pty", reason="paths of POSIX systems")
NOBODY = 65534
SECOND = 1.0


def refused(path: object, message: str, error: type[Exception] = ImageError) -> None:
    """Reading ends at once, with the error."""
    start = time.monotonic()
    with pytest.raises(error, match=message) as caught:
        read_image(path)
    assert time.monotonic() - start < SECOND
    assert len(str(caught.value)) <= 300


def rulers(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, list[str]]:
    """Run the command that needs no model; return its exit code, errors and the rulers' names."""
    code = run(["segment", *map(str, arguments), "--ruler", "--out", "out"])
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return code, told, sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.png"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a good image in ``shots``."""
    monkeypatch.chdir(tmp_path)
    Path("shots").mkdir()
    Path("shots/good.jpg").write_bytes(jpeg())
    return tmp_path


def test_I58_a_folder_is_no_image_but_is_walked(capsys) -> None:
    refused("shots", "shots: is a directory; give an image file")
    assert rulers(capsys, "shots")[::2] == (0, ["good_ruler.png"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.jpg", "absent.jpg: not found"),
        ("nul\0.jpg", r"nul\\x00.jpg: not a valid path"),
        ("x" * 5000 + ".jpg", r"x{60}\.\.\.x+\.jpg: cannot be opened"),
        ("good.jpg/more.jpg", "good.jpg/more.jpg: not found|cannot be opened"),
        ("data:image/png;base64,iVBORw0KGgo=", "is base64 text"),
    ],
    ids=["I59-absent", "I59-nul", "I59-long", "I59-below-a-file", "I71-data-address"],
)
def test_paths_to_nothing(path: str, message: str, capsys) -> None:
    refused(path, message)
    code, told, _ = rulers(capsys, path)
    assert code in (2, 3)
    assert len(told.splitlines()) == 1


def test_I60_links_that_lead_nowhere(capsys) -> None:
    Path("shots/broken.jpg").symlink_to("gone.jpg")
    Path("shots/loop.jpg").symlink_to("loop.jpg")
    refused("shots/broken.jpg", "is a broken symbolic link")
    refused("shots/loop.jpg", "is in a symbolic link loop")
    code, told, names = rulers(capsys, "shots")
    assert (code, names) == (5, ["good_ruler.png"])
    assert "error[I]: shots/broken.jpg: is a broken symbolic link" in told
    assert "error[I]: shots/loop.jpg: is in a symbolic link loop" in told


def test_I61_links_out_of_a_folder_are_followed_only_when_asked(capsys) -> None:
    Path("elsewhere/deep").mkdir(parents=True)
    for name in ("one.jpg", "deep/two.jpg"):
        (Path("elsewhere") / name).write_bytes(jpeg())
    Path("elsewhere/back").symlink_to(Path("shots").resolve())
    Path("shots/one.jpg").symlink_to(Path("elsewhere/one.jpg").resolve())
    Path("shots/more").symlink_to(Path("elsewhere").resolve())
    Path("shots/self").symlink_to(".")
    code, told, names = rulers(capsys, "shots")
    assert (code, names) == (5, ["good_ruler.png"])
    for link in ("shots/one.jpg", "shots/more"):
        assert (
            f"error[I]: {link}: is a symbolic link out of shots; copy the file into it, or pass --follow-symlinks"
            in told
        )
    code, told, names = rulers(capsys, "shots", "--follow-symlinks", "--overwrite")
    assert code == 0, told
    assert len(names) == 3  # every photo once, though several ways lead to it


def test_I62_a_pipe_that_nobody_writes_to(capsys) -> None:
    os.mkfifo("shots/pipe.jpg")
    refused("shots/pipe.jpg", "is not a regular file")
    code, told, _ = rulers(capsys, "shots")
    assert code == 5
    assert "error[I]: shots/pipe.jpg: is not a regular file" in told


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/null"], ids=lambda d: f"I63{d}")
def test_devices(device: str) -> None:
    refused(device, "is not a regular file; give an image file, or - for standard input")


def test_I63_terminal_socket_and_disk() -> None:
    ours, theirs = pty.openpty()
    refused(os.ttyname(theirs), "is not a regular file")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.jpg")
        refused("s.jpg", "cannot be opened")
    for disk in [p for p in Path("/dev").iterdir() if stat.S_ISBLK(p.lstat().st_mode)][:1]:
        refused(disk, "not a regular file|permission denied|cannot be opened")
    for descriptor in (ours, theirs):
        os.close(descriptor)


def test_I63_standard_input_has_its_own_name() -> None:
    command = [sys.executable, "-m", "mobilesam", "segment", "/dev/stdin", "--ruler"]
    done = subprocess.run(command, input=jpeg(), capture_output=True, timeout=60)
    assert done.returncode == 3
    assert b"/dev/stdin: is not a regular file; give an image file, or - for standard input" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc on this system")
def test_I64_files_of_the_system() -> None:
    refused("/proc/self/mem", "cannot be read")
    refused("/proc/version", "is text, not an image")


def test_I65_a_terabyte() -> None:
    Path("big.png").write_bytes(PNG_START + header(40, 40))
    os.truncate("big.png", 2**40)
    refused("big.png", "1,099,511,627,776 bytes, over the limit of 512 MiB", LimitError)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_I66_what_may_not_be_read(open_folder: Path) -> None:
    (open_folder / "mine.jpg").write_bytes(jpeg())
    (open_folder / "mine.jpg").chmod(0)
    (open_folder / "closed").mkdir(mode=0)
    root = os.geteuid() == 0
    if root:  # who may read everything
        os.seteuid(NOBODY)
    try:
        refused(open_folder / "mine.jpg", "permission denied; make it readable")
        problems = [source.problem for source in find_sources([open_folder]).sources]
    finally:
        if root:
            os.seteuid(0)
    assert [str(p) for p in problems if p] == [
        f"{open_folder}/closed: folder cannot be listed (Permission denied); make it readable"
    ]


def test_I67_a_file_that_shrinks_while_it_is_read() -> None:
    data, stop = png(picture().repeat(20, 0)), threading.Event()
    whole = read_image(data)

    def shrink_and_grow() -> None:
        while not stop.is_set():
            Path("moving.png").write_bytes(data)
            os.truncate("moving.png", len(data) // 2)

    Path("moving.png").write_bytes(data)
    writer = threading.Thread(target=shrink_and_grow)
    writer.start()
    ends = {"read": 0, "I": 0}
    deadline = time.monotonic() + 10
    while min(ends.values()) < 3 and time.monotonic() < deadline:
        try:
            assert (read_image("moving.png") == whole).all()
            ends["read"] += 1
        except ImageError:
            ends["I"] += 1
    stop.set()
    writer.join()
    assert ends["I"] >= 3


NAMES = [
    b"\xff.jpg",
    b"new\nline.jpg",
    b"-dash.jpg",
    "cat \N{CAT FACE}.jpg".encode(),
    "\u05d7\u05ea\u05d5\u05dc \u202e.jpg".encode(),
    b"n" * 251 + b".jpg",
    b"n" * 250 + b"m.jpg",
    b"\x1b[31mred.jpg",
]


def test_I68_names_that_are_hard_to_print() -> None:
    os.mkdir("odd")
    for name in NAMES:
        Path(os.fsdecode(b"odd/" + name)).write_bytes(jpeg())
    command = [sys.executable, "-m", "mobilesam", "segment", "odd"]
    command += ["--box", "5%,5%,90%,90%", "--save", "mask", "--json"]
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    images = json.loads(done.stdout)["images"]
    assert len(images) == len(NAMES)
    assert all(image["file"].isprintable() for image in images)
    assert b"\x1b" not in done.stderr + done.stdout
    written = {os.fsencode(image["objects"][0]["files"]["mask"]) for image in images}
    assert len(written) == len(NAMES)
    assert all(os.path.exists(path) for path in written)
    assert not [name for name in os.listdir("mobilesam-out") if name.endswith(".tmp")]


def test_I69_equal_stems_have_outputs_of_their_own(capsys) -> None:
    for name in ("a.jpg", "a.png", "A.JPG", "a.b.jpg"):
        (Path("shots") / name).write_bytes(jpeg())
    code, _, names = rulers(capsys, "shots")
    assert code == 0
    assert len({name.casefold() for name in names}) == 5
