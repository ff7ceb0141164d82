"""Training: prompts and targets are what they say, learning happens, and a stopped run goes on bit for bit."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.numpy import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mobilesam import ConfigError, Prompt, WeightsError, load
from mobilesam.cli.main import run
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.metrics import mask_iou
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.coco import SetPhoto
from mobilesam.formats.datasets.load import read_dataset, write_dataset
from mobilesam.networks.build import build_network
from mobilesam.networks.pocket_decoder import MaskEvidence, weigh
from mobilesam.train.checkpoint import read_metadata
from mobilesam.train.data import (
    Samples,
    draw_crop,
    fingerprint_photos,
    flip_padded,
    reduce_mask,
    split_sets,
)
from mobilesam.train.finish import draw_log
from mobilesam.train.loop import mixed_precision, set_rates, update_average
from mobilesam.train.losses import mask_ious, mask_losses, prompt_loss
from mobilesam.train.masks import score_held_out, train_masks
from mobilesam.train.options import RunOptions
from mobilesam.train.prompts import corrective_click, draw_box, draw_coarse_mask, draw_prompt, tight_box
from mobilesam.train.ranks import Ranks, joined_ranks
from mobilesam.train.recipe import Recipe, SourceSet, Stage, read_recipe
from mobilesam.train.start import start_network
from mobilesam.weights.reading import FORMAT_SINCE, NEEDS_KEY
from tests.photos import cat, write_set
from tests.train.kills import assert_same_runs, killed_and_whole

ROOT = Path(__file__).parents[2]
RECIPE = """
network = "pocket"
seed = 3
held_out = 0.3
[[sets]]
path = "set"
[[stages]]
image_size = 64
steps = {steps}
images = 2
objects = 2
warm_up = 4
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "set", count=8)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(steps=12))
    return tmp_path


