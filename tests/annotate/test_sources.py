"""Outputs of two images never share a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilesam.annotate.outputs import Folder, Name
from mobilesam.annotate.sources import Source, find_sources
from mobilesam.core.errors import ConfigError


def test_sources(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.webp", "sub/a.jpg", ".c.jpg", ".git/d.jpg", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [source.stem for source in find_sources([tmp_path]).sources] == ["a", "b", str(Path("sub") / "a")]


def test_a_clash_in_case_alone(tmp_path: Path) -> None:
    for name in ("a.jpg", "A.JPG"):
        (tmp_path / name).write_bytes(b"")
    stems = [source.stem for source in find_sources([tmp_path]).sources]
    assert len({stem.casefold() for stem in stems}) == 2


def test_same_stem_keeps_its_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.webp"):
        (tmp_path / name).write_bytes(b"")
    assert [source.stem for source in find_sources([tmp_path]).sources] == ["a_jpg", "a_png", "b"]
    assert [source.stem for source in find_sources([tmp_path / "a.jpg"]).sources] == ["a"]


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    for folder in "xy":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"")
    sources = find_sources([tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"]).sources
    assert [source.stem for source in sources] == ["a_jpg", "a_jpg_2"]


def test_names_that_look_like_ours(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a_jpg.png", "a_jpg_2.png"):
        (tmp_path / name).write_bytes(b"")
    stems = [source.stem for source in find_sources([tmp_path]).sources]
    assert len(set(stems)) == 4


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(ConfigError, match="holds no images"):
        find_sources([tmp_path])


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    for name in ("a.jpg", "a_1_mask.png", "b_everything_masks/0001.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    inputs = frozenset(path.resolve() for path in tmp_path.rglob("*.*"))
    folder = Folder(tmp_path, overwrite=True, inputs=inputs)
    place = folder.place(Source("a.jpg", "a", b""), [Name("mask.png", 0)])
    assert place.path(Name("mask.png", 0)) == tmp_path / "a_2_mask.png"
    place = folder.place(Source("b.jpg", "b", b""), [Name("everything_masks", folder=True)])
    assert place.path(Name("everything_masks", folder=True)) == tmp_path / "b_2_everything_masks"


def test_a_folder_cannot_be_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="is the folder of the results, too"):
        find_sources([tmp_path], beside=tmp_path)
