"""Distillation: a step is the papers' step, a store is complete and right, and every mode learns."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import shutil
import tarfile
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch.nn import functional as F

from mobilesam import ConfigError, MobileSamError, Prompt, TrainingWarning, WeightsError, load
from mobilesam.cli.main import run
from mobilesam.core.arrays import NamedArrays
from mobilesam.formats.datasets import sa1b
from mobilesam.formats.datasets.load import read_dataset, write_dataset
from mobilesam.networks.build import NETWORKS, build_network
from mobilesam.networks.tiny_vit import TinyViT
from mobilesam.storage import shards
from mobilesam.storage.shards import Shards
from mobilesam.train import teacher
from mobilesam.train.distill import (
    DISTILL,
    cells_shown,
    embedding_loss,
    loop_loss,
    open_teacher,
    overlaps,
    start_student,
    step_loss,
    taught_arrays,
    train_distill,
    warn_if_prompts_are_ignored,
)
from mobilesam.train.distill_data import DistillSamples, split_photos
from mobilesam.train.distill_recipe import DistillRecipe, DistillStage, PhotoSet, read_distill_recipe
from mobilesam.train.options import RunOptions
from mobilesam.train.ranks import Ranks
from mobilesam.train.recipe import recipe_to_toml
from mobilesam.train.store_options import StoreOptions
from mobilesam.train.teacher import Embedder, Job, decode, make_store, read_facts, read_store_decoder
from mobilesam.weights import entry_of, read_weights
from mobilesam.work.local import LocalEngine
from tests.photos import write_set
from tests.series import one_in
from tests.train.kills import assert_same_runs, killed_and_whole

ROOT = Path(__file__).parents[2]
STAGE = DistillStage(image_size=64, steps=2, images=2, objects=2, warm_up=1)
RECIPE = DistillRecipe(
    network="pocket_nano",
    sets=(PhotoSet("set"),),
    stages=(STAGE,),
    store="store",
    batch_norm="trained",
    held_out=0.0,
)
FAST = RunOptions(workers=0, report_every=1, save_every=1000, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of six photos, and pocket's embeddings of them at 64 pixels."""
    folder = tmp_path_factory.mktemp("distil")
    write_set(folder / "set", count=6)
    make_store(folder / "set", folder / "store", StoreOptions(image_size=64, device="cpu"))
    return folder


def batch_of(recipe: DistillRecipe, data: Path, step: int = 0) -> dict[str, torch.Tensor]:
    photos, _ = split_photos(recipe, data)
    return DistillSamples(photos, recipe, recipe.stages[0], 0, data=data)[step]


def test_a_plain_step_is_the_papers(data: Path) -> None:
    """Mean squared error of image embeddings; the loss and every gradient as by the published listing."""
    recipe = dataclasses.replace(RECIPE, padding="keep")
    batch = {name: array.double() for name, array in batch_of(recipe, data).items()}
    student = start_student(recipe, data).double()
    names = [name for name in batch if name.startswith("teacher/")]
    assert len(names) == 4  # pocket's arrays; SAM has one

    plain = copy.deepcopy(student.sam.image_encoder)
    plain.train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    z_student = plain(batch["pixels"])
    expected = sum(F.mse_loss(z_student[n.removeprefix("teacher/")], batch[n]) for n in names)
    optimizer.zero_grad()
    expected.backward()

    loss = step_loss(student, batch, recipe, STAGE, 0, "cpu")
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    for (name, one), other in zip(
        student.sam.image_encoder.named_parameters(), plain.parameters(), strict=True
    ):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-12, msg=name)
    others = [p for n, p in student.sam.named_parameters() if not n.startswith("image_encoder.")]
    assert all(p.grad is None and not p.requires_grad for p in others)


def test_padding_is_left_out_and_images_count_alike(data: Path) -> None:
    student = start_student(RECIPE, data)
    like = {"image_embedding": torch.zeros(2, 64, 8, 8)}
    found = {"image_embedding": torch.ones(2, 64, 8, 8)}
    found["image_embedding"][0, :, 4:] = 9  # padding of a photo that fills half of the square
    shown = torch.tensor([[0.5, 1.0], [1.0, 1.0]])
    masked = embedding_loss(student, found, like, shown, RECIPE)
    assert masked.item() == pytest.approx(1.0)
    kept = embedding_loss(student, found, like, shown, dataclasses.replace(RECIPE, padding="keep"))
    assert kept.item() == pytest.approx((0.5 * 1 + 0.5 * 81 + 1) / 2)
    cells = cells_shown(torch.tensor([[0.51, 0.25]]), torch.Size([8, 8]))
    assert cells.sum() == 5 * 2 and cells[0, :5, :2].all()


