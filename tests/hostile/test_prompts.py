"""Bad prompts, rows Q01 to Q39: the same code and words from the library, the command line and a prompt file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam import Prompt, PromptError, PromptWarning, SamPredictor, load
from mobilesam.cli.main import run
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.rle import Rle, mask_to_rle
from mobilesam.core.types import Embedding
from mobilesam.formats.image import image_to_png
from mobilesam.segment.model import Model

HEIGHT, WIDTH = 48, 64
NAN, INF = float("nan"), float("inf")
IMAGE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
WHOLE = np.ones((HEIGHT, WIDTH), bool)
SOME = np.zeros((HEIGHT, WIDTH), bool)
SOME[10:30, 10:40] = True


@pytest.fixture(scope="module")
def embedding(pocket: Model) -> Embedding:
    return pocket.embed(IMAGE)


# fmt: off
REFUSED = [
    ("Q01-nan", {"points": [[NAN, 4]]}, "S", r"points\[0\].x: is nan; must be a finite number"),
    ("Q01-nan-y", {"points": [[1, 2], [3, NAN]]}, "S", r"points\[1\].y: is nan"),
    ("Q02-inf", {"points": [[INF, 4]]}, "S", r"points\[0\].x: is inf"),
    ("Q02-minus-inf", {"points": [[3, 4], [3, -INF]]}, "S", r"points\[1\].y: is -inf"),
    ("Q03-1e38", {"points": [[1e38, 4]]}, "S", "outside the image of 64 x 48"),
    ("Q03-1e308", {"points": [[1e308, 4]]}, "S", "outside the image of 64 x 48"),
    ("Q03-400-digits", {"points": [[10**400, 4]]}, "S", "outside the image of 64 x 48"),
    ("Q04-just-below-zero", {"points": [[-0.4, 4]]}, "S", r"is -0.4, outside"),
    ("Q05-at-the-width", {"points": [[64, 4]]}, "S", r"points\[0\].x: is 64, .* must be in \[0, 64\)"),
    ("Q05-at-the-height", {"points": [[4, 48]]}, "S", r"points\[0\].y: is 48, .* must be in \[0, 48\)"),
    ("Q06-negative", {"points": [[-1, 4]]}, "S", r"points\[0\].x: is -1"),
    ("Q07-far-outside", {"points": [[5, 5], [1e6, 4]]}, "S", r"points\[1\].x: is 1e\+06, outside"),
    ("Q08-swapped", {"points": [[4, 60]]}, "S", "the order is x, y"),
    ("Q10-no-points", {"points": []}, "S", "points: is empty"),
    ("Q11-nothing", {}, "S", "is empty; give points, a box or a mask"),
    ("Q12-fewer-labels", {"points": [[1, 2], [3, 4]], "labels": [1]}, "S", "1 labels for 2 points"),
    ("Q12-more-labels", {"points": [[1, 2]], "labels": [1, 0]}, "S", "2 labels for 1 points"),
    ("Q14-labels-alone", {"labels": [1]}, "S", "labels: given without points"),
    *((f"Q15-label-{n}", {"points": [[1, 2]], "labels": [n]}, "S", rf"labels\[0\]: is {n}; must be 1 .* or 0") for n in (2, 7, -1, -5)),
    ("Q16-label-0.9", {"points": [[1, 2]], "labels": [0.9]}, "S", "is 0.9"),
    ("Q16-label-nan", {"points": [[1, 2]], "labels": [NAN]}, "S", "is nan"),
    ("Q16-label-text", {"points": [[1, 2]], "labels": ["1"]}, "U", "labels: is a list"),
    ("Q16-label-null", {"points": [[1, 2]], "labels": [None]}, "U", "labels: is not numeric"),
    ("Q20-1001-points", {"points": np.ones((1001, 2))}, "L", "1001 points; at most 1000"),
    ("Q20-million-points", {"points": np.ones((1_000_000, 2))}, "L", "1000000 points; at most 1000"),
    ("Q21-generator", {"points": (p for p in [[1, 2]])}, "U", "is a generator"),
    ("Q22-text-points", {"points": [["10", "20"]]}, "U", "points: is a list"),
    ("Q22-one-text", {"points": "1,2"}, "U", "points: is a str"),
    ("Q23-three-numbers", {"points": [[1, 2, 3]]}, "U", r"shape \(1, 3\); must be \(N, 2\)"),
    ("Q23-n-1-2", {"points": [[[1, 2]], [[3, 4]]]}, "U", r"shape \(2, 1, 2\)"),
    ("Q23-1-n-2", {"points": [[[1, 2], [3, 4]]]}, "U", r"shape \(1, 2, 2\)"),
    ("Q23-ragged", {"points": [[1, 2], [3]]}, "U", "ragged"),
    ("Q24-complex", {"points": np.ones((1, 2), complex)}, "U", "complex128"),
    ("Q24-objects", {"points": np.array([[{}, 1]])}, "U", "not numeric"),
    ("Q24-masked-array", {"points": np.ma.ones((1, 2))}, "U", "masked array"),
    ("Q25-inverted-x", {"box": [40, 10, 20, 30]}, "S", "x0 > x1; must be x0, y0, x1, y1: did you pass x, y, w, h"),
    ("Q25-inverted-y", {"box": [10, 30, 20, 10]}, "S", "y0 > y1"),
    ("Q26-a-point", {"box": [10, 10, 10, 10]}, "S", r"box: 10, 10, 10, 10 is a single point; give it as points, \[\[10, 10\]\]"),
    ("Q26-a-line-beyond", {"box": [64, 10, 64, 20]}, "S", "lies outside the image"),
    ("Q26-a-line-before", {"box": [-1, 10, -1, 20]}, "S", "lies outside the image"),
    ("Q28-outside", {"box": [70, 10, 90, 20]}, "S", "lies outside the image"),
    ("Q29-nan", {"box": [1, 2, NAN, 4]}, "S", "box.x1: is nan"),
    ("Q29-inf", {"box": [1, 2, 3, INF]}, "S", "box.y1: is inf"),
    ("Q30-three-numbers", {"box": [1, 2, 3]}, "U", r"shape \(3,\)"),
    ("Q30-five-numbers", {"box": [1, 2, 3, 4, 5]}, "U", r"shape \(5,\)"),
    ("Q30-wrong-keys", {"box": {"x": 1}}, "U", "box: is a dict; must be 4 numbers x0, y0, x1, y1"),
    ("Q30-extra-key", {"box": {"x0": 1, "y0": 1, "x1": 4, "y1": 4, "z": 1}}, "U", "box: is a dict; must be"),
    ("Q31-far-larger", {"box": [-1e6, -1e6, 1e6, 1e6]}, "S", "more than an image beyond"),
    ("Q34-two-boxes-and-a-point", {"points": [[3, 3]], "box": [[1, 2, 3, 4], [5, 6, 7, 8]]}, "U", r"box: has shape \(2, 4\)"),
    *((f"Q35-mask-{h}x{w}", {"mask": np.ones((h, w), bool)}, "S", rf"mask: has shape \({h}, {w}\); must be a boolean mask of \(48, 64\)") for h, w in ((255, 255), (480, 640), (1024, 1024))),
    ("Q35-logits-480x640", {"mask": np.ones((480, 640), np.float32)}, "S", r"must be .*\(384, 384\)"),
    ("Q35-runs-of-another-size", {"mask": mask_to_rle(np.ones((7000, 7000), bool))}, "S", r"mask: has shape \(7000, 7000\); must be a boolean mask of \(48, 64\)"),
    ("Q36-nan", {"mask": np.full((384, 384), NAN, np.float32)}, "S", "NaN or infinite"),
    ("Q36-inf", {"mask": np.full((384, 384), INF, np.float32)}, "S", "NaN or infinite"),
    ("Q38-sevens", {"mask": np.full((HEIGHT, WIDTH), 7, np.uint8)}, "S", "other than 0, 1 and 255"),
    ("Q38-text", {"mask": "mask.png"}, "U", "mask: is a str"),
    ("Q38-complex", {"mask": np.ones((HEIGHT, WIDTH), complex)}, "U", "complex"),
]
TOLD = [
    ("Q09-normalised", {"points": [[0.5, 0.25]]}, "points: all coordinates lie in 0..1"),
    ("Q09-normalised-box", {"box": [0.1, 0.2, 0.5, 0.6]}, "box: all coordinates lie in 0..1"),
    ("Q17-only-background", {"points": [[5, 5]], "labels": [0]}, "labels: all points are background"),
    ("Q18-on-it-and-beside-it", {"points": [[5, 5], [5, 5]], "labels": [1, 0]}, "points: the same point is said to be on"),
    ("Q26-no-width", {"box": [10, 10, 10, 20]}, r"box: 10, 10, 10, 20 has no width \(x0 = x1\); it is taken as one pixel"),
    ("Q26-no-height", {"box": [10, 10.5, 30, 10.5]}, r"box: .* has no height \(y0 = y1\)"),
    ("Q26-no-width-at-the-edge", {"box": [0, 10, 0, 20]}, r"box: .* has no width"),
    ("Q27-partly-outside", {"box": [-5, 10, 20, 60]}, "box: .* reaches outside .* and is clipped"),
    ("Q33-point-beside-the-box", {"points": [[50, 40]], "box": [5, 5, 20, 20]}, "points: .* outside the box"),
    ("Q37-empty-mask", {"mask": ~WHOLE}, "mask: is empty"),
    ("Q37-full-mask", {"mask": WHOLE}, "mask: covers the whole image"),
]
ACCEPTED = [
    ("Q04-minus-zero", {"points": [[-0.0, 0]]}),
    ("Q05-last-pixel", {"points": [[63.99, 47.99]]}),
    ("Q13-no-labels", {"points": [[3, 4], [30, 20]]}),
    ("Q19-same-point-twice", {"points": [[30, 20], [30, 20]]}),
    ("Q21-list", {"points": [[3, 4]]}),
    ("Q21-tuple", {"points": ((3, 4),)}),
    ("Q21-integers", {"points": np.array([[3, 4]], np.int16)}),
    ("Q21-float32", {"points": np.array([[3, 4]], np.float32)}),
    ("Q21-tensor", {"points": torch.tensor([[3.0, 4.0]], requires_grad=True)}),
    ("Q23-one-bare-point", {"points": (3, 4)}),
    ("Q16-label-true", {"points": [[1, 2], [9, 9]], "labels": [True, False]}),
    ("Q16-label-array-of-truth", {"points": [[1, 2], [9, 9]], "labels": np.array([True, False])}),
    ("Q26-one-pixel-wide", {"box": [10, 10, 11, 40]}),
    ("Q30-box-of-1-1-4", {"box": np.array([[[1, 2, 30, 40]]])}),
    ("Q26-one-pixel-box", {"box": [10, 10, 11, 11]}),
    ("Q30-box-of-1-4", {"box": np.array([[1, 2, 30, 40]])}),
    ("Q31-whole-image", {"box": [0, 0, 64, 48]}),
    ("Q35-mask-of-the-image", {"mask": SOME}),
    ("Q35-logits", {"mask": np.zeros((1, 384, 384), np.float32)}),
    ("Q35-runs", {"mask": mask_to_rle(SOME)}),
    ("Q38-0-and-255", {"mask": SOME.astype(np.uint8) * 255}),
    ("Q38-0-and-1", {"mask": SOME.astype(np.int64)}),
    ("Q63-point-box-and-mask", {"points": [[15, 15], [60, 40]], "labels": [1, 0], "box": [8, 8, 42, 32], "mask": SOME}),
]
# fmt: on


def to_arguments(prompt: dict) -> list[str] | None:
    """The prompt as options of the command line, or None where they cannot say it."""
    arguments: list[str] = []
    if not prompt or set(prompt) == {"labels"}:
        return None
    for name, value in prompt.items():
        if name == "mask":
            if not isinstance(value, np.ndarray) or value.dtype != bool:
                return None
            Path("mask.png").write_bytes(image_to_png(value))
            arguments += ["--mask", "mask.png"]
        elif (numbers := real_numbers(value)) is None:
            return None
        elif name == "box":
            if numbers.shape not in ((4,), (1, 4)):
                return None
            arguments.append("--box=" + ",".join(map(repr, numbers.ravel().tolist())))
        elif name == "points":
            labels = real_numbers(prompt.get("labels", np.ones(numbers.size // 2)))
            if labels is None or numbers.shape not in ((len(labels), 2), (2,)) or len(labels) > 5000:
                return None
            for (x, y), label in zip(numbers.reshape(-1, 2).tolist(), labels.tolist(), strict=True):
                arguments.append(f"--point={x!r},{y!r}" + (f",{label!r}" if "labels" in prompt else ""))
    return arguments or None


def real_numbers(value: Any) -> np.ndarray | None:
    """The value as numbers, or None if it is none or holds what no option can say."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ma.MaskedArray) or not isinstance(value, list | tuple | np.ndarray):
        return None
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "if" and array.size else None


