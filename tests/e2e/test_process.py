"""Commands as processes: streams that are closed, full or left by their reader, and signals at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.photos import cat, jpeg

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors and signals")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
COMMAND = f"{sys.executable} -m mobilesam"
READY = """
from mobilesam.cli.process import prepare
prepare()
print("ready", flush=True)
from mobilesam.cli.main import main
main()
"""
BOX = "--box 5,0,370,295 --save mask"


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run a line of bash, with Python's own buffering."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "shots").mkdir()
    for name in "ab":
        (tmp_path / "shots" / f"{name}.jpg").write_bytes(jpeg(cat()))
    return tmp_path


@pytest.mark.parametrize(
    ("streams", "status", "told"),
    [
        ("<&-", 0, ""),
        ("2>&-", 0, ""),
        (">&-", 6, "error[O]: standard output: cannot be read or written (it is closed)\n"),
        ("<&- >&- 2>&-", 6, ""),
        pytest.param("2>/dev/full", 0, "", marks=FULL),
        pytest.param(
            ">/dev/full",
            6,
            "error[O]: standard output: cannot be read or written (No space left on device)\n",
            marks=FULL,
        ),
        pytest.param(">/dev/full 2>/dev/full", 6, "", marks=FULL),
    ],
)
def test_streams_that_cannot_be_used(tmp_path: Path, streams: str, status: int, told: str) -> None:
    done = shell(f"{COMMAND} weights list {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (status, told)
    assert shell(f"{COMMAND} weights path none {streams}", tmp_path).returncode == 2


def test_work_is_done_though_nobody_can_be_told(photos: Path) -> None:
    done = shell(f"{COMMAND} segment shots {BOX} 2>&- <&-; echo $?", photos)
    assert done.stdout.splitlines()[-1] == "0"
    assert len(list((photos / "mobilesam-out").glob("*.png"))) == 2
    # A result takes no standard stream's place.
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (photos / "mobilesam-out").iterdir())


def test_a_reader_that_has_seen_enough_leaves_no_work_undone(photos: Path) -> None:
    read = shell(f"{COMMAND} segment shots {BOX} --json | (exec <&-); echo ${{PIPESTATUS[0]}}", photos)
    assert read.stdout == "0\n"
    assert "error" not in read.stderr
    assert len(list((photos / "mobilesam-out").glob("*.png"))) == 2
    listed = shell(f"{COMMAND} info | head -1; echo ${{PIPESTATUS[0]}}", photos)
    assert listed.stdout.splitlines()[1:] == ["0"]
    assert listed.stderr == ""


def test_closed_standard_input_is_an_empty_image(tmp_path: Path) -> None:
    done = shell(f"{COMMAND} segment - --point 1,1 <&-", tmp_path)
    assert done.returncode == 3
    assert done.stderr.endswith("error[I]: standard input: empty file (0 bytes); copy or download it again\n")


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 143, "terminated")],
)
def test_a_signal_while_modules_are_imported_and_later(
    photos: Path, name: str, status: int, told: str
) -> None:
    """From our first line on the exit code is the documented one."""
    for delay in (0, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", READY, "segment", "shots", *BOX.split(), "--overwrite"],
            cwd=photos,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(getattr(signal, name), signal.SIG_DFL),
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(getattr(signal, name))
        _, error = process.communicate(timeout=60)
        assert process.returncode == status, error
        for word in ("Traceback", "Fatal", "ignored", "error"):
            assert word not in error
        assert error == "" or error.endswith(f"{told}; what was written is whole\n")
        assert not list(photos.rglob("*.tmp"))


def test_an_ignored_signal_stays_ignored(photos: Path) -> None:
    """As nohup wants it."""
    process = subprocess.Popen(
        [sys.executable, "-c", READY, "segment", "shots", *BOX.split()],
        cwd=photos,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(list((photos / "mobilesam-out").glob("*.png"))) == 2


def test_a_second_signal_ends_a_command_that_does_not(tmp_path: Path) -> None:
    program = """
import os, signal, time
from mobilesam.cli.process import Terminated, signals_raise
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
signals_raise()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except Terminated:
    print("cleaning up", flush=True)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleaning up\n", "")


@pytest.mark.parametrize(
    "swallowed",
    [
        # Python cannot pass on what is raised in a finaliser.
        "class Held:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\nHeld()",
        # Extension modules make errors of their own of what is raised while they are imported.
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n    raise ImportError('initialization failed')",
    ],
)
def test_a_signal_is_not_lost(tmp_path: Path, swallowed: str) -> None:
    program = f"""
import os, signal, sys
import click
from mobilesam.cli import main
from mobilesam.cli.process import prepare
prepare()
@main.cli.command()
def swallow():
    exec({swallowed!r}, {{"os": os, "signal": signal}})
main.LazyGroup.get_command = lambda *given: swallow
main.main(["info"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep_unless_told_otherwise(given: dict[str, str], found: str) -> None:
    """PyTorch's read this when it is imported, which no command does before."""
    program = """
import os, sys
from mobilesam.cli.process import prepare
prepare()
print("torch" in sys.modules, os.environ["OMP_WAIT_POLICY"])
"""
    rest = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=rest | given)
    assert done.stdout == f"False {found}\n", done.stderr
