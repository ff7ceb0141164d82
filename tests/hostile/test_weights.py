"""Hostile weights: refused in one line, at once, in little memory, and nothing in them runs.

All cases are read in one fresh process, which measures itself: its peak of memory is
started anew for each case, and time is the processor's, the least of three readings.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import re
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from mobilesam import ConfigError, WeightsError, load
from mobilesam.weights import WeightsEntry, check_tensors, entry_of, read_tensors, read_weights, weights_path
from mobilesam.weights.graph_index import graph_index, network_specs
from mobilesam.weights.reading import NEEDS_KEY
from mobilesam.weights.recognition import recognise_network
from mobilesam.weights.torch_file import read_torch_file
from tests.hostile.evil_weights import CANARY, CASES, NAME, Case, Evil, good_torch_file
from tests.pace import within
from tests.photos import cat, jpeg

GOLDEN = Path(__file__).parents[1] / "golden"
MAX_SECONDS, MAX_MEGABYTES, MAX_CHARACTERS = 0.2, 64, 200
READER = """
import contextlib, io, json, sys, time
import mobilesam
from mobilesam.cli.main import run

def kilobytes(field):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))

mobilesam.load("pocket")
for file in json.load(sys.stdin):
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts at what is used now
    base, message, times = kilobytes("VmRSS"), "loaded", []
    for _ in range(3):
        start = time.process_time()
        try:
            mobilesam.load("pocket", checkpoint=file)
        except mobilesam.WeightsError as error:
            message = str(error)
        times.append(time.process_time() - start)
    peak = kilobytes("VmHWM") - base
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
        code = run(["segment", "photo.jpg", "--box", "9,9,90,90", "--model", "pocket", "--checkpoint", file])
    result = dict(message=message, seconds=min(times), megabytes=peak / 1024, code=code, told=told.getvalue())
    print(json.dumps(result), flush=True)
"""


@pytest.fixture(scope="module")
def pocket_tensors() -> dict[str, np.ndarray]:
    return dict(
        sorted(read_weights(entry_of("pocket")).items())
    )  # the library's order changes from run to run


@pytest.fixture(scope="module")
def refusals(pocket_tensors: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What a fresh process makes of each case, by its name."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "photo.jpg").write_bytes(jpeg(cat()))
    files = []
    for number, case in enumerate(CASES):
        (folder / str(number)).mkdir()
        files.append(f"{number}/{case.file}")
        case.make(folder / files[-1], pocket_tensors, np.random.default_rng(number))
    command = [sys.executable, "-c", READER]
    done = subprocess.run(
        command, input=json.dumps(files), cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.rglob(f"*{CANARY}*"))
    assert not Path(f"/tmp/{CANARY}-of-weights").exists()
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip((case.name for case in CASES), results, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused_at_once_in_one_line(refusals: dict[str, dict], case: Case) -> None:
    result = refusals[case.name]
    message, told = result["message"], result["told"]
    assert message.startswith(f"{CASES.index(case)}/{case.file}")
    assert re.search(case.says, message), message
    assert len(message) <= MAX_CHARACTERS, message
    assert result["code"] == 4
    assert told.startswith("error[W]: ")
    assert told.endswith("\n")
    assert told[:-1].isprintable()
    assert within(result["seconds"], MAX_SECONDS)
    assert result["megabytes"] <= MAX_MEGABYTES


def test_the_canary_can_be_touched(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own reader runs what the reader of weights refuses."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil(), 2))
    assert (tmp_path / CANARY).exists()


def published(pocket_tensors: dict, folder: Path) -> tuple[WeightsEntry, bytes]:
    """An entry whose published file is known here: pocket's weights, lying in the cache."""
    data = save(pocket_tensors)
    entry = WeightsEntry(
        name="known",
        network="pocket",
        file="known.safetensors",
        licence="",
        about="",
        sha256=hashlib.sha256(data).hexdigest(),
        urls=("https://example.invalid/known.safetensors",),
        size=len(data),
    )
    weights_path(entry).parent.mkdir(parents=True, exist_ok=True)
    weights_path(entry).write_bytes(data)
    return entry, data


