"""YOLO's label lines: ``class x1 y1 x2 y2 ...``, one object per line, in 0..1 of the image's width and height.

Training fills a line's points with OpenCV's ``fillPoly`` after it has cut them down to whole
pixels, and ``fillPoly`` fills the pixels of the outline too. So the points are pixels of the mask,
the outermost ones, as ``findContours`` returns them, and not the edges around them: a square of five pixels is
four wide. Coordinates lie a little before the pixel's centre, so that both cutting off and rounding
give this pixel.

A line has one ring. A hole, or a further part, is reached by a bridge that is walked there and
back. ``fillPoly`` draws the bridge as a line of one pixel: inside the object that costs nothing, but between
parts it does. So parts that are smaller than the cost of the way to them, specks far off, are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.errors import ConfigError
from mobilesam.core.outlines import count_corners, trace_outlines
from mobilesam.core.polygons import Polygon, polygons_to_ring
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.regions import largest_regions
from mobilesam.core.simplify import simplify_outlines

TOLERANCE = 1.0  # pixels
IN_PIXEL = 0.45  # of a pixel from its edge: cutting off and rounding both give this pixel
MOST_RINGS = 200  # of one line, the largest ones; training takes 1,000 points of a line
MOST_CORNERS = (
    200_000  # of a mask: a clean one of 100 megapixels has fewer, noise of one megapixel has 750,000
)


def mask_to_yolo_ring(mask: Mask, *, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return a mask's ring (n, 2) in 0..1 of its width and height; (0, 2) for an empty mask.

    Of a mask that is mostly noise, the ring is that of its largest regions, in blocks as coarse as need be: a line
    cannot tell more, and takes a few seconds however large the mask is.

    Args:
        mask: (H, W).
        tolerance: as :func:`mobilesam.core.polygons.mask_to_polygons` takes it.

    Raises:
        PromptError: for a tolerance that is not a number from 0.

    Example:
        >>> mask = np.zeros((10, 20), bool)
        >>> mask[2:6, 5:10] = True
        >>> (mask_to_yolo_ring(mask) * [20, 10]).tolist()
        [[5.45, 2.45], [9.45, 2.45], [9.45, 5.45], [5.45, 5.45]]
    """
    check_number("tolerance", tolerance, 0.0)
    if not np.any(mask):
        return np.zeros((0, 2))
    mask = _without_noise(np.asarray(mask, bool))
    polygons, areas = _pixel_polygons(mask, tolerance)
    filled, drawn = areas[0], 0.0
    whole = float(np.count_nonzero(mask))

    def worth(number: int, bridge: np.ndarray) -> bool:
        """Whether a part and its bridge improve the IoU of what is filled with the mask."""
        nonlocal filled, drawn
        cost = max(float(np.abs(bridge).max()) - 1, 0.0)
        gains = areas[number] * (whole + drawn) > filled * cost
        if gains:
            filled, drawn = filled + areas[number], drawn + cost
        return gains

    ring = np.rint(polygons_to_ring(polygons, worth=worth))
    return (ring + IN_PIXEL) / [mask.shape[1], mask.shape[0]]


def _without_noise(mask: Mask) -> Mask:
    """Return a mask (H, W) of at most ``MOST_CORNERS`` corners, the same one if it has no more."""
    if count_corners(mask) > MOST_CORNERS:
        mask = largest_regions(mask, MOST_RINGS)
    coarse, side = mask, 1
    while count_corners(coarse) > MOST_CORNERS:
        side *= 2
        coarse = _in_blocks(mask, side)
    return coarse


def _in_blocks(mask: Mask, side: int) -> Mask:
    """Return a mask (H, W) in squares: those of which it covers half, or the fullest ones if it covers less of all."""
    height, width = mask.shape
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    covered = np.add.reduceat(np.add.reduceat(mask, rows, 0, dtype=np.int64), columns, 1) / side**2
    blocks = covered >= min(0.5, covered.max())
    return blocks.repeat(side, 0).repeat(side, 1)[:height, :width]


def _pixel_polygons(mask: Mask, tolerance: float) -> tuple[list[Polygon], list[float]]:
    """Return the ways along the outermost pixels of a mask's parts, and the parts' areas, the largest first."""
    outlines = trace_outlines(mask)
    ways = outlines.split_pixels(simplify_outlines(outlines, tolerance))
    largest = np.argsort(-np.abs(outlines.areas), kind="stable")[:MOST_RINGS]
    parts = {int(outlines.regions[i]): i for i in largest if outlines.areas[i] > 0}
    holes: dict[int, list[np.ndarray]] = {region: [] for region in parts}
    for i in largest:
        if outlines.areas[i] < 0:
            holes[int(outlines.regions[i])].append(ways[i])
    polygons = [Polygon(ways[i], tuple(holes[region])) for region, i in parts.items()]
    areas = np.bincount(outlines.regions, weights=outlines.areas)
    return polygons, [float(areas[region]) for region in parts]


def mask_to_yolo_line(
    mask: Mask, class_number: int = 0, *, score: float | None = None, tolerance: float = TOLERANCE
) -> str:
    """Return a mask's line, without its end; empty for an empty mask.

    Args:
        mask: (H, W).
        class_number: from 0.
        score: goes to the end of the line, as in predictions; labels for training have none.
        tolerance: as :func:`mask_to_yolo_ring` takes it.

    Raises:
        PromptError: for a class that is not a whole number from 0, or a tolerance that is not a number from 0.

    Example:
        >>> mask_to_yolo_line(np.ones((2, 2), bool), 7)
        '7 0.225 0.225 0.725 0.225 0.725 0.725 0.225 0.725'
    """
    check_whole_number("class_number", class_number, 0)
    ring = mask_to_yolo_ring(mask, tolerance=tolerance)
    if not ring.size:
        return ""
    numbers = [f"{value:.7g}" for value in ring.ravel()]
    return " ".join([str(int(class_number)), *numbers, *([] if score is None else [f"{score:g}"])])


def masks_to_yolo_lines(
    masks: Sequence[Mask],
    class_numbers: Sequence[int],
    *,
    scores: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Return the lines of an image's masks, in their order; an empty mask has none.

    Args:
        masks: (H, W) each.
        class_numbers: one for each mask.
        scores: one for each mask, or None.
        tolerance: as :func:`mask_to_yolo_ring` takes it.

    Raises:
        ConfigError: unless there is one class, and one score, for each mask.
        PromptError: for a class that is not a whole number from 0, or a tolerance that is not a number from 0.
    """
    for name, values in (("class_numbers", class_numbers), ("scores", scores)):
        if values is not None and len(values) != len(masks):
            raise ConfigError(f"{name}: has {len(values)} for {len(masks)} masks; give one for each mask")
    each_score = [None] * len(masks) if scores is None else scores
    lines = (
        mask_to_yolo_line(mask, number, score=score, tolerance=tolerance)
        for mask, number, score in zip(masks, class_numbers, each_score, strict=True)
    )
    return [line for line in lines if line]
