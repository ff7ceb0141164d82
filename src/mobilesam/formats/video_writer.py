"""Videos out: MP4 (H.264) and WebM (VP9, with opacity), at the times of the frames and with the sound of the source."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ImageWarning, OutputError, missing_extra
from mobilesam.core.text import printable
from mobilesam.formats.image_bytes import open_file
from mobilesam.formats.video import OPEN_OPTIONS, FileSource

TICKS = 90_000  # of a second, in which times are written
USUAL_RATE = Fraction(25)  # frames a second if nothing states it
# By a file's ending: the container, the encoder, its options, and the sound that the container takes as it is.
KINDS = {
    ".mp4": ("mp4", "libx264", {"crf": "18", "preset": "veryfast"}, ("aac", "mp3", "ac3", "eac3", "alac")),
    ".webm": (
        "webm",
        "libvpx-vp9",
        {"crf": "24", "b": "0", "cpu-used": "6", "row-mt": "1"},
        ("opus", "vorbis"),
    ),
}
SOUND_ENCODERS = {".mp4": "aac", ".webm": "libopus"}


class VideoWriter:
    """Writes frames to an open file, and with them the sound of the video they come from.

    Odd sides get one more row or column, a copy of the last: H.264 and VP9 halve the resolution of colours.

    Args:
        file: open for writing and seeking.
        suffix: ``.mp4`` or ``.webm``.
        rate: frames a second; frames without times follow each other at this rate.
        alpha: frames are RGBA; for ``.webm``.
        sound: video whose sound is taken over.

    Raises:
        MissingExtraError: if PyAV is not installed.
        OutputError: if this PyAV does not have the encoder.
    """

    def __init__(
        self,
        file: IO[bytes],
        suffix: str,
        *,
        rate: Fraction | None = None,
        alpha: bool = False,
        sound: str | os.PathLike | None = None,
    ) -> None:
        try:
            import av
        except ModuleNotFoundError as error:
            raise missing_extra(f"a video ({suffix})", "video") from error
        container, self.encoder, self.settings, self.taken = KINDS[suffix]
        if self.encoder not in av.codecs_available:
            raise OutputError(
                f"{suffix}: this PyAV has no encoder {self.encoder}; install it with: pip install av"
            )
        self.suffix, self.alpha = suffix, alpha
        self.rate = rate or USUAL_RATE
        self.container: Any = av.open(file, "w", format=container)
        self.stream: Any = None
        self.sound = sound
        self._sound: Iterator[Any] | None = None
        self._waiting: Any = None
        self._opened = ExitStack()
        self.last = -1
        self.count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Let go without an end; what was written is not a valid video."""
        self._opened.close()

    def add(self, image: Image | np.ndarray, time: Fraction | None = None) -> None:
        """Write a frame.

        Args:
            image: (H, W, 3), or with ``alpha`` (H, W, 4).
            time: seconds since the first frame.
        """
        import av

        if self.stream is None:
            self._begin(image.shape[0], image.shape[1])
        wide = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(wide), format="rgba" if self.alpha else "rgb24"
        )
        at = Fraction(self.count) / self.rate if time is None else time
        frame.pts = max(round(at * TICKS), self.last + 1)
        frame.time_base = Fraction(1, TICKS)
        self.last = frame.pts
        self.count += 1
        self._add_sound(Fraction(frame.pts, TICKS))
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        if self.stream is None:
            raise OutputError("no frame was written")
        self.container.mux(self.stream.encode())
        self._add_sound(None)
        self.container.close()
        self._opened.close()

    def _begin(self, height: int, width: int) -> None:
        self.stream = self.container.add_stream(self.encoder, rate=self.rate, options=dict(self.settings))
        self.stream.height, self.stream.width = height + height % 2, width + width % 2
        self.stream.pix_fmt = "yuva420p" if self.alpha else "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        if self.sound is not None:
            self._sound = self._guarded(self._open_sound(self.sound))

    def _open_sound(self, path: str | os.PathLike) -> Iterator[Any]:
        """Add a stream for the sound, and yield its packets, as they are or coded again."""
        import av

        file = self._opened.enter_context(open_file(path, name=str(path)))
        source = self._opened.enter_context(
            av.open(FileSource(file), "r", container_options=OPEN_OPTIONS, metadata_errors="replace")
        )
        if not source.streams.audio:
            return iter(())
        given = source.streams.audio[0]
        if given.codec_context.name in self.taken:
            return self._copied(source, given, self.container.add_stream_from_template(given))
        stream = self.container.add_stream(SOUND_ENCODERS[self.suffix], rate=48_000)
        return self._coded(source, given, stream)

    def _copied(self, source: Any, given: Any, stream: Any) -> Iterator[Any]:
        for packet in source.demux(given):
            if packet.dts is not None:
                packet.stream = stream
                yield packet

    def _coded(self, source: Any, given: Any, stream: Any) -> Iterator[Any]:
        import av

        to = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=48_000)
        for frame in source.decode(given):
            for ready in to.resample(frame):
                yield from stream.encode(ready)
        for ready in to.resample(None):
            yield from stream.encode(ready)
        yield from stream.encode()

    def _guarded(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield packets; if the sound is damaged, the rest is left out and a warning says so."""
        import av

        try:
            yield from packets
        except (av.FFmpegError, ValueError, EOFError) as error:
            reason = printable(str(error)[:120])
            warnings.warn(
                f"{Path(str(self.sound)).name}: the sound is damaged and left out from there ({reason})",
                ImageWarning,
                stacklevel=2,
            )

    def _add_sound(self, until: Fraction | None) -> None:
        """Write the sound up to a time, or all that is left, so that it lies beside its pictures."""
        if self._sound is None:
            return
        while True:
            packet = self._waiting if self._waiting is not None else next(self._sound, None)
            self._waiting = None
            if packet is None:
                self._sound = None
                return
            at = packet.pts if packet.pts is not None else packet.dts
            if until is not None and at is not None and at * packet.time_base > until:
                self._waiting = packet
                return
            self.container.mux(packet)