def to_record(prompt: dict) -> dict | None:
    """The prompt as an object of a prompt file, or None where JSON cannot say it."""
    record = {}
    for name, value in prompt.items():
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        if name == "mask" and not isinstance(value, Rle):
            if not isinstance(value, np.ndarray) or value.dtype != bool:
                return None
            Path("mask.png").write_bytes(image_to_png(value))
            value = "mask.png"
        elif isinstance(value, Rle):
            value = value.to_dict()
        elif isinstance(value, np.ndarray):
            if isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "if" or value.size > 5000:
                return None
            value = value.tolist()
        elif not isinstance(value, list | tuple | str | dict):
            return None
        record[name] = value
    return record


@pytest.fixture
def segment(
    keeping: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, str, dict]]:
    """Run the command in this process with the model that is loaded already; return code, errors and results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.segment.load_model", lambda *_, **__: keeping)
    Path("i.png").write_bytes(image_to_png(IMAGE))

    def run_segment(*arguments: str) -> tuple[int, str, dict]:
        code = run(["segment", "i.png", *arguments, "--json", "--save", ""])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, err, json.loads(out) if out else {}

    return run_segment


def as_file(record: dict) -> list[str]:
    Path("p.json").write_text(json.dumps({"version": 1, "objects": [record]}))
    return ["--prompts", "p.json"]


EXIT = {"U": 2, "S": 2, "L": 7, "I": 3}


@pytest.mark.parametrize(("prompt", "code", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(
    pocket: Model, embedding: Embedding, segment: Callable, prompt: dict, code: str, message: str
) -> None:
    with pytest.raises((PromptError, LimitError), match=message) as caught:
        pocket.segment(embedding, Prompt(**prompt))
    said = str(caught.value)
    assert caught.value.code == code
    assert len(said) <= 200
    with pytest.raises((PromptError, LimitError), match=r"^prompts\[1\][.:]"):
        pocket.segment(embedding, [Prompt(points=[1, 2]), Prompt(**prompt)])
    arguments, record = to_arguments(prompt), to_record(prompt)
    if arguments is not None:
        status, error, _ = segment(*arguments)
        assert (status, error) == (EXIT[code], f"error[{code}]: {said}\n")
    if record is not None:
        status, error, _ = segment(*as_file(record))
        assert status == EXIT[code]
        if "NaN" in json.dumps(record) or "Infinity" in json.dumps(record):  # no numbers in JSON
            assert error.startswith(f"error[{code}]: p.json: holds ")
        else:
            assert error == f"error[{code}]: p.json: objects[0].{said}\n".replace("].prompt", "]")


@pytest.mark.parametrize(("prompt", "message"), [t[1:] for t in TOLD], ids=[t[0] for t in TOLD])
def test_told(pocket: Model, embedding: Embedding, segment: Callable, prompt: dict, message: str) -> None:
    with pytest.warns(PromptWarning, match=message):
        result = pocket.segment(embedding, Prompt(**prompt))
    assert np.isfinite(result.predicted_iou).all()
    (remark, *_) = result.remarks
    for arguments, where in ((to_arguments(prompt), ""), (as_file(to_record(prompt)), "p.json: objects[0].")):
        status, error, document = segment(*arguments)
        assert status == 0
        assert f"warning: i.png: {where}{remark}\n" in error
        assert where + remark in document["images"][0]["warnings"]


@pytest.mark.parametrize("prompt", [a[1] for a in ACCEPTED], ids=[a[0] for a in ACCEPTED])
def test_accepted(pocket: Model, embedding: Embedding, segment: Callable, prompt: dict) -> None:
    before = {key: plain(value) for key, value in prompt.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pocket.segment(embedding, Prompt(**prompt))
    assert result.mask.shape == (HEIGHT, WIDTH)
    assert np.isfinite(result.low_res_masks).all()
    for key, value in before.items():  # the caller's arrays are never changed
        np.testing.assert_array_equal(plain(prompt[key]), value)
    arguments, record = to_arguments(prompt), to_record(prompt)
    for given in (arguments, None if record is None else as_file(record)):
        if given is not None:
            status, error, document = segment(*given)
            assert status == 0, error
            entry = document["images"][0]["objects"][0]
            assert entry["masks"][entry["chosen"]]["segmentation"] == result.rle.to_dict()


def plain(value: object) -> np.ndarray:
    return np.array(value.detach().numpy() if isinstance(value, torch.Tensor) else value)


def test_every_surface_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversions would also be right if they gave up on everything."""
    monkeypatch.chdir(tmp_path)
    for table in (REFUSED, TOLD, ACCEPTED):
        assert sum(to_arguments(row[1]) is not None for row in table) >= len(table) // 3
        assert sum(to_record(row[1]) is not None for row in table) >= len(table) // 2


