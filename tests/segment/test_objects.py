"""Searching by objects: proposals, detectors of every layout, samplers, and the head that is trained for them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from mobilesam import ConfigError, EverythingOptions, Model, WeightsError, load
from mobilesam.core.boxes import box_ious, clip_boxes, non_maximum_suppression
from mobilesam.core.errors import PromptError
from mobilesam.core.postprocess import visible_part
from mobilesam.core.types import Embedding, FoundMask
from mobilesam.detectors.base import Boxes, select_boxes
from mobilesam.detectors.head import HeadDetector
from mobilesam.detectors.load import detector_for
from mobilesam.detectors.onnx_layouts import LAYOUTS, open_detector
from mobilesam.segment.everything import masks, objects
from mobilesam.segment.everything.objects import POINT_OBJECTNESS, Found, gap_grids
from tests.embeddings import unseen
from tests.onnx_detectors import constant_detector, layout_outputs
from tests.photos import cat
from tests.series import one_in

FACE = (90.0, 20.0, 330.0, 290.0)  # roughly, of the cat
LOOSE = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.0}


class Fixed:
    """A detector whose boxes are known."""

    def __init__(self, boxes: list, objectness: list[float] | None = None) -> None:
        self.boxes = np.array(boxes, np.float64).reshape(-1, 4)
        self.objectness = np.array(objectness or [0.9] * len(self.boxes))

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        return Boxes(self.boxes, self.objectness)


def test_proposals_are_clipped_sorted_and_not_repeated() -> None:
    boxes = np.array(
        [
            [10, 10, 50, 50],
            [11, 11, 51, 51],  # the first again
            [-20, -20, 30, 30],
            [60, 60, 300, 90],
            [70, 70, 70.2, 90],  # a line
            [np.nan, 0, 5, 5],
            [0, 0, 90, 90],  # unlikely
        ]
    )
    objectness = np.array([0.8, 0.9, 0.7, 0.95, 0.9, 0.99, 0.1])
    found = select_boxes(Boxes(boxes, objectness), (100, 100), confidence=0.4, nms_thresh=0.7, most=10)
    np.testing.assert_allclose(found.xyxy, [[60, 60, 100, 90], [11, 11, 51, 51], [0, 0, 30, 30]])
    np.testing.assert_allclose(found.scores, [0.95, 0.9, 0.7])
    assert (
        len(select_boxes(Boxes(boxes, objectness), (100, 100), confidence=0.4, nms_thresh=0.7, most=2)) == 2
    )
    assert clip_boxes(np.array([[-1.0, 5, 9, 99]]), (10, 8)).tolist() == [[0, 5, 8, 10]]


def test_suppression_stops_when_it_has_enough() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 80, (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (200, 2))], 1)
    scores = rng.random(200)
    whole = non_maximum_suppression(boxes, scores, 0.3)
    np.testing.assert_array_equal(non_maximum_suppression(boxes, scores, 0.3, most=7), whole[:7])


@pytest.mark.parametrize(
    ("sampler", "count"),
    one_in(
        2, [("hybrid", 5000), ("objects", 5000), ("hybrid", 0), ("objects", 1), ("objects", 0), ("hybrid", 1)]
    ),
)
def test_any_number_of_boxes(pocket: Model, sampler: str, count: int) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 100, (count, 2))], 1)
    options = EverythingOptions(sampler=sampler, max_boxes=24, max_prompts=40, **LOOSE)
    asked: list[tuple[int, int]] = []
    found = pocket.everything(
        cat(), options, detector=Fixed(boxes), progress=lambda done, total: asked.append((done, total))
    )
    boxes_asked = min(count, 24)
    if sampler == "objects":
        assert asked[-1] == (boxes_asked, boxes_asked)
        assert len(found) <= boxes_asked
    else:
        assert boxes_asked < asked[-1][0] <= 40
        assert len(found) > 0
    scores = [mask.score for mask in found]
    assert scores == sorted(scores, reverse=True)


def test_a_box_becomes_its_single_mask(pocket: Model) -> None:
    from mobilesam import Prompt

    image = cat()
    found = pocket.everything(image, EverythingOptions.paper(), detector=Fixed([FACE], [0.6]))
    (mask,) = found
    wanted = pocket.segment(pocket.embed(image), Prompt(box=list(FACE)))
    np.testing.assert_array_equal(mask.mask, wanted.mask)
    assert mask.predicted_iou == pytest.approx(float(wanted.predicted_iou[0]), abs=1e-5)
    assert mask.objectness == pytest.approx(0.6)
    assert mask.score == pytest.approx(mask.predicted_iou * 0.6**0.5)
    assert mask.point == (210.0, 155.0)


def test_tidy_settings_give_fewer_and_surer_masks(pocket: Model) -> None:
    assert EverythingOptions.tidy(max_prompts=9).max_prompts == 9
    many, few = (
        pocket.everything(cat(), one) for one in (EverythingOptions(max_prompts=64), EverythingOptions.tidy())
    )
    assert 0 < len(few) < len(many)
    assert min(mask.predicted_iou for mask in few) > 0.5


def test_the_papers_settings() -> None:
    options = EverythingOptions.paper(max_boxes=64)
    assert (options.sampler, options.confidence, options.proposal_nms_thresh) == ("objects", 0.4, 0.9)
    assert (options.max_boxes, options.pred_iou_thresh, options.stability_score_thresh) == (64, 0, 0)


def test_no_mask_comes_twice(pocket: Model) -> None:
    near = [np.array(FACE) + shift for shift in (0, 1, 2, 3)]
    settings = {"sampler": "objects", "proposal_nms_thresh": 1.0, **LOOSE}
    once = pocket.everything(cat(), EverythingOptions(mask_nms_thresh=0.8, **settings), detector=Fixed(near))
    every = pocket.everything(cat(), EverythingOptions(mask_nms_thresh=1.0, **settings), detector=Fixed(near))
    assert len(once) == 1
    assert len(every) > 1


def test_the_hybrid_goes_on_where_no_mask_lies(pocket: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilesam.segment.everything.objects.LARGEST", 1.0)  # the face is large
    image = cat()
    options = EverythingOptions(sampler="hybrid", max_prompts=64, points_per_side=16, **LOOSE)
    objects = pocket.everything(image, EverythingOptions(sampler="objects", **LOOSE), detector=Fixed([FACE]))
    found = list(pocket.stream_everything(image, options, detector=Fixed([FACE])))
    face, others = found[0], found[1:]
    assert face.rle == objects[0].rle
    assert others
    explained = face.mask.copy()
    for mask in others:
        assert mask.objectness == POINT_OBJECTNESS
        x, y = (int(value) for value in mask.point)
        assert not face.mask[y, x]  # asked where the face is not
        explained |= mask.mask
    assert explained.mean() > face.mask.mean()


def test_masks_come_as_they_are_found(pocket: Model) -> None:
    options = EverythingOptions(max_prompts=40, **LOOSE)
    asked: list[int] = []
    stream = pocket.stream_everything(cat(), options, progress=lambda done, total: asked.append(done))
    next(stream)
    assert asked == [8]  # after the first batch of boxes
    assert list(stream)
    assert asked[-1] > 8
    together = pocket.everything(cat(), options)
    assert sorted(m.area for m in together) == sorted(
        m.area for m in [*pocket.stream_everything(cat(), options)]
    )


def test_gaps_are_filled_coarse_to_fine() -> None:
    assert [len(grid) for grid in gap_grids(32)] == [16, 64, 256, 1024]
    assert [len(grid) for grid in gap_grids(20)] == [16, 64, 256, 400]
    assert [len(grid) for grid in gap_grids(2)] == [4]
    assert list(gap_grids(0)) == []


def test_other_models_borrow_pockets_head(onnx_vit_t: Model, pocket: Model) -> None:
    embedding = onnx_vit_t.embed(cat())
    found = detector_for(onnx_vit_t.runtime, onnx_vit_t.name).find(embedding)
    own = HeadDetector(pocket.runtime, pocket.name).find(pocket.embed(cat()))
    np.testing.assert_allclose(found.xyxy, own.xyxy)
    np.testing.assert_allclose(found.scores, own.scores)
    with pytest.raises(ConfigError, match="has no head for objects; give pocket"):
        HeadDetector(onnx_vit_t.runtime, onnx_vit_t.name)


def test_both_runtimes_propose_alike(pocket: Model) -> None:
    embedding = pocket.embed(cat())
    other = load("pocket", runtime="torch", device="cpu")
    boxes, objectness = pocket.runtime.propose(embedding.arrays)
    torch_boxes, torch_objectness = other.runtime.propose(other.embed(cat()).arrays)
    assert boxes.shape == (72 * 96 + 36 * 48 + 18 * 24, 4)  # one for each cell of a landscape's three maps
    np.testing.assert_allclose(objectness, torch_objectness, atol=1e-4)
    np.testing.assert_allclose(boxes, torch_boxes, atol=0.05)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sampler": "all"}, ConfigError, "sampler: is 'all'; must be one of objects, grid, hybrid"),
        ({"confidence": 2}, PromptError, "confidence: is 2; must be a number from 0 to 1"),
        ({"max_boxes": 0}, PromptError, "max_boxes: is 0; must be a whole number from 1"),
        ({"mask_nms_thresh": float("nan")}, PromptError, "mask_nms_thresh: is nan"),
        ({"crop_n_layers": 1}, ConfigError, "crop_n_layers, point_grids: are for the grid"),
    ],
)
def test_options_that_do_not_fit(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        EverythingOptions(**options)


def test_detectors_that_are_none(pocket: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="detector: is a int; give a model's name"):
        pocket.everything(cat(), detector=7)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"none\.onnx: not found"):
        pocket.everything(cat(), detector=tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match="layout 'yolo99': unknown; choose one of yolox, ssd, yolov8"):
        open_detector(tmp_path / "none.onnx", layout="yolo99")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_told_from_the_others_and_read(layout: str, tmp_path: Path) -> None:
    """The cat's face, put where the layout puts the image, comes back where it is."""
    image = cat()
    height, width = image.shape[:2]
    side = {"yolox": 416, "yolov8": 640, "ssd": 192}[layout]
    scale = np.array([side / width, side / height]) if layout == "ssd" else np.full(2, side / width)
    corner = np.array([0, (side - round(height * scale[1])) // 2]) if layout == "yolov8" else np.zeros(2)
    inside = np.array(FACE) * np.tile(scale, 2) + np.tile(corner, 2)
    shape, outputs, kind = layout_outputs(layout, inside)
    with pytest.warns(UserWarning, match="unknown origin"):
        detector = open_detector(constant_detector(tmp_path / "detector.onnx", shape, outputs, kind))
    assert detector.layout == layout
    found = detector.find(unseen(image))
    best = int(found.scores.argmax())
    assert found.scores[best] == pytest.approx(0.9)
    np.testing.assert_allclose(found.xyxy[best], FACE, atol=1.5)


def test_a_detector_of_a_file_goes_to_other_processes(tmp_path: Path) -> None:
    shape, outputs, kind = layout_outputs("yolox", np.array(FACE))
    path = constant_detector(tmp_path / "detector.onnx", shape, outputs, kind)
    with pytest.warns(UserWarning):
        detector = open_detector(path)
    data = pickle.dumps(detector)
    constant_detector(path, shape, [2 * one for one in outputs], kind)
    with pytest.raises(WeightsError, match="changed since it was opened"):
        pickle.dumps(detector)
    path.unlink()
    here, there = detector.find(unseen(cat())), pickle.loads(data).find(unseen(cat()))
    np.testing.assert_array_equal(here.xyxy, there.xyxy)
    np.testing.assert_array_equal(here.scores, there.scores)


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    odd = constant_detector(tmp_path / "odd.onnx", (1, 3, 64, 64), [np.zeros((1, 1000))])
    with (
        pytest.warns(UserWarning),
        pytest.raises(WeightsError, match="are not those of a known detector; known are yolox"),
    ):
        open_detector(odd)
    flat = constant_detector(tmp_path / "flat.onnx", (1, 64), [np.zeros((1, 4, 9))])
    with pytest.warns(UserWarning), pytest.raises(WeightsError, match=r"wanted \(1, 3, height, width\)"):
        open_detector(flat)
    long = constant_detector(tmp_path / "long.onnx", (1, 3, 64, 64), [np.zeros((1, 5, 9))], TensorProto.INT64)
    with pytest.warns(UserWarning), pytest.raises(WeightsError, match=r"its input is tensor\(int64\)"):
        open_detector(long)


@pytest.mark.parametrize(
    ("file", "layout", "overlap"),
    [("yolox_nano.onnx", "yolox", 0.4), ("mobile_object_localizer_v1.onnx", "ssd", 0.5)],
)
def test_published_detectors_find_the_cat(shared: Path, file: str, layout: str, overlap: float) -> None:
    with pytest.warns(UserWarning, match="unknown origin"):
        detector = open_detector(shared / "weights" / file)
    assert detector.layout == layout
    likely = select_boxes(
        detector.find(unseen(cat())), cat().shape[:2], confidence=0.1, nms_thresh=0.7, most=10
    )
    assert box_ious(np.array(FACE), likely.xyxy).max() > overlap


def test_cells_answer_for_the_object_that_they_fit() -> None:
    from mobilesam.train.objectness import assign, generalised_ious, objectness_loss, pairwise_ious

    truth = torch.tensor([[10.0, 10, 50, 50], [60, 60, 66, 66]])
    columns, rows = torch.meshgrid(torch.arange(0, 96, 8), torch.arange(0, 96, 8), indexing="xy")
    middles = torch.stack([columns, rows], -1).reshape(-1, 2) + 4.0
    boxes = torch.cat([middles - 20, middles + 20], 1)
    boxes[0] = truth[0]  # fits, but its middle lies outside
    objectness = torch.full((len(boxes),), 0.5)
    target, owner = assign(boxes, objectness, middles, truth)
    first = (target > 0) & (owner == 0)
    assert 0 < first.sum() <= 10
    assert target[0] == 0
    inside = ((middles >= 10) & (middles <= 50)).all(1)
    assert not (first & ~inside).any()
    best = pairwise_ious(boxes, truth)[first, 0].max()
    assert target[first].max() == pytest.approx(float(best))
    assert ((target > 0) & (owner == 1)).any()  # the small one has cells too

    assert generalised_ious(truth, truth).tolist() == pytest.approx([1, 1])
    far = torch.tensor([[900.0, 900, 901, 901]])
    assert generalised_ious(truth[:1], far)[0] < -0.9

    right = torch.logit(target.clamp(1e-4, 1 - 1e-4))[None]
    counts, whole, partial = torch.tensor([2]), torch.tensor([False]), torch.tensor([True])
    loss = objectness_loss(boxes[None], right, middles, truth[None], counts, whole)
    wrong = objectness_loss(boxes[None], -right, middles, truth[None], counts, whole)
    assert loss < wrong
    loud = right.clone()
    loud[0, target == 0] = 5.0  # sure of objects that nobody has marked
    blamed, told = (
        objectness_loss(boxes[None], loud, middles, truth[None], counts, kind) for kind in (whole, partial)
    )
    assert told < blamed / 2
    empty = objectness_loss(boxes[None], right, middles, truth[None] * 0, torch.tensor([0]), whole)
    assert torch.isfinite(empty)


def test_repeats_are_not_enlarged_and_what_is_found_is_the_same(
    pocket: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EverythingOptions(sampler="hybrid", max_prompts=32)
    enlarged = 0

    def counted(*args: object) -> FoundMask | None:
        nonlocal enlarged
        enlarged += 1
        return masks.measure(*args)  # type: ignore[arg-type]

    def plainly(
        likely: masks.Likely, embedding: Embedding, options: EverythingOptions, found: Found
    ) -> FoundMask | None:
        mask = counted(likely, embedding, options)
        visible = visible_part(likely.low_res, embedding.frame)
        return mask if mask is not None and found.offer(visible) else None

    monkeypatch.setattr(objects, "measure", counted)
    quick, of_quick = pocket.everything(cat(), options).masks, enlarged
    monkeypatch.setattr(objects, "measure_new", plainly)
    enlarged = 0
    plain = pocket.everything(cat(), options).masks
    assert [mask.rle for mask in quick] == [mask.rle for mask in plain]
    assert [mask.stability_score for mask in quick] == [mask.stability_score for mask in plain]
    assert len(plain) <= of_quick < enlarged


def test_a_large_mask_explains_no_place() -> None:
    found = Found(mask_nms_thresh=0.8)
    centre = np.array([[0.5, 0.5], [0.1, 0.1]])
    assert not found.explains(centre).any()
    large, small = np.full((64, 64), -1.0, np.float32), np.full((64, 64), -1.0, np.float32)
    large[10:60, 10:60] = 1
    small[26:38, 26:38] = 1
    assert found.offer(large)
    assert not found.explains(centre).any()
    assert not found.offer(large)  # it is still there
    assert found.offer(small)
    assert found.explains(centre).tolist() == [True, False]
