"""Frames of video files, made here by PyAV."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from mobilesam.core.errors import ConfigError, ImageError, ImageWarning, LimitError, MissingExtraError
from mobilesam.core.extras import install_line
from mobilesam.formats.video import read_frames, suffix_is_video
from tests.pace import within
from tests.videos import write_video

IDENTITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
QUARTER_TURN = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 64 << 16, 0, 0x40000000)  # clockwise


def frames(count: int = 4) -> list[np.ndarray]:
    """Grey frames (64, 96, 3), each lighter than the one before, with a white upper left corner."""
    made = [np.full((64, 96, 3), 20 + 30 * i, np.uint8) for i in range(count)]
    for frame in made:
        frame[:32, :48] = 255
    return made


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mov", "mpeg4"),
        ("avi", "mpeg4"),
        ("mkv", "mpeg4"),
        ("webm", "libvpx"),
        ("ts", "mpeg2video"),
    ],
)
def test_frames_in_order(tmp_path: Path, ending: str, codec: str) -> None:
    path = write_video(tmp_path / f"a.{ending}", frames(), codec)
    assert suffix_is_video(path)
    read = list(read_frames(path))
    assert [number for number, _ in read] == [1, 2, 3, 4]
    for (_, image), made in zip(read, frames(), strict=True):
        assert image.shape == made.shape
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - made)[4:28, 4:44].mean() < 12
        assert np.abs(image.astype(int) - made)[36:, 52:].mean() < 12


def test_stride(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames(5))
    assert [number for number, _ in read_frames(path, stride=2)] == [1, 3, 5]


def test_rotation_is_applied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames(1))
    content = path.read_bytes()
    place = content.index(IDENTITY, content.index(b"tkhd"))
    path.write_bytes(content[:place] + QUARTER_TURN + content[place + len(IDENTITY) :])
    ((_, image),) = read_frames(path)
    assert image.shape == (96, 64, 3)
    assert image[10:40, 40:60].mean() > 230  # the white corner is now at the upper right
    assert image[10:40, 4:24].mean() < 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a video of a known form"),
        (b"RIFF" + bytes(40), "not a video of a known form"),
        (b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "not a video of a known form"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "not a video of a known form"),
    ],
    ids=["empty", "cut", "playlist", "concat"],
)
def test_no_videos(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        list(read_frames(path))


def test_a_damaged_frame_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames())
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = (start + end) // 2
    path.write_bytes(content[:middle] + bytes(end - middle) + content[end:])
    with pytest.raises(ImageError, match="damaged"):
        list(read_frames(path))


def test_missing_frames_are_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames(5), options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        last = max(packet.pos for packet in container.demux() if packet.pos is not None)
    path.write_bytes(path.read_bytes()[:last])
    with pytest.warns(ImageWarning, match="of the 5 frames that it announces can be read"):
        assert len(list(read_frames(path))) == 4


def test_a_title_in_another_encoding_is_no_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames(2))
    content = path.read_bytes()
    title = b"Caf\xe9 \xfc\xff\0"  # Latin-1; FFmpeg takes it for UTF-8
    info = b"INFOINAM" + struct.pack("<I", len(title)) + title
    place = content.index(b"LIST", 20)
    chunk = b"LIST" + struct.pack("<I", len(info)) + info
    size = struct.unpack_from("<I", content, 4)[0] + len(chunk)
    path.write_bytes(content[:4] + struct.pack("<I", size) + content[8:place] + chunk + content[place:])
    assert len(list(read_frames(path))) == 2


def test_an_unknown_coding_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames(2), "libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(ImageError, match="is coded in a way that is not known, or damaged; convert it"):
        list(read_frames(path))


@pytest.mark.parametrize("stride", [0, -1, 1.5, float("nan"), None, True, "2"])
def test_stride_is_a_whole_number(tmp_path: Path, stride: object) -> None:
    path = write_video(tmp_path / "a.mp4", frames(1))
    with pytest.raises(ConfigError, match=r"stride: is .*; give a whole number of 1 or more"):
        list(read_frames(path, stride=stride))
    with pytest.raises(ConfigError, match=r"max_pixels: is nan; give a whole number"):
        list(read_frames(path, max_pixels=float("nan")))


KINDS = (
    ("mp4", "mpeg4"),
    ("mov", "libx264"),
    ("avi", "mpeg4"),
    ("mkv", "mpeg4"),
    ("webm", "libvpx"),
    ("ts", "mpeg2video"),
    ("mpg", "mpeg1video"),
    ("flv", "flv"),
    ("wmv", "wmv2"),
)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file that is cut, or of which bits, a number or some bytes are others."""
    at, kind = int(rng.integers(len(data))), rng.integers(4)
    changed = bytearray(data)
    if kind == 0:
        return data[:at]
    if kind == 1:
        for place in rng.integers(len(data), size=rng.integers(1, 9)):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        changed[at : at + 4] = bytes([(0, 0x7F, 0x80, 0xFF)[rng.integers(4)]]) * 4
    else:
        changed[at : at + int(rng.integers(1, 64))] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(changed)


