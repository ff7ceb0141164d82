"""Recipes as people and programs write them: each is read, or refused with the field and what is allowed."""

from __future__ import annotations

import io
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mobilesam.cli.main import run
from mobilesam.core.errors import MobileSamError
from mobilesam.train.recipe import read_recipe
from tests.pace import within
from tests.photos import write_set
from tests.series import one_in

GOOD = """network = "pocket"
seed = 3
held_out = 0.0
[[sets]]
path = "set"
weight = 2
[[stages]]
image_size = 64
steps = 2
images = 1
objects = 1
warm_up = 1
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def stage(line: str) -> str:
    return f"{GOOD}{line}\n"


# fmt: off
REFUSED = [
    ("weight-0", changed("weight = 2", "weight = 0"), 2, r"sets\[0\].weight: is 0; must be a finite number above 0"),
    ("weight-below", changed("weight = 2", "weight = -1"), 2, r"sets\[0\].weight: is -1"),
    ("weight-nan", changed("weight = 2", "weight = nan"), 2, r"sets\[0\].weight: is nan"),
    ("weight-inf", changed("weight = 2", "weight = inf"), 2, r"sets\[0\].weight: is inf"),
    ("weight-1e308", changed("weight = 2", "weight = 1e308"), 2, r"sets\[0\].weight: is 1e\+308"),
    ("weight-true", changed("weight = 2", "weight = true"), 2, r"sets\[0\].weight: is true; must be a number"),
    ("weight-text", changed("weight = 2", 'weight = "2"'), 2, r"sets\[0\].weight: is '2'"),
    ("weight-date", changed("weight = 2", "weight = 1979-05-27"), 2, r"sets\[0\].weight: is datetime.date"),
    *((f"image-{n}", changed("image_size = 64", f"image_size = {n}"), 2, rf"stages\[0\].image_size: is {n}; must be") for n in (-64, 0, 1, 63, 65, 255, 4097, 10**12)),
    ("image-float", changed("image_size = 64", "image_size = 64.0"), 2, "image_size: is 64.0; must be a whole number"),
    ("image-of-vit", changed('"pocket"', '"vit_b"'), 2, r"stages\[0\].image_size: is 64; vit_b has a place for each cell, so it must be 1024"),
    ("seed-huge", changed("seed = 3", "seed = 99999999999999999999999"), 2, "seed: is 99999999999999999999999; must be a whole number from 0 to 4,294,967,295"),
    ("seed-of-10000-digits", changed("seed = 3", "seed = " + "9" * 10_000), 2, "line 2, 'seed = 9999.*has 10,007 characters"),
    ("seed-of-900-digits", changed("seed = 3", "seed = " + "9" * 900), 2, r"seed: is about 2\^2989"),
    ("seed-below", changed("seed = 3", "seed = -1"), 2, "seed: is -1"),
    ("steps-huge", changed("steps = 2", "steps = 10000000000"), 2, r"stages\[0\].steps: is 10000000000"),
    ("network-list", changed('"pocket"', '["pocket"]'), 2, "network: is a list of 1; must be "),
    ("network-table", changed('"pocket"', "{a = 1}"), 2, "network: is an object; must be"),
    ("no-network", changed('network = "pocket"\n', ""), 2, "lacks network"),
    ("clip-norm-0", changed("seed = 3", "clip_norm = 0"), 2, "clip_norm: is 0; must be a finite number above 0"),
    ("ema-above-1", changed("seed = 3", "ema_decay = 1.5"), 2, "ema_decay: is 1.5"),
    ("rate-inf", stage("learning_rate = inf"), 2, r"stages\[0\].learning_rate: is inf"),
    ("path-list", changed('path = "set"', "path = [1]"), 2, r"sets\[0\].path: is a list of 1; must be a text"),
    ("path-empty", changed('path = "set"', 'path = ""'), 2, r"sets\[0\].path: is an empty text"),
    ("path-long", changed('path = "set"', f'path = "{"p" * 900}"'), 2, "instances.json: not found"),
    ("path-zero", changed('path = "set"', 'path = "a\\u0000b"'), 2, "instances.json: not found"),
    ("partial-numbers", changed('path = "set"', 'path = "set"\npartial = [1]'), 2, r"sets\[0\].partial\[0\]: is 1; must be a text"),
    ("sets-numbers", 'network = "pocket"\nsets = [1]\nstages = [2]', 2, r"sets\[0\]: is 1; must be an object with path"),
    ("no-sets", 'network = "pocket"\nsets = []\nstages = []', 2, "sets: is empty; give at least 1"),
    ("deep-lists", "a = " + "[" * 400 + "]" * 400, 2, "unknown field 'a'"),
    ("deep-lists-over-lines", "a = " + ("[" * 900 + "\n") * 20, 2, "not a TOML file"),
    ("deep-tables", "\n".join("[" + ".".join(["a"] * 450) + f".b{i}]" for i in range(120)), 2, "unknown field 'a'"),
    ("dotted-keys", ".".join(["a"] * 50_000) + " = 1", 2, "line 1, 'a.a.*characters"),
    ("huge", "x = 1\n" * 100_000, 7, "over 128 KiB"),
    ("twice", changed("seed = 3", "seed = 3\nseed = 4"), 2, "not a TOML file .*overwrite"),
    ("json", '{"network": "pocket"}', 2, "not a TOML file"),
    ("empty", "", 2, "lacks network, sets, stages"),
    ("start-long", changed("seed = 3", f'start = "{"s" * 900}"'), 4, "s"),
    ("trunk-long", changed("seed = 3", f'trunk = "{"t" * 900}"'), 2, "trunk"),
    ("trunk-gone", changed("seed = 3", 'trunk = "gone.npz"'), 2, "gone.npz: not found; it is the recipe's trunk"),
]
# fmt: on


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "set")
    return folder


def trained(data: Path, recipe: str, out: Path, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    (data / "r.toml").write_text(recipe)
    status = run(["train", "masks", str(data / "r.toml"), "--data", str(data), "--out", str(out), "--workers", "0"])  # fmt: skip
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert max(map(len, error.splitlines()), default=0) < 2048
    return status, error


@pytest.mark.parametrize(("text", "status", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, text: str, status: int, message: str
) -> None:
    start = time.process_time()
    ended, error = trained(data, text, tmp_path / "out", capsys)
    assert ended == status, error
    assert re.search(message, error), error
    assert within(time.process_time() - start, 5)


@pytest.mark.parametrize(
    "text",
    one_in(
        3,
        [
            GOOD,
            changed("seed = 3", "seed = 4294967295"),
            stage("boundary = 4"),
            stage("learning_rate = 0"),
            stage(
                "focal = 1\nsharpness = 2\nlast_rate = 1\naveraged = 1\nwhole = 1\nwindows = 1\nloose_boxes = 0"
            ),
            stage("smallest_crop = 0\nwhole = 0\nbackground = 1\ncopy_paste = 1"),
            changed("warm_up = 1", "warm_up = 0"),
        ],
    ),
    ids=["weight-2", "greatest-seed", "boundary-4", "rate-0", "ones", "small-crops", "no-warm-up"],
)
def test_whole_numbers_train(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, text: str) -> None:
    status, error = trained(data, text, tmp_path / "out", capsys)
    assert status == 0, error
    assert (tmp_path / "out" / "weights.safetensors").exists()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("conv1_weights.npy", bytes(2**28 + 1))
    return buffer.getvalue()


TRUNKS = {
    "text": b"no archive",
    "empty": b"",
    "half": npz(conv1_weights=np.ones((4, 4)))[:-40],
    "unknown-names": npz(nobody=np.ones(3)),
    "odd-names": npz(conv2_1_flip_weights=np.ones(3)),
    "few": npz(conv1_weights=np.ones((32, 3, 3, 3), np.float32)),
    "objects": npz(conv1_weights=np.array([{}])),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }"
    + b" " * 55
    + b"\n",
    "bomb": zip_bomb(),
}


@pytest.mark.parametrize("key", ["trunk", "detector"])
@pytest.mark.parametrize("kind", TRUNKS)
def test_trunks_that_are_none(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, key: str, kind: str
) -> None:
    (data / "junk").write_bytes(TRUNKS[kind])
    status, error = trained(data, changed("seed = 3", f'{key} = "junk"'), tmp_path / "out", capsys)
    assert status == 4, error
    assert "junk: " in error


def test_a_recipe_in_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.toml", tmp_path / ("l" * 300), tmp_path / "a\0b"):
        with pytest.raises(MobileSamError, match="cannot be read"):
            read_recipe(path)
