"""Searching an image that is much larger than what a model sees at once: tile by tile, and joined at the seams.

Neighbouring tiles share a band. Masks of two tiles that are the same in their band are one thing: where one of
them shows it whole, that one stays; otherwise they are joined. Only one tile's pixels and embedding are in memory
at a time. Masks are kept as runs, with a coarse copy of their part in the bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mobilesam.core.arrays import Image, Mask, Size
from mobilesam.core.grids import Crop
from mobilesam.core.rle import rle_to_mask, rle_union, window_to_rle
from mobilesam.core.types import FoundMask

SAME_IN_BAND = 0.5  # least IoU of two masks in the band of their tiles that makes them one thing
LEAST_IN_BAND = 12  # cells: a mask with fewer in a band is not compared there
BAND_CELLS = 64  # along a band's longer side: the resolution at which masks are compared
EDGE_CELLS = 128  # in a tile's side; a mask that ends within a cell of an inner edge is cut by it


@dataclass(frozen=True, eq=False)
class TileMask:
    """A mask of one tile.

    Attributes:
        tile: the tile's number.
        mask: its place in the whole image.
        cut: whether it reaches an edge of the tile beyond which the image continues.
        bands: its cells in the bands that the tile shares, by the other tile's number; flat.
    """

    tile: int
    mask: FoundMask
    cut: bool
    bands: dict[int, np.ndarray]


def tile_boxes(size: Size, side: int, overlap: int) -> list[Crop]:
    """Return tiles (x0, y0, x1, y1) that cover an image of (height, width), evenly spread, row by row.

    Example:
        >>> tile_boxes((100, 250), 100, 20)
        [(0, 0, 100, 100), (75, 0, 175, 100), (150, 0, 250, 100)]
    """
    return [
        (x, y, min(x + side, size[1]), min(y + side, size[0]))
        for y, x in product(_starts(size[0], side, overlap), _starts(size[1], side, overlap))
    ]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def pixels_of(image: Image, tile: Crop) -> Image:
    """Return a tile's pixels, copied from wherever the image is stored."""
    x0, y0, x1, y1 = tile
    return np.array(image[y0:y1, x0:x1])


class Seams:
    """Gathers the masks of all tiles and joins what tiles cut.

    Args:
        tiles: as :func:`tile_boxes` returns them.
        size: (height, width) of the image.
    """

    def __init__(self, tiles: list[Crop], size: Size) -> None:
        self.tiles, self.size = tiles, size
        self._found: list[TileMask] = []

    def add(self, number: int, masks: Iterable[FoundMask]) -> None:
        """Take the masks of a tile, in its own pixels."""
        tile = self.tiles[number]
        bands = {
            other: band
            for other, box in enumerate(self.tiles)
            if other != number and (band := _shared(tile, box)) is not None
        }
        for mask in masks:
            window = rle_to_mask(mask.rle)
            if window.any():
                cells = {other: _cells(window, tile, band) for other, band in bands.items()}
                self._found.append(
                    TileMask(
                        number, self._in_image(mask, window, tile), _is_cut(mask, tile, self.size), cells
                    )
                )

    def _in_image(self, mask: FoundMask, window: Mask, tile: Crop) -> FoundMask:
        x, y = tile[:2]
        x0, y0, x1, y1 = mask.box
        return replace(
            mask,
            rle=window_to_rle(window[y0:y1, x0:x1], (x0 + x, y0 + y), self.size),
            box=(x0 + x, y0 + y, x1 + x, y1 + y),
            point=(mask.point[0] + x, mask.point[1] + y),
            crop=tile,
        )

    def joined(self) -> Iterator[FoundMask]:
        """Yield each thing once."""
        for group in self._groups():
            members = [self._found[i] for i in group]
            whole = [one.mask for one in members if not one.cut]
            if whole:
                yield max(whole, key=lambda mask: mask.score)
            else:
                yield _union([one.mask for one in members])

    def _groups(self) -> list[list[int]]:
        """Return the numbers of masks that are one thing, the most alike first; at most one from each tile."""
        group_of = list(range(len(self._found)))
        groups = {i: [i] for i in group_of}
        for _, i, j in sorted(self._pairs(), reverse=True):
            a, b = group_of[i], group_of[j]
            tiles = [self._found[one].tile for one in groups[a] + groups[b]]
            if a == b or len(set(tiles)) < len(tiles):
                continue
            for one in groups[b]:
                group_of[one] = a
            groups[a] += groups.pop(b)
        return list(groups.values())

    def _pairs(self) -> Iterator[tuple[float, int, int]]:
        """Yield (IoU in the band, mask, mask) for masks that may be one thing."""
        by_tile: dict[int, list[int]] = {}
        for i, one in enumerate(self._found):
            by_tile.setdefault(one.tile, []).append(i)
        for first, mine in by_tile.items():
            for second in sorted({other for i in mine for other in self._found[i].bands if other > first}):
                theirs = by_tile.get(second, [])
                yield from _alike(self._in_band(mine, second), self._in_band(theirs, first))

    def _in_band(self, masks: list[int], other: int) -> list[tuple[int, np.ndarray]]:
        cells = ((i, self._found[i].bands[other]) for i in masks)
        return [(i, one) for i, one in cells if np.count_nonzero(one) >= LEAST_IN_BAND]


