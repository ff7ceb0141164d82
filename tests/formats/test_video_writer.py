from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from skimage import data

from mobilesam.core.errors import ImageWarning, OutputError
from mobilesam.formats.video import frame_to_arrays, read_video, read_video_facts
from mobilesam.formats.video_writer import VideoWriter

TIMES = [Fraction(0), Fraction(1, 25), Fraction(3, 25), Fraction(4, 25), Fraction(8, 25)]


def write(
    path: Path, frames: list[np.ndarray], times: list[Fraction] | None = None, **options: object
) -> Path:
    with path.open("w+b") as file, VideoWriter(file, path.suffix, **options) as writer:  # type: ignore[arg-type]
        for frame, time in zip(frames, times or [None] * len(frames), strict=True):
            writer.add(frame, time)
    return path


def with_sound(path: Path, codec: str, seconds: float = 1.0) -> Path:
    """Write a video with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream(codec, rate=48000)
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        tone = np.sin(np.arange(int(48000 * seconds)) / 20).astype(np.float32)[None]
        samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        samples.sample_rate = 48000
        for part in av.AudioResampler(sound.format, "mono", 48000).resample(samples):
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def test_frames_keep_their_pixels_and_times(tmp_path: Path) -> None:
    photos = [np.roll(data.coffee()[:120, :160], 8 * i, axis=1) for i in range(5)]
    path = write(tmp_path / "a.mp4", photos, TIMES)
    read = list(read_video(path))
    assert [float(frame.time or 0) for frame in read] == pytest.approx(
        [float(one) for one in TIMES], abs=1e-3
    )
    assert np.abs(read[2].image.astype(int) - photos[2]).mean() < 6


def test_odd_sides_get_a_row_or_column_more(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [data.coffee()[:75, :101]])
    assert next(read_video(path)).image.shape == (76, 102, 3)


def test_frames_without_times_follow_the_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 4, rate=Fraction(10))
    assert [float(frame.time or 0) for frame in read_video(path)] == pytest.approx(
        [0, 0.1, 0.2, 0.3], abs=1e-3
    )


def test_opacity_is_kept_in_webm(tmp_path: Path) -> None:
    rgba = np.dstack([data.coffee()[:64, :96], np.zeros((64, 96), np.uint8)])
    rgba[16:48, 24:72, 3] = 255
    path = write(tmp_path / "a.webm", [rgba, rgba], alpha=True)
    decoder = av.codec.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        (alpha, *_) = [
            frame_to_arrays(frame)[1]
            for packet in container.demux(video=0)
            for frame in decoder.decode(packet)
        ]
    assert alpha is not None
    assert alpha[32, 48] > 250 and alpha[4, 4] < 5


def test_opacity_is_read_as_it_is_each_time() -> None:
    """FFmpeg's conversion to RGBA gives other numbers each time, of frames whose width is no multiple of 32."""
    rgba = np.dstack([data.coffee()[:180, :260], np.zeros((180, 260), np.uint8)])
    rgba[40:140, 30:200, 3] = np.arange(170)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), format="rgba").reformat(format="yuva420p")
    plain, kept = frame.to_ndarray(format="rgb24"), frame.planes[3]
    alpha = np.frombuffer(kept, np.uint8).reshape(180, kept.line_size)[:, :260]
    assert np.abs(alpha.astype(int) - rgba[..., 3]).max() <= 1
    for _ in range(20):
        image, opacity = frame_to_arrays(frame)
        np.testing.assert_array_equal(opacity, alpha)
        np.testing.assert_array_equal(image, plain)


def test_sound_is_taken_over_as_it_is(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "source.mp4", "aac")
    assert read_video_facts(source).sound
    path = write(tmp_path / "a.mp4", [np.zeros((48, 64, 3), np.uint8)] * 5, sound=source)
    with av.open(str(source)) as one, av.open(str(path)) as other:
        before, after = ([bytes(p) for p in c.demux(audio=0) if p.size] for c in (one, other))
    assert len(before) > 10 and before == after


def test_sound_of_another_kind_is_coded_anew(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "source.mp4", "aac")
    rgba = np.full((48, 64, 4), 255, np.uint8)
    path = write(tmp_path / "a.webm", [rgba] * 5, alpha=True, sound=source)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        seconds = sum(frame.samples for frame in container.decode(audio=0)) / 48000
    assert seconds == pytest.approx(1.0, abs=0.1)


def test_damaged_sound_is_told_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = with_sound(tmp_path / "source.mp4", "aac")
    whole = source.read_bytes()
    source.write_bytes(whole[:60] + bytes(40) + whole[100:])

    def broken(self: VideoWriter, *stream: object) -> object:
        raise av.InvalidDataError(1, "damaged")
        yield

    monkeypatch.setattr(VideoWriter, "_copied", broken)
    with pytest.warns(ImageWarning, match="the sound is damaged and left out"):
        path = write(
            tmp_path / "a.mp4", [np.zeros((48, 64, 3), np.uint8)] * 5, sound=with_sound(source, "aac")
        )
    assert len(list(read_video(path))) == 5


def test_a_video_without_frames_is_none() -> None:
    with pytest.raises(OutputError, match="no frame"):
        VideoWriter(io.BytesIO(), ".mp4").close()


def test_ten_bits_are_read(tmp_path: Path) -> None:
    path = tmp_path / "deep.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(data.coffee()[:64, :96], format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        container.mux(stream.encode())
    (read,) = read_video(path)
    assert (
        read.image.dtype == np.uint8 and np.abs(read.image.astype(int) - data.coffee()[:64, :96]).mean() < 12
    )


def test_opacity_of_a_source_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    rgba = np.dstack([data.coffee()[:64, :96], np.full((64, 96), 77, np.uint8)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "rgba"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        container.mux(stream.encode())
    (read,) = read_video(path)
    assert read.alpha is not None and (read.alpha == 77).all() and (read.image == rgba[..., :3]).all()
