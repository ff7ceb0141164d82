"""Sessions from prepared graphs: the same bits, and whatever is wrong with the files, a session all the same."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import mobilesam
from mobilesam.cli.main import run
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.prepared import CPU_INFO, GRAPH, KEPT_SECONDS, NUMBERS, SUMS, VARIABLE
from mobilesam.weights import ENTRIES
from mobilesam.weights.folders import HOME_VARIABLE
from tests.known_weights import CONTENT, KNOWN
from tests.series import one_in

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
FILES = (GRAPH, NUMBERS, SUMS)

pytestmark = pytest.mark.skipif(
    not CPU_INFO.exists(), reason="nothing is prepared where Linux does not say for what"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv(VARIABLE, "1")
    yield tmp_path


def answer(model: mobilesam.Model) -> tuple[np.ndarray, ...]:
    embedding = model.embed(IMAGE)
    result = model.segment(embedding, mobilesam.Prompt(box=[10, 10, 70, 50]))
    return embedding.image_embedding, result.low_res_masks, result.predicted_iou


def runtime_of(model: mobilesam.Model) -> OnnxRuntime:
    assert isinstance(model.runtime, OnnxRuntime)
    return model.runtime


def folders(home: Path) -> list[Path]:
    return sorted(home.glob("prepared/*/*"))


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def wanted() -> tuple[np.ndarray, ...]:
    return answer(mobilesam.load("pocket"))


def test_the_second_model_reads_no_weights_and_gives_the_same_bits(home: Path, wanted: tuple) -> None:
    first = mobilesam.load("pocket")
    assert same(answer(first), wanted)
    assert [folder.name.partition("-")[0] for folder in folders(home)] == ["decoder", "encoder"]
    second = mobilesam.load("pocket")
    assert same(answer(second), wanted)
    assert runtime_of(first)._tensors and not runtime_of(second)._tensors
    # What was not prepared reads them.
    drawn = mobilesam.Prompt(box=[10, 10, 70, 50], mask=IMAGE[..., 0] > 40)
    masks = [model.segment(model.embed(IMAGE), drawn).low_res_masks for model in (second, first)]
    assert np.array_equal(*masks)
    assert runtime_of(second)._tensors


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def another_sum(path: Path) -> None:
    """The file is damaged, and the list of sums agrees with it."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sums = json.loads((path.parent / SUMS).read_bytes())
    (path.parent / SUMS).write_text(
        json.dumps(sums | {path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    )


@pytest.mark.parametrize(
    ("name", "harm"),
    one_in(
        3,
        [
            *[(name, flip) for name in FILES],
            *[(name, Path.unlink) for name in FILES],
            (SUMS, lambda path: path.write_text("[" * 5000)),
            (SUMS, lambda path: path.write_text('{"graph.onnx": 3}')),
            (GRAPH, another_sum),
            (NUMBERS, another_sum),
        ],
    ),
)
def test_what_is_damaged_is_prepared_again(
    name: str, harm: Callable[[Path], object], home: Path, wanted: tuple
) -> None:
    mobilesam.load("pocket").embed(IMAGE)
    (encoder,) = folders(home)
    harm(encoder / name)
    places = []
    for _ in range(2):
        assert np.array_equal(mobilesam.load("pocket").embed(IMAGE).image_embedding, wanted[0])
        places.append(encoder.stat().st_ino)
    assert places[0] == places[1]  # the second was content with what the first had written


def test_a_home_that_cannot_be_written(home: Path, wanted: tuple) -> None:
    (home / "prepared").write_bytes(b"")
    assert same(answer(mobilesam.load("pocket")), wanted)


def test_zero_prepares_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    answer(mobilesam.load("pocket"))
    assert not folders(home)


def test_weights_are_still_checked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(ENTRIES, KNOWN.name, KNOWN)
    file = home / KNOWN.sha256[:12] / KNOWN.file
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    answer(mobilesam.load(KNOWN.name))
    file.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(mobilesam.WeightsError, match="is not the published file"):
        mobilesam.load(KNOWN.name)
    assert folders(home)
    assert run(["weights", "remove", KNOWN.name]) == 0
    assert not folders(home)
    with pytest.raises(mobilesam.WeightsError, match="not found"):
        mobilesam.load(KNOWN.name)


def test_weights_of_ones_own_are_not_prepared(home: Path, tmp_path: Path) -> None:
    (home / "mine.safetensors").write_bytes(CONTENT)
    answer(mobilesam.load(checkpoint=home / "mine.safetensors"))
    assert not folders(home)


def test_a_pickled_model_carries_its_tensors(home: Path, wanted: tuple) -> None:
    answer(mobilesam.load("pocket"))
    copy = pickle.loads(pickle.dumps(mobilesam.load("pocket")))
    assert runtime_of(copy)._tensors
    assert same(answer(copy), wanted)


def test_what_is_old_or_was_left_half_written_goes(home: Path) -> None:
    old, new = home / "prepared/0123/encoder-1", home / "prepared/0123/.0123456789abcdef.mobilesam.tmp"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / GRAPH).write_bytes(b"")
    past = old.stat().st_mtime - KEPT_SECONDS - 60
    os.utime(old, (past, past))
    answer(mobilesam.load("pocket"))
    assert not old.exists() and new.exists()


MAPS = """
import sys, numpy, mobilesam
model = mobilesam.load("pocket")
model.embed(numpy.zeros((60, 80, 3), numpy.uint8))
size = 0
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        inside = line.rstrip().endswith("graph.data")
    elif inside and line.startswith(("Anonymous", "Size")):
        size += int(line.split()[1]) * (1 if line.startswith("Size") else -1)
print(size)
"""


def test_weights_are_mapped_from_the_file(home: Path) -> None:
    """Pages that were not written to are one copy for all processes."""
    answer(mobilesam.load("pocket"))
    done = subprocess.run([sys.executable, "-c", MAPS], capture_output=True, text=True, check=True)
    encoder = next(folder for folder in folders(home) if folder.name.startswith("encoder"))
    assert int(done.stdout) * 1024 > 0.9 * (encoder / NUMBERS).stat().st_size