def _alike(
    mine: list[tuple[int, np.ndarray]], theirs: list[tuple[int, np.ndarray]]
) -> Iterator[tuple[float, int, int]]:
    if not mine or not theirs:
        return
    a = np.stack([cells for _, cells in mine]).astype(np.float32)
    b = np.stack([cells for _, cells in theirs]).astype(np.float32)
    shared = a @ b.T
    iou = shared / (a.sum(1)[:, None] + b.sum(1) - shared)
    for row, column in zip(*np.nonzero(iou >= SAME_IN_BAND), strict=True):
        yield float(iou[row, column]), mine[row][0], theirs[column][0]


def _shared(one: Crop, other: Crop) -> Crop | None:
    x0, y0, x1, y1 = (
        max(one[0], other[0]),
        max(one[1], other[1]),
        min(one[2], other[2]),
        min(one[3], other[3]),
    )
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _cells(window: Mask, tile: Crop, band: Crop) -> np.ndarray:
    """Return a tile's mask in a band, flat, at the resolution at which masks are compared."""
    x0, y0, x1, y1 = band
    step = max(1, max(x1 - x0, y1 - y0) // BAND_CELLS)
    return window[y0 - tile[1] : y1 - tile[1] : step, x0 - tile[0] : x1 - tile[0] : step].ravel()


def _is_cut(mask: FoundMask, tile: Crop, size: Size) -> bool:
    """Whether a mask in a tile's pixels ends at an edge of the tile beyond which the image continues."""
    x0, y0, x1, y1 = mask.box
    width, height = tile[2] - tile[0], tile[3] - tile[1]
    near = max(1, max(width, height) // EDGE_CELLS)
    return (
        (x0 < near and tile[0] > 0)
        or (y0 < near and tile[1] > 0)
        or (x1 > width - near and tile[2] < size[1])
        or (y1 > height - near and tile[3] < size[0])
    )


def _union(masks: list[FoundMask]) -> FoundMask:
    """Return one mask made of several that show its parts; its scores are theirs, weighted by area."""
    if len(masks) == 1:
        return masks[0]
    areas = np.array([mask.area for mask in masks], float)
    boxes = np.array([mask.box for mask in masks])
    x0, y0 = boxes[:, :2].min(0)
    x1, y1 = boxes[:, 2:].max(0)
    crops = np.array([mask.crop for mask in masks]).T
    largest = masks[int(areas.argmax())]
    return replace(
        largest,
        rle=rle_union([mask.rle for mask in masks]),
        box=(int(x0), int(y0), int(x1), int(y1)),
        predicted_iou=float(np.average([mask.predicted_iou for mask in masks], weights=areas)),
        stability_score=float(np.average([mask.stability_score for mask in masks], weights=areas)),
        crop=(int(crops[0].min()), int(crops[1].min()), int(crops[2].max()), int(crops[3].max())),
        objectness=max(mask.objectness for mask in masks),
    )
