"""Budgets of memory, and what several images are refused for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mobilesam.core.errors import ConfigError, ImageError, ImageWarning, LimitError, PromptError
from mobilesam.core.spec import NetworkSpec, WorkingSet
from mobilesam.core.types import Embedding, Prompt
from mobilesam.formats.image import image_to_png
from mobilesam.networks.build import NETWORKS
from mobilesam.segment.batches import DEFAULT_MEMORY, images_at_once, prompts_at_once
from mobilesam.segment.model import Model
from mobilesam.weights.graph_index import graph_index, network_specs
from tests.photos import cat, jpeg
from tests.seeded import seeded_image


@dataclass(frozen=True)
class Machine:
    """What the sizes of batches depend on."""

    device: str
    batches_images: bool
    spec: NetworkSpec = graph_index("vit_t").spec

    @property
    def working_set(self) -> WorkingSet:
        assert self.spec.working_set is not None
        return self.spec.working_set


PROCESSOR, GPU, GPU_WITH_ONNX = Machine("cpu", True), Machine("cuda", True), Machine("cuda", False)


def test_every_network_has_a_working_set() -> None:
    assert {name for name, spec in network_specs().items() if spec.decoder} == set(NETWORKS)
    assert all(spec.working_set for spec in network_specs().values() if spec.decoder)


def test_a_processor_takes_what_is_fastest_and_a_gpu_what_fits() -> None:
    each, gigabytes = PROCESSOR.working_set, 8 * 10**9
    assert images_at_once(PROCESSOR, gigabytes) == images_at_once(GPU_WITH_ONNX, gigabytes) == 1
    assert images_at_once(GPU, gigabytes) == gigabytes // each.image > 8
    assert prompts_at_once(PROCESSOR, 2, gigabytes) == 8
    assert prompts_at_once(GPU, 2, gigabytes) == gigabytes // each.of_prompt(2) > 64
    assert images_at_once(GPU) == DEFAULT_MEMORY // each.image


def test_a_budget_is_kept_on_a_processor_too() -> None:
    each = PROCESSOR.working_set
    assert prompts_at_once(PROCESSOR, 2, 3 * each.of_prompt(2)) == 3
    assert prompts_at_once(PROCESSOR, 1001) == DEFAULT_MEMORY // each.of_prompt(1001) < 8
    large = Machine("cpu", True, graph_index("vit_h").spec)
    assert large.working_set.image > DEFAULT_MEMORY
    assert images_at_once(large) == 1  # nothing was stated


@pytest.mark.parametrize("memory", ["512 MB", 1e9, [1]])
def test_memory_is_a_number_of_bytes(pocket: Model, memory: object) -> None:
    with pytest.raises(ConfigError, match=r"memory: is .*; must be a whole number of bytes"):
        pocket.embed_batch([], memory=memory)


@pytest.mark.parametrize("memory", [512, 0, -1])
def test_too_small_a_budget_is_told_before_any_work(pocket: Model, memory: int) -> None:
    with pytest.raises(LimitError, match=r"memory: -?\d+ bytes; one image takes 260,000,000 bytes"):
        pocket.embed_batch(["absent.jpg"], memory=memory)
    embedding = pocket.embed(seeded_image(40, 60))
    prompts = [[Prompt(points=[1, 2])], [Prompt(points=np.full((99, 2), 3))]]
    with pytest.raises(LimitError, match="one prompt of 100 points, pads and corners takes 25,000,000 bytes"):
        pocket.segment_batch([embedding] * 2, prompts, memory=20_000_000)


def test_no_images_no_results(pocket: Model) -> None:
    assert pocket.embed_batch([]) == pocket.embed_batch(iter([])) == ()
    assert pocket.segment_batch((), []) == ()
    assert pocket.segment_batch([pocket.embed(seeded_image(40, 60))], [[]]) == ((),)


@pytest.mark.parametrize(
    "images", ["photo.jpg", b"bytes", np.zeros((8, 9, 3), np.uint8), 3, None, Path("photo.jpg")]
)
def test_one_image_is_no_batch(pocket: Model, images: object) -> None:
    with pytest.raises(ImageError, match=r"images: is a .*; give a list of images, or one to model\.embed"):
        pocket.embed_batch(images)


def test_a_stack_of_images_is_a_batch(pocket: Model) -> None:
    stack = np.stack([seeded_image(20, 30, seed) for seed in range(3)])
    found = pocket.embed_batch(stack)
    assert [np.array_equal(e.image, image) for e, image in zip(found, stack, strict=True)] == [True] * 3


def test_a_bad_image_is_named_before_any_is_encoded(
    pocket: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pocket.runtime, "encode", None)  # would fail with a TypeError
    (tmp_path / "cut.jpg").write_bytes(jpeg(cat())[:900])
    good = seeded_image(20, 30)
    with pytest.raises(ImageError, match=r"^images\[2\] \(.*cut\.jpg\): "):
        pocket.embed_batch([good, good, tmp_path / "cut.jpg", good])
    with pytest.raises(ImageError, match=r"^images\[1\]: "):
        pocket.embed_batch([good, np.full((4, 5, 3), 0.5)])
    with pytest.raises(LimitError, match=r"^images\[0\]: "):
        pocket.embed_batch([good], max_pixels=100)


def test_remarks_on_images_name_them(pocket: Model) -> None:
    clear = np.zeros((20, 30, 4), np.uint8)
    with pytest.warns(ImageWarning, match=r"^images\[1\]: .*transparent") as caught:
        embeddings = pocket.embed_batch([seeded_image(20, 30), image_to_png(clear)])
    assert caught[0].filename == __file__
    assert [len(embedding.remarks) for embedding in embeddings] == [0, 1]


POINT = Prompt(points=[1, 2])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[POINT]], "prompts: 1 lists for 2 embeddings; give one for each"),
        ([[POINT], POINT], r"prompts\[1\]: is a Prompt; give a list of them"),
        ([[POINT], None], r"prompts\[1\]: is a NoneType"),
        ([[POINT], [POINT, "box"]], r"prompts\[1\]\[1\]: is a str"),
        ([[POINT], [POINT, Prompt(box=[9, 9, 5, 20])]], r"prompts\[1\]\[1\]\.box: 9, 9, 5, 20 has x0 > x1"),
        ([[POINT], [Prompt()]], r"prompts\[1\]\[0\]: is empty"),
        ([[POINT] * 6000] * 2, "12000 prompts; at most 10000"),
        (None, "embeddings, prompts: give a list"),
    ],
)
def test_a_bad_prompt_is_named_before_any_is_decoded(
    pocket: Model, monkeypatch: pytest.MonkeyPatch, prompts: object, message: str
) -> None:
    embedding = pocket.embed(seeded_image(40, 60))
    monkeypatch.setattr(pocket.runtime, "decode", None)
    with pytest.raises((PromptError, LimitError), match=message):
        pocket.segment_batch([embedding] * 2, prompts)


def test_a_bad_embedding_is_named(pocket: Model) -> None:
    good = pocket.embed(seeded_image(40, 60))
    other = Embedding(good.arrays, "another", good.frame, good.image)
    with pytest.raises(ConfigError, match=r"^embeddings\[1\]: was made by another"):
        pocket.segment_batch([good, other], [[], []])
    with pytest.raises(ConfigError, match=r"^embeddings\[0\]: is a ndarray"):
        pocket.segment_batch([good.image], [[POINT]])


# What is freed goes back to the system at once, so that one step does not live on what another left.
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
PEAKS = """
import json, sys
import numpy as np
import mobilesam

