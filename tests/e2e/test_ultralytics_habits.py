"""What ultralytics' users write, line by line as in its documentation and in what people build on it, over ``pocket``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision
import torch
from safetensors.numpy import save_file

from mobilesam import ConfigError, OptionWarning, Prompt
from mobilesam.compat.ultralytics import SAM, Results
from mobilesam.compat.ultralytics.array import Array, as_array
from mobilesam.compat.ultralytics.model import segment_picture
from mobilesam.compat.ultralytics.options import TAKEN, read_options
from mobilesam.compat.ultralytics.prompts import nested_to_prompts
from mobilesam.compat.ultralytics.sources import Picture
from mobilesam.segment.model import Model
from mobilesam.weights import entry_of, read_weights, weights_path
from tests.photos import cat, jpeg

BOXES = [[80, 20, 380, 290], [150, 100, 250, 200]]
BGR = np.ascontiguousarray(cat()[..., ::-1])


@pytest.fixture(scope="module")
def sam() -> SAM:
    return SAM("pocket")


@pytest.fixture(scope="module")
def results(sam: SAM) -> list[Results]:
    return list(sam(BGR, bboxes=BOXES, conf=0.0))


@pytest.fixture(scope="module")
def nothing(sam: SAM) -> list[Results]:
    return list(sam(BGR, bboxes=BOXES, conf=1.0))


class TestLoops:
    """Each loop once over two objects and once over none."""

    @pytest.fixture(params=["two", "none"])
    def found(self, request: pytest.FixtureRequest, results: list[Results], nothing: list[Results]) -> Any:
        return (results, 2) if request.param == "two" else (nothing, 0)

    def test_values_of_boxes(self, found: tuple[list[Results], int]) -> None:
        seen = []
        for r in found[0]:
            boxes = r.boxes.xyxy.cpu().numpy().astype(int)
            scores, classes = r.boxes.conf.cpu().tolist(), r.boxes.cls.int().cpu().tolist()
            for box, score, number in zip(boxes, scores, classes, strict=True):
                x1, y1, x2, y2 = map(int, box)
                seen.append((x2 > x1 and y2 > y1, f"{r.names[number]} {score:.2f}"))
        assert len(seen) == found[1]
        assert all(proper for proper, _ in seen)

    def test_box_by_box(self, found: tuple[list[Results], int]) -> None:
        said = []
        for r in found[0]:
            for box in r.boxes:
                b = box.xyxy[0]  # as in its guides: one row for the one box
                said.append(f"{r.names[int(box.cls[0])]} {box.conf[0]:.2f} {b.tolist()} {box.cls.item()}")
                assert 0 <= box.conf[0].item() <= 1
                assert box.conf[0].cpu().numpy() == box.conf.numpy()[0]
        assert len(said) == found[1]

    def test_outlines_and_masks_with_opencv(self, found: tuple[list[Results], int]) -> None:
        for r in found[0]:
            drawn = np.zeros(r.orig_shape, np.uint8)
            for outline in r.masks.xy:
                cv2.fillPoly(drawn, [outline.astype(np.int32)], 255)
            together = r.masks.data.any(dim=0).int() * 255
            assert together.shape == r.orig_shape
            assert np.abs((drawn > 0).mean() - (together.numpy() > 0).mean()) < 0.02
            for mask in r.masks.data:
                cut = cv2.bitwise_and(r.orig_img, r.orig_img, mask=mask.byte().numpy())
                assert cut.any()
            for mask, box in zip(r.masks, r.boxes, strict=True):
                assert mask.data[0].cpu().numpy().any()
                assert box.xywhn.shape == (1, 4)

    def test_pictures_and_files(self, found: tuple[list[Results], int], tmp_path: Path) -> None:
        results, count = found
        annotated = results[0].plot()
        assert annotated.shape == BGR.shape
        assert cv2.imwrite(str(tmp_path / "annotated.jpg"), annotated)
        results[0].save_txt(str(tmp_path / "labels" / "cat.txt"))
        lines = (tmp_path / "labels" / "cat.txt").read_text().splitlines()
        assert len(lines) == count
        results[0].save(filename=str(tmp_path / "result.jpg"))
        assert (tmp_path / "result.jpg").stat().st_size > 1000
        assert len(results[0].to_df()) == len(json.loads(results[0].to_json())) == count
        assert len(results[0].summary()) == count

    def test_supervision(self, found: tuple[list[Results], int]) -> None:
        (result,), count = found
        detections = supervision.Detections.from_ultralytics(result)
        assert len(detections) == count
        np.testing.assert_array_equal(detections.xyxy, result.boxes.xyxy)
        if count:
            np.testing.assert_array_equal(detections.mask, result.masks.data)
            assert detections["class_name"].tolist() == ["0", "1"]
            largest = detections[detections.area.argmax()]
            scene = supervision.MaskAnnotator().annotate(result.orig_img.copy(), largest)
            assert (scene != result.orig_img).any()


def test_a_loop_over_files_and_boxes_of_a_detector(sam: SAM, tmp_path: Path) -> None:
    """As people put a detector before it: its boxes are tensors, and there may be none."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(cat()))
    detected = {"a": torch.tensor(BOXES, dtype=torch.float32), "b": torch.zeros(0, 4)}
    counts = {}
    for path in sorted(tmp_path.glob("*.jpg")):
        (result,) = sam(path, bboxes=detected[path.stem], verbose=False, save=False, device="cpu")
        counts[path.stem] = len(result.masks.xyn) if result.masks is not None else -1
    assert counts == {"a": 2, "b": 0}