def disc(size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return ((rows - 20) ** 2 + (columns - 40) ** 2 < 12**2).astype(np.float32)


@pytest.mark.parametrize("slots", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["box", "point", "points", "box_and_points"])
def test_drawn_prompts_fit_the_object(kind: str, slots: int) -> None:
    target = disc()
    for seed in range(20):
        coords, labels = draw_prompt(target, kind, slots, 128, np.random.default_rng(seed), 0.5)
        has_box = "box" in kind
        assert coords.shape == (slots, 2)
        assert (labels == 2).sum() == (labels == 3).sum() == has_box
        assert (labels == -1).sum() == (not has_box)
        assert (labels[-1] == -1) == (not has_box)
        for (x, y), label in zip(coords, labels, strict=True):
            if label in (0, 1):
                column, row = int((x + 0.5) / 2), int((y + 0.5) / 2)
                assert (target[row, column] > 0.5) == (label == 1)
        if has_box:
            (x0, y0), (x1, y1) = coords[labels == 2][0], coords[labels == 3][0]
            assert abs(x0 / 2 - 29) < 6
            assert abs(y1 / 2 - 32) < 6
            assert x1 > x0
            assert y1 > y0


def test_tight_boxes_are_finer_than_cells() -> None:
    mask = np.zeros((256, 256), bool)
    mask[42:131, 101:203] = True
    np.testing.assert_allclose(tight_box(reduce_mask(mask, 64)) * 4, mask_to_box(mask), atol=0.05)
    np.testing.assert_allclose(tight_box(np.full((8, 8), 0.01)), (0.99, 0.99, 7.01, 7.01), atol=1e-5)
    thin = np.zeros((8, 8))
    thin[2:6, 3] = 0.25  # a pole, a quarter of a cell wide
    np.testing.assert_allclose(tight_box(thin), (3, 2.75, 4, 5.25))


def test_as_many_boxes_are_loose_as_asked() -> None:
    target, rng = disc(), np.random.default_rng(0)
    loose = [(draw_box(target, rng, 0.25) != tight_box(target)).any() for _ in range(400)]
    assert 0.2 < np.mean(loose) < 0.3


def test_coarse_masks_are_near_the_object() -> None:
    ious = [mask_iou(draw_coarse_mask(disc(), np.random.default_rng(s)) > 0, disc() > 0) for s in range(20)]
    assert min(ious) > 0.5


def test_corrective_clicks_lie_in_the_error() -> None:
    target = torch.from_numpy(disc())[None].repeat(8, 1, 1)
    logits = torch.where(target.roll(6, -1) > 0.5, 5.0, -5.0)
    coords, labels = corrective_click(logits, target, 128, torch.Generator().manual_seed(0))
    for (x, y), label, truth, guess in zip(coords[:, 0], labels[:, 0], target, logits, strict=True):
        column, row = int((x + 0.5) / 2), int((y + 0.5) / 2)
        assert truth[row, column] == label
        assert (guess[row, column] > 0) != (label == 1)


def test_targets_keep_area_and_place() -> None:
    mask = disc(200) > 0
    small = reduce_mask(mask[:100], 50)
    assert small.shape == (50, 50)
    assert (small[25:] == 0).all()
    assert small.sum() * 16 == pytest.approx(mask.sum(), rel=0.02)
    flipped = flip_padded(small, 50)
    np.testing.assert_array_equal(flipped[:, ::-1], small)


def test_losses() -> None:
    target = torch.from_numpy(disc())[None]
    good, bad = (target * 2 - 1) * 9, (1 - target * 2) * 9
    losses = mask_losses(torch.stack([good, bad], 1), target)[0]
    assert losses[0] < 0.01
    assert losses[1] > 5
    assert mask_ious(torch.stack([good, bad], 1), target).tolist() == [[1.0, 0.0]]
    four = torch.stack([bad, bad, good, bad], 1)
    ious = torch.tensor([[0.0, 0, 1, 0]])
    ambiguous = prompt_loss(four, ious, target, torch.tensor([True]))
    single = prompt_loss(four, ious, target, torch.tensor([False]))
    assert ambiguous < single  # a point is content with the best of three, a box is not


def test_samples_depend_on_their_number_alone(data: Path) -> None:
    recipe = read_recipe(data / "recipe.toml")
    train, held_out = split_sets(recipe, data)
    assert len(train) + len(held_out) == 8
    assert not {p.photo.path for p in train} & {p.photo.path for p in held_out}
    one, two = (Samples(train, recipe, recipe.stages[0], 0) for _ in range(2))
    one[0], one[1]
    for key, value in one[5].items():
        assert torch.equal(two[5][key], value), key
    shifted = Samples(train, recipe, recipe.stages[0], 3)
    assert torch.equal(shifted[2]["pixels"], one[5]["pixels"])


def test_samples_show_the_boxes_of_their_objects(data: Path) -> None:
    """Where the crop is the whole photo and nothing is flipped, the boxes are the set's own."""
    recipe = read_recipe(data / "recipe.toml")
    stage = dataclasses.replace(recipe.stages[0], boxes=0.1)
    partial = dataclasses.replace(recipe.sets[0], partial=("*",))
    train, _ = split_sets(dataclasses.replace(recipe, sets=(partial,)), data)
    assert all(drawn.partial for drawn in train)
    samples = Samples(train, recipe, stage, 0)
    for number in range(8):
        sample = samples[number]
        assert sample["boxes"].shape == (2, 64, 4)
        assert sample["partial"].all()
        for i, count in enumerate(sample["counts"].tolist()):
            boxes = sample["boxes"][i, :count]
            assert 0 < count <= 2
            assert (boxes[:, 2:] - boxes[:, :2] >= 4).all()
            assert ((boxes >= 0) & (boxes <= 64)).all()
            for target in sample["targets"][2 * i : 2 * i + 2]:  # every object that is asked for has a box
                rows, columns = torch.nonzero(target > 0.5, as_tuple=True)
                around = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 2.0
                assert (boxes - around).abs().amax(1).min() <= 4
        assert (sample["boxes"][:, -1] == 0).all()


def test_backgrounds_are_what_no_object_covers(data: Path) -> None:
    recipe = read_recipe(data / "recipe.toml")
    photos, _ = split_sets(recipe, data)
    samples = Samples(photos, recipe, recipe.stages[0], 0)
    photo = photos[0].photo
    crop = (10, 20, photo.width, photo.height - 5)
    objects = [rle_to_mask(instance.segmentation) for instance in photo.instances]
    targets = [np.zeros((32, 32), np.float32)] * 2
    number = samples._put_background(targets, photo.instances, crop, np.random.default_rng(0))
    assert number in (0, 1)
    rest = ~np.any(objects, 0)[20:-5, 10:]
    np.testing.assert_array_equal(targets[number], reduce_mask(rest, 32))
    assert targets[1 - number].sum() == 0


def test_backgrounds_are_asked_for_by_boxes(data: Path) -> None:
    recipe = read_recipe(data / "recipe.toml")
    # One object, so that the background is the only one.
    stage = dataclasses.replace(recipe.stages[0], objects=1, background=1.0)
    photos, _ = split_sets(recipe, data)
    samples = Samples(photos, recipe, stage, 0)
    found = 0
    for number in range(20):
        sample = samples[number]
        labels = sample["point_labels"]
        for target, label in zip(sample["targets"], labels, strict=True):
            if target.mean() > 0.3 and (labels != -1).any():  # larger than any disc
                found += 1
                assert (label == 2).sum() == (label == 3).sum() == 1
    assert found > 10
    partial = Samples([dataclasses.replace(drawn, partial=True) for drawn in photos], recipe, stage, 0)
    plain = Samples(photos, recipe, dataclasses.replace(stage, background=0.0), 0)
    for number in range(5):
        assert torch.equal(partial[number]["targets"], plain[number]["targets"])


@pytest.mark.parametrize("windows", [0, 1])
def test_small_objects_are_shown_in_windows(data: Path, windows: int) -> None:
    """Target, prompt and pixels lie in the same place of a view, which is a window or the whole."""
    recipe = read_recipe(data / "recipe.toml")
    stage = dataclasses.replace(recipe.stages[0], image_size=768, windows=windows, whole=1.0)
    photos, _ = split_sets(recipe, data)
    samples = Samples(photos, recipe, stage, 0)
    views = samples.views
    assert views is not None
    spreads, boxes, points = [], 0, 0
    for number in range(10):
        sample = {name: array.numpy() for name, array in samples[number].items()}
        assert (sample["windows"][:, 2:] == 512 * windows).all()
        side = 256 if windows else 384
        assert sample["targets"].shape[1:] == (side, side)
        if "mask_input" in sample:
            assert sample["mask_input"].shape[1:] == (1, side, side)
        for i, (target, window) in enumerate(zip(sample["targets"], sample["windows"], strict=True)):
            inside = (target > 0.99).repeat(2, 0).repeat(2, 1)
            pixels = views.cut(sample["pixels"][i // 2], window.tolist(), (768, 768))
            spreads.append([pixels[:, there].std(1).mean() for there in (inside, np.roll(inside, 30, 1))])
            rows, columns = np.nonzero(target > 0)
            around = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            longer = max(around[2:] - around[:2])
            coords, labels = sample["point_coords"][i], sample["point_labels"][i]
            if (labels == 2).any():
                boxes += 1
                box = np.concatenate([coords[labels == 2], coords[labels == 3]], axis=None)
                assert np.abs(box - around * 512 / side).max() <= 0.16 * longer * 512 / side + 4
                assert (longer <= 128) == windows
            elif (labels == 1).any():
                points += 1
                x, y = ((coords[labels == 1][0] + 0.5) * side / 512).astype(int)
                assert target[y, x] > 0 and not windows
    here, beside = np.median(spreads, axis=0)
    assert here < 0.25 < 0.4 < beside  # a disc has one colour
    assert boxes > 0 if windows else points > 0


def test_a_smaller_stage_shows_everything_at_once(data: Path) -> None:
    recipe = read_recipe(data / "recipe.toml")
    assert "windows" not in Samples(split_sets(recipe, data)[0], recipe, recipe.stages[0], 0)[0]


def test_sets_without_a_small_object_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe(data / "recipe.toml")
    stage = dataclasses.replace(recipe.stages[0], image_size=768, windows=1.0)
    samples = Samples(split_sets(recipe, data)[0], recipe, stage, 0)
    monkeypatch.setattr("mobilesam.train.data.LARGEST", 0.01)
    monkeypatch.setattr("mobilesam.train.data.DRAWS", 20)
    with pytest.raises(
        ConfigError, match="none shows an object small enough for a window; write windows = 0"
    ):
        samples[0]


def test_held_out_photos_are_scored_as_they_are(data: Path) -> None:
    recipe = read_recipe(data / "recipe.toml")
    _, held_out = split_sets(recipe, data)
    stage = recipe.stages[0]
    changed = dataclasses.replace(stage, background=1.0, copy_paste=1.0, smallest_crop=0.1, whole=1.0)
    network = build_network("pocket")
    scores = [score_held_out(network, recipe, one, held_out, "cpu") for one in (stage, changed)]
    assert scores[0] == scores[1]


def test_pasted_objects_are_seen_where_their_target_is(data: Path) -> None:
    recipe = read_recipe(data / "recipe.toml")
    photos, _ = split_sets(recipe, data)
    samples = Samples(photos, recipe, dataclasses.replace(recipe.stages[0], copy_paste=1.0), 0)
    grey = np.full((64, 64, 3), 128, np.uint8)
    behind = np.zeros((32, 32), np.float32)
    behind[:, :8] = 1
    for seed in range(60):
        image, targets = samples._paste(grey, [behind], 0, np.random.default_rng(seed))
        if len(targets) == 1:
            assert (image == grey).all()
            continue
        left, pasted = targets
        assert (grey == 128).all()
        changed = (image != 128).any(2).reshape(32, 2, 32, 2).mean((1, 3))
        assert changed[pasted == 0].max() == 0
        assert changed[pasted == 1].mean() > 0.9
        np.testing.assert_allclose(left, behind * (1 - pasted))
        return
    pytest.fail("nothing was pasted in 60 tries")


def test_an_edge_counts_more_where_it_is_asked_to() -> None:
    target = torch.from_numpy(disc())[None]
    logits = (target * 2 - 1) * 9
    near, far = logits.clone(), logits.clone()
    near[0, 20, 29], far[0, 60, 5] = -9, 9  # a pixel at the disc's edge, and one far outside it
    for mistake, more in ((near, True), (far, False)):
        plain, weighted = (
            mask_losses(mistake[:, None], target, boundary=boundary) for boundary in (0.0, 4.0)
        )
        assert (weighted > 1.5 * plain).item() == more


def test_a_sharp_dice_loss_sees_sides_and_not_certainty() -> None:
    target = torch.from_numpy(disc())[None]
    right, sure = (target * 2 - 1)[:, None] * 0.2, (target * 2 - 1)[:, None] * 9
    soft, sharp = (mask_losses(right, target, focal=0.0, sharpness=k).item() for k in (1.0, 100.0))
    assert soft > 0.3 and sharp < 1e-3
    assert mask_losses(-right, target, focal=0.0, sharpness=100.0).item() > 0.99
    assert mask_losses(sure, target, focal=0.0).item() < 1e-3
    plain, double = (mask_losses(right, target, focal=weight).item() for weight in (20.0, 40.0))
    assert double - plain == pytest.approx(plain - soft)


def test_a_set_in_tars_is_the_set(data: Path) -> None:
    """Samples, held-out photos and the run's identity do not depend on whether photos are files or lie in shards."""
    write_dataset(read_dataset(data / "set"), data / "out", ["webdataset"])
    recipe = read_recipe(data / "recipe.toml")
    in_tars = dataclasses.replace(recipe, sets=(SourceSet("out/shards"),))
    (one, held), (other, others_held) = split_sets(recipe, data), split_sets(in_tars, data)
    assert [d.photo.path.name for d in one] == [d.photo.path.name for d in other]
    assert len(held) == len(others_held) > 0
    assert fingerprint_photos([*one, *held]) == fingerprint_photos([*other, *others_held])
    shutil.rmtree(data / "set" / "images")
    shutil.copytree(data / "out", data / "elsewhere")
    moved, _ = split_sets(
        dataclasses.replace(recipe, sets=(SourceSet("elsewhere/shards/all-000000.tar"),)), data
    )
    for photos in (other, moved):
        batch = Samples(photos, in_tars, recipe.stages[0], 0)[3]
        assert batch["targets"].any()
        assert all(
            torch.equal(batch[key], Samples(other, recipe, recipe.stages[0], 0)[3][key]) for key in batch
        )
    assert dataclasses.replace(one[0].photo, path=Path(), stored=None) == dataclasses.replace(
        other[0].photo, path=Path(), stored=None
    )


def test_sets_without_a_large_object_are_refused(data: Path) -> None:
    recipe = dataclasses.replace(read_recipe(data / "recipe.toml"), smallest_object=0.9)
    with pytest.raises(ConfigError, match="large enough"):
        split_sets(recipe, data)


def test_recipes_are_checked(tmp_path: Path) -> None:
    good = RECIPE.format(steps=1)
    for text, message in [
        (good.replace("seed", "sede"), "unknown field 'sede', did you mean 'seed'"),
        (good.replace("seed = 3", 'seed = "3"'), "seed: is '3'; must be a whole number"),
        (
            good.replace("warm_up = 4", "warm_up = -4"),
            r"stages\[0\].warm_up: is -4; must be a whole number from 0",
        ),
        (good.replace("steps = 1\n", ""), r"stages\[0\]: lacks steps"),
        (good.replace("[[sets]]", "[[stes]]"), "unknown field 'stes'"),
        (good.replace("[[sets]]", 'sets = ["a"]\n[[x]]'), "not a TOML file|unknown field"),
        (good.replace("steps = 1\n", "steps = 0\n"), "steps: is 0; must be a whole number from 1"),
        (
            good.replace("warm_up = 4", "copy_paste = 1.5"),
            "copy_paste: is 1.5; must be a finite number from 0 to 1",
        ),
        (
            good.replace("warm_up = 4", "averaged = 0.0"),
            "averaged: is 0.0; must be a finite number above 0, up to 1",
        ),
        (
            good.replace("warm_up = 4", "last_rate = 2"),
            "last_rate: is 2; must be a finite number from 0 to 1",
        ),
        (good.replace('"pocket"', '"nope"'), "network: is 'nope'; must be .*pocket"),
        (good.replace("warm_up = 4", "masks = 1"), "masks: is 1; must be true or false"),
        (
            good.replace('path = "set"', 'path = "set"\npartial = "x"'),
            r"sets\[0\].partial: is 'x'; must be a list",
        ),
        (
            good.replace("warm_up = 4", "masks = false"),
            r"stages\[0\]: trains nothing; give it masks, scores or boxes",
        ),
        ("nonsense", "not a TOML file"),
    ]:
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_recipe(tmp_path / "r.toml")


def test_the_shipped_recipe_reads() -> None:
    recipe = read_recipe(ROOT / "recipes" / "pocket.toml")
    assert all(source.terms for source in recipe.sets)
    assert recipe.network == "pocket"
    assert recipe.steps == sum(stage.steps for stage in recipe.stages)
    stage, done = recipe.stage_at(recipe.stages[0].steps)
    assert (stage, done) == (recipe.stages[1], 0)


def test_the_detector_trunk_sees_what_yolox_sees(shared: Path) -> None:
    """The features of the published ONNX file's own nodes, on a photo."""
    import onnx
    import onnxruntime

    from mobilesam.networks.yolox import YoloxNano
    from mobilesam.train.start import read_yolox_features

    path = shared / "weights" / "yolox_nano.onnx"
    network = YoloxNano(mean=[0, 0, 0], std=[1, 1, 1]).eval()
    network.load_state_dict(read_yolox_features(path))
    pixels = cat()[:416, :416].transpose(2, 0, 1)[None].astype(np.float32)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, 416 - pixels.shape[2]), (0, 416 - pixels.shape[3])))
    model = onnx.load(path)
    nodes = [f"/backbone/{name}/conv3/act/Mul_output_0" for name in ("C3_p3", "C3_n3", "C3_n4")]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(node, 1, None) for node in nodes)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(nodes, {"images": pixels[:, ::-1]})
    with torch.inference_mode():
        features = network(torch.from_numpy(pixels))
    assert list(features) == [8, 16, 32]
    for found, wanted in zip(features.values(), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, atol=5e-4)