def test_Q13_labels_are_1_by_default(pocket: Model, embedding: Embedding) -> None:
    bare = pocket.segment(embedding, Prompt(points=[[3, 4], [30, 20]]))
    told = pocket.segment(embedding, Prompt(points=[[3, 4], [30, 20]], labels=[1, 1]))
    np.testing.assert_array_equal(bare.low_res_masks, told.low_res_masks)


def test_Q19_same_point_twice_is_one_prompt_of_two_points(pocket: Model, embedding: Embedding) -> None:
    one = pocket.segment(embedding, Prompt(points=[[30, 20]]), multimask=False)
    two = pocket.segment(embedding, Prompt(points=[[30, 20], [30, 20]]), multimask=False)
    assert (one.mask == two.mask).mean() > 0.8


def test_Q38_a_mask_means_the_same_in_every_type(pocket: Model, embedding: Embedding) -> None:
    wanted = pocket.segment(embedding, Prompt(mask=SOME)).low_res_masks
    for mask in (SOME.astype(np.uint8), SOME.astype(np.uint8) * 255, SOME.astype(np.int64)):
        np.testing.assert_array_equal(pocket.segment(embedding, Prompt(mask=mask)).low_res_masks, wanted)


@pytest.mark.parametrize("value", ["false", 2, 1.0, []], ids=lambda v: f"Q50-{v!r}")
def test_multimask_has_no_truthiness(pocket: Model, embedding: Embedding, value: object) -> None:
    with pytest.raises(PromptError, match=r"multimask: is .*; must be True, False or None") as caught:
        pocket.segment(embedding, Prompt(points=[1, 2]), multimask=value)
    assert caught.value.code == "U"


