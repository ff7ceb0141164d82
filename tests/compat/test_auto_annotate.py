"""``auto_annotate``: ultralytics' arguments, folder and lines, and labels that stay with their masks."""

from __future__ import annotations

import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest

import mobilesam
from mobilesam.compat.ultralytics.data import annotator
from mobilesam.compat.ultralytics.data.annotator import auto_annotate
from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.segment.model import Model
from tests.photos import cat, jpeg


class Three:
    """Three boxes of the classes 3, 5 and 7, the likeliest first: the face, an eye, a strip of the ground."""

    boxes = np.array([[90.0, 20, 330, 290], [175, 95, 225, 140], [380, 5, 450, 12]])

    def find(self, embedding: object, texts: object = ()) -> mobilesam.Boxes:
        return mobilesam.Boxes(self.boxes, np.array([0.9, 0.8, 0.7]), classes=np.array([3, 5, 7]))


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a.jpg").write_bytes(jpeg(cat()))
    return tmp_path / "shots"


def lines(folder: Path, name: str = "a") -> list[list[str]]:
    return [line.split() for line in (folder / f"{name}.txt").read_text().splitlines()]


def test_the_defaults_are_the_original_s() -> None:
    defaults = {one.name: one.default for one in inspect.signature(auto_annotate).parameters.values()}
    del defaults["data"]
    assert defaults == {
        "det_model": "yolo26x.pt",
        "sam_model": "sam_b.pt",
        "device": "",
        "conf": 0.25,
        "iou": 0.45,
        "imgsz": 640,
        "max_det": 300,
        "classes": None,
        "output_dir": None,
    }


def test_folder_and_lines(shots: Path) -> None:
    assert auto_annotate(shots, Three(), "pocket") is None
    found = lines(shots.parent / "shots_auto_annotate_labels")
    assert [words[0] for words in found] == ["3", "5", "7"]
    points = np.array(found[0][1:], float).reshape(-1, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    filled = np.zeros((300, 451), np.uint8)
    cv2.fillPoly(filled, [(points * [451, 300]).astype(np.int32)], 1)
    assert filled[150, 230]
    assert not filled[280, 440]


def test_labels_stay_with_their_masks_where_one_is_dropped(
    shots: Path, pocket: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original numbers the masks that are left by the classes of all boxes, so labels move up by one."""
    embedding = pocket.embed(cat())
    results = pocket.segment(embedding, [{"box": box} for box in Three.boxes], multimask=False)
    sure = [result.best.predicted_iou for result in results]
    worst = int(np.argmin(sure))
    assert worst < 2, "a mask before another one is to be dropped"
    classes = [3, 5, 7]
    monkeypatch.setattr(annotator, "MASK_CONFIDENCE", sure[worst])
    left = [i for i, value in enumerate(sure) if value > sure[worst]]
    theirs = [classes[i] for i in range(len(left))]
    auto_annotate(shots, Three(), "pocket", output_dir=shots.parent / "labels")
    ours = [int(words[0]) for words in lines(shots.parent / "labels")]
    assert ours == [classes[i] for i in left]
    assert ours != theirs


def test_classes_limits_and_photos_without_any(shots: Path) -> None:
    out = shots.parent / "labels"
    auto_annotate(shots, Three(), "pocket", classes=[5], output_dir=out)
    assert [words[0] for words in lines(out)] == ["5"]
    auto_annotate(shots, Three(), "pocket", max_det=2, output_dir=out)
    assert [words[0] for words in lines(out)] == ["3", "5"]
    auto_annotate(shots, Three(), "pocket", conf=0.95, output_dir=out)
    assert lines(out) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"yolo export model=yolo26x.pt format=onnx"),
        ({"det_model": "pocket", "conf": 2}, "conf: is 2"),
        ({"det_model": "pocket", "max_det": 0}, "max_det: is 0"),
        ({"det_model": "pocket", "classes": ["cat"]}, r"classes\[0\]: is 'cat'"),
    ],
)
def test_what_cannot_be_meant(arguments: dict, message: str, shots: Path) -> None:
    with pytest.raises((ConfigError, mobilesam.PromptError), match=message):
        auto_annotate(shots, sam_model="pocket", **arguments)


def test_photos_of_one_name_are_told(shots: Path) -> None:
    (shots / "a.jpeg").write_bytes(jpeg(cat()))
    with pytest.raises(ConfigError, match="label files of the same name"):
        auto_annotate(shots, Three(), "pocket")
    with pytest.raises(ConfigError, match="data: is a list"):
        auto_annotate([shots], Three(), "pocket")
    with pytest.raises(ImageError, match="not found"):
        auto_annotate(shots / "gone.jpg", Three(), "pocket")
