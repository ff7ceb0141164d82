"""Bad prompts: the same code and words from the library and from segment_anything's form."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from mobilesam import Prompt, PromptError, PromptWarning, SamPredictor
from mobilesam.core.errors import LimitError
from mobilesam.core.types import Embedding
from mobilesam.predictor import Model

HEIGHT, WIDTH = 48, 64
NAN, INF = float("nan"), float("inf")
WHOLE = np.ones((HEIGHT, WIDTH), bool)
SOME = np.zeros((HEIGHT, WIDTH), bool)
SOME[10:30, 10:40] = True


@pytest.fixture(scope="module")
def embedding(pocket: Model) -> Embedding:
    return pocket.embed(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))


# fmt: off
REFUSED = [
    ("NaN point", {"points": [[NAN, 4]]}, "S", r"points\[0\].x: is nan"),
    ("infinite point", {"points": [[3, 4], [3, -INF]]}, "S", r"points\[1\].y: is -inf"),
    ("huge point", {"points": [[1e308, 4]]}, "S", "outside the image of 64 x 48"),
    ("huge integer", {"points": [[10**400, 4]]}, "S", "outside"),
    ("point at the width", {"points": [[64, 4]]}, "S", r"must be in \[0, 64\)"),
    ("point at the height", {"points": [[4, 48]]}, "S", r"must be in \[0, 48\)"),
    ("negative point", {"points": [[-1, 4]]}, "S", r"points\[0\].x: is -1"),
    ("just below zero", {"points": [[-0.4, 4]]}, "S", "outside"),
    ("swapped", {"points": [[4, 60]]}, "S", "the order is x, y"),
    ("no points", {"points": []}, "S", "is empty"),
    ("no prompt", {}, "S", "is empty; give points, a box or a mask"),
    ("fewer labels", {"points": [[1, 2], [3, 4]], "labels": [1]}, "S", "1 labels for 2 points"),
    ("labels alone", {"labels": [1]}, "S", "without points"),
    ("label 2", {"points": [[1, 2]], "labels": [2]}, "S", r"labels\[0\]: is 2; must be 1"),
    ("label -1", {"points": [[1, 2]], "labels": [-1]}, "S", "must be 1"),
    ("label 0.9", {"points": [[1, 2]], "labels": [0.9]}, "S", "is 0.9"),
    ("label NaN", {"points": [[1, 2]], "labels": [NAN]}, "S", "is nan"),
    ("label text", {"points": [[1, 2]], "labels": ["1"]}, "U", "labels: is a list"),
    ("label true", {"points": [[1, 2]], "labels": [True]}, "U", "true or false"),
    ("label null", {"points": [[1, 2]], "labels": [None]}, "U", "labels: is not numeric"),
    ("1001 points", {"points": np.ones((1001, 2))}, "L", "1001 points; at most 1000"),
    ("text points", {"points": [["10", "20"]]}, "U", "points: is a list"),
    ("one text", {"points": "1,2"}, "U", "points: is a str"),
    ("three numbers", {"points": [[1, 2, 3]]}, "U", r"shape \(1, 3\)"),
    ("too deep", {"points": [[[1, 2]]]}, "U", r"shape \(1, 1, 2\)"),
    ("ragged", {"points": [[1, 2], [3]]}, "U", "ragged"),
    ("complex", {"points": np.ones((1, 2), complex)}, "U", "complex128"),
    ("objects", {"points": np.array([[{}, 1]])}, "U", "not numeric"),
    ("masked array", {"points": np.ma.ones((1, 2))}, "U", "masked array"),
    ("generator", {"points": (p for p in [[1, 2]])}, "U", "is a generator"),
    ("inverted box", {"box": [40, 10, 20, 30]}, "S", "x0 > x1.*did you pass x, y, w, h"),
    ("inverted y", {"box": [10, 30, 20, 10]}, "S", "y0 > y1"),
    ("no area", {"box": [10, 10, 10, 20]}, "S", "no area"),
    ("box outside", {"box": [70, 10, 90, 20]}, "S", "lies outside the image"),
    ("box far outside", {"box": [-1e6, -1e6, 1e6, 1e6]}, "S", "more than an image beyond"),
    ("NaN box", {"box": [1, 2, NAN, 4]}, "S", "box.x1: is nan"),
    ("infinite box", {"box": [1, 2, 3, INF]}, "S", "box.y1: is inf"),
    ("three corners", {"box": [1, 2, 3]}, "U", r"shape \(3,\)"),
    ("five corners", {"box": [1, 2, 3, 4, 5]}, "U", r"shape \(5,\)"),
    ("dict box", {"box": {"x": 1}}, "U", "box: is a dict"),
    ("mask of another size", {"mask": np.ones((255, 255), bool)}, "S", r"shape \(255, 255\)"),
    ("logits of another size", {"mask": np.ones((480, 640), np.float32)}, "S", r"must be .*\(256, 256\)"),
    ("NaN logits", {"mask": np.full((256, 256), NAN, np.float32)}, "S", "NaN or infinite"),
    ("mask of sevens", {"mask": np.full((HEIGHT, WIDTH), 7, np.uint8)}, "S", "other than 0, 1 and 255"),
    ("text mask", {"mask": "mask.png"}, "U", "mask: is a str"),
    ("complex mask", {"mask": np.ones((HEIGHT, WIDTH), complex)}, "U", "complex"),
]
TOLD = [
    ("only background", {"points": [[5, 5]], "labels": [0]}, "all points are background"),
    ("normalised", {"points": [[0.5, 0.25]]}, "lie in 0..1"),
    ("normalised box", {"box": [0.1, 0.2, 0.5, 0.6]}, "lie in 0..1"),
    ("box partly outside", {"box": [-5, 10, 20, 60]}, "reaches outside .* and is clipped"),
    ("point beside the box", {"points": [[50, 40]], "box": [5, 5, 20, 20]}, "outside the box"),
    ("empty mask", {"mask": ~WHOLE}, "is empty"),
    ("full mask", {"mask": WHOLE}, "covers the whole image"),
]
ACCEPTED = [
    ("minus zero", {"points": [[-0.0, 0]]}),
    ("last pixel", {"points": [[63.99, 47.99]]}),
    ("one bare point", {"points": (3, 4)}),
    ("integers", {"points": np.array([[3, 4]], np.int16)}),
    ("tensor", {"points": torch.tensor([[3.0, 4.0]], requires_grad=True)}),
    ("one pixel box", {"box": [10, 10, 11, 11]}),
    ("whole image box", {"box": [0, 0, 64, 48]}),
    ("box of (1, 4)", {"box": np.array([[1, 2, 30, 40]])}),
    ("mask of 0 and 255", {"mask": SOME.astype(np.uint8) * 255}),
    ("logits", {"mask": np.zeros((1, 256, 256), np.float32)}),
    ("point, box and mask", {"points": [[15, 15], [60, 40]], "labels": [1, 0], "box": [8, 8, 42, 32], "mask": SOME}),
]
# fmt: on


@pytest.mark.parametrize(("prompt", "code", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(pocket: Model, embedding: Embedding, prompt: dict, code: str, message: str) -> None:
    with pytest.raises((PromptError, LimitError), match=message) as caught:
        pocket.segment(embedding, Prompt(**prompt))
    assert caught.value.code == code
    assert len(str(caught.value)) <= 200
    with pytest.raises((PromptError, LimitError), match=r"^prompts\[1\]\."):
        pocket.segment(
            embedding,
            [Prompt(points=[1, 2]), Prompt(**prompt)]
            if prompt
            else [Prompt(points=[1, 2]), Prompt(labels=[1])],
        )


@pytest.mark.parametrize(("prompt", "message"), [t[1:] for t in TOLD], ids=[t[0] for t in TOLD])
def test_told(pocket: Model, embedding: Embedding, prompt: dict, message: str) -> None:
    with pytest.warns(PromptWarning, match=message):
        result = pocket.segment(embedding, Prompt(**prompt))
    assert np.isfinite(result.predicted_iou).all()
    assert any(message.split()[0] in remark for remark in result.remarks)


@pytest.mark.parametrize("prompt", [a[1] for a in ACCEPTED], ids=[a[0] for a in ACCEPTED])
def test_accepted(pocket: Model, embedding: Embedding, prompt: dict) -> None:
    before = {key: plain(value) for key, value in prompt.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pocket.segment(embedding, Prompt(**prompt))
    assert result.mask.shape == (HEIGHT, WIDTH)
    assert np.isfinite(result.low_res_masks).all()
    for key, value in before.items():  # the caller's arrays are never changed
        np.testing.assert_array_equal(plain(prompt[key]), value)


def plain(value: object) -> np.ndarray:
    return np.array(value.detach().numpy() if isinstance(value, torch.Tensor) else value)


def test_same_point_twice_is_one_prompt_of_two_points(pocket: Model, embedding: Embedding) -> None:
    one = pocket.segment(embedding, Prompt(points=[[30, 20]]), multimask=False)
    two = pocket.segment(embedding, Prompt(points=[[30, 20], [30, 20]]), multimask=False)
    assert (one.mask == two.mask).mean() > 0.8


@pytest.mark.parametrize("value", ["false", 2, 1.0, []])
def test_multimask_has_no_truthiness(pocket: Model, embedding: Embedding, value: object) -> None:
    with pytest.raises(PromptError, match="multimask"):
        pocket.segment(embedding, Prompt(points=[1, 2]), multimask=value)


@pytest.mark.parametrize(
    ("prompts", "message"), [([], "is empty"), (3, "is a int"), ([[1, 2]], r"prompts\[0\]")]
)
def test_lists_of_prompts(pocket: Model, embedding: Embedding, prompts: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        pocket.segment(embedding, prompts)


def test_too_many_prompts(pocket: Model, embedding: Embedding) -> None:
    with pytest.raises(LimitError, match="10001 prompts"):
        pocket.segment(embedding, [Prompt(points=[1, 2])] * 10001)


class TestSamPredictor:
    @pytest.fixture
    def predictor(self, pocket: Model) -> SamPredictor:
        predictor = SamPredictor(pocket)
        predictor.set_image(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        return predictor

    def test_before_an_image(self, pocket: Model) -> None:
        predictor = SamPredictor(pocket)
        for use in (predictor.get_image_embedding, lambda: predictor.predict(box=[1, 2, 3, 4])):
            with pytest.raises(RuntimeError, match="set_image"):
                use()

    def test_a_failed_image_leaves_none(self, predictor: SamPredictor) -> None:
        with pytest.raises(ValueError, match="uint8"):
            predictor.set_image(np.zeros((4, 4, 3)))
        assert not predictor.is_image_set
        with pytest.raises(RuntimeError, match="set_image"):
            predictor.predict(box=[1, 2, 3, 4])

    def test_a_smaller_image_makes_old_points_wrong(self, predictor: SamPredictor) -> None:
        predictor.set_image(np.full((20, 20, 3), 90, np.uint8))
        with pytest.raises(PromptError, match="outside the image of 20 x 20"):
            predictor.predict(np.array([[50, 10]]), np.array([1]))

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            ({"point_coords": np.array([[1, 2]])}, "point_labels: must be supplied"),
            ({"point_coords": np.array([1, 2]), "point_labels": np.array([1])}, r"must be \(N, 2\)"),
            ({"point_coords": np.array([[NAN, 2]]), "point_labels": np.array([1])}, "nan"),
            ({"box": np.array([40, 10, 20, 30])}, "x0 > x1"),
            ({"point_coords": np.array([[99, 2]]), "point_labels": np.array([1])}, r"^point_coords\[0\]\.x"),
            ({"box": np.array([1, 2, 3, 4]), "multimask_output": "no"}, "multimask_output"),
            ({"mask_input": np.full((1, 256, 256), NAN, np.float32)}, "NaN"),
            ({}, "is empty"),
        ],
    )
    def test_refused(self, predictor: SamPredictor, prompt: dict, message: str) -> None:
        with pytest.raises(PromptError, match=message):
            predictor.predict(**prompt)

    def test_a_box_that_reaches_outside_is_passed_on(self, predictor: SamPredictor) -> None:
        masks, _, _ = predictor.predict(box=np.array([-5, -5, 70, 50]))
        assert masks.shape == (3, HEIGHT, WIDTH)

    def test_image_format(self, predictor: SamPredictor) -> None:
        for odd in (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)):
            with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8"):
                predictor.set_image(odd, "BGR")
        with pytest.raises(ValueError, match="image_format"):
            predictor.set_image(np.zeros((4, 4, 3), np.uint8), "HSV")
        image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
        predictor.set_image(image)
        rgb = predictor.get_image_embedding()
        predictor.set_image(image[..., ::-1].copy(), "BGR")
        np.testing.assert_array_equal(predictor.get_image_embedding(), rgb)