def test_a_store_is_complete_checked_and_resumable(data: Path, tmp_path: Path, monkeypatch) -> None:
    facts = read_facts(data / "store")
    assert facts.network == "pocket" and facts.arrays["image_embedding"] == [64, 8, 8]
    assert max(facts.loss.values()) < 1e-3
    kept, shipped = read_store_decoder(data / "store"), read_weights(entry_of("pocket"))
    assert {name.split(".")[0] for name in kept} == {"prompt_encoder", "mask_decoder"}
    for name, array in kept.items():
        np.testing.assert_array_equal(array, shipped[name], err_msg=name)
    lines: list[str] = []
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    options = StoreOptions(image_size=64, device="cpu", dtype="int8")
    make_store(data / "set", tmp_path / "whole", options, lines.append)
    assert "6 photos, 0.03 MB each as int8" in lines[0] and "6 to do" in lines[0]
    whole = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert len([name for name in whole if name.startswith("shard-")]) == 6

    # A run that was killed after two shards, in the middle of a line, ends with the same bytes.
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    index = tmp_path / "broken" / "shards.jsonl"
    cut = index.read_text().splitlines(keepends=True)
    index.write_text("".join(cut[:2]) + cut[2][:20])
    for name in whole[whole.index("shard-00003.safetensors") :]:
        if name.startswith("shard-0"):
            (tmp_path / "broken" / name).unlink()
    make_store(data / "set", tmp_path / "broken", options, lines.append)
    assert "4 to do" in lines[-5]
    for name in whole:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name

    store = Shards(tmp_path / "whole")
    store.verify()
    key = store.shards[0].keys[0]
    exact = Shards(data / "store").read(key)
    for name, array in decode(store.read(key)).items():
        assert np.abs(array - exact[name]).max() <= np.abs(exact[name]).max() / 127
    (tmp_path / "broken" / "decoder.safetensors").write_bytes(b"older")
    make_store(data / "set", tmp_path / "broken", options, lines.append)
    assert read_store_decoder(tmp_path / "broken").keys() == kept.keys()
    with pytest.raises(WeightsError, match="has nothing of none"):
        store.read("none")
    (tmp_path / "whole" / "shard-00001.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"shard-00001.safetensors: damaged"):
        Shards(tmp_path / "whole").verify()
    with pytest.raises(ConfigError, match="is a store with dtype 'int8', not 'float16'"):
        make_store(data / "set", tmp_path / "whole", StoreOptions(image_size=64, device="cpu"))
    with pytest.raises(ConfigError, match="dtype: is 'int4'; choose one of"):
        StoreOptions(dtype="int4")


def test_an_engine_writes_the_same_store(data: Path, tmp_path: Path) -> None:
    """Engines yield in order, and the work that travels to a process is that of the one at home."""
    options = StoreOptions(image_size=64, device="cpu")

    class Travelled:
        def run(self, work: Embedder, jobs: Iterable[Job], give_up: object) -> Iterator[NamedArrays]:
            work.threads = torch.get_num_threads()
            return LocalEngine(2).run(pickle.loads(pickle.dumps(work)), jobs)

    make_store(data / "set", tmp_path / "store", options, engine=Travelled())
    files = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (data / "store").iterdir()}

    class Deadly:
        def run(self, work: Embedder, jobs: Iterable[Job], give_up: Any) -> Iterator[NamedArrays]:
            return (give_up(job, "its process died") if i == 9 else work(job) for i, job in enumerate(jobs))

    with pytest.raises(MobileSamError, match=r"3\.jpg: its process died; leave the photo out"):
        make_store(data / "set", tmp_path / "other", options, engine=Deadly())
    make_store(data / "set", tmp_path / "other", options)
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}


def test_options_of_a_cluster_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--workers", "2"), ("--address", "auto")):
        assert run(["train", "teacher", str(tmp_path), "--out", str(tmp_path / "out"), option, value]) == 2
        assert f"{option}: is of a Ray cluster; give --engine ray as well" in capsys.readouterr().err