@pytest.mark.parametrize(
    ("prompts", "code", "message"),
    [
        (3, "U", "is a int"),
        ([[1, 2]], "U", r"prompts\[0\]"),
        ({"bbox": [1, 2, 3, 4]}, "U", "prompts: unknown field 'bbox', did you mean 'box'"),
        ([{"box": [1, 2, 3, 4]}, {7: 1}], "U", r"prompts\[1\]: unknown field '7'; known are points"),
        ({}, "S", "is empty; give points, a box or a mask"),
    ],
    ids=["Q32-a-number", "Q32-a-list", "Q55-misspelt", "Q55-a-number", "Q11-nothing"],
)
def test_lists_of_prompts(
    pocket: Model, embedding: Embedding, prompts: object, code: str, message: str
) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        pocket.segment(embedding, prompts)
    assert caught.value.code == code


def test_Q23_lists_without_end_are_refused(pocket: Model, embedding: Embedding) -> None:
    deep: list = [1]
    for _ in range(5000):
        deep = [deep]
    deep[0].append(deep)  # and in itself
    for prompt in ({"points": deep}, {"box": deep}, {"points": [[1, 2]], "labels": deep}, {"mask": deep}):
        with pytest.raises(PromptError, match="must be"):
            pocket.segment(embedding, prompt)