def test_the_head_starts_as_yoloxs(shared: Path) -> None:
    """The published file's own boxes and objectness, from its own features."""
    import onnxruntime

    from mobilesam.detectors.onnx_layouts import decode_yolox
    from mobilesam.networks.build import build_network
    from mobilesam.networks.yolox import YoloxNano
    from mobilesam.train.start import read_yolox_features, read_yolox_head

    path = shared / "weights" / "yolox_nano.onnx"
    features = YoloxNano(mean=[0, 0, 0], std=[1, 1, 1]).eval()
    features.load_state_dict(read_yolox_features(path))
    head = build_network("pocket").proposal_head
    assert head is not None
    head.load_state_dict(read_yolox_head(path))
    pixels = np.zeros((1, 3, 416, 416), np.float32)
    pixels[0, :, :300, :416] = cat()[:, :416].transpose(2, 0, 1)
    (rows,) = onnxruntime.InferenceSession(path).run(None, {"images": pixels[:, ::-1].copy()})
    wanted, objectness, _ = decode_yolox([rows], (416, 416))
    with torch.inference_mode():
        maps = dict(zip(head.inputs, features(torch.from_numpy(pixels)).values(), strict=True))
        boxes, logits = head(maps)
    np.testing.assert_allclose(boxes[0].numpy(), wanted, atol=0.05)
    np.testing.assert_allclose(logits[0].sigmoid().numpy(), objectness, atol=1e-4)


