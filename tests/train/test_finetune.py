"""Fine-tuning: from a set in any format to a model that loads everywhere, within its minutes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mobilesam
from mobilesam import ConfigError, OutputError, Prompt, load
from mobilesam.cli.main import run
from mobilesam.formats.datasets.load import read_dataset, write_dataset
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.networks.build import build_network
from mobilesam.train import plan
from mobilesam.train.adapt import adapt, build_adapted, merge, plain_weights
from mobilesam.train.data import Samples, split_sets
from mobilesam.train.finetune import FinetuneOptions, finetune
from mobilesam.train.loop import make_optimizer, set_rates
from mobilesam.train.losses import mask_ious
from mobilesam.train.masks import for_prompts, mask_loss
from mobilesam.train.recipe import Recipe, SourceSet, Stage, read_recipe, recipe_to_toml
from mobilesam.weights.folders import HOME_VARIABLE
from mobilesam.weights.graph_index import network_specs
from tests.pace import within
from tests.photos import cat, jpeg, write_set
from tests.seeded_networks import network_with


@pytest.fixture
def yolo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set in YOLO's form, and a machine whose cache is empty; samples of 64 pixels."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setitem(plan.SIZES, "pocket", (64,))
    write_dataset(read_dataset(write_set(tmp_path / "coco", count=6)), tmp_path / "yolo", ["yolo"])
    shutil.copytree(tmp_path / "coco" / "images", tmp_path / "yolo" / "images")
    return tmp_path / "yolo"


def test_own_photos_become_an_own_model(
    yolo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's three commands, with a YOLO set as photos."""
    monkeypatch.chdir(tmp_path)
    yolo.rename(tmp_path / "photos")
    (tmp_path / "photo.jpg").write_bytes(jpeg(cat()))
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "finetune.md").read_text()
    install, command, use = (shlex.split(line) for line in re.findall(r"^\$ (.*)$", text, re.M)[:3])
    assert install[:2] == ["pip", "install"]
    options = ["--minutes", "0.1", "--workers", "0", "--device", "cpu"]
    start = time.monotonic()
    assert run([*command[1:], *options]) == 0
    assert within(time.monotonic() - start, 6 + 14)  # the last step, and loading the libraries
    out = tmp_path / "runs" / "own"
    told = capsys.readouterr().out
    assert "6 photos with" in told and "before: box IoU" in told and "after:  box IoU" in told
    scores = json.loads((out / "scores.json").read_text())
    assert scores["steps"] > 0 and scores["photos"] == 1
    sheet = np.asarray(Image.open(out / "before-after.png"))
    assert sheet.shape[1] == 3 * 240 and sheet.std() > 10

    assert run([*use[1:], "--out", "masks"]) == 0
    photo = tmp_path / "photo.jpg"
    by_path, by_name, old = load(checkpoint=out / "weights.safetensors"), load("own"), load("pocket")
    box = Prompt(box=[20, 20, 60, 60])
    found = [m.segment(m.embed(photo), box).low_res_masks for m in (by_path, by_name, old)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    assert by_path.runtime.spec.name == "pocket" and by_name.thresholds == old.thresholds
    assert run(["info", "own"]) == 0
    assert run(["weights", "list"]) == 0
    assert "own  " in capsys.readouterr().out

    # The recipe says it all: the same call goes on, and one with other options is refused.
    recipe = read_recipe(out / "recipe.toml")
    assert recipe.start == "pocket" and recipe.tuned == "all" and 0 < recipe.held_out < 1
    assert run([*command[1:], *options, "--what", "decoder"]) == 2
    assert "other options or photos" in capsys.readouterr().err
    assert run(["weights", "remove", "own"]) == 0
    assert run(["info", "own"]) == 2


def test_from_python_with_the_decoder_alone(yolo: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    options = FinetuneOptions(what="decoder", minutes=0.03, workers=0, val=tmp_path / "coco", device="cpu")
    done = mobilesam.finetune(yolo, tmp_path / "run", options=options, tell=lines.append)
    assert done.before.keys() == done.after.keys() == {"box", "point"}
    assert done.weights.is_file() and any("the mask decoder learns" in line for line in lines)
    old, new = load("pocket").runtime, load(checkpoint=done.weights).runtime
    pixels = np.random.default_rng(0).normal(size=(1, 3, 96, 96)).astype(np.float32)
    for name, array in old.encode(pixels).items():
        np.testing.assert_allclose(new.encode(pixels)[name], array, atol=1e-4, err_msg=name)
    with pytest.raises(ConfigError, match="takes options or minutes, not both"):
        finetune(yolo, tmp_path / "run", options=options, minutes=3)


def test_what_cannot_be_tuned_is_told(yolo: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"what": "head"}, "what: is 'head'; choose one of all, decoder, lora"),
        ({"minutes": 0.0}, "minutes: is 0.0; must be a number above 0"),
        ({"name": "a/b"}, "name: is 'a/b'; must be letters"),
        ({"name": "pocket"}, "'pocket' is a published model's"),
        ({"model": "nope"}, "unknown; choose pocket"),
        ({"model": "detector_nano"}, "is not a whole model"),
    ):
        with pytest.raises(mobilesam.MobileSamError, match=message):
            finetune(yolo, tmp_path / "run", **changes)
    with pytest.raises(ConfigError, match="a set is a folder"):
        finetune(tmp_path / "run-none", tmp_path / "run")
    (tmp_path / "file").write_text("a")
    told: list[str] = []
    with pytest.raises(OutputError, match="part of the path is a file"):
        finetune(yolo, tmp_path / "file", tell=told.append)
    assert not any("before" in line for line in told)  # it does not score first
    labels = tmp_path / "coco" / "instances.json"
    labels.write_text(json.dumps(json.loads(labels.read_text()) | {"annotations": []}))
    with pytest.raises(ConfigError, match="6 photos, and none has an object with a mask"):
        finetune(tmp_path / "coco", tmp_path / "run")


