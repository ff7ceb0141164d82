"""The frames of a video file, one at a time and with their times, through PyAV."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import (
    ConfigError,
    ImageError,
    ImageWarning,
    LimitError,
    MobileSamError,
    missing_extra,
)
from mobilesam.core.text import printable
from mobilesam.formats.image import MAX_PIXELS, whole_number
from mobilesam.formats.image_bytes import open_file, shown, shown_value
from mobilesam.formats.image_decoders import too_many_pixels

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
# Only these kinds of container reach FFmpeg's readers; others, such as playlists, may open further files.
CONTAINERS = "mov,avi,matroska,mpeg,mpegts,asf,flv,ogg"
REFUSED_SIZE = re.compile(r"Picture size (\d+)x(\d+) exceeds specified max pixel count")
# Opening a file opens no decoder: it would make room for frames of any size before their size could be checked.
OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "codec_whitelist": "none"}


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame of a video.

    Attributes:
        number: from 1.
        time: seconds since the first frame; None if the file does not say.
        image: upright RGB (H, W, 3) uint8.
        alpha: (H, W) uint8 if the file has opacity, otherwise None.
    """

    number: int
    time: Fraction | None
    image: Image = field(repr=False)
    alpha: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says about itself.

    Attributes:
        rate: frames a second on average; None if it does not say.
        announced: frames that it should have; 0 if it does not say.
        sound: whether there is sound.
    """

    rate: Fraction | None
    announced: int
    sound: bool


def suffix_is_video(path: str | os.PathLike) -> bool:
    """Whether a file's name has the ending of a known video format."""
    return Path(path).suffix.lower() in SUFFIXES