def test_Q16_truth_among_numbers_is_not_sure(pocket: Model, embedding: Embedding) -> None:
    with pytest.raises(PromptError, match="labels: holds true or false"):
        pocket.segment(embedding, Prompt(points=[[1, 2], [3, 4]], labels=[True, 0]))


def test_Q32_no_objects_have_no_masks(pocket: Model, embedding: Embedding) -> None:
    assert pocket.segment(embedding, []) == ()
    assert pocket.segment(embedding, iter(())) == ()


def test_a_dict_is_a_prompt(pocket: Model, embedding: Embedding) -> None:
    record = {"box": [8, 8, 42, 32], "points": [[15, 15]], "labels": [1]}
    wanted = pocket.segment(embedding, Prompt(**record)).low_res_masks
    np.testing.assert_array_equal(pocket.segment(embedding, record).low_res_masks, wanted)
    one, other = pocket.segment(embedding, [record, Prompt(**record)])
    np.testing.assert_array_equal(one.low_res_masks, other.low_res_masks)
    ((third,),) = pocket.segment_batch([embedding], [[record]])
    np.testing.assert_array_equal(third.low_res_masks, wanted)


def test_Q26_a_line_is_its_pixels(pocket: Model, embedding: Embedding) -> None:
    with pytest.warns(PromptWarning, match="one pixel"):
        line = pocket.segment(embedding, Prompt(box=[10, 10, 10, 40]))
    np.testing.assert_array_equal(line.prompt.box, [10, 10, 11, 40])
    pixels = pocket.segment(embedding, Prompt(box=[10, 10, 11, 40]))
    np.testing.assert_array_equal(line.low_res_masks, pixels.low_res_masks)


