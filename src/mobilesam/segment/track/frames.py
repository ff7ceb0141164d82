"""Where frames come from: a video, a folder of pictures, a list, or any iterable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.formats.camera import LatestFrames
from mobilesam.formats.image import SUFFIXES, read_with_remarks
from mobilesam.formats.video import VideoFrame, read_video, read_video_facts

CHUNK_BYTES = 256_000_000  # of frames kept while a video is read backwards


@dataclass(frozen=True, eq=False)
class FrameSource:
    """Frames to go through, one in memory at a time.

    Attributes:
        name: what messages call them.
        forward: when called, yields the frames from the first.
        again: whether ``forward`` can be called more than once.
        total: how many there are, if that is known.
        by_number: returns a frame by its number from 1, where that is possible without going through all.
        live: whether frames come by themselves, and the newest is wanted.
    """

    name: str
    forward: Callable[[], Iterator[VideoFrame]]
    again: bool
    total: int | None = None
    by_number: Callable[[int], VideoFrame] | None = None
    live: bool = False

    def backward(self, last: int) -> Iterator[VideoFrame]:
        """Yield the frames from number ``last`` down to the first; a video is decoded anew for each chunk."""
        if self.by_number is not None:
            yield from (self.by_number(number) for number in range(last, 0, -1))
            return
        end = last
        while end > 0:
            kept: list[VideoFrame] = []
            held = 0
            for frame in islice(self.forward(), end):
                kept.append(frame)
                held += frame.image.nbytes
                while held > CHUNK_BYTES and len(kept) > 1:
                    held -= kept.pop(0).image.nbytes
            if not kept:
                return
            yield from reversed(kept)
            end = kept[0].number - 1


def open_frames(frames: Any, *, max_pixels: int) -> FrameSource:
    """Return the source of what a caller gave as frames.

    Args:
        frames: the path of a video, or of a folder of pictures in the order of their names; a sequence of images,
            each as :meth:`mobilesam.Model.embed` takes it; or an iterator of such images or of
            :class:`~mobilesam.formats.video.VideoFrame`, which can be gone through once.
        max_pixels: greatest height times width of a frame.

    Raises:
        ConfigError: for what is none of these.
        ImageError: if a folder holds no pictures.
    """
    if isinstance(frames, str | os.PathLike):
        path = Path(frames)
        if path.is_dir():
            return _of_folder(path, max_pixels)
        announced = read_video_facts(path).announced
        return FrameSource(
            str(path), lambda: read_video(path, max_pixels=max_pixels), again=True, total=announced or None
        )
    if isinstance(frames, np.ndarray) and frames.ndim != 4:
        raise ConfigError(
            f"frames: is one array of shape {frames.shape}; give (N, H, W, 3), or a list of images"
        )
    if isinstance(frames, Sequence | np.ndarray) and not isinstance(frames, bytes | bytearray):
        return _of_sequence(frames, max_pixels)
    if isinstance(frames, Iterable):
        return _of_iterable(frames, max_pixels)
    raise ConfigError(
        f"frames: is a {type(frames).__name__}; give a video's path, a folder of pictures, or a list of images"
    )


def _of_folder(path: Path, max_pixels: int) -> FrameSource:
    files = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and one.is_file())
    if not files:
        raise ImageError(f"{path}: holds no pictures; give a folder of frames, or a video")
    return _numbered(str(path), files, max_pixels)


def _of_sequence(frames: Sequence[Any] | np.ndarray, max_pixels: int) -> FrameSource:
    if not len(frames):
        raise ConfigError("frames: is empty; give at least one image")
    return _numbered("frames", frames, max_pixels)


def _numbered(name: str, images: Any, max_pixels: int) -> FrameSource:
    def by_number(number: int) -> VideoFrame:
        image = images[number - 1]
        return _frame(image, number, f"frames[{number - 1}]", max_pixels)

    return FrameSource(
        name,
        lambda: (by_number(number) for number in range(1, len(images) + 1)),
        again=True,
        total=len(images),
        by_number=by_number,
    )


def _of_iterable(frames: Iterable[Any], max_pixels: int) -> FrameSource:
    def forward() -> Iterator[VideoFrame]:
        for number, image in zip(count(1), frames, strict=False):
            yield _frame(image, number, f"frame {number}", max_pixels)

    return FrameSource("frames", forward, again=False, live=isinstance(frames, LatestFrames))


def _frame(image: Any, number: int, name: str, max_pixels: int) -> VideoFrame:
    if isinstance(image, VideoFrame):
        return image
    rgb: Image
    called = str(image) if isinstance(image, str | os.PathLike) else name
    rgb, _ = read_with_remarks(image, max_pixels=max_pixels, name=called)
    return VideoFrame(number, None, rgb)