def test_a_fifth_is_held_out_and_always_the_same() -> None:
    names = [f"{i}.jpg" for i in range(50)]
    bound = plan.hash_bound(names)
    assert plan.hash_bound(names[::-1]) == bound
    assert 0 < plan.hash_bound(names[:2]) < 1
    assert plan.hash_bound(names[:1]) == 0
    below = [
        n for n in names if int.from_bytes(hashlib.sha256(n.encode()).digest()[:4], "big") / 2**32 < bound
    ]
    assert len(below) == 10


@pytest.mark.parametrize(("seconds", "side"), [(1e6, 768), (60 * 2.0, 512), (10.0, 384)])
def test_the_largest_input_that_fits_is_chosen(seconds: float, side: int) -> None:
    asked: list[int] = []

    def time_step(size: int) -> float:
        asked.append(size)
        return (size / 384) ** 2

    assert plan.choose_size(network_specs()["pocket"], seconds, time_step)[0] == side
    assert asked == sorted({384, side})
    assert plan.choose_size(network_specs()["vit_t"], 1.0, lambda side: 9.0) == (1024, 9.0)


def test_recipes_are_read_as_they_are_written(tmp_path: Path) -> None:
    recipe = Recipe(
        network="pocket",
        sets=(SourceSet('a "b" \\ é/set', weight=2.5, partial=("*", "x")),),
        stages=(Stage(image_size=64, steps=3, masks=False, boxes=0.1), Stage(image_size=96, steps=1)),
        start="own.safetensors",
        tuned="lora",
    )
    path = tmp_path / "r.toml"
    path.write_text(recipe_to_toml(recipe, "one\ntwo"), encoding="utf-8")
    assert path.read_text(encoding="utf-8").startswith("# one\n# two\n")
    assert read_recipe(path) == recipe


def test_additions_of_low_rank_end_in_the_weights() -> None:
    recipe = Recipe(network="pocket", sets=(SourceSet("s"),), stages=(), tuned="lora", lora_rank=4)
    torch.manual_seed(0)
    network = build_adapted(recipe)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning and all("parametrizations.weight.0" in name for name in learning)
    for name, parameter in network.named_parameters():
        if name in learning:
            torch.nn.init.normal_(parameter, std=0.1)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.encode(pixels)
        plain = build_network("pocket")
        plain.load_state_dict(plain_weights(recipe, network.state_dict()))
        for name, found in plain.encode(pixels).items():
            torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-4)
    untouched = adapt(build_network("pocket"), recipe)
    before = build_network("pocket").state_dict().keys()
    assert merge(untouched).state_dict().keys() == before


@pytest.mark.long
def test_the_decoder_alone_does_not_collapse(tmp_path: Path) -> None:
    """SAM's decoder on TinyViT, both with seeded weights: it passes through empty masks, and comes out again.

    The encoder's weights and statistics are not touched, so that nothing drifts below the decoder.
    """
    network = network_with("vit_t", 0)
    spec = network_specs()["vit_t"]
    base = Recipe(network="vit_t", sets=(SourceSet("set"),), stages=(), tuned="decoder")
    photos = read_photos(write_set(tmp_path / "set"))
    recipe = plan.make_recipe(base.sets[0], plan.facts_of(photos, spec, hold_out=False), spec, base, images=2)
    stage = dataclasses.replace(recipe.stages[0], image_size=128, steps=99, objects=3, whole=1.0)
    recipe = dataclasses.replace(recipe, stages=(stage,), correct=0.0)
    before = {name: value.clone() for name, value in adapt(network, recipe).state_dict().items()}
    samples = Samples(split_sets(recipe, tmp_path)[0], recipe, stage, 0)
    batches = [b for b in (samples[i] for i in range(9)) if b["point_labels"].shape[1] == 2][:2]
    with torch.no_grad():
        embeddings = [network.encode(batch["pixels"]) for batch in batches]
    optimizer = make_optimizer(network, recipe)
    for step in range(64):
        batch, embedding = batches[step % 2], embeddings[step % 2]
        set_rates(optimizer, dataclasses.replace(stage, last_rate=1.0), step)
        loss = mask_loss(network, embedding, batch, recipe, stage, torch.Generator().manual_seed(0), "cpu")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
    ious = []
    for batch, embedding in zip(batches, embeddings, strict=True):
        with torch.no_grad():
            repeated = for_prompts(network, embedding, len(batch["targets"]))
            logits, _ = network.decode_view(
                repeated, batch["point_coords"], batch["point_labels"], mask_tokens=(0,)
            )
        ious.append(mask_ious(logits, batch["targets"]).mean().item())
    assert min(ious) > 0.2
    for name, value in network.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert not moved or name.startswith("mask_decoder."), name
