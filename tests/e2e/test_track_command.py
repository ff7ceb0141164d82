from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mobilesam.cli.main import run
from mobilesam.core.metrics import mask_iou
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from mobilesam.formats.video import frame_to_arrays, read_video
from mobilesam.runtimes.onnx import OnnxRuntime
from tests.moving import box_of_face, moving_face
from tests.videos import write_video

BOX = ",".join(map(str, box_of_face()))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames, _ = moving_face(6, wall=True)
    return write_video(tmp_path_factory.mktemp("clip") / "face.mp4", frames)


@pytest.fixture(scope="module")
def written(clip: Path) -> Path:
    out = clip.parent / "out"
    kinds = "overlay,masks,coco,cutout"
    assert run(["track", str(clip), "--box", BOX, "--out", str(out), "--save", kinds, "--quiet"]) == 0
    return out


def test_masks_are_pictures_of_numbers(written: Path) -> None:
    _, truths = moving_face(6, wall=True)
    files = sorted((written / "face_masks").iterdir())
    assert [one.name for one in files] == [f"{n:05d}.png" for n in range(1, 7)]
    for path, truth in zip(files, truths, strict=True):
        with Image.open(path) as picture:
            assert picture.mode == "P"
            ids = np.asarray(picture)
        assert set(np.unique(ids)) <= {0, 1}
        assert mask_iou(ids == 1, truth) > 0.8


def test_json_is_that_of_youtube_vis(written: Path) -> None:
    document = json.loads((written / "face_coco.json").read_text())
    _, truths = moving_face(6, wall=True)
    (video,), (track,) = document["videos"], document["annotations"]
    assert (video["width"], video["height"], video["length"], len(video["file_names"])) == (260, 180, 6, 6)
    assert track["video_id"] == video["id"] and track["category_id"] == document["categories"][0]["id"]
    assert [one is None for one in track["segmentations"]] == [not truth.any() for truth in truths]
    first = rle_to_mask(dict_to_rle(track["segmentations"][0]))
    assert mask_iou(first, truths[0]) > 0.8 and track["areas"][0] == first.sum()
    x, y, width, height = track["bboxes"][0]
    assert first[y : y + height, x : x + width].sum() == first.sum()


def test_the_overlay_shows_the_mask_and_the_cutout_is_transparent(written: Path, clip: Path) -> None:
    _, truths = moving_face(6, wall=True)
    source, drawn = (list(read_video(path)) for path in (clip, written / "face_overlay.mp4"))
    assert len(drawn) == 6 and drawn[5].time == source[5].time
    changed = np.abs(drawn[0].image.astype(int) - source[0].image).mean(-1)
    assert changed[truths[0]].mean() > 5 * changed[~truths[0]].mean()
    decoder = av.codec.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(written / "face_cutout.webm")) as container:
        (opacity, *_) = [
            frame_to_arrays(frame)[1]
            for packet in container.demux(video=0)
            for frame in decoder.decode(packet)
        ]
    with Image.open(written / "face_masks" / "00001.png") as picture:
        mask = np.asarray(picture) == 1
    assert opacity is not None
    assert mask_iou(opacity > 128, mask) > 0.95  # its edge is soft
    assert mask_iou(opacity > 128, truths[0]) > 0.9


