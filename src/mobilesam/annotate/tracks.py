"""What is written from a tracked video, frame by frame: pictures to look at, masks, and what is cut out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from mobilesam.annotate.outputs import Name, Place
from mobilesam.core.errors import OutputError, Remedy
from mobilesam.formats.indexed_png import index_to_png
from mobilesam.formats.video_writer import VideoWriter
from mobilesam.formats.youtube_vis import Tracks
from mobilesam.segment.track.results import TrackedFrame
from mobilesam.storage.atomic import atomic_write, write_bytes

OVERLAY, MASKS, COCO, CUTOUT = "overlay", "masks", "coco", "cutout"
KIND_ENDINGS = {OVERLAY: "overlay.mp4", MASKS: "masks", COCO: "coco.json", CUTOUT: "cutout.webm"}
KINDS = tuple(KIND_ENDINGS)


@dataclass(frozen=True)
class VideoOut:
    """What a written video shares with its source.

    Attributes:
        name: of the source, without its ending.
        rate: frames a second.
        sound: video whose sound is taken over, or None.
        overwrite: replace what is there.
    """

    name: str
    rate: Fraction | None = None
    sound: Path | None = None
    overwrite: bool = False


class Writer(Protocol):
    """Takes the frames of a tracked video."""

    def add(self, frame: TrackedFrame) -> None:
        """Take the next frame."""
        ...

    def close(self) -> None:
        """Write what is left; a result exists only once it is closed."""
        ...


class TrackWriters:
    """Writes several kinds of results at once. What is not complete at the end of the block is not kept.

    Args:
        place: where results go.
        kinds: some of ``KINDS``.
        out: what they share with the source.
    """

    def __init__(self, place: Place, kinds: Sequence[str], out: VideoOut) -> None:
        self.place, self.kinds, self.out = place, kinds, out
        self.paths = {kind: _path(place, kind) for kind in kinds}
        self._stack = ExitStack()
        self._writers: list[Writer] = []

    def __enter__(self) -> TrackWriters:
        with ExitStack() as stack:
            for kind, path in self.paths.items():
                self._writers.append(_MAKERS[kind](path, self.out, stack))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for writer in self._writers:
                    writer.close()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def add(self, frame: TrackedFrame) -> None:
        """Write the next frame."""
        for writer in self._writers:
            writer.add(frame)


def names_of(kinds: Sequence[str]) -> list[Name]:
    """Return what the results are called beside their video."""
    return [Name(KIND_ENDINGS[kind], folder=kind == MASKS) for kind in kinds]


def _path(place: Place, kind: str) -> Path:
    path = place.path(Name(KIND_ENDINGS[kind], folder=kind == MASKS))
    assert path is not None  # tracks are not written to a stream
    return path


@dataclass
class _Pictures:
    """A video of pictures made from the frames."""

    writer: VideoWriter
    draw: Callable[[TrackedFrame], np.ndarray]

    def add(self, frame: TrackedFrame) -> None:
        self.writer.add(self.draw(frame), frame.time)

    def close(self) -> None:
        self.writer.close()


@dataclass
class _MaskFolder:
    """Numbered PNG files, each pixel with its object's number, as in DAVIS."""

    folder: Path
    overwrite: bool

    def add(self, frame: TrackedFrame) -> None:
        data = index_to_png(frame.id_map())
        write_bytes(self.folder / f"{frame.number:05d}.png", data, overwrite=self.overwrite)

    def close(self) -> None:
        """Nothing is left to write."""


@dataclass
class _Document:
    """The JSON file."""

    path: Path
    overwrite: bool
    tracks: Tracks = field(repr=False)

    def add(self, frame: TrackedFrame) -> None:
        self.tracks.add(frame.image.shape[:2], frame.objects)

    def close(self) -> None:
        text = json.dumps(self.tracks.document(), separators=(",", ":"))
        write_bytes(self.path, text.encode(), overwrite=self.overwrite)


def _overlay(path: Path, out: VideoOut, stack: ExitStack) -> Writer:
    file = stack.enter_context(atomic_write(path, overwrite=out.overwrite))
    writer = stack.enter_context(_Abandoned(VideoWriter(file, ".mp4", rate=out.rate, sound=out.sound)))
    return _Pictures(writer, TrackedFrame.overlay)


def _cutout(path: Path, out: VideoOut, stack: ExitStack) -> Writer:
    file = stack.enter_context(atomic_write(path, overwrite=out.overwrite))
    writer = VideoWriter(file, ".webm", rate=out.rate, alpha=True, sound=out.sound)
    return _Pictures(
        stack.enter_context(_Abandoned(writer)), lambda frame: np.dstack([frame.image, frame.alpha()])
    )


def _masks(path: Path, out: VideoOut, stack: ExitStack) -> Writer:
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; move it away or choose another folder")
    if path.is_dir() and not out.overwrite and any(os.scandir(path)):
        raise OutputError(
            f"{path}: has files already; choose another folder",
            remedy=Remedy("overwrite", True, "to replace them"),
        )
    return _MaskFolder(path, out.overwrite)


def _coco(path: Path, out: VideoOut, stack: ExitStack) -> Writer:
    return _Document(path, out.overwrite, Tracks(out.name))


_MAKERS: dict[str, Callable[[Path, VideoOut, ExitStack], Writer]] = {
    OVERLAY: _overlay,
    MASKS: _masks,
    COCO: _coco,
    CUTOUT: _cutout,
}


class _Abandoned:
    """Drops an unfinished video if something failed; otherwise the writer was closed already."""

    def __init__(self, writer: VideoWriter) -> None:
        self.writer = writer

    def __enter__(self) -> VideoWriter:
        return self.writer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.writer.abandon()
