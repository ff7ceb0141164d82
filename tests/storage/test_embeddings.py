"""Embeddings that are kept: read back as they were written, never of another image or other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mobilesam
from mobilesam import ConfigError, Model, OutputError, Prompt, load
from mobilesam.storage.embeddings import KeptEmbeddings
from tests.photos import cat

BOX = Prompt(box=[90, 20, 330, 290])
PIXELS = np.zeros((1, 3, 4, 4), np.float32)


def only_file(folder: Path) -> Path:
    (file,) = folder.rglob("*.safetensors")
    return file


def test_the_second_time_reads_what_the_first_time_returned(pocket: Model, tmp_path: Path) -> None:
    keeping = load("pocket", embeddings=tmp_path)
    first = keeping.embed(cat())
    written = only_file(tmp_path)
    stamp = written.stat().st_mtime_ns
    second = load("pocket", embeddings=tmp_path).embed(cat())
    assert first.arrays.keys() == second.arrays.keys()
    for name in first.arrays:
        np.testing.assert_array_equal(first.arrays[name], second.arrays[name], err_msg=name)
    assert written.stat().st_mtime_ns == stamp
    plain = pocket.segment(pocket.embed(cat()), BOX)
    kept = keeping.segment(second, BOX)
    assert (plain.mask & kept.mask).sum() / (plain.mask | kept.mask).sum() > 0.999


def test_what_is_kept_is_not_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping = load("pocket", embeddings=tmp_path)
    encode, encoded = keeping.runtime.encode, 0

    def counted(pixels: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal encoded
        encoded += 1
        return encode(pixels)

    monkeypatch.setattr(keeping.runtime, "encode", counted)
    keeping.embed_batch([cat(), cat(), cat()[:, ::-1]])
    keeping.everything(cat(), mobilesam.EverythingOptions.tidy(max_prompts=8))
    assert encoded == 2
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_other_weights_and_other_pixels_are_other_files(tmp_path: Path) -> None:
    ours, others = KeptEmbeddings(tmp_path, "one"), KeptEmbeddings(tmp_path, "two")
    changed = PIXELS.copy()
    changed[0, 0, 0, 0] = 1e-3
    paths = {
        ours.path(PIXELS),
        others.path(PIXELS),
        ours.path(changed),
        ours.path(PIXELS.reshape(1, 3, 2, 8)),
    }
    assert len(paths) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    kept = KeptEmbeddings(tmp_path, "one")
    path = kept.path(PIXELS)
    arrays = {"image_embedding": np.linspace(-3, 3, 640, dtype=np.float32).reshape(1, 10, 8, 8)}
    written = kept.write(path, arrays)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-9], "flipped": whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:], "empty": b""}[damage]
    )
    assert kept.read(path) is None
    kept.write(path, arrays)
    again = kept.read(path)
    assert again is not None
    np.testing.assert_array_equal(again["image_embedding"], written["image_embedding"])


def test_values_beyond_float16_stay_as_they_are(tmp_path: Path) -> None:
    kept = KeptEmbeddings(tmp_path, "one")
    arrays = {"large": np.array([1e6, 1], np.float32), "small": np.array([0.1], np.float32)}
    read = kept.write(kept.path(PIXELS), arrays)
    assert read["large"].tolist() == [1e6, 1]
    assert read["small"].dtype == np.float32
    assert read["small"][0] == np.float16(0.1)


def test_a_name_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    for folder, words in (
        (file, "is a file; name a folder"),
        ("", "must be the path of a folder"),
        (5, "is 5"),
    ):
        with pytest.raises(ConfigError, match=words):
            load("pocket", embeddings=folder)  # type: ignore[arg-type]
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_folder_that_cannot_be_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    kept = KeptEmbeddings(tmp_path / name, "one")
    path = kept.path(PIXELS)
    assert kept.read(path) is None
    with pytest.raises(OutputError, match="; choose "):
        kept.write(path, {"a": PIXELS})


def test_where_nothing_can_be_kept_nothing_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = load("pocket", embeddings=tmp_path / "kept")
    (tmp_path / "kept").write_bytes(b"mine")

    def encode(pixels: np.ndarray) -> None:
        raise AssertionError("encoded for nothing")

    monkeypatch.setattr(keeping.runtime, "encode", encode)
    with pytest.raises(OutputError, match="cannot be written"):
        keeping.embed(cat())
