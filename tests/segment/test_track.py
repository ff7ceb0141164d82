from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import mobilesam
from mobilesam import ConfigError, ImageError, Prompt, PromptError, TrackOptions, TrackPrompt
from mobilesam.core.metrics import mask_iou
from mobilesam.segment.model import Model
from mobilesam.segment.track.frames import open_frames
from mobilesam.segment.track.prompts import read_plans
from mobilesam.segment.track.results import TrackedFrame
from tests.moving import box_of_face, moving_face
from tests.videos import write_video


@pytest.fixture(scope="module")
def pocket() -> Model:
    return mobilesam.load("pocket", threads=1)


@pytest.fixture(scope="module")
def followed(pocket: Model) -> list[TrackedFrame]:
    frames, _ = moving_face(8, wall=True)
    ground = {"box": [150, 20, 240, 110], "label": "cup", "frame": 2}
    return list(pocket.track(frames, [Prompt(box=box_of_face()), ground]))


def test_an_object_is_followed(followed: list[TrackedFrame]) -> None:
    _, masks = moving_face(8, wall=True)
    assert [frame.number for frame in followed] == list(range(1, 9))
    for frame, truth in zip(followed, masks, strict=True):
        if truth.any():
            assert mask_iou(frame[1].mask, truth) > 0.85, frame.number


def test_what_is_hidden_is_said_to_be_lost_and_found_again(followed: list[TrackedFrame]) -> None:
    states = [frame[1].state for frame in followed]
    assert states == ["prompted", "followed", "followed", "lost", "lost", "followed", "followed", "followed"]
    hidden = followed[3][1]
    assert hidden.area == 0 and hidden.predicted_iou == 0 and hidden.box == (0, 0, 0, 0)
    assert "hidden" in hidden.question and "point at it" in hidden.question
    assert not followed[5][1].question


def test_objects_have_numbers_labels_and_begin_where_they_are_pointed_at(
    followed: list[TrackedFrame],
) -> None:
    assert [one.id for one in followed[0].objects] == [1]
    assert [(one.id, one.label) for one in followed[1].objects] == [(1, None), (2, "cup")]
    assert followed[1][2].state == "prompted" and followed[7][2].state == "followed"
    with pytest.raises(KeyError, match="object 2 is not followed on frame 1"):
        followed[0][2]


def test_pictures_of_a_frame(followed: list[TrackedFrame]) -> None:
    frame = followed[1]
    ids = frame.id_map()
    assert set(np.unique(ids)) == {0, 1, 2}
    assert (ids == 1)[frame[1].mask].mean() > 0.5
    assert frame.overlay().shape == frame.image.shape
    assert (frame.overlay() != frame.image)[frame[1].mask].any()
    assert ((frame.alpha() > 0) == (frame[1].mask | frame[2].mask)).all()


def test_frames_come_as_they_are_done(pocket: Model) -> None:
    frames, _ = moving_face(8)
    taken = []

    def come() -> Iterator[np.ndarray]:
        for number, frame in enumerate(frames):
            taken.append(number)
            yield frame

    stream = pocket.track(come(), Prompt(box=box_of_face()))
    assert next(stream).number == 1
    assert len(taken) <= 3
    stream.close()
    assert len(taken) <= 3


def test_both_directions_from_a_later_frame(pocket: Model, tmp_path: Path) -> None:
    frames, masks = moving_face(4)
    path = write_video(tmp_path / "face.mp4", frames)
    asked = TrackPrompt(Prompt(box=box_of_face(3)), frame=3)
    told = []
    options = TrackOptions(direction="both")
    found = list(
        pocket.track(path, asked, options=options, progress=lambda done, total: told.append((done, total)))
    )
    assert [frame[1].state for frame in found] == ["followed", "followed", "prompted", "followed"]
    assert min(mask_iou(one[1].mask, truth) for one, truth in zip(found, masks, strict=True)) > 0.8
    assert found[1].time and abs(found[1].time - 1 / 25) < 0.001
    assert told[0] == (1, 4) and (2, 4) in told[4:]
    alone = list(pocket.track(path, asked))
    assert [len(frame.objects) for frame in alone] == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="can be gone through once only"):
        list(pocket.track(iter(frames), asked, options=options))