def test_masks_become_tensors(results: list[Results]) -> None:
    masks = torch.as_tensor(results[0].masks.data)
    chosen = masks[torch.where(torch.as_tensor(results[0].boxes.data)[:, 5] == 1)]
    assert torch.any(chosen, dim=0).int().sum() == results[0].masks.data[1].sum()


@pytest.mark.long
def test_seeded_weights_of_mobile_sam(onnx_vit_t: Model) -> None:
    """The published network, whose own file is not here."""
    prompts = nested_to_prompts(bboxes=BOXES)
    options = read_options({"conf": 0.0})
    result = segment_picture(onnx_vit_t, Picture(BGR, "a.jpg", "a", 0.0), prompts, options)
    own = onnx_vit_t.segment(onnx_vit_t.embed(cat()), [Prompt(box=box) for box in BOXES], multimask=False)
    detections = supervision.Detections.from_ultralytics(result)
    np.testing.assert_array_equal(detections.mask, np.stack([one.mask for one in own]))


# ---------------------------------------------------------------- arrays

METHODS: list[tuple[str, Callable[[Any], Any], Callable[[np.ndarray], Any]]] = [
    ("cpu", lambda a: a.cpu(), lambda a: a),
    ("detach", lambda a: a.detach().cpu(), lambda a: a),
    ("to", lambda a: a.to("cpu"), lambda a: a),
    ("int", lambda a: a.int(), lambda a: a.astype(np.int32)),
    ("long", lambda a: a.long(), lambda a: a.astype(np.int64)),
    ("float", lambda a: a.float(), lambda a: a.astype(np.float32)),
    ("half", lambda a: a.half(), lambda a: a.astype(np.float16)),
    ("bool", lambda a: a.bool(), lambda a: a.astype(bool)),
    ("any", lambda a: a.any(dim=0), lambda a: a.any(axis=0)),
    ("all", lambda a: a.all(dim=1), lambda a: a.all(axis=1)),
    ("sum", lambda a: a.sum(dim=(0, 1)), lambda a: a.sum(axis=(0, 1))),
    (
        "mean",
        lambda a: a.float().mean(dim=1, keepdim=True),
        lambda a: a.astype(np.float32).mean(1, keepdims=True),
    ),
    ("NumPy's any", lambda a: np.any(a, axis=0), lambda a: np.any(a, axis=0)),
    ("an index", lambda a: a[0], lambda a: a[0]),
    ("a mask", lambda a: a[a.sum(dim=1) > 0], lambda a: a[a.sum(1) > 0]),
]


@pytest.mark.parametrize(("asked", "wanted"), [row[1:] for row in METHODS], ids=[row[0] for row in METHODS])
def test_arrays_are_as_tensors(asked: Callable, wanted: Callable) -> None:
    values = np.array([[0, 2, 3], [0, 0, 0]], np.float32)
    found, plain = asked(as_array(values)), wanted(values)
    assert isinstance(found, Array)
    assert type(found.numpy()) is np.ndarray
    assert found.dtype == plain.dtype
    assert found.tolist() == plain.tolist()


