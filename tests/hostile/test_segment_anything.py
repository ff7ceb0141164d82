"""Prompts that segment_anything takes for a mask or drops inside the network: none gives a mask here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam import ConfigError, ImageError, LimitError, PromptError, SamPredictor, WeightsError
from mobilesam.compat.segment_anything import sam_model_registry
from mobilesam.compat.segment_anything.modeling.build import build_named
from mobilesam.core.prompts import MASK_LOGIT
from mobilesam.segment.model import Model

HEIGHT, WIDTH = 48, 64
SCALE = 12  # from this image to pocket's input
NAN, INF = float("nan"), float("inf")
POINT, LABEL = [[20.0, 20.0]], [1]
LOGITS = np.zeros((1, 384, 384), np.float32)


def point(x: float, y: float) -> dict:
    return {"point_coords": [[x, y]], "point_labels": LABEL}


# Each with the argument that the message begins with, for predict; the tensors' boxes are "boxes".
PROMPTS = {
    "point nan": (point(NAN, 4), "point_coords"),
    "point inf": (point(4, INF), "point_coords"),
    "point minus inf": (point(-INF, 4), "point_coords"),
    "point negative": (point(-1, 4), "point_coords"),
    "point beyond": (point(1e6, 4), "point_coords"),
    "point swapped": (point(4, 60), "point_coords"),
    "label 7": ({"point_coords": POINT, "point_labels": [7]}, "point_labels"),
    "label -5": ({"point_coords": POINT, "point_labels": [-5]}, "point_labels"),
    "label 0.9": ({"point_coords": POINT, "point_labels": [0.9]}, "point_labels"),
    "label nan": ({"point_coords": POINT, "point_labels": [NAN]}, "point_labels"),
    "too few labels": ({"point_coords": POINT * 2, "point_labels": LABEL}, "point_labels"),
    "too many labels": ({"point_coords": POINT, "point_labels": LABEL * 2}, "point_labels"),
    "labels without points": ({"point_labels": LABEL}, "point_labels"),
    "points without labels": ({"point_coords": POINT}, "point_labels"),
    "three numbers a point": ({"point_coords": [[1.0, 2, 3]], "point_labels": LABEL}, "point_coords"),
    "complex points": ({"point_coords": [[1j, 2]], "point_labels": LABEL}, "point_coords"),
    "no points": ({"point_coords": np.zeros((0, 2)), "point_labels": np.zeros(0)}, "point_coords"),
    "box nan": ({"box": [1, 2, NAN, 4]}, "box"),
    "box inf": ({"box": [1, 2, 3, INF]}, "box"),
    "box inverted in x": ({"box": [40, 10, 20, 30]}, "box"),
    "box inverted in y": ({"box": [10, 30, 20, 10]}, "box"),
    "box of a line beyond": ({"box": [70, 10, 70, 20]}, "box"),
    "box outside": ({"box": [70, 10, 90, 20]}, "box"),
    "box far beyond": ({"box": [0, 0, 1e6, 40]}, "box"),
    "box of three numbers": ({"box": [1.0, 2, 3]}, "box"),
    "mask nan": ({"mask_input": LOGITS * NAN}, "mask_input"),
    "mask of another size": ({"mask_input": LOGITS[:, :64, :64]}, "mask_input"),
    "nothing": ({}, "prompt"),
}


@pytest.fixture(scope="module")
def predictor(pocket: Model) -> SamPredictor:
    predictor = SamPredictor(pocket)
    predictor.set_image(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return predictor


def ask_with_tensors(predictor: SamPredictor, prompt: dict) -> Any:
    """Put the prompt of one object into a batch, in the resized image's pixels."""
    parts = {key: torch.as_tensor(value)[None] for key, value in prompt.items()}
    coords, box = parts.get("point_coords"), parts.get("box")
    return predictor.predict_torch(
        None if coords is None else coords * SCALE,
        parts.get("point_labels"),
        None if box is None else box * SCALE,
        parts.get("mask_input"),
    )


def test_there_are_as_many_as_were_tried_on_the_original() -> None:
    assert len(PROMPTS) == 28


@pytest.mark.parametrize("name", PROMPTS)
def test_predict_names_the_argument(predictor: SamPredictor, name: str) -> None:
    prompt, argument = PROMPTS[name]
    with pytest.raises(PromptError, match=rf"^{argument}\b"):
        predictor.predict(**{key: np.asarray(value) for key, value in prompt.items()})