def test_a_later_prompt_corrects(pocket: Model) -> None:
    frames, masks = moving_face(3)
    wrong = TrackPrompt(Prompt(box=[150, 20, 240, 110]))
    box = TrackPrompt(Prompt(box=box_of_face(3)), frame=3)
    found = list(pocket.track(frames, [wrong, box]))
    assert mask_iou(found[1][1].mask, masks[1]) < 0.1
    assert mask_iou(found[2][1].mask, masks[2]) > 0.85
    x0, y0, x1, y1 = box_of_face(3)
    point = {"points": [[(x0 + x1) / 2, (y0 + y1) / 2]], "frame": 3, "object": 1}
    pointed = list(pocket.track(frames, [Prompt(box=box_of_face()), point]))
    assert pointed[2][1].state == "prompted"
    assert mask_iou(pointed[2][1].mask, masks[2]) > 0.85


def test_a_cut_to_another_scene_is_told(pocket: Model) -> None:
    frames, _ = moving_face(1)
    other = data.rocket()[100:280, :260]
    found = list(
        pocket.track([frames[0], other, other], Prompt(box=box_of_face()), options=TrackOptions(search=1))
    )
    assert [frame[1].state for frame in found] == ["prompted", "lost", "lost"]
    assert all(frame[1].question for frame in found[1:])


def test_frames_of_a_folder_and_of_arrays(tmp_path: Path) -> None:
    frames, _ = moving_face(3)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number:05d}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    folder = open_frames(tmp_path, max_pixels=10**6)
    stacked = open_frames(np.stack(frames), max_pixels=10**6)
    for source in (folder, stacked):
        assert source.total == 3
        assert [(one.number, one.image == two) for one, two in zip(source.forward(), frames, strict=True)]
        assert [one.number for one in source.backward(2)] == [2, 1]


def test_a_video_is_read_backwards_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = moving_face(8)
    path = write_video(tmp_path / "face.mp4", frames)
    monkeypatch.setattr("mobilesam.segment.track.frames.CHUNK_BYTES", 3 * frames[0].nbytes)
    source = open_frames(path, max_pixels=10**6)
    back = list(source.backward(7))
    assert [one.number for one in back] == [7, 6, 5, 4, 3, 2, 1]
    there = list(source.forward())
    assert all((one.image == there[one.number - 1].image).all() for one in back)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "prompts: is empty"),
        (5, "prompts: is a int"),
        ({"box": [1, 2, 3, 4], "frame": 0}, "prompts.frame: is 0; must be a whole number from 1"),
        ([{"box": [1, 2, 3, 4], "object": "a"}], r"prompts\[0\].object: is 'a'"),
        ([{"box": [1, 2, 3, 4], "fram": 2}], r"prompts\[0\]: .*fram"),
        ([TrackPrompt(Prompt(box=[1, 2, 3, 4])), TrackPrompt(Prompt(box=[1, 2, 3, 4]))], "already"),
    ],
)
def test_prompts_that_cannot_be_meant(prompts: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read_plans(prompts)


def test_prompts_without_a_number_take_a_free_one() -> None:
    plans = read_plans([{"box": [1, 2, 3, 4], "object": 1}, Prompt(box=[1, 2, 3, 4]), {"points": [1, 2]}])
    assert [plan.id for plan in plans] == [1, 2, 3]


def test_a_prompt_outside_of_its_frame_or_video(pocket: Model) -> None:
    frames, _ = moving_face(2)
    with pytest.raises(PromptError, match=r"prompts\[1\].box: .* lies outside"):
        list(pocket.track(frames, [Prompt(box=box_of_face()), {"box": [900, 0, 950, 50], "frame": 2}]))
    with pytest.raises(PromptError, match=r"prompts.frame: is 9; frames has 2 frames"):
        list(pocket.track(frames, {"box": [10, 10, 50, 50], "frame": 9}))


@pytest.mark.parametrize("frames", [5, [], np.zeros((4, 4, 3), np.uint8)])
def test_frames_that_are_none(frames: object) -> None:
    with pytest.raises(ConfigError, match="frames: "):
        open_frames(frames, max_pixels=100)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no pictures"):
        open_frames(tmp_path, max_pixels=100)


@pytest.mark.parametrize("options", [{"direction": "up"}, {"search": -1}, {"search": True}])
def test_options_that_are_none(options: dict) -> None:
    with pytest.raises(ConfigError):
        TrackOptions(**options)
