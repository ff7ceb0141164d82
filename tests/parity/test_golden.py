"""Both runtimes against outputs of the reference implementation on the same seeded weights."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from mobilesam.compat.segment_anything import SamPredictor
from mobilesam.core.arrays import to_numpy
from mobilesam.core.types import Prompt
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.segment.model import Model
from tests.conftest import GOLDEN
from tests.golden_cases import SIZES, as_predict, check_case, prompt_of, set_torch_image
from tests.seeded import seeded_image, seeded_weights
from tests.suppression import Recorder, check_suppression

RUNTIMES = {"onnx": OnnxRuntime, "torch": TorchRuntime.from_weights}


@pytest.fixture(scope="module", params=["onnx", "torch"])
def model(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(f"{request.param}_vit_t")


@pytest.fixture(scope="module", params=list(SIZES))
def predictor(request: pytest.FixtureRequest, model: Model) -> tuple[int, SamPredictor]:
    predictor = SamPredictor(model)
    predictor.set_image(seeded_image(*SIZES[request.param], request.param))
    return request.param, predictor


def test_seeded_weights_are_those_of_the_capture(vit_t_weights: dict) -> None:
    # The first values of the stream; another generator would make every comparison below meaningless.
    token = vit_t_weights["mask_decoder.iou_token.weight"]
    assert token.shape == (1, 256)
    assert 0.4 < token.std() < 0.6


@pytest.mark.parametrize("number", list(SIZES))
def test_resized_image(golden: dict, number: int) -> None:
    from mobilesam.core.frame import input_size_of
    from mobilesam.core.resize import resize_image

    image = seeded_image(*SIZES[number], number)
    resized = resize_image(image, input_size_of(image.shape[:2], 1024))
    np.testing.assert_allclose(resized.mean((0, 1)), golden[f"image{number}/resized_mean"], atol=1e-6)


def test_embedding(golden: dict, predictor: tuple[int, SamPredictor]) -> None:
    number, predictor = predictor
    embedding = to_numpy(predictor.get_image_embedding())[0]
    assert np.abs(embedding[:, ::4, ::4] - golden[f"image{number}/embedding_every4"]).max() <= 1e-4
    mean = embedding.mean((1, 2)) - golden[f"image{number}/embedding_channel_mean"]
    std = embedding.std((1, 2)) - golden[f"image{number}/embedding_channel_std"]
    assert max(np.abs(mean).max(), np.abs(std).max()) <= 1e-4


def test_every_case(golden: dict, golden_cases: list, predictor: tuple[int, SamPredictor]) -> None:
    number, predictor = predictor
    cases = [case for case in golden_cases if case["image"] == number]
    check_cases(golden, cases, predictor.predict)
    check_cases(golden, cases, as_predict(predictor))


def check_cases(golden: dict, cases: list, predict: Callable) -> None:
    """Ask a predictor that has its image for every case."""
    best = None
    for case in cases:
        prompt = prompt_of(golden, case)
        if "mask_input" in case:
            prompt["mask_input"] = best
        masks, ious, low_res = predict(**prompt, multimask_output=case["multimask_output"])
        if case["name"] == "point":
            best = low_res[[ious.argmax()]]
        check_case(golden, case, masks, ious, low_res)
    assert len(cases) == 7


@pytest.mark.long
@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_sam_vit_b(runtime: str) -> None:
    """SAM's own encoder: embedding and every case, one image, as for MobileSAM's; PyTorch by its tensors.

    And which of many masks stay, as torchvision has it.
    """
    with np.load(GOLDEN / "vit_b_seed0.npz") as arrays:
        golden = dict(arrays)
    cases = json.loads((GOLDEN / "vit_b_seed0.json").read_text())["cases"]
    weights = seeded_weights(json.loads((GOLDEN / "vit_b_state_dict.json").read_text()))
    model = Model(RUNTIMES[runtime]("vit_b", weights), name="seeded vit_b")
    predictor = SamPredictor(model)
    del weights
    set_image = {"onnx": SamPredictor.set_image, "torch": set_torch_image}[runtime]
    set_image(predictor, seeded_image(*SIZES[0], 0))
    embedding = to_numpy(predictor.get_image_embedding())[0]
    assert np.abs(embedding[:, ::4, ::4] - golden["image0/embedding_every4"]).max() <= 1e-4
    check_cases(golden, cases, predictor.predict if runtime == "onnx" else as_predict(predictor))
    if runtime == "torch":
        generator = Recorder(model, 3, pred_iou_thresh=0.0, stability_score_thresh=0.0)
        check_suppression(generator, seeded_image(90, 120), 20)


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.long) for n in list(SIZES)[1:])])
def test_runtimes_agree_on_every_case(
    golden: dict, golden_cases: list, onnx_vit_t: Model, torch_vit_t: Model, number: int
) -> None:
    both = [SamPredictor(onnx_vit_t), SamPredictor(torch_vit_t)]
    for predictor in both:
        predictor.set_image(seeded_image(*SIZES[number], number))
    best = None
    for case in (case for case in golden_cases if case["image"] == number):
        prompt = prompt_of(golden, case) | ({"mask_input": best} if "mask_input" in case else {})
        (a, _, low), (b, _, other) = (
            predictor.predict(**prompt, multimask_output=case["multimask_output"]) for predictor in both
        )
        if case["name"] == "point":
            best = low[[golden[f"image{number}/point/iou"].argmax()]]
        assert np.abs(low - other).max() <= 2e-3, case["name"]
        assert ((a & b).sum((1, 2)) >= 0.999 * (a | b).sum((1, 2))).all(), case["name"]


@pytest.mark.parametrize(
    "predictor", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2))], indirect=True
)
def test_boxes_in_one_batch(golden: dict, predictor: tuple[int, SamPredictor], model: Model) -> None:
    number, _ = predictor
    image = seeded_image(*SIZES[number], number)
    boxes = golden[f"image{number}/batched_boxes/in_boxes"]
    results = model.segment(model.embed(image), [Prompt(box=box) for box in boxes])
    low_res = np.concatenate([result.low_res_masks for result in results])
    ious = np.concatenate([result.predicted_iou for result in results])
    assert np.abs(low_res[:, ::4, ::4] - golden[f"image{number}/batched_boxes/low_res_every4"]).max() <= 1e-3
    assert np.abs(ious - golden[f"image{number}/batched_boxes/iou"]).max() <= 1e-4
