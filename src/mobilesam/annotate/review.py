"""What to look at in a set before it is used: a list and a page, the most doubtful photos first.

The page is one HTML file with pictures beside it. It opens from a disk, and loads nothing from elsewhere.
"""

from __future__ import annotations

import csv
import html
import io
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from mobilesam.core.arrays import Image
from mobilesam.core.errors import MobileSamError
from mobilesam.core.resize import resize_image
from mobilesam.core.rle import mask_to_rle, rle_to_mask
from mobilesam.core.text import counted
from mobilesam.draw.overlay import draw_numbered
from mobilesam.formats.datasets.model import Dataset, LabelledObject, LabelledPhoto
from mobilesam.formats.image import read_image
from mobilesam.storage.atomic import write_bytes

FOLDER, PAGE, LIST, PICTURES = "review", "index.html", "review.csv", "pictures"
MOST_PICTURES = 60  # of the most doubtful photos
PICTURE_SIDE = 360  # pixels of a picture's longer side
JPEG_QUALITY = 85
DOUBTFUL = ("predicted_iou", "stability_score")
LOOK_SIDE = 8  # cells of a photo's look along each side
ALIKE_BITS = 4  # of 64, in which the looks of photos that look alike may differ
COMPARED_AT_ONCE = 2**12  # pairs of photos
BARS = 20  # of a histogram
MOST_ROWS = 200  # of a list on the page
WIDTH, BAR, GAP = 640, 16, 6  # pixels of a chart


def look_of(image: Image) -> str:
    """Return the look of an image (H, W, 3): for each of 8 x 8 cells, whether it is brighter than its right neighbour.

    Copies that were scaled, compressed or recoloured a little have nearly the same (the difference hash).

    Example:
        >>> look_of(np.zeros((30, 40, 3), np.uint8))
        '0000000000000000'
    """
    small = resize_image(image, (LOOK_SIDE, LOOK_SIDE + 1)).astype(np.int64).sum(2)
    bits = np.packbits(small[:, :-1] > small[:, 1:])
    return bits.tobytes().hex()


@dataclass(frozen=True, slots=True)
class Doubt:
    """How doubtful a photo's labels are.

    Attributes:
        number: of the photo in the set, from 0.
        file_name: its name.
        objects: how many it has.
        score: the lowest predicted IoU or stability among its objects, 0..1; 1 where nothing is known.
        why: in words.
    """

    number: int
    file_name: str
    objects: int
    score: float
    why: str


def rank(dataset: Dataset) -> list[Doubt]:
    """Return the photos, the most doubtful first; those without objects have nothing to doubt, and come last."""
    doubts = [_doubt(number, photo) for number, photo in enumerate(dataset.photos)]
    return sorted(doubts, key=lambda one: (not one.objects, one.score, one.file_name))


def _doubt(number: int, photo: LabelledPhoto) -> Doubt:
    worst, why = 1.0, "no object" if not photo.objects else ""
    for place, one in enumerate(photo.objects, start=1):
        for fact in DOUBTFUL:
            value = one.facts.get(fact)
            if isinstance(value, int | float) and value < worst:
                worst, why = (
                    float(value),
                    f"object {place} ({one.label}): {fact.replace('_', ' ')} {value:.2f}",
                )
    told = "; ".join([why, *photo.remarks] if why else photo.remarks)
    return Doubt(number, photo.file_name, len(photo.objects), worst, told)


