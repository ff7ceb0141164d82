"""The review of a set: the most doubtful photos first, photos that look alike, a page that opens from a disk."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from mobilesam.annotate.review import MOST_ROWS, chart, find_alike, look_of, rank, write_review
from mobilesam.formats.datasets.model import LabelledPhoto, make_dataset
from tests.labelled import SIZE, disc, masked, small_set
from tests.photos import cat, jpeg


def test_the_least_sure_comes_first_and_the_empty_last() -> None:
    def photo(name: str, *facts: dict) -> LabelledPhoto:
        return LabelledPhoto(name, SIZE, tuple(masked(disc(50, 40, 9), facts=one) for one in facts))

    dataset = make_dataset(
        [
            photo("empty.png"),
            photo("sure.png", {"predicted_iou": 0.9, "stability_score": 0.95}),
            photo("human.png", {}),
            photo("unsure.png", {"predicted_iou": 0.8}, {"predicted_iou": 0.9, "stability_score": 0.31}),
        ]
    )
    doubts = rank(dataset)
    assert [one.file_name for one in doubts] == ["unsure.png", "sure.png", "human.png", "empty.png"]
    assert doubts[0].why == "object 2 (cat): stability score 0.31"
    assert doubts[-1].why == "no object"


def test_copies_look_alike_and_other_photos_do_not() -> None:
    image = cat()
    small = np.asarray(Image.fromarray(image).resize((200, 133)))
    pale = np.clip(image.astype(int) // 2 + 90, 0, 255).astype(np.uint8)
    looks = {
        "cat.jpg": look_of(image),
        "small.jpg": look_of(small),
        "pale.jpg": look_of(pale),
        "flipped.jpg": look_of(np.ascontiguousarray(image[:, ::-1])),
        "turned.jpg": look_of(np.ascontiguousarray(image.transpose(1, 0, 2))),
    }
    dataset = make_dataset([LabelledPhoto(name, SIZE, look=look) for name, look in looks.items()])
    assert find_alike(dataset) == [["cat.jpg", "small.jpg", "pale.jpg"]]


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        self.found += [value for key, value in attributes if key in ("src", "href")]


def test_the_page_opens_from_a_disk_and_shows_every_photo(tmp_path: Path) -> None:
    dataset = small_set(tmp_path / "images")
    evil = replace(dataset.photos[2], file_name="<script>alert(1)<&script>.png", id=1)
    dataset = replace(dataset, photos=(*dataset.photos, evil))
    files = write_review(dataset, tmp_path)
    page = (tmp_path / "review" / "index.html").read_text()
    links = Links()
    links.feed(page)
    assert "script" not in links.tags
    assert len(set(links.found)) == 3
    assert all((tmp_path / "review" / link).is_file() for link in links.found)
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)
    with (tmp_path / "review" / "review.csv").open() as file:
        assert [row["objects"] for row in csv.DictReader(file)] == ["2", "2", "0", "0"]
    with Image.open(tmp_path / "review" / "pictures" / "001.jpg") as picture:
        assert picture.size == SIZE[::-1]
        assert np.ptp(np.asarray(picture), axis=(0, 1)).min() > 30  # the photo is black, the masks are drawn
    again = {path: path.read_bytes() for path in files}
    write_review(dataset, tmp_path)
    assert again == {path: path.read_bytes() for path in files}


def test_photos_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(jpeg(cat()))
    photo = LabelledPhoto("a.jpg", (300, 451), (masked(disc(50, 40, 9, (300, 451))),))
    files = write_review(make_dataset([photo]), tmp_path / "set", [("a.jpg", tmp_path / "mine.jpg")])
    assert [path.suffix for path in files].count(".jpg") == 1


def test_charts_have_a_bar_for_each_row() -> None:
    svg = chart([("cat", 10), ("a <dog>", 5), ("none", 0)])
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths[1] == widths[0] / 2
    assert widths[2] == 0
    assert "a &lt;dog&gt;" in svg
    assert chart([(str(i), i) for i in range(1000)]).count("<rect") == MOST_ROWS
