from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilesam import ConfigError, OptionWarning, PromptError
from mobilesam.compat.ultralytics import SAM
from mobilesam.core.metrics import mask_iou
from tests.moving import box_of_face, moving_face
from tests.videos import write_video


@pytest.fixture(scope="module")
def sam() -> SAM:
    return SAM("pocket", threads=1)


def test_a_video_is_tracked(sam: SAM, tmp_path: Path) -> None:
    frames, masks = moving_face(4, wall=True)
    path = write_video(tmp_path / "face.mp4", frames)
    results = sam.track(str(path), stream=True, bboxes=[box_of_face()], names="face", conf=0)
    found = list(results)
    assert [result.boxes.id.tolist() for result in found[:3]] == [[1], [1], [1]]
    assert mask_iou(np.asarray(found[2].masks.data[0]) > 0, masks[2]) > 0.8
    assert found[0].names == {0: "face"} and found[0].summary()[0]["track_id"] == 1
    assert len(found[3]) == 0  # hidden


def test_frame_by_frame_with_persist(sam: SAM) -> None:
    frames, masks = moving_face(3)
    bgr = [frame[..., ::-1].copy() for frame in frames]
    first = sam.track(bgr[0], persist=True, bboxes=box_of_face(), conf=0)
    second = sam.track(bgr[1], persist=True, conf=0)
    assert len(first) == len(second) == 1
    assert mask_iou(np.asarray(second[0].masks.data[0]) > 0, masks[1]) > 0.8


def test_what_is_refused_and_told(sam: SAM) -> None:
    frame = moving_face(1)[0][0]
    with pytest.raises(PromptError, match="there is no prompt"):
        sam.track(frame)
    with pytest.raises(ConfigError, match="persist: is 3"):
        sam.track(frame, persist=3, bboxes=box_of_face())
    with pytest.warns(OptionWarning, match="tracker: has no effect"):
        sam.track(frame[..., ::-1].copy(), bboxes=box_of_face(), tracker="bytetrack.yaml")