@pytest.mark.parametrize("name", PROMPTS)
def test_predict_torch_names_the_argument(predictor: SamPredictor, name: str) -> None:
    prompt, argument = PROMPTS[name]
    with pytest.raises(PromptError, match=rf"^{argument.replace('box', 'boxes')}\b"):
        ask_with_tensors(predictor, prompt)


def test_a_right_prompt_is_none_of_them(predictor: SamPredictor) -> None:
    for prompt in (point(20, 20), {"box": [10, 10, 40, 30]}, {"mask_input": LOGITS}):
        masks, _, _ = predictor.predict(**prompt)
        of_tensors, _, _ = ask_with_tensors(predictor, prompt)
        assert masks.shape == of_tensors.shape[1:] == (3, HEIGHT, WIDTH)


COORDS, LABELS = torch.tensor([[[20.0, 20.0]]]), torch.tensor([[1]])
BOX, MASK = torch.tensor([[80.0, 80, 300, 200]]), torch.zeros(1, 1, 384, 384)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((COORDS[0], LABELS[0]), r"point_coords: has shape \(1, 2\); must be \(B, N, 2\)"),
        ((COORDS, LABELS[0]), r"point_labels: has shape \(1,\); must be \(1, 1\)"),
        ((COORDS[:, :0], LABELS[:, :0]), "point_coords: is empty"),
        ((COORDS.repeat(2, 1, 1), LABELS.repeat(2, 1), BOX), "boxes: is for 1 objects, point_coords for 2"),
        ((COORDS, LABELS, BOX, MASK.repeat(2, 1, 1, 1)), "mask_input: is for 2 objects, point_coords for 1"),
        ((COORDS, -LABELS), r"point_labels\[0\]: holds pads \(-1\) only"),
        ((None, None, BOX[0]), r"boxes: has shape \(4,\); must be \(B, 4\)"),
        ((None, None, None, MASK[0]), r"mask_input: has shape \(1, 384, 384\)"),
        ((COORDS, LABELS, None, MASK[:0]), "mask_input: is for 0 objects, point_coords for 1"),
        ((None, None, None, MASK.bool()), "mask_input: has type bool"),
        (("a", LABELS), "point_coords: is a str"),
        ((COORDS * 40, LABELS), r"point_coords\[0, 0\].x: is 800; must be in \[0, 768\]"),
        ((COORDS * NAN, -LABELS), r"point_coords\[0, 0\].x: is nan"),
        (
            (COORDS.double() * 1e300, -LABELS),
            r"point_coords\[0, 0\].x: is 2e\+301; must be in \[-768, 1536\]",
        ),
        ((COORDS * -40, LABELS * 2), r"point_coords\[0, 0\].x: is -800; must be in \[-768, 1536\]"),
        ((None, None, None, MASK * NAN), "mask_input: holds NaN or infinite logits"),
        ((COORDS, LABELS, None, None, 1), "multimask_output: is 1; must be True or False"),
    ],
)
def test_batches_that_are_none(predictor: SamPredictor, tensors: tuple, message: str) -> None:
    with pytest.raises(PromptError, match=f"^{message}"):
        predictor.predict_torch(*tensors)


@pytest.mark.parametrize("return_logits", [False, True])
@pytest.mark.parametrize(
    "tensors",
    [
        (None, None, torch.zeros(0, 4)),
        (COORDS[:0], LABELS[:0]),
        (COORDS[:0], LABELS[:0], BOX[:0], MASK[:0]),
        (None, None, BOX[:0], MASK),
        (torch.zeros(0, 0, 2), torch.zeros(0, 0)),
    ],
    ids=["boxes", "points", "all", "one-mask-for-all", "no-points-of-none"],
)
def test_no_objects_have_no_masks(predictor: SamPredictor, tensors: tuple, return_logits: bool) -> None:
    some = predictor.predict_torch(COORDS, LABELS, return_logits=return_logits)
    for one, none in zip(some, predictor.predict_torch(*tensors, return_logits=return_logits), strict=True):
        assert none.shape == (0, *one.shape[1:])
        assert none.dtype == one.dtype
    assert predictor.predict_torch(*tensors, multimask_output=False)[0].shape == (0, 1, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "box", [[5, 10, 5, 40], [5, 10, 50, 10], [5, 10, 5, 10], [0, 0, 0, 40], [64, 10, 64, 40]]
)
def test_boxes_without_area_are_passed_on(predictor: SamPredictor, box: list[int]) -> None:
    assert predictor.predict(box=np.array(box))[0].shape == (3, HEIGHT, WIDTH)
    assert predictor.predict(box=box)[0].shape == (3, HEIGHT, WIDTH)
    tensor = torch.tensor([box], dtype=torch.float32) * SCALE
    assert predictor.predict_torch(None, None, tensor)[0].shape == (1, 3, HEIGHT, WIDTH)


