"""How many objects a search in tiles finds, beside a search without: on mosaics of photos with human masks.

    python bench/tiles.py ../shared/data/eval/coco_val [--mosaics 6] [--side 3] [--tile 1024]

A mosaic has side x side photos of one size, so tiles cut some of them. Its objects are those of the photos. One is
found if a mask has an IoU of 0.5 and more with it; the average recall is that of the IoUs from 0.50 to 0.95. It is
asked three times: in tiles, in one look at the whole mosaic with as many prompts, and photo by photo with as many
prompts for each as a tile has. Objects are counted by how tiles show them: none cuts them, some do, or each that shows
them does.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mobilesam import EverythingOptions, Model, load
from mobilesam.core.grids import Crop
from mobilesam.core.metrics import RECALL_THRESHOLDS, mask_ious
from mobilesam.core.rle import Rle, rle_to_mask, window_to_rle
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.everything.tiles import tile_boxes

UNCUT, CUT, WHOLE_IN_NONE = WAYS = ("cut by no tile", "cut by some", "cut by each")
TILED, ONE_LOOK, BY_PHOTO = SEARCHES = ("in tiles", "in one look", "photo by photo")
LEAST_IOU = 0.5


@dataclass(frozen=True)
class Mosaic:
    """Photos side by side.

    Attributes:
        image: (H, W, 3).
        photos: where each is, x0, y0, x1, y1.
        objects: their masks in the mosaic.
    """

    image: np.ndarray
    photos: tuple[Crop, ...]
    objects: tuple[Rle, ...]


def mosaics_of(photos: Iterable[SetPhoto], side: int) -> Iterator[Mosaic]:
    """Yield mosaics of ``side`` x ``side`` photos, all of the size that most have; each photo is used once."""
    photos = list(photos)
    (height, width), _ = Counter((one.height, one.width) for one in photos).most_common(1)[0]
    chosen = [one for one in photos if (one.height, one.width) == (height, width)]
    count = side * side
    for start in range(0, len(chosen) - count + 1, count):
        image = np.empty((side * height, side * width, 3), np.uint8)
        places, objects = [], []
        for i, photo in enumerate(chosen[start : start + count]):
            y, x = (i // side) * height, (i % side) * width
            image[y : y + height, x : x + width] = read_photo(photo)
            places.append((x, y, x + width, y + height))
            objects += [placed(one.segmentation, (x, y), image.shape[:2]) for one in photo.instances]
        yield Mosaic(image, tuple(places), tuple(objects))


def placed(mask: Rle, place: tuple[int, int], size: tuple[int, ...]) -> Rle:
    """Return a photo's mask in the mosaic of (height, width)."""
    return window_to_rle(rle_to_mask(mask), place, (size[0], size[1]))


def way_of(mask: Rle, tiles: Sequence[Crop]) -> str:
    """Return how tiles show an object."""
    array = rle_to_mask(mask)
    shown = [int(array[y0:y1, x0:x1].sum()) for x0, y0, x1, y1 in tiles]
    parts = {0 if not one else 2 if one == mask.area else 1 for one in shown}
    return WHOLE_IN_NONE if 2 not in parts else CUT if 1 in parts else UNCUT


def best_ious(model: Model, mosaic: Mosaic, options: EverythingOptions, search: str) -> np.ndarray:
    """Return, for each object, the IoU of the mask that is nearest to it."""
    size = mosaic.image.shape[:2]
    if search == BY_PHOTO:
        found = [
            placed(mask.rle, (x0, y0), size)
            for x0, y0, x1, y1 in mosaic.photos
            for mask in model.everything(np.ascontiguousarray(mosaic.image[y0:y1, x0:x1]), options)
        ]
    else:
        found = [mask.rle for mask in model.everything(mosaic.image, options)]
    return mask_ious(found, mosaic.objects).max(0, initial=0.0)


def measure(
    model: Model, mosaics: Iterable[Mosaic], tile: int, prompts: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return how tiles show each object, and the IoU of its nearest mask for each search."""
    ways: list[str] = []
    ious: dict[str, list[np.ndarray]] = {search: [] for search in SEARCHES}
    for mosaic in mosaics:
        options = EverythingOptions(tile=tile, max_prompts=prompts)
        tiles = tile_boxes(mosaic.image.shape[:2], tile, options.tile_overlap)
        ways += [way_of(one, tiles) for one in mosaic.objects]
        all_prompts = EverythingOptions(max_prompts=prompts * len(tiles))
        each = {TILED: options, ONE_LOOK: all_prompts, BY_PHOTO: EverythingOptions(max_prompts=prompts)}
        for search in SEARCHES:
            ious[search].append(best_ious(model, mosaic, each[search], search))
    return np.array(ways), {search: np.concatenate(one) for search, one in ious.items()}


def recall(ious: np.ndarray) -> tuple[float, float]:
    """Return the share of objects that are found, and the average recall."""
    return float((ious >= LEAST_IOU).mean()), float((ious[:, None] >= RECALL_THRESHOLDS).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", type=Path)
    parser.add_argument("--mosaics", type=int, default=6)
    parser.add_argument("--side", type=int, default=3)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--prompts", type=int, default=256)
    options = parser.parse_args()
    mosaics = list(islice(mosaics_of(read_photos(options.set), options.side), options.mosaics))
    ways, ious = measure(load("pocket", threads=1), mosaics, options.tile, options.prompts)
    print(
        f"{len(mosaics)} mosaics of {mosaics[0].image.shape[1]} x {mosaics[0].image.shape[0]}, tiles of {options.tile}"
    )
    print(f"{'objects':<20}{'':>6}" + "".join(f"{search:>18}" for search in SEARCHES))
    for way in (*WAYS, "all"):
        chosen = np.ones(len(ways), bool) if way == "all" else ways == way
        if chosen.any():
            values = [recall(ious[search][chosen]) for search in SEARCHES]
            print(
                f"{way:<20}{chosen.sum():>6}"
                + "".join(f"{found:>10.3f} {mean:>7.3f}" for found, mean in values)
            )


if __name__ == "__main__":
    main()
