"""Every fast path against the plain one, for several seeds and sizes."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from mobilesam.core.types import MULTIMASK, SINGLE_MASK, DecoderInputs, Prompt
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.segment.model import Model
from tests.seeded import seeded_image
from tests.seeded_networks import network_with
from tests.series import one_in

PROMPTS = {
    "one point": Prompt(points=[[100, 80]]),
    "points": Prompt(points=[[100, 80], [20, 150], [250, 30]], labels=[1, 0, 1]),
    "box": Prompt(box=[30, 40, 200, 160]),
    "box and point": Prompt(points=[[100, 80]], box=[30, 40, 200, 160]),
    "twenty points": Prompt(points=np.random.default_rng(0).uniform(0, 180, (20, 2))),
    "mask": Prompt(mask=np.arange(200 * 300).reshape(200, 300) % 300 < 150),
    "mask and box": Prompt(box=[30, 40, 200, 160], mask=np.arange(200 * 300).reshape(200, 300) % 300 < 150),
}


SMALL = {
    "small box": Prompt(box=[100, 80, 120, 95]),
    "smaller box": Prompt(box=[250, 180, 256, 186]),
    "small mask": Prompt(mask=np.pad(np.ones((20, 10), bool), ((150, 30), (20, 270)))),
}


def turned(prompt: Prompt) -> Prompt:
    """The same prompt for the same image with rows for columns."""
    box, points, mask = prompt.box, prompt.points, prompt.mask
    return replace(
        prompt,
        box=None if box is None else np.array(box)[[1, 0, 3, 2]],
        points=None if points is None else np.array(points)[:, ::-1],
        mask=None if mask is None else np.array(mask).T,
    )


PAIRS = [("vit_t", 1), ("pocket", 2), ("efficientvit_sam_l0", 4)]
# The golden images hold both runtimes of the first to the reference; the last has its decoder.
OF_PAIRS = [PAIRS[1], *(pytest.param(pair, marks=pytest.mark.long) for pair in (PAIRS[0], PAIRS[2]))]


@pytest.fixture(scope="module", params=OF_PAIRS, ids=lambda p: f"{p[0]}-seed{p[1]}")
def pair(request: pytest.FixtureRequest) -> tuple[Model, Model]:
    name, seed = request.param
    network = network_with(name, seed)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    return Model(TorchRuntime(network), name="same"), Model(OnnxRuntime(name, weights), name="same")


@pytest.mark.parametrize(
    "portrait", [False, pytest.param(True, marks=pytest.mark.long)], ids=["landscape", "portrait"]
)
def test_runtimes_agree(pair: tuple[Model, Model], portrait: bool) -> None:
    image, prompts = seeded_image(200, 300, 5), PROMPTS | SMALL
    if portrait:
        image = np.ascontiguousarray(image.transpose(1, 0, 2))
        prompts = {name: turned(prompt) for name, prompt in prompts.items()}
    torch_model, onnx_model = pair
    ours, theirs = torch_model.embed(image), onnx_model.embed(image)
    assert set(ours.arrays) == set(theirs.arrays)
    for name in ours.arrays:
        allowed = 3e-5 * max(3.0, np.abs(theirs.arrays[name]).max())  # pocket's object maps reach 10 and more
        assert np.abs(ours.arrays[name] - theirs.arrays[name]).max() <= allowed, name
    for multimask in (False, True):
        a = torch_model.segment(ours, prompts.values(), multimask=multimask)
        b = onnx_model.segment(theirs, prompts.values(), multimask=multimask)
        for name, one, two in zip(prompts, a, b, strict=True):
            assert np.abs(one.low_res_masks - two.low_res_masks).max() <= 2e-3, name
            allowed = 1e-3 if name in SMALL else 1e-4  # a mask of few cells has one more or less
            assert np.abs(one.predicted_iou - two.predicted_iou).max() <= allowed, name
            union = (one.masks | two.masks).sum((1, 2))
            assert ((one.masks & two.masks).sum((1, 2)) >= 0.999 * union - 1).all(), name
    again = [Prompt(mask=result.low_res_masks[:1]) for result in b]  # logits as the next prompt
    a, b = torch_model.segment(ours, again), onnx_model.segment(theirs, again)
    for one, two in zip(a, b, strict=True):
        assert np.abs(one.low_res_masks - two.low_res_masks).max() <= 2e-3


def test_efficientvit_sam_looks_at_512_pixels_and_is_asked_in_1024() -> None:
    model = Model(TorchRuntime(network_with("efficientvit_sam_l0", 0)), name="seeded")
    embedding = model.embed(seeded_image(200, 300, 5))
    assert model.runtime.spec.image_size == 512
    assert (embedding.frame.side, embedding.frame.input_size) == (1024, (683, 1024))
    assert embedding.image_embedding.shape == (1, 256, 64, 64)
    result = model.segment(embedding, Prompt(points=[[100, 80]]))
    inputs = DecoderInputs(
        np.array([[[100 * 1024 / 300, 80 * 683 / 200], [0, 0]]], np.float32), np.array([[1, -1]], np.float32)
    )
    masks, _ = model.runtime.decode(embedding.arrays, inputs, MULTIMASK)
    assert np.abs(masks[0] - result.low_res_masks).max() <= 1e-5
    assert result.mask.shape == (200, 300)


def test_objects_together_are_as_one_by_one(pair: tuple[Model, Model]) -> None:
    _, model = pair
    embedding = model.embed(seeded_image(200, 300, 6))
    prompts = [*PROMPTS.values()] * 2 + [Prompt(points=[[10 * i + 5, 40]]) for i in range(19)]
    together = model.segment(embedding, prompts)
    for prompt, result in zip(prompts, together, strict=True):
        alone = model.segment(embedding, prompt)
        scale = max(1.0, np.abs(alone.low_res_masks).max() / 10)  # of seeded logits, which may be large
        assert np.abs(alone.low_res_masks - result.low_res_masks).max() <= 1e-4 * scale
        assert np.abs(alone.predicted_iou - result.predicted_iou).max() <= 1e-4


@pytest.mark.parametrize(("name", "points"), one_in(4, product(("vit_t", "pocket"), (1, 3, 15, 40))))
def test_folded_and_hoisted_decoder_is_the_plain_one(name: str, points: int) -> None:
    network = network_with(name, 3)
    rng = torch.Generator().manual_seed(0)
    size = network.spec.image_size
    with torch.inference_mode():
        plain = network.encode(torch.rand(1, 3, size, size, generator=rng))
        fast = plain | network.prepare(plain["image_embedding"])
        coords = torch.rand(2, points, 2, generator=rng) * size
        labels = torch.randint(-1, 2, (2, points), generator=rng).float()
        masks, ious = network.decode(plain, coords, labels, fold=False)
        for embedding, fold in ((plain, True), (fast, True), (fast, False), (fast, None)):
            got, quality = network.decode(embedding, coords, labels, fold=fold)
            assert (got - masks).abs().max() <= 1e-4 * max(1.0, masks.abs().max() / 10)
            assert (quality - ious).abs().max() <= 1e-5


def test_hoisted_arrays_are_not_used_with_a_mask_prompt() -> None:
    network = network_with("vit_t", 4)
    with torch.inference_mode():
        plain = network.encode(torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1)))
        fast = plain | network.prepare(plain["image_embedding"])
        coords, labels, mask = torch.rand(1, 2, 2) * 1024, torch.ones(1, 2), torch.randn(1, 1, 256, 256)
        a, _ = network.decode(plain, coords, labels, mask, fold=False)
        b, _ = network.decode(fast, coords, labels, mask)
        assert (a - b).abs().max() <= 1e-4


@pytest.mark.parametrize(("tokens",), one_in(4, [(MULTIMASK,), (SINGLE_MASK,), ((2,),), ((0, 1, 2, 3),)]))
def test_mask_tokens_choose_among_the_four(onnx_vit_t: Model, tokens: tuple) -> None:
    embedding = onnx_vit_t.embed(seeded_image(60, 80, 7))
    inputs = DecoderInputs(np.array([[[50, 60]]], np.float32), np.array([[1]], np.float32))
    every, ious = onnx_vit_t.runtime.decode(embedding.arrays, inputs, (0, 1, 2, 3))
    some, quality = onnx_vit_t.runtime.decode(embedding.arrays, inputs, tokens)
    np.testing.assert_allclose(some, every[:, list(tokens)], atol=1e-5)
    np.testing.assert_allclose(quality, ious[:, list(tokens)], atol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("vit_t", 512), ("vit_t", 736), ("pocket", 256), ("pocket", 384)])
def test_other_image_sizes(name: str, size: int) -> None:
    network = network_with(name, 0)
    stride = network.image_encoder.stride
    with torch.inference_mode():
        embedding = network.encode(torch.randn(1, 3, size, size))
        masks, ious = network.decode(embedding, torch.tensor([[[9.0, 9.0]]]), torch.tensor([[1.0]]))
    side = size // stride
    assert embedding["image_embedding"].shape[-2:] == (side, side)
    assert masks.shape == (1, 3, 4 * side, 4 * side)
    assert ious.shape == (1, 3)


@pytest.mark.parametrize("grid", [(64, 64), (32, 48), (65, 65)])
def test_grid_positions_do_not_depend_on_a_hidden_size(grid: tuple[int, int]) -> None:
    encoding = network_with("vit_t", 0).prompt_encoder.pe_layer
    for row, column in ((0, 0), (grid[0] // 2, grid[1] // 2), (grid[0] - 1, 3)):
        centre = torch.tensor([(column + 0.5) / grid[1], (row + 0.5) / grid[0]])
        torch.testing.assert_close(encoding(grid)[:, row, column], encoding.encode(centre), atol=1e-4, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_lower_precision_is_near(dtype: str) -> None:
    network = network_with("pocket", 5)
    image = seeded_image(120, 160, 8)
    exact, rough = Model(TorchRuntime(network), name="x"), Model(TorchRuntime(network, dtype=dtype), name="x")
    a = exact.segment(exact.embed(image), Prompt(box=[20, 20, 100, 90]))
    b = rough.segment(rough.embed(image), Prompt(box=[20, 20, 100, 90]))
    assert b.low_res_masks.dtype == np.float32
    scale = np.abs(a.low_res_masks).mean()
    assert np.abs(a.low_res_masks - b.low_res_masks).mean() < 0.1 * scale


def test_an_embedding_serves_its_model_only(pair: tuple[Model, Model], pocket: Model) -> None:
    embedding = pocket.embed(seeded_image(60, 80))
    with pytest.raises(ValueError, match=f"was made by {pocket.name}"):
        pair[0].segment(embedding, Prompt(points=[1, 2]))
    with pytest.raises(ValueError, match=r"model\.embed"):
        pocket.segment(embedding.arrays, Prompt(points=[1, 2]))
    assert replace(embedding, model="same").model == "same"


def test_threads_do_not_mix_results(pocket: Model) -> None:
    embeddings = [pocket.embed(seeded_image(40 + 10 * i, 60, i)) for i in range(4)]
    prompts = [Prompt(points=[10 + i, 12]) for i in range(8)]
    wanted = [pocket.segment(e, p).low_res_masks for e in embeddings for p in prompts]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(pocket.segment, e, p) for e in embeddings for p in prompts]
        found = [future.result().low_res_masks for future in futures]
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def segment_here(model: Model, image: np.ndarray, answer: multiprocessing.SimpleQueue) -> None:
    answer.put(model.segment(model.embed(image), Prompt(points=[10, 12])).low_res_masks)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("method", one_in(2, ["fork", "spawn"]))
def test_a_loaded_model_works_in_other_processes(pocket: Model, method: str) -> None:
    image = seeded_image(40, 60, 3)
    wanted = pocket.segment(pocket.embed(image), Prompt(points=[10, 12])).low_res_masks
    context = multiprocessing.get_context(method)
    answer = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, on forking with threads
        process = context.Process(target=segment_here, args=(pocket, image, answer))
        process.start()
    found = answer.get()  # before join: the pipe is smaller than the answer
    process.join(60)
    assert process.exitcode == 0
    np.testing.assert_allclose(found, wanted, atol=1e-4)
