"""Frames of video files, made here by PyAV."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from mobilesam.core.errors import ImageError, ImageWarning, LimitError, MissingExtraError
from mobilesam.core.extras import install_line
from mobilesam.formats.video import read_frames, suffix_is_video
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
        (b"", "no video of a known form"),
        (b"RIFF" + bytes(40), "no video of a known form"),
        (b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "no video of a known form"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "no video of a known form"),
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


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.mp4: not found"):
        list(read_frames(tmp_path / "none.mp4"))
    with pytest.raises(ImageError, match="is a directory"):
        list(read_frames(tmp_path))


def test_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames(1))
    with pytest.raises(LimitError, match="96 x 64 is 6,144 pixels, over the limit of 1,000"):
        list(read_frames(path, max_pixels=1000))


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", frames(1))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("video"))):
        list(read_frames(path))