def test_a_run_starts_from_the_published_trunks(shared: Path) -> None:
    from mobilesam.train.loop import make_optimizer

    recipe = read_recipe(ROOT / "recipes" / "pocket.toml")
    network = start_network(recipe, shared)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert "image_encoder.trunk.stem.conv.weight" in frozen
    assert "image_encoder.trunk.stages.2.0.expand.conv.weight" not in frozen
    assert not any("mask_decoder" in name for name in frozen)
    rates = {group["scale"] for group in make_optimizer(network, recipe).param_groups}
    assert rates == {1.0, recipe.trunk_rate}
    with pytest.raises(ConfigError, match=r"none.onnx: not found; it is the recipe's detector"):
        start_network(dataclasses.replace(recipe, detector="none.onnx"), shared)


def test_a_run_starts_from_other_weights(data: Path) -> None:
    from mobilesam.weights import entry_of, read_weights

    recipe = dataclasses.replace(read_recipe(data / "recipe.toml"), start="pocket")
    weights = read_weights(entry_of("pocket"))
    for name, value in start_network(recipe, data).state_dict().items():
        np.testing.assert_array_equal(value.numpy(), weights[name])
    save_file(
        {k: v.numpy() for k, v in build_network("pocket").state_dict().items()}, data / "own.safetensors"
    )
    start_network(dataclasses.replace(recipe, start="own.safetensors"), data)
    with pytest.raises(WeightsError, match=r"none\.safetensors: not found"):
        start_network(dataclasses.replace(recipe, start="none.safetensors"), data)
    with pytest.raises(WeightsError, match="pocket, the recipe's start,"):
        start_network(dataclasses.replace(recipe, network="vit_t"), data)