def test_a_checkpoint_that_is_no_path() -> None:
    with pytest.raises(ConfigError, match="checkpoint: is 5; must be the path of a file"):
        sam_model_registry["vit_t"](checkpoint=5)


def test_no_objects_of_a_network_have_no_masks() -> None:
    network = build_named("pocket")
    record = {"image": torch.zeros(3, 576, 768), "original_size": (HEIGHT, WIDTH)}
    some, none = network([record | {"boxes": BOX}, record | {"boxes": BOX[:0]}], True)
    for key, tensor in some.items():
        assert none[key].shape == (0, *tensor.shape[1:])
        assert none[key].dtype == tensor.dtype


def test_pads_and_points_on_the_edge_are_passed_on(predictor: SamPredictor) -> None:
    wanted = predictor.predict(np.array([[20, 20]]), np.array([1]))[2]
    padded = predictor.predict(np.array([[20, 20], [0, 0]]), np.array([1, -1]))[2]
    tensors = torch.tensor([[[20.0, 20], [0, 0]]]) * SCALE, torch.tensor([[1, -1]])
    np.testing.assert_allclose(padded, predictor.predict_torch(*tensors)[2][0], atol=1e-4)
    assert padded.shape == wanted.shape
    assert predictor.predict(np.array([[WIDTH, HEIGHT]]), np.array([1]))[0].shape == (3, HEIGHT, WIDTH)
    with pytest.raises(PromptError, match=r"point_coords\[0\].x: is 64.5, outside"):
        predictor.predict(np.array([[WIDTH + 0.5, 9]]), np.array([1]))
    with pytest.raises(PromptError, match=r"point_labels: holds pads \(-1\) only"):
        predictor.predict(np.array([[20, 20]]), np.array([-1]))


def test_labels_may_be_truth(predictor: SamPredictor) -> None:
    points = np.array([[20, 20], [50, 40]])
    wanted = predictor.predict(points, np.array([1, 0]))[2]
    for labels in (np.array([True, False]), [True, False]):
        np.testing.assert_array_equal(predictor.predict(points, labels)[2], wanted)
    assert torch.equal(
        predictor.predict_torch(COORDS, LABELS > 0)[2], predictor.predict_torch(COORDS, LABELS)[2]
    )


@pytest.mark.parametrize("most", [np.inf, np.float64(1e300)], ids=["infinite", "beyond float32"])
def test_logits_of_no_doubt(predictor: SamPredictor, most: float) -> None:
    """As NumPy's logit of a boolean mask has them; they count as the largest that a mask prompt has here."""
    inside = np.zeros(LOGITS.shape, bool)
    inside[:, 60:200, 60:200] = True
    low_res = predictor.predict(mask_input=np.where(inside, most, -most))[2]
    finite = np.where(inside, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)
    np.testing.assert_array_equal(low_res, predictor.predict(mask_input=finite)[2])
    tensors = torch.as_tensor(np.where(inside, most, -most))[None]
    np.testing.assert_allclose(predictor.predict_torch(None, None, None, tensors)[2][0], low_res, atol=1e-4)
    finite[0, 0, 0] = 20
    more = np.where(inside, np.inf, finite)
    finite[inside] = 20  # never below another
    np.testing.assert_array_equal(
        predictor.predict(mask_input=more)[2], predictor.predict(mask_input=finite)[2]
    )


@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 4), (1, 2, 2), (2, 2), (4, 1)], ids=str)
def test_four_numbers_are_a_box_in_any_shape(predictor: SamPredictor, shape: tuple) -> None:
    box = np.array([10, 10, 40, 30])
    np.testing.assert_array_equal(predictor.predict(box=box.reshape(shape))[2], predictor.predict(box=box)[2])
    if shape in ((1, 4), (1, 1, 4), (1, 2, 2)):
        tensor = torch.as_tensor(box, dtype=torch.float) * SCALE
        assert torch.equal(
            predictor.predict_torch(None, None, tensor.reshape(shape))[2],
            predictor.predict_torch(None, None, tensor[None])[2],
        )


