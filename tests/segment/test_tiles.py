"""Everything in tiles: what they cover, and that what they cut is joined."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from mobilesam import ConfigError, EverythingOptions, LimitError, Model, Prompt, PromptError
from mobilesam.core.rle import mask_to_rle
from mobilesam.core.types import FoundMask
from mobilesam.segment.everything.tiles import Seams, tile_boxes

SIZE = (300, 700)
TILES = tile_boxes(SIZE, 300, 60)


def in_tile(mask: np.ndarray, number: int, score: float = 0.8) -> FoundMask:
    """What a model that sees one tile would find of a mask of the image."""
    x0, y0, x1, y1 = TILES[number]
    inside = mask[y0:y1, x0:x1]
    rows, columns = np.nonzero(inside)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return FoundMask(mask_to_rle(inside), box, score, 0.9, (5.0, 5.0), (0, 0, x1 - x0, y1 - y0))


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize(
    ("size", "side", "overlap"), [((300, 700), 300, 60), ((1000, 1000), 64, 0), ((90, 40), 64, 31)]
)
def test_tiles_cover_the_image_and_share_enough(size: tuple[int, int], side: int, overlap: int) -> None:
    boxes = tile_boxes(size, side, overlap)
    seen = np.zeros(size, int)
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
        assert (x1 - x0, y1 - y0) == (min(side, size[1]), min(side, size[0]))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
    columns = sorted({(x0, x1) for x0, _, x1, _ in boxes})
    assert all(end - start >= overlap for (_, end), (start, _) in pairwise(columns))


def test_what_tiles_cut_is_joined_and_what_two_see_whole_comes_once() -> None:
    long, small, alone = rectangle(50, 100, 650, 160), rectangle(210, 200, 250, 240), rectangle(5, 5, 40, 40)
    seams = Seams(TILES, SIZE)
    assert len(TILES) == 3
    seams.add(0, [in_tile(long, 0), in_tile(small, 0, score=0.7), in_tile(alone, 0)])
    seams.add(1, [in_tile(long, 1), in_tile(small, 1, score=0.9)])
    seams.add(2, [in_tile(long, 2)])
    found = list(seams.joined())
    for wanted in (long, small, alone):
        (one,) = [mask for mask in found if (mask.mask == wanted).all()]
        rows, columns = np.nonzero(wanted)
        assert one.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert len(found) == 3
    assert sorted(mask.predicted_iou for mask in found) == pytest.approx([0.8, 0.8, 0.9])


def test_two_things_of_one_tile_are_never_joined() -> None:
    """What is one thing in a tile's band may be two in the other's: only the likest is taken."""
    one, other = rectangle(190, 100, 300, 160), rectangle(190, 100, 300, 150)
    seams = Seams(TILES, SIZE)
    seams.add(0, [in_tile(one, 0), in_tile(other, 0)])
    seams.add(1, [in_tile(one, 1)])
    assert sorted(mask.area for mask in seams.joined()) == sorted([int(one.sum()), int(other[:, :300].sum())])


@pytest.mark.long
def test_a_mosaic_from_a_mapped_file(pocket: Model, tmp_path: Path) -> None:
    """The file is read where it lies, and things on seams come whole."""
    photo = np.asarray(data.coffee())[:400, :600]
    image = np.memmap(tmp_path / "mosaic.raw", np.uint8, "w+", shape=(400, 1200, 3))
    image[:, :600], image[:, 600:] = photo, photo[:, ::-1]
    options = EverythingOptions(max_prompts=48, tile=400, overlap=150)
    calls: list[tuple[int, int]] = []
    found = pocket.everything(image, options, max_pixels=1, progress=lambda *count: calls.append(count))
    assert np.shares_memory(found.image, image)
    done = [count for count, _ in calls]
    assert done == sorted(done) and calls[-1][0] <= calls[-1][1]
    areas = [mask.area for mask in found]
    assert len(areas) == len(set(areas)) > 10
    for x in (0, 600):  # the cup, which no tile shows without cutting it or the saucer
        box = [90, 20, 420, 390] if x == 0 else [780, 20, 1110, 390]
        cup = pocket.segment(pocket.embed(np.array(image)), Prompt(box=box))
        best = max((m.mask & cup.mask).sum() / (m.mask | cup.mask).sum() for m in found)
        assert best > 0.7


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"overlap": 9}, ConfigError, "give tile as well"),
        ({"tile": 63}, PromptError, "tile: is 63"),
        ({"tile": 100, "overlap": 50}, LimitError, "overlap: is 50"),
    ],
)
def test_mistakes(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EverythingOptions(**changes)


@pytest.mark.long
def test_four_hundred_megapixels(pocket: Model, tmp_path: Path) -> None:
    """20,000 x 20,000 pixels in a mapped file, photos strewn over them: the memory of a search is a tile's."""
    side, photo = 20_000, np.asarray(data.coffee())[:400, :600]
    image = np.memmap(tmp_path / "field.raw", np.uint8, "w+", shape=(side, side, 3))
    places = [(1850, 1700), (9990, 12_000), (19_500, 19_300), (5000, 200)]  # some lie on seams
    for y, x in places:
        image[y : y + 400, x : x + 600] = photo
    image.flush()
    before = private_megabytes()
    pocket.everything(np.asarray(image[:2048, :2048]), EverythingOptions(max_prompts=16))
    one_tile = private_megabytes()
    found = pocket.everything(image, EverythingOptions(max_prompts=16, tile=2048, overlap=512))
    print(
        f"{len(found)} masks; {one_tile - before:.0f} MB after one tile, {private_megabytes() - before:.0f} after all"
    )
    assert private_megabytes() - one_tile < 150
    for y, x in places:
        inside = [m for m in found if x <= m.point[0] < x + 600 and y <= m.point[1] < y + 400]
        assert inside


def private_megabytes() -> float:
    """The memory of this process that is not a mapped file."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is read from /proc, which this system has not")
    return int(status.read_text().split("RssAnon:")[1].split()[0]) / 1024