def test_an_images_prompts_weigh_its_maps_together() -> None:
    weights, maps = torch.randn(6, 3, 5), torch.randn(2, 5, 4, 7)
    expected = torch.einsum("bmc,bchw->bmhw", weights, maps.repeat_interleave(3, 0))
    torch.testing.assert_close(weigh(weights, maps), expected)
    one = maps[:1].expand(6, -1, -1, -1)
    torch.testing.assert_close(weigh(weights, maps[:1]), torch.einsum("bmc,bchw->bmhw", weights, one))


def test_crops_are_as_small_and_as_often_whole_as_the_stage_says() -> None:
    photo = SetPhoto(Path("a.jpg"), 1000, 800, ())
    for smallest, whole in ((0.15, 0.0), (0.15, 0.8), (0.6, 0.2)):
        rng = np.random.default_rng(0)
        stage = Stage(image_size=64, steps=1, smallest_crop=smallest, whole=whole)
        crops = np.array([draw_crop(photo, stage, rng) for _ in range(500)])
        assert (crops[:, :2] >= 0).all()
        assert (crops[:, 2:] <= [1000, 800]).all()
        areas = np.prod(crops[:, 2:] - crops[:, :2], axis=1) / 800_000
        assert smallest**2 - 1e-3 < areas.min() < smallest**2 * 1.3
        assert (areas == 1).mean() == pytest.approx(whole, abs=0.06)