def test_json_on_standard_output_says_what_was_lost(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "tracks.json"
    assert run(["track", str(clip), "--box", BOX, "-o", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["frames"] == 6 and record["files"] == {"coco": str(out)}
    (lost,) = record["objects"][0]["lost"]
    assert (lost["from"], lost["to"]) == (4, 5) and "hidden" in lost["question"]
    assert "warning: frame 4: object 1: it is hidden" in printed.err
    assert "warning: frame 6: object 1: found again" in printed.err


@pytest.mark.parametrize("fine", [False, True])
def test_a_frame_is_looked_at_by_the_smaller_input_unless_asked_for_the_full_one(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine: bool
) -> None:
    sides: set[int] = set()
    encode = OnnxRuntime.encode

    def watched(self: OnnxRuntime, pixels: np.ndarray) -> dict[str, np.ndarray]:
        sides.add(max(pixels.shape))
        return encode(self, pixels)

    monkeypatch.setattr(OnnxRuntime, "encode", watched)
    arguments = ["track", str(clip), "--box", BOX, "--out", str(tmp_path / "seen"), "--save", "coco"]
    assert run([*arguments, "--frames", "2", *(["--fine"] if fine else [])]) == 0
    assert sides == {768 if fine else 512}


def test_prompts_of_a_file_backwards(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prompts = tmp_path / "prompts.json"
    objects = [{"box": box_of_face(3), "frame": 3, "label": "face"}]
    prompts.write_text(json.dumps({"version": 1, "objects": objects}))
    out = tmp_path / "masks"
    arguments = ["track", str(clip), "--prompts", str(prompts), "--both", "--out", str(out), "--save", "coco"]
    assert run([*arguments, "--frames", "3"]) == 0
    document = json.loads((out / "face_coco.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "face"}]
    assert all(document["annotations"][0]["segmentations"])
    assert "object 1 face: seen on all frames" in capsys.readouterr().out


def test_a_folder_of_pictures_by_points(clip: Path, tmp_path: Path) -> None:
    frames, masks = moving_face(6, wall=True)
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, frame in enumerate(frames[:2]):
        Image.fromarray(frame).save(folder / f"{number}.png")
    x, y = (box_of_face()[0] + box_of_face()[2]) // 2, (box_of_face()[1] + box_of_face()[3]) // 2
    points = ["--point", f"{x},{y}", "--box", BOX, "--point", f"{x + 7},{y - 2}@2"]
    assert run(["track", str(folder), *points, "--out", str(tmp_path / "o"), "--save", "masks", "-q"]) == 0
    with Image.open(tmp_path / "o" / "shots_masks" / "00002.png") as picture:
        assert mask_iou(np.asarray(picture) == 1, masks[1]) > 0.8


def test_results_that_are_there_stay(written: Path, clip: Path, capsys: pytest.CaptureFixture) -> None:
    path = written / "face_overlay.mp4"
    assert run(["track", str(clip), "--box", BOX, "-o", str(path)]) == 6
    assert "--overwrite to replace it" in capsys.readouterr().err
    assert run(["track", str(clip), "--box", BOX, "-o", str(clip), "--overwrite"]) == 2
    assert "is read, too" in capsys.readouterr().err


def test_a_camera(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    device = "lavfi:testsrc=size=160x120:rate=25:duration=60"
    arguments = ["track", "--camera", device, "--box", "10%,10%,60%,90%", "--frames", "2"]
    assert run([*arguments, "-o", str(tmp_path / "a.mp4")]) == 0
    assert len(list(read_video(tmp_path / "a.mp4"))) == 2
    assert "2 frames in" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_a_camera_is_interrupted_and_its_video_is_whole(tmp_path: Path) -> None:
    device, out = "lavfi:testsrc=size=160x120:rate=25:duration=600", tmp_path / "out"
    arguments = ["track", "--camera", device, "--box", "10%,10%,60%,90%", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "mobilesam", *arguments], stderr=subprocess.DEVNULL)
    masks = out / "camera_masks"
    for _ in range(600):
        if masks.is_dir() and len(list(masks.glob("0*.png"))) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert len(list(read_video(out / "camera_overlay.mp4"))) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", BOX], "VIDEO: give a video's name, or --camera"),
        (["CLIP"], "no prompt: give --point, --box or --prompts"),
        (["CLIP", "--box", f"{BOX}@0"], "after @ comes the number of a frame"),
        (["CLIP", "--box", f"{BOX}@99", "-o", "x.json"], "is 99; "),
        (["CLIP", "--box", BOX, "--box", BOX, "--point", "9,9"], "can be meant in several ways"),
        (["CLIP", "--box", BOX, "--prompts", "p.json"], "cannot be joined"),
        (["CLIP", "--box", BOX, "--out", "-"], "a video is not printed"),
        (["CLIP", "--box", BOX, "--out", "a.avi"], "ends in .avi"),
        (["CLIP", "--box", BOX, "--save", "mask"], "'mask' is unknown"),
        (["--camera", "0", "--box", BOX, "--both"], "cannot be gone through backwards"),
        (["--camera", "nonsense", "--box", BOX], "give a number such as 0"),
        (["missing.mp4", "--box", BOX], "missing.mp4: "),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["track", *(str(clip) if one == "CLIP" else one for one in arguments)]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json")) and not (tmp_path / "mobilesam-out").exists()


def test_segment_says_how_a_video_is_tracked(clip: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["segment", str(clip), "--box", BOX]) == 3
    assert "mobilesam track VIDEO --box" in capsys.readouterr().err