def read_frames(
    path: str | os.PathLike, *, stride: int = 1, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Iterator[tuple[int, Image]]:
    """Yield frames of a video file with their numbers from 1, upright RGB (H, W, 3) uint8.

    One frame is in memory at a time. Rotation that the file asks for is applied.

    Args:
        path: the file.
        stride: one frame in this many is returned, beginning with the first.
        max_pixels: greatest height times width.
        name: what messages call the file; by default its path.

    Raises:
        ImageError: if it cannot be read, is damaged, or is not a video of a known form.
        LimitError: if its frames are too large.
        ConfigError: if ``stride`` or ``max_pixels`` is not a whole number above 0.
        MissingExtraError: if PyAV is not installed.

    Warns:
        ImageWarning: at the end, if there are fewer frames than the file says.
    """
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise ConfigError(f"stride: is {shown_value(stride)}; give a whole number of 1 or more")
    for frame in read_video(path, stride=stride, max_pixels=max_pixels, name=name):
        yield frame.number, frame.image


def read_video(
    path: str | os.PathLike, *, stride: int = 1, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Iterator[VideoFrame]:
    """Yield the frames of a video file with their times; arguments and errors are those of :func:`read_frames`."""
    max_pixels = whole_number(max_pixels, "max_pixels")
    with _opened(path, name, max_pixels) as (container, stream, called):
        done, first = 0, None
        for frame in _decoded(container, stream, called, max_pixels):
            if done % stride == 0:
                check_size(frame, called, max_pixels)
                time = time_of(frame)
                first = time if first is None else first
                image, alpha = frame_to_arrays(frame)
                yield VideoFrame(
                    done + 1, None if time is None or first is None else time - first, image, alpha
                )
            done += 1
        _check_whole(done, stream.frames, called)


def read_video_facts(path: str | os.PathLike, *, name: str | None = None) -> VideoFacts:
    """Return what a video file says about itself; errors are those of :func:`read_frames`."""
    with _opened(path, name, MAX_PIXELS) as (container, stream, _):
        rate = stream.average_rate or stream.guessed_rate
        return VideoFacts(Fraction(rate) if rate else None, stream.frames, bool(container.streams.audio))


@contextmanager
def _opened(path: str | os.PathLike, name: str | None, max_pixels: int) -> Iterator[tuple[Any, Any, str]]:
    """Open a video file; yield the container, the stream of its pictures, and what messages call it."""
    name = shown(name or os.fsdecode(path))
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_extra(name, "video") from error
    with open_file(path, name=name) as file, told_as_ours(name):
        # Titles are not used, and in many files they are in another encoding than stated.
        with av.open(
            FileSource(file), "r", container_options=OPEN_OPTIONS, metadata_errors="replace"
        ) as container:
            if not container.streams.video:
                raise ImageError(f"{name}: has no pictures; give a video or an image file")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ImageError(
                    f"{name}: is coded in a way that is not known, or damaged; convert it to MP4 (H.264)"
                )
            check_size(stream.codec_context, name, max_pixels)
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
            yield container, stream, name


def _decoded(container: Any, stream: Any, name: str, max_pixels: int) -> Iterator[Any]:
    """Yield a stream's frames; its decoder makes no room for one that is too large."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.ArgumentError as error:
            raise _refused(packet, name, max_pixels) from error
        yield from frames


def _refused(packet: Any, name: str, max_pixels: int) -> LimitError:
    """Return the error for a frame that a decoder refuses; only FFmpeg's log has its size."""
    import av

    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as log, suppress(av.FFmpegError):
            packet.decode()
    finally:
        av.logging.set_level(level)
    size = REFUSED_SIZE.search(" ".join(message for _, _, message in log))
    if size is not None:
        return too_many_pixels(name, (int(size[2]), int(size[1])), max_pixels)
    return LimitError(
        f"{name}: a frame is damaged, or has more pixels than the limit of {max_pixels:,}; convert it again"
    )


class FileSource:
    """A file as PyAV reads it; a place before its beginning, where damage may lead, is silently refused.

    PyAV would print the exception that a file raises there.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell = file.read, file.tell
        self._file = file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; return -1 if there is none."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def frame_to_arrays(frame: Any) -> tuple[Image, np.ndarray | None]:
    """Return a frame as it should be seen, and its opacity; its rotation counts degrees counter-clockwise."""
    turns = round(frame.rotation / 90)
    transparent = any(part.is_alpha for part in frame.format.components)
    upright = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    if not transparent:
        return upright, None
    # By way of planes: packed with its colours, opacity comes out different each time at widths such as 260.
    opacity = frame.to_ndarray(format="gbrap")[..., 3]
    return upright, np.ascontiguousarray(np.rot90(opacity, turns))


def time_of(frame: Any) -> Fraction | None:
    """Return a frame's time in seconds as its file counts them; None if it does not say."""
    return None if frame.pts is None else Fraction(frame.pts * frame.time_base)


def check_size(frame: Any, name: str, max_pixels: int) -> None:
    """Check the size of a frame, or the size that a stream states for its frames."""
    if frame.height * frame.width > max_pixels:
        raise too_many_pixels(name, (frame.height, frame.width), max_pixels)


def _check_whole(done: int, announced: int, name: str) -> None:
    """Report frames that are missing at the end; 0 are announced if the file does not say."""
    if not done:
        raise ImageError(f"{name}: is truncated or damaged, no frame of it can be read; copy it again")
    if done < announced:
        remark = f"{name}: only {done} of the {announced} frames that it announces can be read"
        warnings.warn(remark, ImageWarning, stacklevel=2)


@contextmanager
def told_as_ours(name: str, what: str = "") -> Iterator[None]:
    """Turn what FFmpeg and PyAV raise into our error; for a damaged file that may be anything.

    Args:
        name: of what is read.
        what: says what is wrong and what helps; by default that it is damaged.
    """
    import av

    try:
        yield
    except (MobileSamError, Warning):
        raise
    except av.FFmpegError as error:
        raise _no_video(name, error.strerror or error, what) from error
    except MemoryError as error:
        raise LimitError(f"{name}: too large for this machine's memory; make it smaller") from error
    except Exception as error:
        raise _no_video(name, error, what) from error


def _no_video(name: str, reason: object, what: str) -> ImageError:
    reason = printable(str(reason).strip()[:120] or type(reason).__name__)
    if what:
        return ImageError(f"{name}: {what} ({reason})")
    return ImageError(
        f"{name}: is damaged, or not a video of a known form ({reason}); copy or convert it again"
    )