def test_corrections_are_drawn_with_their_chance() -> None:
    from mobilesam.train.masks import MOST_CLICKS, draw_clicks

    generator = torch.Generator().manual_seed(0)
    clicks = [draw_clicks(0.5, generator) for _ in range(2000)]
    assert np.mean(np.array(clicks) == 0) == pytest.approx(0.5, abs=0.04)
    assert np.mean(np.array(clicks) >= 2) == pytest.approx(0.25, abs=0.04)
    assert max(clicks) == MOST_CLICKS
    assert {draw_clicks(0.0, generator) for _ in range(100)} == {0}


def train(data: Path, out: str, *more: str, **options: object) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "mobilesam",
        "train",
        "masks",
        "recipe.toml",
        "--out",
        out,
        "--threads",
        "1",
    ]
    command += ["--workers", "0", "--report-every", "2", "--save-every", "2", "--device", "cpu", *more]
    return subprocess.Popen(command, cwd=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def newest(folder: Path) -> Path:
    return max(folder.glob("step-*.safetensors"))


@pytest.mark.long
def test_a_killed_run_goes_on_bit_for_bit(data: Path) -> None:
    (data / "recipe.toml").write_text(RECIPE.format(steps=6))
    whole = train(data, "whole")
    output, error = whole.communicate(timeout=300)
    assert whole.returncode == 0, error.decode()
    assert b"loss" in output

    broken = train(data, "broken")
    deadline = time.monotonic() + 120
    while not (data / "broken" / "step-00000002.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    assert int(newest(data / "broken").stem.removeprefix("step-")) < 6
    (data / "broken" / "step-00000005.safetensors").write_bytes(b"half a checkpoint")

    again = train(data, "broken")
    _, error = again.communicate(timeout=300)
    assert again.returncode == 0, error.decode()
    a, b = load_file(newest(data / "whole")), load_file(newest(data / "broken"))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    logs = [(data / run / "log.jsonl").read_text() for run in ("whole", "broken")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [2, 4, 6]
    assert (data / "whole" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (data / "whole" / "log.csv").read_text().startswith("step,image_size,loss")

    weights = data / "whole" / "weights.safetensors"
    assert read_metadata(weights.read_bytes())[NEEDS_KEY] == FORMAT_SINCE
    model = load("pocket", checkpoint=weights)
    embedding = model.embed(data / "set" / "images" / "0.jpg")
    assert model.segment(embedding, Prompt(points=[20, 20])).masks.shape[0] == 3


def test_the_legend_covers_no_line() -> None:
    scores = dict.fromkeys(("box", "point", "teacher_box", "teacher_point"), 0.95)  # the longest names
    figure = draw_log([{"step": step, "loss": 1.0, **scores} for step in range(1, 9)])
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert len(legends) == 1 and len(legends[0].get_texts()) == len(scores)
    assert not any(legends[0].get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert legends[0].get_window_extent().x0 >= 0


@pytest.mark.long
def test_learning_happens(data: Path) -> None:
    stage = Stage(image_size=64, steps=60, images=4, objects=2, learning_rate=1e-3, warm_up=5)
    recipe = Recipe(network="pocket", sets=(SourceSet("set"),), stages=(stage,), held_out=0.0)
    losses: list[float] = []
    options = RunOptions(workers=0, report_every=10, save_every=1000)
    train_masks(recipe, data, data / "run", options, lambda p: losses.append(p.loss))
    assert losses[-1] < 0.7 * losses[0]


def test_a_stage_trains_what_it_says(data: Path) -> None:
    parts = {
        "scores": ("mask_decoder.iou_prediction_head.", "mask_decoder.evidence."),
        "boxes": ("proposal_head.",),
    }
    one = Stage(image_size=64, steps=3, images=2, objects=2, learning_rate=1e-3, warm_up=1, masks=False)
    for changes, trained in (
        ({"scores": True}, parts["scores"]),
        ({"boxes": 0.1}, parts["boxes"]),
        ({"scores": True, "boxes": 0.1}, parts["scores"] + parts["boxes"]),
    ):
        recipe = Recipe(
            network="pocket",
            sets=(SourceSet("set"),),
            stages=(dataclasses.replace(one, **changes),),
            held_out=0.0,
        )
        out = data / "-".join(changes)
        train_masks(recipe, data, out, RunOptions(workers=0, save_every=1))
        after = load_file(newest(out))
        torch.manual_seed(recipe.seed)
        for name, value in build_network("pocket").state_dict().items():
            moved = not np.array_equal(after[f"weights/{name}"], value.numpy())
            assert not moved or name.startswith(trained), name
        for part in trained:
            names = [n for n in after if n.startswith(f"weights/{part}")]
            assert any((after[n] != after[n.replace("weights", "average", 1)]).any() for n in names), part


def test_a_stage_starts_from_the_average_of_the_one_before(data: Path) -> None:
    one = Stage(image_size=64, steps=4, images=2, objects=2, learning_rate=1e-3, warm_up=1)
    recipe = Recipe(
        network="pocket",
        sets=(SourceSet("set"),),
        stages=(one, dataclasses.replace(one, masks=False, boxes=0.1)),
        held_out=0.0,
    )
    train_masks(recipe, data, data / "run", RunOptions(workers=0, save_every=4))
    first, second = (load_file(data / "run" / f"step-0000000{step}.safetensors") for step in (4, 8))
    name = "mask_decoder.pointwise.weight"
    assert (first[f"weights/{name}"] != first[f"average/{name}"]).any()
    for kind in ("weights", "average"):
        np.testing.assert_array_equal(second[f"{kind}/{name}"], first[f"average/{name}"])


def test_the_average_covers_as_much_of_a_stage_as_asked() -> None:
    network = torch.nn.Linear(1, 1)

    def average_after(steps: int, averaged: float, most: float = 1.0) -> float:
        """The average of weights that are 0 at first and then the step's number."""
        stage = Stage(image_size=64, steps=steps, averaged=averaged)
        average = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
        for done in range(steps):
            torch.nn.init.constant_(network.weight, done + 1)
            update_average(average, network, most, stage, done)
        return average["weight"].item()

    assert average_after(100, averaged=1.0) == pytest.approx(50)  # of 0 to 100
    assert average_after(100, averaged=1 / 9) == pytest.approx(91, abs=1)
    assert average_after(100, averaged=1.0, most=0.0) == 100


def test_the_learning_rate_falls_as_far_as_asked() -> None:
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))], "scale": 0.5}])
    rates = []
    stage = Stage(image_size=64, steps=100, learning_rate=8.0, warm_up=10, last_rate=0.25)
    for done in (0, 10, 99):
        set_rates(optimizer, stage, done)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.4, 4, 1], rel=0.03)