def try_damaged(folder: Path, ending: str, codec: str, count: int) -> dict[str, int]:
    """Read so many damaged files of a kind; return how they ended, and hold each to its time."""
    whole = write_video(folder / f"whole.{ending}", frames(), codec).read_bytes()
    path, rng, ends = folder / f"a.{ending}", np.random.default_rng(0), {"read": 0, "I": 0, "L": 0}
    for _ in range(count):
        path.write_bytes(damaged(whole, rng))
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageWarning)
                list(read_frames(path, max_pixels=1_000_000))
            ends["read"] += 1
        except (ImageError, LimitError) as error:
            ends[error.code] += 1
            assert len(str(error)) <= 500
            assert str(error).isprintable()
        assert within(time.process_time() - start, 2)
    return ends


@pytest.mark.parametrize(("ending", "codec"), KINDS)
def test_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str, codec: str) -> None:
    ends = try_damaged(tmp_path, ending, codec, 60)
    assert ends["read"] > 0
    assert ends["I"] > 0
    assert capfd.readouterr().err == ""


@pytest.mark.long
def test_thousands_of_damaged_files(tmp_path: Path) -> None:
    """Prints the row of docs/explanation/long-series.md."""
    ends = {kind: try_damaged(tmp_path, *kind, 2000) for kind in KINDS}
    print({end: sum(of[end] for of in ends.values()) for end in ("read", "I", "L")})
    assert sum(sum(of.values()) for of in ends.values()) == 2000 * len(KINDS)


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.mp4: not found"):
        list(read_frames(tmp_path / "none.mp4"))
    with pytest.raises(ImageError, match="is a directory"):
        list(read_frames(tmp_path))


def test_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames(1))
    with pytest.raises(LimitError, match="96 x 64 is 6,144 pixels, over the limit of 1,000"):
        list(read_frames(path, max_pixels=1000))


def test_a_small_file_of_large_frames_takes_no_memory(tmp_path: Path) -> None:
    """Sorenson's H.263 in FLV: only the frame itself has its size, 18464 x 8782."""
    bits = "0" * 16 + "1" + "0" * 13 + "001" + f"{18464:016b}{8782:016b}" + "00" + "0" + "01000" + "0" * 8
    body = b"\x12" + int(bits.ljust(88, "0"), 2).to_bytes(11, "big") + bytes(100)
    tag = b"\x09" + len(body).to_bytes(3, "big") + bytes(7) + body
    (tmp_path / "a.flv").write_bytes(b"FLV\x01\x01\0\0\0\x09" + bytes(4) + tag + struct.pack(">I", len(tag)))
    program = """
import sys
from pathlib import Path
from mobilesam.core.errors import LimitError
from mobilesam.formats.video import read_frames
import av
def memory(what): return int(Path("/proc/self/status").read_text().split(what + ":")[1].split()[0]) / 1024
before = memory("VmRSS")
try:
    list(read_frames(sys.argv[1]))
except LimitError as error:
    print(error)
print(memory("VmHWM") - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "a.flv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    told, megabytes = done.stdout.splitlines()
    assert "a.flv: 18464 x 8782 is 162,150,848 pixels, over the limit of 50,000,000; make it smaller" in told
    assert float(megabytes) < 40


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", frames(1))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("video"))):
        list(read_frames(path))