def test_plain_folders_of_photos_do(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "set" / "images", tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    with pytest.warns(match="1 photos cannot be read and are left out"):
        recipe = dataclasses.replace(RECIPE, sets=(PhotoSet("photos"),))
        photos, _ = split_photos(recipe, tmp_path)
    assert len(photos) == 6 and not photos[0].photo.instances
    shutil.copytree(data / "store", tmp_path / "store")  # keys are of the files' bytes, so the store fits
    asked = dataclasses.replace(recipe, mode="semi-coupled", bce=1.0)
    batch = DistillSamples(photos, asked, STAGE, 0, data=tmp_path)[0]
    assert (batch["point_labels"][:, 0] == 1).all() and (batch["point_labels"][:, 1] == -1).all()
    with pytest.warns(match="cannot be read"), pytest.raises(ConfigError, match='targets: is "human"'):
        split_photos(dataclasses.replace(asked, targets="human"), tmp_path)


def test_photos_and_masks_may_lie_in_tars(data: Path, tmp_path: Path) -> None:
    """Shards of ours, SA-1B's tars, and tars without labels; a store fits wherever its photos lie."""
    shutil.copytree(data / "store", tmp_path / "store")
    labelled = read_dataset(data / "set")
    write_dataset(labelled, tmp_path, ["webdataset"])
    for name, endings in (("sa1b.tar", ("jpg", "json")), ("photos.tar", ("jpg",))):
        with tarfile.open(tmp_path / name, "w") as tar:
            for file, text in sa1b.write(labelled):
                stem = Path(file).stem
                members = {"jpg": labelled.root / f"{stem}.jpg", "json": tmp_path / "one.json"}
                members["json"].write_bytes(text)
                for ending in endings:
                    tar.add(members[ending], f"./sa_{stem}.{ending}")
    asked = dataclasses.replace(RECIPE, mode="coupled", bce=1.0)
    wanted = batch_of(asked, data)
    for place in ("shards", "sa1b.tar"):
        found = batch_of(dataclasses.replace(asked, sets=(PhotoSet(place),)), tmp_path)
        assert all(torch.equal(found[name], array) for name, array in wanted.items())
    found = batch_of(dataclasses.replace(RECIPE, sets=(PhotoSet("photos.tar"),)), tmp_path)
    assert torch.equal(found["pixels"], wanted["pixels"])
    lines: list[str] = []
    make_store(
        tmp_path / "photos.tar", tmp_path / "store", StoreOptions(image_size=64, device="cpu"), lines.append
    )
    assert "6 photos" in lines[0] and "0 to do" in lines[0]


MODES = {
    "decoupled": {},
    "semi-coupled": {"bce": 5.0, "dice": 5.0},
    "coupled": {"focal": 20.0, "dice": 1.0, "targets": "human"},
    "prompt-in-the-loop": {
        "bce": 5.0,
        "dice": 5.0,
        "rounds": 1,
        "hardest": 0.5,
        "output": 0.1,
        "embedding": 1.0,
    },
}


@pytest.mark.parametrize("mode", one_in(2, MODES))
def test_every_mode_trains_what_it_says(mode: str, data: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, mode=mode, **MODES[mode])
    student = start_student(recipe, data)
    learning = {name.split(".")[1] for name, p in student.named_parameters() if p.requires_grad}
    coupled = mode in ("coupled", "prompt-in-the-loop")
    assert learning == ({"image_encoder", "mask_decoder"} if coupled else {"image_encoder"})
    losses: list[float] = []
    newest = train_distill(recipe, data, tmp_path / "run", FAST, lambda p: losses.append(p.loss))
    assert len(losses) == 2 and np.isfinite(losses).all()
    after = {name: t for name, t in load_file(newest).items() if name.startswith("weights/sam.mask_decoder")}
    old = teacher.read_store_decoder(data / "store")
    moved = any((t != old[name.removeprefix("weights/sam.")]).any() for name, t in after.items())
    assert moved == coupled


def test_the_smoke_recipe_gives_a_model(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The page's commands, at 64 pixels and for a few steps; a killed run goes on bit for bit."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data / "set", "data/photos")
    shutil.copytree(data / "store", "data/stores/pocket-192")
    text = (ROOT / "recipes" / "distill-smoke.toml").read_text()
    for old, new in (
        ("image_size = 192", "image_size = 64"),
        ("steps = 250", "steps = 6"),
        ("images = 8", "images = 2"),
    ):
        assert old in text
        text = text.replace(old, new)
    Path("r.toml").write_text(text.replace("held_out = 0.1", "held_out = 0.4"))
    command = [
        "train",
        "distill",
        "r.toml",
        "--data",
        "data",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--save-every",
        "6",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)  # six steps teach nobody what a prompt is
        assert run([*command, "--out", "whole"]) == 0
        assert run([*command, "--out", "broken", "--minutes", "0"]) == 0
        assert run([*command, "--out", "broken"]) == 0
    assert "embedding_error" in capsys.readouterr().out
    a, b = (load_file(max(Path(out).glob("step-*"))) for out in ("whole", "broken"))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    model = load(checkpoint="whole/weights.safetensors")
    assert model.runtime.spec.name == "pocket_nano"
    embedding = model.embed("data/photos/images/0.jpg")
    assert model.segment(embedding, Prompt(box=[20, 20, 60, 60])).mask.shape == embedding.original_size


@pytest.mark.long
@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
def test_twenty_kills_of_a_distillation(mode: str, data: Path, tmp_path: Path) -> None:
    """Kill a run at random moments; it always goes on, and ends with the same bits."""
    for name in ("set", "store"):
        shutil.copytree(data / name, tmp_path / name)
    recipe = dataclasses.replace(
        RECIPE,
        mode=mode,
        focal=20.0 if mode == "coupled" else 0.0,
        stages=(dataclasses.replace(STAGE, steps=160),),
        held_out=0.4,
    )
    (tmp_path / "recipe.toml").write_text(recipe_to_toml(recipe))
    command = ["train", "distill", "recipe.toml", "--report-every", "3", "--save-every", "4"]
    assert_same_runs(*killed_and_whole(command, tmp_path))


def test_ranks_share_a_batch(data: Path) -> None:
    photos, _ = split_photos(RECIPE, data)
    asked = dataclasses.replace(RECIPE, mode="coupled", bce=1.0)
    whole = DistillSamples(photos, asked, STAGE, 0, data=data)
    for rank in range(2):
        part = DistillSamples(photos, asked, STAGE, 0, data=data)
        part.ranks = Ranks(rank, 2)
        for name, array in part[1].items():
            n = len(array)
            assert torch.equal(array, whole[1][name][rank * n : (rank + 1) * n]), name
    seen = [whole.photo(step, i).path.name for step in range(3) for i in range(2)]
    assert len(set(seen)) == 6  # each once before any comes again


def test_another_shape_gets_a_projection(data: Path) -> None:
    """SAM's TinyViT imitates pocket: other channels, another grid, another decoder."""
    recipe = dataclasses.replace(RECIPE, network="vit_t", batch_norm="frozen")
    student = start_student(recipe, data)
    assert set(student.projections) == set(read_facts(data / "store").arrays)
    batch = batch_of(recipe, data)
    loss = step_loss(student, batch, recipe, STAGE, 0, "cpu")
    loss.backward()
    assert torch.isfinite(loss)
    names = DISTILL.plain(recipe, student.state_dict()).keys()
    assert names == build_network("vit_t").state_dict().keys()


def test_a_teacher_is_asked_where_there_is_no_store(data: Path) -> None:
    """Without a store the same loss comes out, up to the store's rounding."""
    asked = dataclasses.replace(RECIPE, store="", teacher="pocket")
    one, other = (start_student(recipe, data) for recipe in (RECIPE, asked))
    other.load_state_dict(one.state_dict())
    losses = [
        step_loss(student, batch_of(recipe, data), recipe, STAGE, 0, "cpu").item()
        for student, recipe in ((one, RECIPE), (other, asked))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert open_teacher(asked, data).whole is not None and open_teacher(RECIPE, data).whole is None


@pytest.mark.parametrize(("last_stride", "fpn", "cells"), one_in(2, [(2, True, 4), (2, False, 2)]))
def test_tiny_vits_stride_and_pyramid_can_be_compared(
    last_stride: int, fpn: bool, cells: int, data: Path, tmp_path: Path, monkeypatch
) -> None:
    config = NETWORKS["vit_t"]
    encoder = partial(TinyViT, last_stride=last_stride, fpn=fpn)
    monkeypatch.setitem(NETWORKS, "vit_t", dataclasses.replace(config, encoder=encoder))
    recipe = dataclasses.replace(RECIPE, network="vit_t")
    sam = start_student(recipe, data).sam
    assert sam.see(torch.zeros(1, 3, 64, 64))["image_embedding"].shape == (1, 256, cells, cells)
    assert sam.image_encoder.stride == 64 // cells
    losses: list[float] = []
    newest = train_distill(recipe, data, tmp_path / "run", FAST, lambda p: losses.append(p.loss))
    assert len(losses) == 2 and np.isfinite(losses).all()
    tensors = load_file(newest)
    moving = "weights/sam.image_encoder." + ("lateral.weight" if fpn else "layers.3.blocks.0.mlp.fc1.weight")
    assert (tensors[moving] != tensors[moving.replace("weights", "average", 1)]).any()


def test_the_token_loss_is_tinysams(tmp_path: Path) -> None:
    """The mean absolute difference of the decoder's output tokens: those that its heads make IoU and masks of."""
    write_set(tmp_path / "set", count=2)
    torch.manual_seed(1)
    save_file(build_network("vit_t").state_dict(), tmp_path / "teacher.safetensors")
    recipe = DistillRecipe(
        network="vit_t",
        sets=(PhotoSet("set"),),
        stages=(STAGE,),
        mode="semi-coupled",
        teacher="teacher.safetensors",
        token=2.0,
        held_out=0.0,
    )
    student = start_student(recipe, tmp_path)
    batch = batch_of(recipe, tmp_path)
    prompts = len(batch["point_coords"])
    seen, taught = student.sam.see(batch["pixels"]), taught_arrays(student.teacher, batch, STAGE, "cpu")
    loss = loop_loss(student, seen, taught, batch, recipe, torch.Generator())

    tokens = []
    for network, arrays in ((student.sam, seen), (student.teacher.decoder, taught)):
        decoder, read = network.mask_decoder, []
        heads = (decoder.iou_prediction_head, *decoder.output_hypernetworks_mlps)
        hooks = [
            head.register_forward_pre_hook(lambda _, given, read=read: read.append(given[0]))
            for head in heads
        ]
        with torch.no_grad():
            network.decode_view(
                {name: array.repeat_interleave(prompts // len(array), 0) for name, array in arrays.items()},
                batch["point_coords"],
                batch["point_labels"],
                mask_tokens=(0, 1, 2, 3),
            )
        for hook in hooks:
            hook.remove()
        tokens.append(
            np.stack([one.double().numpy() for one in (read[-1], *read[:-1])], 1)
        )  # the IoU's is read last
    ours, theirs = tokens
    assert ours.shape == theirs.shape == (prompts, 5, 256)
    expected = 2.0 * sum(abs(a - b) for a, b in zip(ours.ravel(), theirs.ravel(), strict=True)) / ours.size
    assert expected > 0.01
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(
        p.grad is None for n, p in student.sam.named_parameters() if not n.startswith("image_encoder.")
    )


def test_students_that_ignore_their_prompt_are_told_of() -> None:
    with pytest.warns(
        TrainingWarning, match=r"ignores its prompts: .* overlap by 0\.90, the teacher's by 0\.10"
    ):
        warn_if_prompts_are_ignored({"same_mask": 0.9, "teacher_same_mask": 0.1})
    warn_if_prompts_are_ignored({"same_mask": 0.4, "teacher_same_mask": 0.1})
    warn_if_prompts_are_ignored({})
    truths = torch.zeros(1, 3, 4, 4)
    truths[0, 1:, :2] = 1  # two prompts of one object, and one of another
    masks = torch.ones(1, 3, 4, 4, dtype=torch.bool)
    assert overlaps(masks, truths).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "recipe", sorted(p.name for p in (ROOT / "recipes").glob("*.toml") if "mode" in p.read_text())
)
def test_recipes_read(recipe: str) -> None:
    read_distill_recipe(ROOT / "recipes" / recipe)


def test_recipes_are_checked(tmp_path: Path) -> None:
    good = (
        'network = "pocket_nano"\nstore = "s"\n[[sets]]\npath = "a"\n[[stages]]\nimage_size = 64\nsteps = 1\n'
    )
    for text, message in (
        (good.replace('store = "s"', ""), "names no teacher"),
        (good.replace("64", "65"), r"stages\[0\].image_size: is 65; must be a multiple of 32"),
        (good.replace("[[sets]]", 'mode = "coupled"\n[[sets]]'), "give bce, focal, dice"),
        (good.replace("[[sets]]", "bce = 1.0\n[[sets]]"), "compares embeddings alone"),
        (
            good.replace("[[sets]]", 'mode = "coupled"\ntoken = 1.0\n[[sets]]'),
            "a different decoder from SAM's",
        ),
        (
            good.replace("64", "768").replace("[[sets]]", 'mode = "coupled"\nbce = 1.0\n[[sets]]'),
            "at most 512",
        ),
        (good.replace("[[sets]]", 'mode = "coupled"\nbce = 1.0\nrounds = 2\n[[sets]]'), "has no clicks"),
        (good.replace("pocket_nano", "detector_nano"), "network: is 'detector_nano'"),
        (good.replace("store", "shop"), "unknown field 'shop'"),
    ):
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_distill_recipe(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text(good)
    assert read_distill_recipe(tmp_path / "r.toml").steps == 1