def test_every_value_of_a_result_is_such_an_array(results: list[Results]) -> None:
    boxes, masks = results[0].boxes, results[0].masks
    tracked = type(boxes)([[0, 0, 5, 5, 17, 0.5, 2]], (10, 10))
    for name in ("data", "xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls", "id"):
        assert isinstance(getattr(tracked, name), Array), name
        if name != "id":
            assert isinstance(getattr(boxes, name), Array), name
    assert isinstance(masks.data, Array)
    assert repr(masks.data[0, 0, 0]) == repr(masks.data[0, 0, 0])
    assert masks.detach() is masks
    with pytest.raises(ConfigError, match=r"torch\.as_tensor\(result\.masks\.data\)\.cuda\(\)"):
        masks.data.cuda()
    with pytest.raises(TypeError, match="cannot be a key"):
        hash(masks.data)


# ---------------------------------------------------------------- keywords and attributes

ASKING = dict(
    task="detect",
    mode="train",
    half=True,
    batch=8,
    classes=[0],
    augment=True,
    agnostic_nms="yes",
    stream_buffer=True,
    visualize=True,
    embed=[1],
    dnn=True,
    rect=3,
    save_frames=True,
    save_dir="runs",
    boxes=False,
)


@pytest.mark.parametrize("name", TAKEN)
def test_keywords_of_the_original(sam: SAM, name: str) -> None:
    allowed, advice = TAKEN[name]
    for value in (None, *allowed):
        assert read_options({name: value}) == read_options({})
    with pytest.raises(ConfigError, match=rf"^{name}: is .*only .*None.* is taken; {re.escape(advice)}"):
        sam(BGR, **{name: ASKING[name]})


def test_all_of_them_at_once(sam: SAM, results: list[Results]) -> None:
    given = {name: (*allowed, None)[0] for name, (allowed, _) in TAKEN.items()}
    (result,) = sam(BGR, bboxes=BOXES, conf=0.0, **given)
    np.testing.assert_array_equal(result.masks.data, results[0].masks.data)


def test_another_size_is_told_once(results: list[Results]) -> None:
    sam = SAM("pocket")
    with pytest.warns(OptionWarning, match=r"^imgsz: 1024 has no effect; pocket-7 takes 768$"):
        (first,) = sam(BGR, bboxes=BOXES, conf=0.0, imgsz=1024)
    (again,) = sam(BGR, bboxes=BOXES, conf=0.0, imgsz=1024)  # warnings are errors here
    for result in (first, again):
        np.testing.assert_array_equal(result.masks.data, results[0].masks.data)


def test_methods_that_change_nothing(sam: SAM) -> None:
    assert sam.eval() is sam.fuse() is sam
    assert sam.ckpt_path == str(weights_path(entry_of("pocket")))
    assert sam.overrides == {"task": "segment", "mode": "predict"}
    with pytest.raises(ConfigError, match=r"runs in float32; load it by SAM\(\.\.\., runtime='torch'"):
        sam.half()


def test_overrides_are_used(sam: SAM) -> None:
    other = SAM("pocket")
    other.overrides["conf"] = 1.0
    assert [len(one) for one in other(BGR, bboxes=BOXES)] == [0]
    assert [len(one) for one in other(BGR, bboxes=BOXES, conf=0.0)] == [2]
    other.overrides["iou_thres"] = 1
    with pytest.raises(ConfigError, match="iou_thres: is not an argument of predict"):
        other(BGR)


def test_load_takes_other_weights(tmp_path: Path) -> None:
    weights = read_weights(entry_of("pocket"))
    path = tmp_path / "mine.safetensors"
    save_file(weights, path)
    sam = SAM("pocket")
    assert sam.load(path) is sam
    assert sam.ckpt_path == str(path)
    before = sam.model
    with pytest.raises(ConfigError, match="no such file"):
        sam.load("none")
    assert (sam.model, sam.ckpt_path) == (before, str(path))


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (lambda sam: sam.predictor, r"model\.model\.embed\(image\)"),
        (lambda sam: sam.callbacks, "stream=True"),
        (lambda sam: sam.add_callback("on_predict_start", print), "stream=True"),
        (lambda sam: sam.save("a.pt"), r"the weights are .*pocket.*\.safetensors"),
        (lambda sam: sam.embed(BGR), r"arrays\['image_embedding'\]"),
    ],
    ids=["predictor", "callbacks", "add_callback", "save", "embed"],
)
def test_what_is_not_here_says_what_to_use(sam: SAM, call: Callable[[SAM], Any], advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        call(sam)