def bytes_of(field):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))

def added(call):
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts at what is used now
    before = bytes_of("VmRSS")
    results = call()
    return bytes_of("VmHWM") - before, results

runtime, memory = sys.argv[1], json.loads(sys.argv[2])
model = mobilesam.load("pocket", runtime=runtime, device="cpu")
if runtime == "onnx":
    for part in ("encoder", "decoder"):
        model.runtime._session(part)  # the model itself is no part of the budget
rng = np.random.default_rng(0)
images = [rng.integers(0, 255, (40 + i, 60, 3), np.uint8) for i in range(2)]
points = [[mobilesam.Prompt(points=rng.uniform(0, 40, (1 + n // 12, 2))) for n in range(16)] for _ in images]
image_peak, embeddings = added(lambda: model.embed_batch(images, memory=memory and 260_000_000))
prompt_peak, results = added(lambda: model.segment_batch(embeddings, points, memory=memory))
kept = sum(array.nbytes for embedding in embeddings for array in embedding.arrays.values())
masks = sum(result.low_res_masks.nbytes for some in results for result in some)
print(json.dumps([image_peak - kept, prompt_peak - masks]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak of memory")
@pytest.mark.parametrize("runtime", ["onnx", pytest.param("torch", marks=pytest.mark.long)])
def test_a_stated_budget_is_kept(runtime: str) -> None:
    def peaks(memory: int | None) -> tuple[int, int]:
        command = [sys.executable, "-c", PEAKS, runtime, json.dumps(memory)]
        told = subprocess.run(command, check=True, capture_output=True, env=os.environ | RETURNING)
        return tuple(json.loads(told.stdout))

    budget = 30_000_000
    images, prompts = peaks(budget)
    assert images <= 260_000_000
    assert prompts <= budget
    assert peaks(None)[1] > budget  # as many as are fastest take more, so the check can fail
