from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam import ConfigError, ImageError, Prompt
from mobilesam.annotate.outputs import Folder
from mobilesam.annotate.sources import Source
from mobilesam.annotate.tracks import MASKS, OVERLAY, TrackWriters, VideoOut, names_of
from mobilesam.cli.main import run
from mobilesam.core.allocator import VARIABLE, return_large_blocks
from mobilesam.core.metrics import boundary_f
from mobilesam.evaluate.video import score_videos
from mobilesam.formats.davis import find_videos, read_annotation
from mobilesam.formats.indexed_png import index_to_png
from tests.conftest import SHARED
from tests.moving import box_of_face, moving_face
from tests.video_clips import LONG_SERIES, ClipMaker, plans
from tests.video_scores import clip_scores, summarise

EVAL = SHARED / "data" / "eval"
TRACK_FRAMES = int(os.environ.get("MOBILESAM_TRACK_FRAMES", "1000"))
KINDS_WRITTEN = (OVERLAY, MASKS)
needs_sets = pytest.mark.skipif(not EVAL.is_dir(), reason=f"no sets in {EVAL}")


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one short video, with a resolution between as DAVIS has it."""
    folder = tmp_path_factory.mktemp("davis")
    frames, masks = moving_face(4, wall=True)
    for part in ("JPEGImages", "Annotations"):
        (folder / part / "480p" / "face").mkdir(parents=True)
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        Image.fromarray(frame).save(folder / f"JPEGImages/480p/face/{number:05d}.jpg", quality=95)
        data = index_to_png(mask.astype(np.uint16))
        (folder / f"Annotations/480p/face/{number:05d}.png").write_bytes(data)
    return folder


def test_videos_are_scored(davis: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["evaluate", "video", str(davis), "--json"]) == 0
    (scores,) = json.loads(capsys.readouterr().out)["sets"]
    assert (scores["videos"], scores["prompt"]) == (1, "box")
    assert scores["j"] > 0.85 and scores["f"] > 0.85 and scores["jf"] == (scores["j"] + scores["f"]) / 2
    (track,) = scores["objects"]
    assert (track["video"], track["id"], track["missed"], track["ghosts"]) == ("face", 1, 0, 0)


def test_a_folder_without_videos(tmp_path: Path, davis: Path) -> None:
    with pytest.raises(ConfigError, match="has no annotated video"):
        find_videos(tmp_path)
    with pytest.raises(ConfigError, match="prompt: is 'text'"):
        score_videos(mobilesam.load("pocket"), davis, prompt="text")


def test_annotations_are_numbers(tmp_path: Path, davis: Path) -> None:
    (video,) = find_videos(davis)
    first = video.annotations[0]
    assert first is not None and set(np.unique(read_annotation(first))) == {0, 1}
    white = np.zeros((6, 8), np.uint8)
    white[2:4] = 255
    Image.fromarray(white).save(tmp_path / "white.png")
    assert read_annotation(tmp_path / "white.png").sum() == 16
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "rgb.png")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("rgb.png", "text.png"):
        with pytest.raises(ImageError, match=name):
            read_annotation(tmp_path / name)


def test_contours_are_scored_with_a_tolerance() -> None:
    mask, moved, far = (np.zeros((100, 100), bool) for _ in range(3))
    mask[20:60, 20:60] = moved[21:61, 20:60] = far[50:90, 50:90] = True
    empty = np.zeros_like(mask)
    assert boundary_f(mask, mask) == boundary_f(mask, moved) == boundary_f(empty, empty) == 1
    assert boundary_f(mask, far) < 0.2 and boundary_f(mask, empty) == 0


@needs_sets
def test_a_clip_is_the_same_each_time_and_true() -> None:
    maker = ClipMaker(EVAL)
    plan = replace(plans(6)[5], frames=24)
    one, other = maker.make(plan), maker.make(plan)
    assert all((a == b).all() for a, b in zip(one.frames, other.frames, strict=True))
    assert all((a == b).all() for a, b in zip(one.masks, other.masks, strict=True))
    assert one.masks[0].shape == (2, 288, 512) and one.frames[0].shape == (288, 512, 3)
    areas = np.array([mask.sum((1, 2)) for mask in one.masks])
    assert (areas.max(0) > 1000).all() and areas[:, 0].min() < 0.6 * areas[:, 0].max()  # a pole passes


@pytest.mark.long
@needs_sets
def test_sixty_clips() -> None:
    """Mean IoU over all frames, beside that of true boxes on each frame and of the box of the frame before."""
    model, maker = mobilesam.load("pocket"), ClipMaker(EVAL)
    scores = [score for plan in plans(LONG_SERIES) for score in clip_scores(model, maker.make(plan))]
    for hidden in (False, True):
        track, ceiling, naive = summarise([one for one in scores if one.hidden == hidden])
        assert track > naive + 0.2
        assert track > ceiling - (0.25 if hidden else 0.05)


def resident() -> float:
    """Return the megabytes of memory that this process holds."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_flat_over_thousands_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come from a generator, the object is lost and found again and again, and results are written.

    ``MOBILESAM_TRACK_FRAMES`` says how many; the first fifth does not count. ``MOBILESAM_TRACK_LOG`` names a file for
    the readings: frames, megabytes.
    """
    monkeypatch.delenv(VARIABLE, raising=False)
    return_large_blocks()  # as the command does
    log = Path(os.environ.get("MOBILESAM_TRACK_LOG", tmp_path / "memory.csv"))
    model = mobilesam.load("pocket")
    frames, _ = moving_face(8, wall=True)
    low = [frame[45:141] for frame in frames]  # all that the face crosses
    there_and_back = [*low, *low[::-1]]
    stream = (there_and_back[i % 16] for i in range(TRACK_FRAMES))
    place = Folder(tmp_path).place(Source("face", "face", Path("face")), names_of(KINDS_WRITTEN))
    readings: list[float] = []
    states: Counter[str] = Counter()
    box = np.subtract(box_of_face(), (0, 45, 0, 45)).tolist()
    with TrackWriters(place, KINDS_WRITTEN, VideoOut("face")) as writers, log.open("w") as out:
        for frame in model.track(stream, Prompt(box=box)):
            writers.add(frame)
            states[frame[1].state] += 1
            if frame.number > TRACK_FRAMES // 5 and frame.number % 10 == 0:
                readings.append(resident())
                print(f"{frame.number},{readings[-1]:.1f}", file=out, flush=True)
    halves = readings[: len(readings) // 2], readings[len(readings) // 2 :]
    first, second = (float(np.median(half)) for half in halves)
    print(
        f"{TRACK_FRAMES:,} frames: {first:.1f} and {second:.1f} MB, at most {max(readings):.1f}; {dict(states)}"
    )
    assert states["lost"] > TRACK_FRAMES / 10 and states["followed"] > TRACK_FRAMES / 2
    assert second < first + 8