def test_W12_W13_W55_any_flipped_byte_of_a_published_file_is_seen(
    pocket_tensors, tmp_path, monkeypatch
) -> None:
    """A hundred places; also where the file would load and give other masks."""
    monkeypatch.setenv("MOBILESAM_HOME", str(tmp_path))
    entry, data = published(pocket_tensors, tmp_path)
    assert set(read_weights(entry)) == set(pocket_tensors)
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data), size=100):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        weights_path(entry).write_bytes(changed)
        with pytest.raises(WeightsError, match="is not the published file"):
            read_weights(entry)
    for changed in (data[:-1], data + b"x", b""):
        weights_path(entry).write_bytes(changed)
        with pytest.raises(WeightsError, match="is not the published file"):
            read_weights(entry)
    by_git = replace(entry, sha256="", git_blob=git_blob(data))
    weights_path(by_git).parent.mkdir()
    weights_path(by_git).write_bytes(data)
    assert set(read_weights(by_git)) == set(pocket_tensors)
    weights_path(by_git).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(WeightsError, match="is not the published file"):
        read_weights(by_git)


def git_blob(data: bytes) -> str:
    return (
        subprocess.run(["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )


def test_W17_W19_W20_W26_what_is_bent_but_whole_is_read(pocket_tensors, tmp_path) -> None:
    """Wrappers, prefixes, other floats, views and no numbers at all."""
    tensors = {name: torch.from_numpy(array) for name, array in pocket_tensors.items()}
    forms = [
        {"model": tensors, "epoch": 3},
        {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()},
    ]
    for form in forms:
        torch.save(form, tmp_path / "a.pt")
        read = read_tensors(tmp_path / "a.pt")
        assert set(read) == set(pocket_tensors)
        for name, array in pocket_tensors.items():
            np.testing.assert_array_equal(read[name], array)
    load("pocket", checkpoint=tmp_path / "a.pt")
    storage = torch.arange(10.0)
    torch.save({"a": storage[2:5], "b": storage[::3], "none": storage[:0]}, tmp_path / "views.pt")
    views = read_torch_file(tmp_path / "views.pt")
    np.testing.assert_array_equal(views["b"], [0, 3, 6, 9])
    assert views["none"].shape == (0,)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "sam.", "module._orig_mod.", "a.teacher.net."]
)
def test_W19_one_prefix_before_all_names_is_left_out(pocket_tensors, tmp_path, prefix: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({f"{prefix}{name}": array for name, array in pocket_tensors.items()}))
    assert set(read_tensors(path)) == set(pocket_tensors)


def test_W19_a_prefix_that_is_not_before_all_names_stays(pocket_tensors, tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    encoder = {name: array for name, array in pocket_tensors.items() if name.startswith("image_encoder.")}
    path.write_bytes(save(encoder))
    assert set(read_tensors(path)) == set(encoder)
    path.write_bytes(
        save({f"module.{name}": array for name, array in encoder.items()} | {"ema": np.arange(3.0)})
    )
    assert "module.image_encoder.trunk.stem.conv.weight" in read_tensors(path)
    path.write_bytes(save({"module.a": np.arange(3.0), "module.b": np.arange(4.0)}))
    assert set(read_tensors(path)) == {"module.a", "module.b"}
    path.write_bytes(
        save({f"module.{n}": a for n, a in pocket_tensors.items() if n != "mask_decoder.iou_token.weight"})
    )
    with pytest.raises(
        WeightsError, match=r"not the weights of this network: lacks mask_decoder\.iou_token\.weight$"
    ):
        load("pocket", checkpoint=path)


def test_W03_what_is_no_state_dict_ends_with_how_to_save_it(tmp_path) -> None:
    for content in ({"epoch": 3}, {"net": torch.nn.Linear(2, 2)}, torch.nn.Linear(2, 2), {}):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(
            WeightsError, match=r"; save that alone: torch\.save\(model\.state_dict\(\), NEW\)$"
        ):
            load("pocket", checkpoint=tmp_path / "a.pt")


def test_W11_names_of_an_archive_in_messages(tmp_path) -> None:
    """The reader of archives puts names into its errors, as they are and as long as they are."""
    name = "a\x1b[2J\n" + "x" * 5000
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr(f"{name}/data.pkl", b"\x80\x02}.")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data.replace(b"xxx/data.pkl", b"xxy/data.pkl", 1))
    with pytest.raises(WeightsError) as caught:
        read_tensors(tmp_path / "a.pt")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.pt'}: damaged")
    assert message.endswith("; get it again")
    assert message.isprintable()
    assert len(message.encode()) < 400


def test_W29_messages_are_one_line_of_at_most_2000_bytes() -> None:
    message = str(WeightsError("家" * 3000 + "\x1b[2J\n; get it again"))
    assert message.isprintable()
    assert message.endswith("; get it again")
    assert len(message.encode()) <= 2000


def test_W30_a_file_that_is_exchanged_while_it_is_read(pocket_tensors, tmp_path, monkeypatch) -> None:
    """What is hashed is what is used: the published weights or none, whatever comes in between."""
    monkeypatch.setenv("MOBILESAM_HOME", str(tmp_path))
    entry, data = published(pocket_tensors, tmp_path)
    evil = save(pocket_tensors | {NAME: pocket_tensors[NAME] + 1})
    assert len(evil) == len(data)
    stop = threading.Event()

    def exchange() -> None:
        for turn in itertools.cycle((evil, data)):
            (tmp_path / "other").write_bytes(turn)
            (tmp_path / "other").replace(weights_path(entry))
            with weights_path(entry).open("r+b") as file:  # and in its place
                file.write(evil if turn is data else data)
            if stop.is_set():
                return

    thread = threading.Thread(target=exchange)
    thread.start()
    ends = set()
    for _ in range(40):
        try:
            np.testing.assert_array_equal(read_weights(entry)[NAME], pocket_tensors[NAME])
            ends.add("read")
        except WeightsError as error:
            assert "is not the published file" in str(error)
            ends.add("refused")
    stop.set()
    thread.join()
    assert "refused" in ends


CUT_WHILE_READ = """
import os, pathlib, sys, threading
from mobilesam import WeightsError
from mobilesam.weights import read_tensors

path, copy = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).read_bytes()
stop = threading.Event()

def cut():
    while not stop.is_set():
        os.truncate(path, len(copy) // 3)
        path.write_bytes(copy)

thread = threading.Thread(target=cut)
thread.start()
ends = set()
for _ in range(60):
    try:
        read_tensors(path)
        ends.add("read")
    except WeightsError:
        ends.add("refused")
stop.set()
thread.join()
print(ends)
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_W31_a_file_that_is_cut_while_it_is_read(pocket_tensors, tmp_path, suffix: str) -> None:
    """In a process of its own, which a mapped file would end by a signal."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(save(pocket_tensors) if suffix == ".safetensors" else good_torch_file(pocket_tensors))
    done = subprocess.run([sys.executable, "-c", CUT_WHILE_READ, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout


@pytest.mark.parametrize("needs", ["0.0", "0.1", "0.1.7"])
def test_W56_what_this_version_can_read_is_read(pocket_tensors, tmp_path, needs: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(save(pocket_tensors, {NEEDS_KEY: needs}))
    assert set(read_tensors(tmp_path / "a.safetensors")) == set(pocket_tensors)


@pytest.mark.parametrize("name", ["vit_t", "vit_b", "vit_l", "vit_h"])
def test_published_names_are_recognised(name: str) -> None:
    shapes = json.loads((GOLDEN / f"{name}_state_dict.json").read_text())
    assert recognise_network(shapes) == name


def test_recognised_or_not() -> None:
    pocket = graph_index("pocket")
    assert recognise_network(pocket.parameters) == "pocket"
    for network in network_specs():
        index = graph_index(network)
        assert recognise_network(index.tensors) == network
        assert recognise_network(dict(list(index.tensors.items())[: len(index.tensors) // 2])) == network
    decoder = {
        name: shape for name, shape in graph_index("vit_t").tensors.items() if name.startswith("mask_")
    }
    assert recognise_network(decoder) == ""  # of seven networks
    assert recognise_network({}) == recognise_network({"a": (3,)}) == ""
    assert recognise_network({"image_encoder.patch_embed.proj.weight": ()}) == ""
    with pytest.raises(WeightsError, match=r"^x: not the weights of this network: lacks .* also has a$"):
        check_tensors({"a": np.zeros(3)}, pocket.parameters, "x")


def test_parts_of_models_and_what_is_not_offered() -> None:
    with pytest.raises(ConfigError, match="is not a whole model"):
        load("prompt_guided_decoder")
    with pytest.raises(ConfigError, match="pickled program under AGPL"):
        load("object_aware_model")
    assert weights_path(entry_of("vit_b")).name == "sam_vit_b_01ec64.pth"