def test_bfloat16_is_used_where_it_is_native() -> None:
    """A processor that emulates it takes many times as long for a step."""
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    with mixed_precision("cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if native else torch.float32)


def test_a_mask_is_judged_by_itself() -> None:
    torch.manual_seed(0)
    evidence = MaskEvidence()
    logits, predictions = torch.randn(2, 4, 16, 16) * 3, torch.rand(2, 4)
    torch.nn.init.normal_(evidence.narrow.weight)
    every = evidence(predictions, logits, torch.arange(4))
    for tokens in ([0], [1, 2, 3], [2]):
        some = evidence(predictions, logits[:, tokens], torch.tensor(tokens))
        torch.testing.assert_close(some, every[:, tokens])
    logits.requires_grad_()
    evidence(predictions, logits, torch.arange(4)).sum().backward()
    assert logits.grad is None


def test_the_more_certain_mask_is_the_better_one_at_first() -> None:
    evidence = MaskEvidence()
    mask = torch.from_numpy(disc())[None, None] * 2 - 1
    logits = torch.cat([mask * 3, mask, mask * 4, mask * 2], 1)
    found = evidence(torch.tensor([[0.9, 0.2, 0.5, 0.3]]), logits, torch.arange(4))
    assert found[0, 1:].argsort().tolist() == [0, 2, 1]
    assert found.max() <= 1
    empty = evidence(torch.rand(1, 4), torch.full_like(logits, -5.0), torch.arange(4))
    assert torch.isfinite(empty).all()


def test_the_published_architecture_trains_too(data: Path) -> None:
    stage = Stage(image_size=64, steps=2, images=2, objects=2)
    recipe = Recipe(network="vit_t", sets=(SourceSet("set"),), stages=(stage,), held_out=0.0)
    losses: list[float] = []
    options = RunOptions(workers=0, report_every=1)
    train_masks(recipe, data, data / "run", options, lambda p: losses.append(p.loss))
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    with pytest.raises(ConfigError, match="vit_t has none"):
        (data / "t.npz").write_bytes(b"")
        train_masks(dataclasses.replace(recipe, trunk="t.npz"), data, data / "other", options)


def test_a_diverging_run_stops_with_its_code(data: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(data)
    recipe = dataclasses.replace(read_recipe(data / "recipe.toml"))
    text = RECIPE.format(steps=12) + "learning_rate = 1e30\n"
    (data / "recipe.toml").write_text(text)
    assert recipe.steps == 12
    code = run(["train", "masks", "recipe.toml", "--out", "run", "--workers", "0", "--device", "cpu"])
    assert code == 9
    told = capsys.readouterr().err
    assert "error[D]" in told and re.search(r"loss is (nan|inf) on '\d\.jpg'", told)
    assert newest(data / "run").name == "step-00000000.safetensors"


def test_changed_photos_are_refused_and_can_be_forced(data: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(data)
    (data / "recipe.toml").write_text(RECIPE.format(steps=12).replace("held_out = 0.3", "held_out = 0.0"))
    command = ["train", "masks", "recipe.toml", "--out", "run", "--workers", "0", "--device", "cpu"]
    assert run([*command, "--minutes", "0"]) == 0
    labels = data / "set" / "instances.json"
    content = json.loads(labels.read_text())
    labels.write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    assert run([*command, "--minutes", "0"]) == 2
    assert "photos or masks have changed since" in (told := capsys.readouterr().err) and "--force" in told
    recipe = (data / "recipe.toml").read_text()
    (data / "recipe.toml").write_text(recipe.replace("steps = 12", "steps = 13"))
    assert run([*command, "--minutes", "0"]) == 2
    assert "belongs to another recipe" in capsys.readouterr().err
    assert run([*command, "--minutes", "0", "--force"]) == 0
    assert newest(data / "run").name == "step-00000002.safetensors"
    assert "step 2 of 13" in capsys.readouterr().out


def test_parts_of_a_step_are_the_whole_step(data: Path) -> None:
    recipe = RECIPE.replace("seed = 3", "seed = 3\ncorrect = 0.0").replace("held_out = 0.3", "held_out = 0.0")
    (data / "recipe.toml").write_text(recipe.format(steps=3))
    read = read_recipe(data / "recipe.toml")
    for parts in (1, 2):
        options = RunOptions(
            workers=0,
            threads=1,
            report_every=1,
            save_every=4,
            device="cpu",
            accumulate=parts,
            tensorboard=True,
        )
        train_masks(read, data, data / f"parts{parts}", options)
    one, two = (
        [json.loads(line)["loss"] for line in (data / f"parts{n}" / "log.jsonl").read_text().splitlines()]
        for n in (1, 2)
    )
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6 if not bfloat16_here() else 2e-2)
    events = EventAccumulator(str(data / "parts1" / "tensorboard")).Reload().Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3]
    np.testing.assert_allclose([event.value for event in events], one, rtol=1e-6)
    with pytest.raises(ConfigError, match="accumulate: is 3; must divide the 2 images"):
        train_masks(read, data, data / "parts3", RunOptions(workers=0, device="cpu", accumulate=3))


def bfloat16_here() -> bool:
    """Whether this processor computes with bfloat16, which rounds sums by their order."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def test_a_group_that_is_there_is_used_and_stays(tmp_path: Path) -> None:
    """As launchers make it that join their processes themselves."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        with joined_ranks("cpu") as ranks:
            assert ranks == Ranks(0, 1)
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


def torchrun(data: Path, out: str, ranks: int) -> None:
    """Train with so many processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    processes = [
        train(data, out, "--report-every", "1", env={**os.environ, **places, "RANK": str(rank)})
        for rank in range(ranks)
    ]
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error.decode()


@pytest.mark.long
def test_two_ranks_take_the_steps_of_one(data: Path) -> None:
    """Two processes that torchrun's variables join, each with half of every batch."""
    recipe = RECIPE.replace("seed = 3", "seed = 3\ncorrect = 0.0").replace("held_out = 0.3", "held_out = 0.0")
    (data / "recipe.toml").write_text(recipe.format(steps=3))
    torchrun(data, "ranks2", 2)
    options = RunOptions(workers=0, threads=1, report_every=1, save_every=4, device="cpu")
    train_masks(read_recipe(data / "recipe.toml"), data, data / "ranks1", options)
    one, two = (
        [json.loads(line)["loss"] for line in (data / f"ranks{n}" / "log.jsonl").read_text().splitlines()]
        for n in (1, 2)
    )
    assert len(one) == len(two) == 3
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
    a, b = (load_file(newest(data / f"ranks{n}")) for n in (1, 2))
    for name in a:
        if name.startswith("average/"):
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-5, err_msg=name)
    with pytest.raises(ConfigError, match="images: is 3; must be a multiple of the 2 ranks"):
        Ranks(0, 2).part(3, "images")


@pytest.mark.long
def test_twenty_kills(data: Path) -> None:
    """Kill a run at random moments; it always goes on, and ends with the same bits."""
    (data / "recipe.toml").write_text(RECIPE.format(steps=160))
    command = ["train", "masks", "recipe.toml", "--report-every", "3", "--save-every", "4"]
    assert_same_runs(*killed_and_whole(command, data))