def test_beside_a_box_there_may_be_no_points(predictor: SamPredictor) -> None:
    box, nothing = np.array([10, 10, 40, 30]), (np.zeros((0, 2)), np.zeros(0))
    np.testing.assert_array_equal(predictor.predict(*nothing, box)[2], predictor.predict(box=box)[2])
    assert predictor.predict(*nothing, mask_input=LOGITS)[0].shape == (3, HEIGHT, WIDTH)
    none = torch.zeros(1, 0, 2), torch.zeros(1, 0)
    assert torch.equal(predictor.predict_torch(*none, BOX)[2], predictor.predict_torch(None, None, BOX)[2])


def test_narrow_images_and_whole_floats_are_read(pocket: Model) -> None:
    predictor = SamPredictor(pocket)
    predictor.set_image(np.full((1, 2000, 3), 90, np.uint8))
    assert predictor.predict(box=[100, 0, 900, 1])[0].shape == (3, 1, 2000)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    embeddings = []
    for one in (image, image.astype(np.float32), image.astype(np.float64)):
        predictor.set_image(one)
        embeddings.append(predictor.features)
    assert all(np.array_equal(one, embeddings[0]) for one in embeddings)
    for other in (image / 255, image + 0.5, image * -1.0, image * np.nan, image.clip(0, 1).astype(float)):
        with pytest.raises(ImageError, match=r"has shape .* and type float64; must be an array"):
            predictor.set_image(other)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth: not found") as caught:
        sam_model_registry["pocket"](checkpoint=tmp_path / "nothing.pth")
    assert isinstance(caught.value, WeightsError)
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsError) as caught:
        sam_model_registry["pocket"](checkpoint=tmp_path / "broken.pth")
    assert not isinstance(caught.value, FileNotFoundError)


def test_limits(predictor: SamPredictor) -> None:
    with pytest.raises(LimitError, match="point_coords: 1001 points; at most 1000"):
        predictor.predict_torch(COORDS.repeat(1, 1001, 1), LABELS.repeat(1, 1001))
    with pytest.raises(LimitError, match="boxes: 10001 prompts; at most 10000"):
        predictor.predict_torch(None, None, BOX.repeat(10_001, 1))


def test_half_numbers_and_lists_are_read(predictor: SamPredictor) -> None:
    wanted = predictor.predict_torch(COORDS, LABELS)[2]
    for coords, labels in ((COORDS.bfloat16(), LABELS.bfloat16()), (COORDS.tolist(), LABELS.tolist())):
        assert torch.equal(predictor.predict_torch(coords, labels)[2], wanted)


def test_what_was_an_assertion_still_is_one(predictor: SamPredictor, pocket: Model) -> None:
    wrong = {
        PromptError: (
            lambda: predictor.predict(np.array(POINT)),
            lambda: predictor.predict_torch(COORDS, None),
        ),
        ImageError: tuple(
            lambda image=image: SamPredictor(pocket).set_torch_image(image, (HEIGHT, WIDTH))
            for image in (
                torch.zeros(3, 576, 768),
                torch.zeros(1, 576, 768, 3),
                torch.zeros(2, 3, 576, 768),
                torch.zeros(1, 3, 575, 767),
                torch.zeros(1, 3, 0, 768),
                torch.full((1, 3, 576, 768), NAN),
                np.zeros((1, 3, 576, 768)),
            )
        ),
        ConfigError: (lambda: SamPredictor(pocket).set_image(np.zeros((4, 4, 3), np.uint8), "GBR"),),
    }
    for ours, uses in wrong.items():
        for use in uses:
            for kind in (ours, AssertionError):
                with pytest.raises(kind):
                    use()


def test_no_image_is_a_runtime_error(pocket: Model) -> None:
    predictor = SamPredictor(pocket)
    uses = (
        lambda: predictor.predict(box=[1, 2, 3, 4]),
        lambda: predictor.predict_torch(None, None, BOX),
        predictor.get_image_embedding,
    )
    for use in uses:
        with pytest.raises(RuntimeError, match="set_image"):
            use()
    predictor.set_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(ImageError, match="transformed_image"):
        predictor.set_torch_image(torch.zeros(1), (HEIGHT, WIDTH))
    for size in ((HEIGHT,), (0, WIDTH), (4.5, 2), "ab", None):
        with pytest.raises(ConfigError, match="original_image_size"):
            predictor.set_torch_image(torch.zeros(1, 3, 576, 768), size)
    for use in uses:  # a failed image leaves none
        with pytest.raises(RuntimeError, match="set_image"):
            use()