def find_alike(dataset: Dataset) -> list[list[str]]:
    """Return groups of photos that look alike, by their names: those with the same bytes, or nearly the same look."""
    numbers = array("Q", (number for number, photo in enumerate(dataset.heads) if photo.look))
    looks = np.array(array("Q", (int(photo.look, 16) for photo in dataset.heads if photo.look)), np.uint64)
    group = array("Q", range(len(looks)))

    def root(number: int) -> int:
        while group[number] != number:
            number = group[number]
        return number

    at_once = max(1, COMPARED_AT_ONCE // max(1, len(looks)))
    for start in range(0, len(looks), at_once):
        apart = np.bitwise_count(looks[start : start + at_once, None] ^ looks[None])
        for one, other in np.argwhere(apart <= ALIKE_BITS):
            first, second = root(start + int(one)), root(int(other))
            group[max(first, second)] = min(first, second)
    roots = np.fromiter(map(root, range(len(looks))), np.int64, len(looks))
    members: dict[int, list[str]] = {}
    for i in np.flatnonzero(np.bincount(roots)[roots] > 1):
        members.setdefault(int(roots[i]), []).append(dataset.photos[numbers[i]].file_name)
    return list(members.values())


def write_review(dataset: Dataset, out: Path, places: Iterable[tuple[str, Path]] = ()) -> list[Path]:
    """Write ``review/`` into a set's folder, over an earlier one, and return its files.

    Args:
        dataset: what is reviewed.
        out: the set's folder.
        places: names of photos, and where these lie; others lie where the set says. Photos that cannot be read
            have no picture.

    Raises:
        OutputError: if something cannot be written.
    """
    doubts = rank(dataset)
    folder = out / FOLDER
    files = {LIST: _to_csv(doubts)}
    pictures: dict[str, str] = {}
    worst = doubts[:MOST_PICTURES]
    wanted = {one.file_name for one in worst}
    place_of = {name: place for name, place in places if name in wanted}
    for number, doubt in enumerate(worst, start=1):
        picture = _draw(dataset.photos[doubt.number], place_of.get(doubt.file_name), dataset)
        if picture is not None:
            name = f"{PICTURES}/{number:03}.jpg"
            pictures[doubt.file_name] = name
            files[name] = picture
    files[PAGE] = to_page(dataset, doubts, pictures).encode()
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def _to_csv(doubts: Sequence[Doubt]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file_name", "score", "objects", "why"])
    for one in doubts:
        rows.writerow([one.file_name, f"{one.score:.4f}", one.objects, one.why])
    return text.getvalue().encode()


def _draw(photo: LabelledPhoto, place: Path | None, dataset: Dataset) -> bytes | None:
    """Return a small JPEG of a photo with its masks; None where it cannot be read."""
    try:
        image = read_image(place or dataset.path(photo))
    except MobileSamError:
        return None
    if image.shape[:2] != photo.size:
        return None
    height, width = photo.size
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = resize_image(image, size)
    masks = [mask_to_rle(_reduce(one, photo, size)) for one in photo.objects]
    buffer = io.BytesIO()
    PillowImage.fromarray(draw_numbered(small, masks)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _reduce(one: LabelledObject, photo: LabelledPhoto, size: tuple[int, int]) -> np.ndarray:
    """Return an object's mask, or its box, at a picture's size."""
    if one.mask is not None:
        whole = rle_to_mask(one.mask)
    else:
        whole = np.zeros(photo.size, bool)
        x0, y0, x1, y1 = (int(value) for value in one.box)
        whole[y0:y1, x0:x1] = True
    rows = (np.arange(size[0]) + 0.5) * photo.size[0] / size[0]
    columns = (np.arange(size[1]) + 0.5) * photo.size[1] / size[1]
    return whole[rows.astype(int)][:, columns.astype(int)]


def to_page(dataset: Dataset, doubts: Sequence[Doubt], pictures: dict[str, str]) -> str:
    """Return the page as HTML; names and labels are quoted, whatever is in them."""
    labels: Counter[str] = Counter()
    powers: Counter[int] = Counter()
    for photo in dataset.photos:
        labels.update(one.label for one in photo.objects)
        powers.update(math.frexp(max(one.pixels, 1.0))[1] - 1 for one in photo.objects)
    empty = [one.file_name for one in sorted(doubts, key=lambda one: one.number) if not one.objects]
    alike = find_alike(dataset)
    counts = {one.name: labels[one.name] for one in dataset.categories}
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Review</title><style>',
            "body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 1200px; color: #222; background: #fff }",
            "main { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 16px }",
            "figure { margin: 0 } img { max-width: 100%; border: 1px solid #bbb }",
            "figcaption { font-size: 13px; overflow-wrap: anywhere } svg { display: block; max-width: 100% }",
            "</style></head><body>",
            f"<h1>{counted(len(dataset.photos), 'photos')}, {counted(labels.total(), 'objects')}</h1>",
            f"<h2>Most doubtful first</h2><p>The first {len(pictures)} of {LIST}. The number is the lowest predicted "
            "IoU or stability of the photo's objects.</p>",
            "<main>",
            *(_figure(one, pictures[one.file_name]) for one in doubts if one.file_name in pictures),
            "</main>",
            "<h2>Objects of each category</h2>",
            chart(list(counts.items())),
            "<h2>Sizes of objects</h2><p>Up to 32 x 32 pixels are small, from 96 x 96 large.</p>",
            chart(_sizes(powers)),
            "<h2>Objects of a photo</h2>",
            chart(_per_photo(doubts)),
            f"<h2>Photos without objects: {len(empty):,}</h2>",
            _list(empty),
            f"<h2>Photos that look alike: {len(alike):,} groups</h2>",
            _list([", ".join(names) for names in alike]),
            "</body></html>",
            "",
        ]
    )


def _figure(one: Doubt, picture: str) -> str:
    name, why = html.escape(one.file_name), html.escape(one.why)
    return (
        f'<figure><a href="{picture}"><img src="{picture}" alt="{name}" loading="lazy"></a>'
        f"<figcaption><b>{one.score:.2f}</b> {name}<br>{why}</figcaption></figure>"
    )


def _list(rows: Sequence[str]) -> str:
    if not rows:
        return "<p>none</p>"
    shown = "".join(f"<li>{html.escape(row)}</li>" for row in rows[:MOST_ROWS])
    more = f"<p>and {len(rows) - MOST_ROWS:,} more</p>" if len(rows) > MOST_ROWS else ""
    return f"<ul>{shown}</ul>{more}"


def _sizes(powers: Counter[int]) -> list[tuple[str, int]]:
    """Return how many objects have an area of each power of two and more, up to the next."""
    if not powers:
        return []
    return [(f"{2**p:,} pixels and more", powers[p]) for p in range(min(powers), max(powers) + 1)]


def _per_photo(doubts: Sequence[Doubt]) -> list[tuple[str, int]]:
    counts = Counter(min(one.objects, BARS) for one in doubts)
    last = max(counts, default=-1)
    return [(f"{n}{' and more' if n == BARS else ''}", counts[n]) for n in range(last + 1)]


def chart(rows: Sequence[tuple[str, int]]) -> str:
    """Return horizontal bars with their names and numbers as SVG."""
    if not rows:
        return "<p>none</p>"
    rows, left = rows[:MOST_ROWS], 220
    longest = max(1, *(count for _, count in rows))
    parts = []
    for i, (name, count) in enumerate(rows):
        y = i * (BAR + GAP)
        length = (WIDTH - left - 60) * count / longest
        short = name if len(name) <= 28 else f"{name[:27]}…"
        parts.append(
            f'<text x="{left - 8}" y="{y + BAR - 4}" text-anchor="end">{html.escape(short)}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" fill="#3a7ca5"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + BAR - 4}">{count:,}</text>'
        )
    height = len(rows) * (BAR + GAP)
    return f'<svg width="{WIDTH}" height="{height}" font-size="13" font-family="sans-serif">{"".join(parts)}</svg>'
