from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from mobilesam import Prompt
from mobilesam.core.errors import ConfigError, ImageError, LimitError
from mobilesam.formats.camera import LatestFrames, _device, open_camera
from mobilesam.formats.video import VideoFrame
from mobilesam.segment.model import Model
from tests.moving import box_of_face, moving_face

DEVICE = "lavfi:testsrc=size=64x48:rate=25:duration=0.4"


def test_frames_of_a_device() -> None:
    frames = list(open_camera(DEVICE))
    assert [frame.number for frame in frames] == list(range(1, 11))
    assert frames[0].image.shape == (48, 64, 3) and frames[9].time == Fraction(9, 25)


def test_what_comes_while_nobody_asks_is_dropped() -> None:
    """A file-backed device gives all of its frames at once; the one that is handed out is the last."""
    with LatestFrames(open_camera(DEVICE)) as latest:
        latest._thread.join(10)
        frame = next(latest)
        assert frame.number == 1 and frame.time == Fraction(9, 25)
        assert latest.dropped == 9
        assert list(latest) == []


def test_a_frame_is_handed_out_as_soon_as_it_is_there() -> None:
    go = threading.Event()

    def camera() -> Iterator[VideoFrame]:
        yield VideoFrame(1, None, np.zeros((4, 4, 3), np.uint8))
        go.wait(10)
        yield VideoFrame(2, None, np.ones((4, 4, 3), np.uint8))

    with LatestFrames(camera()) as latest:
        assert next(latest).image.max() == 0
        threading.Timer(0.1, go.set).start()
        start = time.monotonic()
        assert next(latest).image.max() == 1
        assert time.monotonic() - start < 5


def test_what_the_camera_raises_is_raised() -> None:
    with LatestFrames(open_camera("lavfi:no_such_source")) as latest:
        with pytest.raises(ImageError, match="camera lavfi:no_such_source: cannot be opened"):
            next(latest)
    with LatestFrames(open_camera(DEVICE, max_pixels=100)) as latest, pytest.raises(LimitError):
        next(latest)


def test_a_camera_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilesam.formats.camera.PATIENCE", 0.2)
    stop = threading.Event()

    def camera() -> Iterator[VideoFrame]:
        stop.wait(10)
        yield from ()

    with LatestFrames(camera()) as latest:
        with pytest.raises(ImageError, match="no picture came"):
            next(latest)
        stop.set()


def test_the_size_is_that_of_a_frame_that_still_comes() -> None:
    with LatestFrames(open_camera(DEVICE)) as latest:
        assert latest.size() == (48, 64)
        assert next(latest).number == 1
    with LatestFrames(iter(())) as latest, pytest.raises(ImageError, match="ended without a picture"):
        latest.size()


@pytest.mark.parametrize("device", ["", "a", ":a", "v4l2:", "1234"])
def test_devices_that_are_none(device: str) -> None:
    with pytest.raises(ConfigError, match="give a number such as 0"):
        open_camera(device)


def test_a_device_without_a_name_is_quoted() -> None:
    with pytest.raises(ConfigError, match="camera: is '';"):
        open_camera("")


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("linux", ("v4l2", "/dev/video0")), ("darwin", ("avfoundation", "0"))],
)
def test_a_number_is_a_camera_of_the_system(
    platform: str, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert _device("0") == expected


def test_windows_has_names_of_cameras_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ConfigError, match="dshow:video=HD Camera"):
        open_camera("0")


def test_results_of_a_paced_camera_lag_by_one_frame_and_the_work_on_it(pocket: Model) -> None:
    """While a result is worked on the next frame is taken, so a result's frame came after the one before last."""
    period, count = 0.02, 75
    images, _ = moving_face(8)
    came: list[float] = []

    def camera() -> Iterator[VideoFrame]:
        start = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, start + number * period - time.monotonic()))
            came.append(time.monotonic())
            yield VideoFrame(number + 1, Fraction(number), images[number // 10])

    with LatestFrames(camera()) as latest:
        shown, done = [], []
        for frame in pocket.track(latest, Prompt(box=box_of_face())):
            assert frame.time is not None
            shown.append(int(frame.time))
            done.append(time.monotonic())
    assert shown == sorted(set(shown)) and shown[-1] == count - 1
    assert latest.dropped == count - len(shown) > count / 4
    late = 3 * period  # a thread that has to wait for its turn
    for number in range(2, len(shown) - 1):
        assert came[shown[number] + 1] > done[number - 2] - late, number


def test_a_frame_does_not_grow_old_while_a_result_is_in_use(pocket: Model) -> None:
    """Whoever takes long over a result gets one that is as old as the work on it, not as the time they took."""
    period = 0.04
    images, _ = moving_face(1)

    def camera() -> Iterator[VideoFrame]:
        start = time.monotonic()
        for number in range(10**6):
            time.sleep(max(0.0, start + number * period - time.monotonic()))
            yield VideoFrame(number + 1, Fraction(time.monotonic()), images[0])

    ages = []
    with LatestFrames(camera()) as latest:
        results = pocket.track(latest, Prompt(box=box_of_face()))
        next(results)
        start = time.monotonic()
        next(results)
        using = 0.1 + 3 * (time.monotonic() - start)
        for frame in islice(results, 4):
            assert frame.time is not None
            ages.append(time.monotonic() - float(frame.time))
            time.sleep(using)
    assert sorted(ages[1:])[1] < 0.8 * using, (ages, using)
