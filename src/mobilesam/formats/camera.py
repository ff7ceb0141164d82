"""A camera's pictures, through FFmpeg's devices; of those that come while one is worked on, only the newest is kept."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from types import TracebackType

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError, ImageError, missing_extra
from mobilesam.formats.image import MAX_PIXELS, whole_number
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.video import VideoFrame, check_size, frame_to_arrays, time_of, told_as_ours

# FFmpeg's device for numbered cameras, by Python's name for the system.
DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
NUMBER = re.compile(r"\d{1,3}")
PATIENCE = 10.0  # seconds to wait for a picture
WAKE = 0.1  # seconds after which a waiting reader checks whether it was interrupted


def open_camera(device: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[VideoFrame]:
    """Yield a camera's frames as they come, numbered from 1.

    Args:
        device: number of a camera, or ``FORMAT:NAME`` of one of FFmpeg's devices, such as
            ``dshow:video=HD Camera`` or ``avfoundation:1``.
        max_pixels: greatest height times width.

    Raises:
        ConfigError: for a device that is not written like that.
        ImageError: if it cannot be opened, or stops.
        LimitError: if its frames are too large.
        MissingExtraError: if PyAV is not installed.
    """
    max_pixels = whole_number(max_pixels, "max_pixels")
    kind, name = _device(device)
    called = f"camera {shown(device)}"
    if find_spec("av") is None:
        raise missing_extra(called, "video")
    return _frames(kind, name, called, max_pixels)


def _frames(kind: str, name: str, called: str, max_pixels: int) -> Iterator[VideoFrame]:
    import av

    with told_as_ours(called, "cannot be opened, or has stopped; give another --camera"):
        with av.open(name, "r", format=kind) as container:
            if not container.streams.video:
                raise ImageError(f"{called}: gives no pictures; choose another one")
            stream = container.streams.video[0]
            check_size(stream.codec_context, called, max_pixels)
            first: Fraction | None = None
            for number, frame in enumerate(container.decode(stream), start=1):
                check_size(frame, called, max_pixels)
                time = time_of(frame)
                first = time if first is None else first
                image, _ = frame_to_arrays(frame)
                yield VideoFrame(number, None if time is None or first is None else time - first, image)


def _device(device: str) -> tuple[str, str]:
    """Return FFmpeg's names for a device's format and for the device."""
    if NUMBER.fullmatch(device):
        known = [one for system, one in DEVICES.items() if sys.platform.startswith(system)]
        if not known:
            raise ConfigError(
                f"camera: is {device}; on this system cameras have names, give one such as dshow:video=HD Camera"
            )
        return known[0][0], known[0][1].format(device)
    kind, colon, name = device.partition(":")
    if not (colon and kind and name):
        raise ConfigError(
            f"camera: is {shown(repr(device))}; give a number such as 0, or FORMAT:NAME such as dshow:video=HD Camera"
        )
    return kind, name


class LatestFrames:
    """Reads frames in a thread of its own and hands out the newest; the others are dropped.

    Frames are numbered again, as they are handed out.

    Args:
        frames: frames that come by themselves, such as a camera's.

    Attributes:
        dropped: how many were not asked for in time.
    """

    def __init__(self, frames: Iterator[VideoFrame]) -> None:
        self._frames = frames
        self._ready = threading.Condition()
        self._newest: VideoFrame | None = None
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self.dropped = self.handed = 0
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    def __enter__(self) -> LatestFrames:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._ready:
            self._closed = True
        self._thread.join(PATIENCE)

    def __iter__(self) -> LatestFrames:
        return self

    def __next__(self) -> VideoFrame:
        """Return the newest frame, waiting for it if need be.

        Raises:
            ImageError: if none comes in time; also what the camera raised.
        """
        with self._ready:
            frame = self._waited_for()
            self._newest = None
        if frame is None:
            raise StopIteration
        self.handed += 1
        return VideoFrame(self.handed, frame.time, frame.image)

    def size(self) -> Size:
        """Return the (height, width) of the next frame without taking it, waiting for it if need be.

        Raises:
            ImageError: if none comes; also what the camera raised.
        """
        with self._ready:
            frame = self._waited_for()
        if frame is None:
            raise ImageError("camera: ended without a picture; give another --camera")
        height, width, _ = frame.image.shape
        return height, width

    def _waited_for(self) -> VideoFrame | None:
        """Return the newest frame, or None after the last; the lock is held."""
        waited = 0.0
        while self._newest is None:
            if self._error is not None:
                raise self._error
            if self._ended or self._closed:
                return None
            if waited >= PATIENCE:
                raise ImageError(f"camera: no picture came for {PATIENCE:.0f} s; is it in use elsewhere?")
            self._ready.wait(WAKE)
            waited += WAKE
        return self._newest

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._ready:
                    if self._closed:
                        return
                    self.dropped += self._newest is not None
                    self._newest = frame
                    self._ready.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._ready:
                self._ended = True
                self._ready.notify_all()
