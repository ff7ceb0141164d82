"""Outlines of masks for formats that have polygons, and masks from such outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import mask_ious
from mobilesam.core.polygons import Polygon, mask_to_polygons, polygons_to_ring
from mobilesam.core.rle import Rle, mask_to_rle, polygons_to_rle, rle_to_mask

TOLERANCES = (1.0, 0.5, 0.25, 0.0)  # pixels, the coarsest first
LEAST_IOU = 0.98  # IoU of the mask with what a reader fills from the outline


def fitting_polygons(mask: Rle, *, least: float = LEAST_IOU) -> tuple[Polygon, ...]:
    """Return a mask's polygons, as coarse as possible while COCO's reader still makes the same mask from them.

    Args:
        mask: of an object; an empty one has no polygons.
        least: least IoU of the mask with what is read.
    """
    if not mask.area:
        return ()
    array = rle_to_mask(mask)
    for tolerance in TOLERANCES:
        polygons = mask_to_polygons(array, tolerance=tolerance)
        if mask_ious([fill_rings(rings_of(polygons), mask.size)], [mask])[0, 0] >= least:
            break
    return polygons


def rings_of(polygons: Sequence[Polygon]) -> list[np.ndarray]:
    """Return one ring (n, 2) for each part; its holes are reached by bridges."""
    return [polygons_to_ring([polygon]) for polygon in polygons]


def fill_rings(rings: Sequence[np.ndarray], size: Size) -> Rle:
    """Fill rings (n, 2), whose corners lie between pixels, as COCO does: everything that is in any of them."""
    return polygons_to_rle(rings, size)


def fill_pixel_ring(ring: np.ndarray, size: Size) -> Rle:
    """Fill a ring (n, 2) of pixels as YOLO's training does: cut down to whole pixels, including the outline."""
    height, width = size
    canvas = Image.new("1", (width, height))
    points = [(int(x), int(y)) for x, y in np.floor(ring + 1e-6)]
    if len(points) == 1:
        points = points * 2
    ImageDraw.Draw(canvas).polygon(points, fill=1, outline=1)
    return mask_to_rle(np.asarray(canvas, bool))


def check_ring(
    numbers: Sequence[float] | np.ndarray, size: Size, place: str, *, least: int = 3
) -> np.ndarray:
    """Return a ring (n, 2) of x and y.

    Raises:
        ConfigError: for too few points, or points more than a photo's size beyond it.
    """
    ring = np.asarray(numbers, np.float64)
    if ring.size % 2 or ring.size < 2 * least:
        raise ConfigError(f"{place}: has {ring.size} numbers; must be x, y of at least {least} points")
    ring = ring.reshape(-1, 2)
    sides = np.array(size[::-1])
    if not (np.isfinite(ring).all() and ((ring >= -sides) & (ring <= 2 * sides)).all()):
        raise ConfigError(f"{place}: reaches more than a photo beyond the photo of {size[1]} x {size[0]}")
    return ring