@pytest.mark.parametrize("value", [5, 5.0, b"a", [], object()], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("argument", ["checkpoint", "decoder"])
def test_weights_that_are_no_path(argument: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{argument}: is .*; must be the path of a file"):
        load("pocket", **{argument: value})


def test_Q32_too_many_prompts(pocket: Model, embedding: Embedding, segment: Callable) -> None:
    with pytest.raises(LimitError, match="10001 prompts; at most 10000"):
        pocket.segment(embedding, [Prompt(points=[1, 2])] * 10001)
    Path("p.json").write_text(json.dumps({"objects": [{"box": [1, 2, 3, 4]}] * 10001}))
    status, error, _ = segment("--prompts", "p.json")
    assert (status, error) == (
        7,
        "error[L]: p.json: objects: has 10,001 entries; at most 10,000 are allowed\n",
    )
    status, error, _ = segment(*["--box=1,2,3,4"] * 10001)
    assert status == 7
    assert "at most 10000" in error


class TestSamPredictor:
    @pytest.fixture
    def predictor(self, pocket: Model) -> SamPredictor:
        predictor = SamPredictor(pocket)
        predictor.set_image(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        return predictor

    def test_Q57_before_an_image(self, pocket: Model) -> None:
        predictor = SamPredictor(pocket)
        for use in (predictor.get_image_embedding, lambda: predictor.predict(box=[1, 2, 3, 4])):
            with pytest.raises(RuntimeError, match="set_image"):
                use()

    def test_Q57_a_failed_image_leaves_none(self, predictor: SamPredictor) -> None:
        with pytest.raises(ValueError, match="uint8"):
            predictor.set_image(np.full((4, 4, 3), 0.5))
        assert not predictor.is_image_set
        with pytest.raises(RuntimeError, match="set_image"):
            predictor.predict(box=[1, 2, 3, 4])

    def test_Q58_a_smaller_image_makes_old_points_wrong(self, predictor: SamPredictor) -> None:
        predictor.set_image(np.full((20, 20, 3), 90, np.uint8))
        with pytest.raises(PromptError, match="outside the image of 20 x 20"):
            predictor.predict(np.array([[50, 10]]), np.array([1]))

    def test_Q57_after_reset_or_with_another_models_embedding(
        self, predictor: SamPredictor, pocket: Model, embedding: Embedding
    ) -> None:
        predictor.reset_image()
        with pytest.raises(RuntimeError, match="set_image"):
            predictor.predict(box=[1, 2, 3, 4])
        other = Model(pocket.runtime, name="another")
        with pytest.raises(ConfigError, match=f"was made by {pocket.name}, this model is another"):
            other.segment(embedding, Prompt(points=[1, 2]))

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            ({"point_coords": np.array([[1, 2]])}, "point_labels: must be supplied"),
            ({"point_coords": np.array([1, 2]), "point_labels": np.array([1])}, r"must be \(N, 2\)"),
            ({"point_coords": np.array([[NAN, 2]]), "point_labels": np.array([1])}, "nan"),
            ({"box": np.array([40, 10, 20, 30])}, "x0 > x1"),
            ({"point_coords": np.array([[99, 2]]), "point_labels": np.array([1])}, r"^point_coords\[0\]\.x"),
            ({"box": np.array([1, 2, 3, 4]), "multimask_output": "no"}, "multimask_output"),
            ({"mask_input": np.full((1, 384, 384), NAN, np.float32)}, "NaN"),
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
            with pytest.raises(ValueError, match=r"must be an array \(H, W, 3\) uint8"):
                predictor.set_image(odd, "BGR")
        with pytest.raises(ValueError, match="image_format"):
            predictor.set_image(np.zeros((4, 4, 3), np.uint8), "HSV")
        image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
        predictor.set_image(image)
        rgb = predictor.get_image_embedding()
        predictor.set_image(image[..., ::-1].copy(), "BGR")
        np.testing.assert_array_equal(predictor.get_image_embedding(), rgb)
