"""Sets of every format as evaluation and training see them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from mobilesam.core.errors import ConfigError, SetWarning
from mobilesam.evaluate.sets import read_countable
from mobilesam.formats.datasets.load import read_dataset, write_dataset
from mobilesam.formats.datasets.model import LabelledPhoto, make_dataset
from mobilesam.formats.datasets.photos import read_photos
from tests.labelled import SIZE, disc, masked, small_set
from tests.photos import write_set


@pytest.mark.parametrize("name", ["coco", "record", "yolo", "voc", "labelme", "sa1b", "png"])
def test_a_set_of_any_format_is_scored_and_trained_with(name: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    wanted = read_photos(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "images").symlink_to(folder / "images")
    write_dataset(read_dataset(folder), other, [name])
    found = read_photos(other, follow_symlinks=True)
    assert [photo.path.name for photo in found] == [photo.path.name for photo in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.width, mine.height) == (theirs.width, theirs.height)
        for one, truth in zip(mine.instances, theirs.instances, strict=True):
            lost = truth.segmentation.area - one.segmentation.area
            assert (
                name == "voc" or abs(lost) <= 0.02 * truth.segmentation.area
            )  # VOC's objects hide each other
    assert len(read_countable(other, 0.002, follow_symlinks=True)) == 4


def test_what_has_no_mask_is_left_out_and_told(tmp_path: Path) -> None:
    dataset = small_set(tmp_path / "images")
    crowd = LabelledPhoto("a.png", SIZE, (masked(disc(50, 40, 20), iscrowd=True),))
    write_dataset(make_dataset([*dataset.photos[1:], crowd]), tmp_path, ["record"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read_photos(tmp_path)
    assert [str(one.message).partition(": ")[2] for one in told] == [
        "1 crowds mark groups, not objects; they are left out",
        "1 objects have boxes, but no masks; they are left out",
    ]
    assert all(one.category is SetWarning for one in told)
    assert [len(photo.instances) for photo in found] == [1, 0, 0]


def test_what_is_no_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"a set is a folder with instances.json and images/, or one in another"
    ):
        read_photos(tmp_path)
    write_dataset(small_set(), tmp_path, ["labelme"])
    with pytest.raises(ConfigError, match="3 of its photos are missing"):
        read_photos(tmp_path)
