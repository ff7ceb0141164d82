"""Several images at once give what each gives alone, on both runtimes."""

from __future__ import annotations

import numpy as np
import pytest

from mobilesam.core.types import Embedding, Prompt
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.segment.batches import encode_images
from mobilesam.segment.model import Model, load
from mobilesam.segment.results import Segmentation
from tests.seeded import seeded_image
from tests.seeded_networks import network_with

SIZES = ((200, 300), (90, 40), (1, 7), (512, 512), (33, 700))
PROMPTS = (
    [Prompt(points=[100, 80]), Prompt(box=[30, 40, 200, 160]), Prompt(points=[[100, 80], [20, 150]])],
    [],
    [Prompt(points=[3, 0])],
    [Prompt(points=[10 * i + 5, 40]) for i in range(11)]
    + [Prompt(mask=np.arange(512 * 512).reshape(512, 512) % 512 < 200)],
    [Prompt(box=[100, 2, 600, 30], points=[300, 10])],
)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [seeded_image(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module", params=["onnx", "torch"])
def model(request: pytest.FixtureRequest) -> Model:
    return load("pocket", runtime=request.param, device="cpu")


def assert_same(one: Segmentation, other: Segmentation) -> None:
    assert one.low_res_masks.shape == other.low_res_masks.shape
    assert np.abs(one.low_res_masks - other.low_res_masks).max() <= 1e-4
    assert np.abs(one.predicted_iou - other.predicted_iou).max() <= 1e-4


@pytest.mark.parametrize("memory", [pytest.param(None, marks=pytest.mark.long), 300_000_000])
def test_ragged_batches_are_as_one_by_one(model: Model, images: list, memory: int | None) -> None:
    embeddings = model.embed_batch(images, memory=memory)
    results = model.segment_batch(embeddings, PROMPTS, memory=memory)
    assert [len(some) for some in results] == [len(prompts) for prompts in PROMPTS]
    for image, embedding, some, prompts in zip(images, embeddings, results, PROMPTS, strict=True):
        alone = model.embed(image)
        assert embedding.original_size == image.shape[:2]
        for name in alone.arrays:
            assert np.abs(alone.arrays[name] - embedding.arrays[name]).max() <= 1e-4, name
        for prompt, result in zip(prompts, some, strict=True):
            assert result.embedding is embedding
            assert_same(result, model.segment(alone, prompt))


def test_a_small_budget_changes_nothing_but_the_memory(model: Model, images: list) -> None:
    embedding = model.embed(images[3])
    for one, other in zip(
        model.segment(embedding, PROMPTS[3], memory=16_000_000),
        model.segment(embedding, PROMPTS[3]),
        strict=True,
    ):
        assert_same(one, other)


@pytest.mark.parametrize("name", ["pocket", pytest.param("vit_t", marks=pytest.mark.long)])
def test_an_encoder_call_with_several_images(name: str, images: list) -> None:
    model = Model(TorchRuntime(network_with(name, 2)), name="seeded")
    assert model.runtime.batches_images
    given = [*images[:3], np.ascontiguousarray(images[0][::-1])]  # two inputs of one shape, not side by side
    encoded = list(encode_images(model.runtime, given, len(given)))
    for image, arrays in zip(given, encoded, strict=True):
        alone = model.embed(image)
        assert arrays.keys() == alone.arrays.keys()
        for array in arrays.values():
            assert array.shape[0] == 1 and array.base is None  # keeps nothing of its neighbours
        together = Embedding(arrays, "seeded", alone.frame, alone.image)
        for prompt in (Prompt(points=[3, 0]), Prompt(box=[0, 0, 6, 1])):
            one, other = model.segment(alone, prompt), model.segment(together, prompt)
            scale = max(1.0, np.abs(one.low_res_masks).max() / 10)  # of seeded logits, which may be large
            assert np.abs(one.low_res_masks - other.low_res_masks).max() <= 1e-4 * scale
