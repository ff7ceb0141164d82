"""Text prompts: OWL-ViT and OWLv2 against transformers' own code, and what becomes of their boxes."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto
from PIL import Image

from mobilesam import (
    ConfigError,
    LimitError,
    Model,
    Prompt,
    PromptError,
    PromptWarning,
    TextOptions,
    WeightsError,
    WeightsWarning,
    load_text_model,
)
from mobilesam.core.resize import smooth_taps
from mobilesam.core.types import Embedding
from mobilesam.detectors.base import Boxes
from mobilesam.detectors.owl import OwlDetector
from mobilesam.detectors.owl_inputs import MOST_SHRINKING, Preparation, shrink_to_square
from mobilesam.segment.text import find_boxes
from tests.embeddings import unseen
from tests.onnx_detectors import constant_detector
from tests.owl_networks import SIDE, TOKENS, TinyOwl
from tests.photos import cat

TEXTS = ["a cat", "Dog leash", "the cup on a saucer, to the left of it and of the spoon", "!"]
FACE = [90.0, 20.0, 330.0, 290.0]
WALL = [0.0, 0.0, 80.0, 120.0]
# The library panics at a merge whose parts do not make its whole.
MODEL = {
    "type": "BPE",
    "vocab": {"a": 0, "b": 1, "ab": 2},
    "merges": [["a", "b"]],
    "continuing_subword_prefix": "##",
}
PANICS = json.dumps({"version": "1.0", "added_tokens": [], "model": MODEL}).encode()


@pytest.fixture(params=["owlv2", "owlvit"])
def owl(request: pytest.FixtureRequest, owls: dict[str, TinyOwl]) -> TinyOwl:
    return owls[request.param]


@pytest.fixture
def detector(owl: TinyOwl) -> OwlDetector:
    return opened(owl.folder)


def opened(folder: Path) -> OwlDetector:
    with pytest.warns(WeightsWarning, match=r"model\.onnx: an ONNX file of unknown origin"):
        return load_text_model(folder)


@pytest.fixture(scope="module")
def embedding(pocket: Model) -> Embedding:
    return pocket.embed(cat())


class Fixed:
    """A text detector whose answer is known; it remembers what it was asked."""

    def __init__(self, boxes: list, scores: list, numbers: list) -> None:
        self.answer = Boxes(np.array(boxes), np.array(scores), np.array(numbers))
        self.asked: list[tuple[str, ...]] = []

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        self.asked.append(tuple(texts))
        assert embedding.image.shape == cat().shape
        return self.answer


@pytest.mark.parametrize(
    "image", [cat(), cat().swapaxes(0, 1)[:, ::2], cat()[:40, :70]], ids=["wide", "high", "small"]
)
def test_the_same_boxes_scores_and_texts_as_transformers(
    owl: TinyOwl, detector: OwlDetector, image: np.ndarray
) -> None:
    image = np.ascontiguousarray(image)
    inputs = owl.processor(
        text=[TEXTS], images=Image.fromarray(image), return_tensors="pt", truncation=True, max_length=TOKENS
    )
    pixels = detector.preparation.pixels(image)
    np.testing.assert_allclose(pixels, inputs["pixel_values"].numpy(), atol=1e-4)
    tokens = [detector.tokenizer(text) for text in TEXTS]
    np.testing.assert_array_equal(np.stack([one.ids for one in tokens]), inputs["input_ids"].numpy())
    np.testing.assert_array_equal(np.stack([one.mask for one in tokens]), inputs["attention_mask"].numpy())
    with torch.no_grad():
        outputs = owl.network(**inputs)
    (wanted,) = owl.processor.post_process_grounded_object_detection(
        outputs, threshold=-1.0, target_sizes=[image.shape[:2]], text_labels=[TEXTS]
    )
    found = detector.find(unseen(image), TEXTS)
    boxes, scores, numbers = found.xyxy, found.scores, found.texts
    np.testing.assert_allclose(scores, wanted["scores"].numpy(), atol=1e-4)
    np.testing.assert_allclose(boxes, wanted["boxes"].numpy(), atol=1e-4 * max(image.shape))
    assert [TEXTS[number] for number in numbers] == wanted["text_labels"]
    assert len(boxes) == (SIDE // 16) ** 2
    assert len(set(numbers.tolist())) > 1  # the comparison would also hold if one text won everywhere
    assert np.ptp(scores) > 0.01
    assert np.ptp(boxes, axis=0).min() > 0.05 * min(image.shape[:2])


def test_a_text_model_goes_to_other_processes(detector: OwlDetector) -> None:
    here = detector.find(unseen(cat()), TEXTS)
    there = pickle.loads(pickle.dumps(detector)).find(unseen(cat()), TEXTS)
    np.testing.assert_array_equal(here.xyxy, there.xyxy)
    np.testing.assert_array_equal(here.scores, there.scores)


@pytest.mark.parametrize("length", [1, 2, 3, 40, 96, 97, 451, 1000])
def test_blurring_and_shrinking_is_scipys(length: int) -> None:
    from scipy import ndimage

    line = np.random.default_rng(length).random(length)
    factor = length / SIDE
    blurred = ndimage.gaussian_filter(line, max(0, (factor - 1) / 2), mode="mirror")
    wanted = ndimage.zoom(blurred, SIDE / length, order=1, mode="mirror", grid_mode=True)
    got = smooth_taps(length, SIDE).apply(line[:, None].astype(np.float32))[:, 0]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_very_long_images_are_prepared_in_bounded_work() -> None:
    for shape in ((1, 400_000, 3), (400_000, 1, 3)):
        line = np.full(shape, 200, np.uint8)
        small = shrink_to_square(line, (SIDE, SIDE))
        assert small.shape == (SIDE, SIDE, 3)
        assert small.max() <= 200
        assert small[0, 0] == pytest.approx(small[0, 0, 0])
    large = np.zeros((MOST_SHRINKING * SIDE + 200, 900, 3), np.uint8)
    large[: len(large) // 2] = 250  # the upper half
    small = shrink_to_square(large, (SIDE, SIDE))
    columns = int(SIDE * 900 / len(large)) - 3
    assert small[: SIDE // 2 - 3, :columns] == pytest.approx(250, abs=1)
    assert not small[SIDE // 2 + 3 :].any()


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"size": 96}, (96, 96)),
        ({"size": [96, 64]}, (96, 64)),
        ({"size": {"height": 64, "width": 96}}, (64, 96)),
    ],
)
def test_sizes_as_configs_write_them(
    owls: dict[str, TinyOwl], tmp_path: Path, config: dict, wanted: tuple[int, int]
) -> None:
    from mobilesam.detectors.owl_inputs import read_preparation

    path = owls["owlvit"].folder / "preprocessor_config.json"
    (tmp_path / "p.json").write_text(json.dumps(json.loads(path.read_text()) | config))
    preparation = read_preparation(tmp_path / "p.json")
    assert isinstance(preparation, Preparation)
    assert preparation.size == wanted
    assert preparation.pixels(cat()).shape == (1, 3, *wanted)


def test_a_quantized_network_and_one_beside_its_files_do_as_well(
    owls: dict[str, TinyOwl], tmp_path: Path
) -> None:
    folder = owls["owlv2"].folder
    wanted = opened(folder).find(unseen(cat()), ["a cat"])
    for name in ("model.onnx", "onnx/model_quantized.onnx"):
        other = tmp_path / Path(name).name
        (other / name).parent.mkdir(parents=True)
        for beside in ("tokenizer.json", "preprocessor_config.json"):
            shutil.copy(folder / beside, other)
        shutil.copy(folder / "onnx/model.onnx", other / name)
        with pytest.warns(WeightsWarning):
            got = load_text_model(other).find(unseen(cat()), ["a cat"])
        for name in ("xyxy", "scores", "texts"):
            np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))


def test_each_box_becomes_the_models_mask(pocket: Model, embedding: Embedding) -> None:
    fixed = Fixed([WALL, FACE], [0.4, 0.7], [0, 1])
    found = pocket.segment_text(embedding, ["a wall", " a cat "], text_model=fixed)
    assert fixed.asked == [("a wall", "a cat")]
    assert found.texts == ("a wall", "a cat")
    assert [(one.label, one.text_score) for one in found] == [("a cat", 0.7), ("a wall", 0.4)]
    assert [one.caption for one in found] == ["a cat 0.70", "a wall 0.40"]
    for result, box in zip(found, (FACE, WALL), strict=True):
        alone = pocket.segment(embedding, Prompt(box=box))
        np.testing.assert_allclose(result.low_res_masks, alone.low_res_masks, atol=1e-3)
        assert len(result) == 1
        assert result.prompt.box.tolist() == box
    assert found.overlay().shape == cat().shape
    assert (found.overlay() != found[0].overlay()).any()
    plain = pocket.segment(embedding, Prompt(box=FACE))
    assert (plain.overlay() != found[0].overlay()).any()  # the label is drawn
    assert (plain.label, plain.text_score, plain.caption) == (None, None, "")
    coco = found.to_coco(file_name="cat.jpg")
    assert coco["categories"] == [{"id": 1, "name": "a wall"}, {"id": 2, "name": "a cat"}]
    assert [(a["category_id"], a["text_score"]) for a in coco["annotations"]] == [(2, 0.7), (1, 0.4)]
    assert coco["annotations"][0]["segmentation"] == found[0].rle.to_dict()


def test_repeated_boxes_and_masks_go_for_each_text_by_itself(pocket: Model, embedding: Embedding) -> None:
    shifted = [x + 4 for x in FACE]
    wider = [70.0, 5.0, 360.0, 299.0]  # the same mask, nearly, from a box with an IoU below 0.8
    fixed = Fixed([FACE, shifted, wider, FACE], [0.5, 0.6, 0.4, 0.3], [0, 0, 0, 1])
    scores = [one.text_score for one in pocket.segment_text(embedding, ["cat", "animal"], text_model=fixed)]
    assert scores == [0.6, 0.3]
    keep_boxes = TextOptions(box_nms_thresh=1, mask_nms_thresh=1)
    found = pocket.segment_text(embedding, ["cat", "animal"], text_model=fixed, options=keep_boxes)
    assert [one.text_score for one in found] == [0.6, 0.5, 0.4, 0.3]
    only_masks = TextOptions(box_nms_thresh=1, mask_nms_thresh=0.6)
    found = pocket.segment_text(embedding, ["cat", "animal"], text_model=fixed, options=only_masks)
    assert [(one.label, one.text_score) for one in found] == [("cat", 0.6), ("animal", 0.3)]


def test_threshold_and_most_boxes() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (300, 2))], 1)
    scores, numbers = 0.99 * rng.random(300), rng.integers(0, 3, 300)
    boxes[7], scores[7] = [np.nan, 0, 5, 5], 1.0
    scores[8] = np.nan
    boxes[9], scores[9] = [1000, 1000, 1100, 1100], 0.999  # outside
    boxes[10], scores[10] = [-50, -50, 40, 40], 0.995
    options = TextOptions(threshold=0.5, max_boxes=20, box_nms_thresh=1)
    chosen = find_boxes(Fixed(boxes, scores, numbers), unseen(cat()), ["a", "b", "c"], options)
    found, best, which = chosen.xyxy, chosen.scores, chosen.texts
    assert len(found) == 20
    assert (np.diff(best) <= 0).all()
    assert best.min() >= 0.5
    assert found[0].tolist() == [0, 0, 40, 40]
    left_out = np.isin(np.arange(300), [7, 8, 9])
    np.testing.assert_allclose(best, np.sort(scores[~left_out])[::-1][:20])
    for score, number in zip(best, which, strict=True):
        assert numbers[scores == score] == number


def test_nothing_found_is_empty(pocket: Model, embedding: Embedding) -> None:
    for fixed in (Fixed([], [], []), Fixed([FACE], [0.09], [0])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = pocket.segment_text(embedding, "a unicorn", text_model=fixed)
        assert not found
        assert list(found) == []
        np.testing.assert_array_equal(found.overlay(), cat())
        assert found.to_coco()["annotations"] == []
        assert found.texts == ("a unicorn",)


def test_remarks_of_a_detector_are_told(pocket: Model, embedding: Embedding) -> None:
    class Remarking(Fixed):
        def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
            told = (f"texts[0]: {texts[0]} is not my favourite",)
            return replace(super().find(embedding, texts), remarks=told)

    with pytest.warns(PromptWarning, match="a cat is not my favourite"):
        found = pocket.segment_text(embedding, "a cat", text_model=Remarking([FACE], [0.9], [0]))
    assert found.remarks == ("texts[0]: a cat is not my favourite",)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (([FACE], [0.5], [1]), "beyond 0 to 0"),
        (([FACE], [0.5], [-1]), "beyond 0 to 0"),
        (([FACE], [0.5], [0.0]), "not whole numbers"),
        (([FACE], [0.5, 0.5], [0, 0]), r"boxes \(1, 4\) and scores \(2,\)"),
        (([FACE[:3]], [0.5], [0]), r"boxes \(1, 3\)"),
        (([FACE], [["a"]], [0]), "not numbers"),
    ],
)
def test_detectors_that_answer_wrongly(
    pocket: Model, embedding: Embedding, answer: tuple, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pocket.segment_text(embedding, "a cat", text_model=Fixed(*answer))


def test_arguments_that_are_none(pocket: Model, embedding: Embedding) -> None:
    with pytest.raises(ConfigError, match=r"text_model: is a int; give a folder or an object with find"):
        pocket.segment_text(embedding, "a cat", text_model=3)
    with pytest.raises(ConfigError, match=r"text_model: is a list; give a folder"):
        load_text_model([])
    with pytest.raises(ConfigError, match="embedding: is a ndarray"):
        pocket.segment_text(cat(), "a cat", text_model=Fixed([], [], []))
    for given, message in (
        ({"threshold": 2}, "threshold: is 2; must be a number from 0 to 1"),
        ({"mask_nms_thresh": float("nan")}, "mask_nms_thresh: is nan"),
        ({"max_boxes": 0}, "max_boxes: is 0; must be a whole number from 1"),
    ):
        with pytest.raises(PromptError, match=message):
            TextOptions(**given)
    with pytest.raises(LimitError, match="max_boxes"):
        TextOptions(max_boxes=10**9)
    with pytest.raises(PromptError, match="seconds: is 0"):
        load_text_model(seconds=0)


def damaged(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, r"text_model: has no tokenizer\.json; run: hf download"),
        ("preprocessor_config.json", None, r"has no preprocessor_config\.json; run: hf download"),
        ("onnx/model.onnx", None, r"has no onnx/model\.onnx; run: hf download"),
        ("tokenizer.json", b"{}", r"tokenizer\.json: is not a tokenizer"),
        ("tokenizer.json", b"\xff\0", r"tokenizer\.json: is not a tokenizer"),
        ("tokenizer.json", PANICS, r"tokenizer\.json: is not a tokenizer"),
        ("preprocessor_config.json", b"[]", "does not say how"),
        ("preprocessor_config.json", b"[" * 100_000, "does not say how"),
        ("preprocessor_config.json", b"{}", r"\(is of None\); download it again"),
        ("onnx/model.onnx", b"\x08\x09cut", "damaged, or not an ONNX file"),
    ],
)
def test_folders_that_are_not_whole(
    owls: dict[str, TinyOwl], tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = shutil.copytree(owls["owlv2"].folder, tmp_path / "owl")
    damaged(folder, name, content)
    with pytest.raises(WeightsError, match=message) as caught:
        load_text_model(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "is of CLIPImageProcessor"),
        ({"do_pad": False}, "do_pad is off"),
        ({"do_center_crop": True}, "do_center_crop is on"),
        ({"image_std": [1, 0, 1]}, "must be above 0"),
        ({"image_mean": [1, 2]}, "image_mean must be three numbers"),
        ({"size": {"height": 10**9, "width": 96}}, "size is"),
        ({"size": {"shortest_edge": 96}}, "height"),
        (
            {"size": {"height": 64, "width": 64}},
            r"takes images of \(1, 3, 96, 96\); .* says \(1, 3, 64, 64\)",
        ),
    ],
)
def test_preparations_that_are_others(
    owls: dict[str, TinyOwl], tmp_path: Path, change: dict, message: str
) -> None:
    folder = shutil.copytree(owls["owlv2"].folder, tmp_path / "owl")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        with pytest.raises(WeightsError, match=message):
            load_text_model(folder)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "file", "file/below"])
def test_folders_that_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(WeightsError, match="text_model: not installed; run: hf download"):
        load_text_model(tmp_path / name)


def test_networks_that_are_others(owls: dict[str, TinyOwl], tmp_path: Path) -> None:
    folder = shutil.copytree(owls["owlv2"].folder, tmp_path / "owl")
    damaged(folder, "onnx/model.onnx", None)
    constant_detector(folder / "onnx/model.onnx", (1, 3, 96, 96), [np.zeros((1, 4))], TensorProto.FLOAT)
    with (
        pytest.warns(WeightsWarning),
        pytest.raises(WeightsError, match=r"has inputs image tensor\(float\); wanted: input_ids"),
    ):
        load_text_model(folder)
