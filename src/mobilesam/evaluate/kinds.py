"""The kinds of prompt that are scored, each made from the human mask of one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.regions import central_pixel, distance_to_edge
from mobilesam.core.types import Prompt
from mobilesam.evaluate.choices import BEST, MODEL, SINGLE, centroid_pixel

JITTER = 0.1  # greatest move of a loose box's side, in the box's own width or height
BESIDE = 0.1  # how far outside a background point may lie, in the root of the object's area
COARSE = 24  # cells of a coarse mask along the photo's longer side

Random = np.random.Generator


@dataclass(frozen=True)
class PromptKind:
    """A way of asking for one object.

    Attributes:
        name: as in ``--kinds`` and in JSON.
        text: what it is.
        make: turns a mask (H, W) and a source of chance into the prompt.
        ambiguous: whether it is a single point, for which a model gives three masks.
    """

    name: str
    text: str
    make: Callable[[Mask, Random], Prompt]
    ambiguous: bool = False

    def row(self, mask_choice: str) -> str:
        """Return the name of the kind's row with a choice of the mask: ``point, best-score``."""
        own = BEST if self.ambiguous else SINGLE
        return f"{self.name}, {own if mask_choice == MODEL else mask_choice}"


def box(truth: Mask, random: Random) -> Prompt:
    """The object's box as it is."""
    return Prompt(box=mask_to_box(truth))


def loose_box(truth: Mask, random: Random) -> Prompt:
    """The box as a hand draws it: each side off by up to ``JITTER``."""
    return Prompt(box=moved_box(truth, JITTER, random))


def moved_box(truth: Mask, jitter: float, random: Random) -> np.ndarray:
    """Return the box (4,) of a mask (H, W) with each side off by up to a part of the box's own size."""
    x0, y0, x1, y1 = mask_to_box(truth)
    sides = np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    height, width = truth.shape
    moved = np.array([x0, y0, x1, y1]) + random.uniform(-jitter, jitter, 4) * sides
    return np.clip(moved, 0, [width, height, width, height])


def central_point(truth: Mask, random: Random) -> Prompt:
    """The pixel farthest from the object's edge."""
    return Prompt(points=[central_pixel(truth)])


def centroid(truth: Mask, random: Random) -> Prompt:
    """The object's pixel nearest to its centre of mass."""
    return Prompt(points=[centroid_pixel(truth)])


def any_point(truth: Mask, random: Random) -> Prompt:
    """One pixel of the object, each with the same chance."""
    return Prompt(points=_draw(truth, 1, random))


def three_points(truth: Mask, random: Random) -> Prompt:
    """Three pixels of the object, each with the same chance."""
    return Prompt(points=_draw(truth, 3, random))


def point_and_background(truth: Mask, random: Random) -> Prompt:
    """The central point, and two on the background close to the object."""
    reach = max(2.0, BESIDE * float(np.sqrt(truth.sum())))
    beyond = int(reach) + 1  # the image's edge is not an edge of the object
    away = distance_to_edge(np.pad(~truth, beyond, constant_values=True))[beyond:-beyond, beyond:-beyond]
    beside = _draw(~truth & (away > reach / 4) & (away <= reach), 2, random)
    return Prompt(points=[central_pixel(truth), *beside], labels=[1] + [0] * len(beside))


def box_and_point(truth: Mask, random: Random) -> Prompt:
    """The box and the central point."""
    return Prompt(points=[central_pixel(truth)], box=mask_to_box(truth))


def coarse_mask(truth: Mask, random: Random) -> Prompt:
    """The object in cells of a coarse grid, each wholly in or out."""
    height, width = truth.shape
    cell = max(1, round(max(height, width) / COARSE))
    padded = np.pad(truth, ((0, -height % cell), (0, -width % cell)))
    rows, columns = (n // cell for n in padded.shape)
    filled = padded.reshape(rows, cell, columns, cell).mean((1, 3))
    inside = filled >= min(0.5, float(filled.max()))
    return Prompt(mask=inside.repeat(cell, 0).repeat(cell, 1)[:height, :width])


KINDS = {
    kind.name: kind
    for kind in (
        PromptKind("box", "the object's box", box),
        PromptKind("loose-box", "the box, each side off by up to a tenth", loose_box),
        PromptKind("point", "the point farthest from the edge", central_point, ambiguous=True),
        PromptKind("any-point", "a point anywhere in the object", any_point, ambiguous=True),
        PromptKind("points", "three points anywhere in the object", three_points),
        PromptKind("background", "the central point and two beside the object", point_and_background),
        PromptKind("box-and-point", "the box and the central point", box_and_point),
        PromptKind("mask", f"a mask of {COARSE} coarse cells along the longer side", coarse_mask),
        PromptKind("centroid", "the pixel nearest to the centre of mass", centroid, ambiguous=True),
    )
}
USUAL_KINDS = tuple(
    name for name in KINDS if name != "centroid"
)  # the point farthest from the edge is much the same


def _draw(where: Mask, n: int, random: Random) -> list[tuple[int, int]]:
    """Draw ``n`` (x, y) of a mask's pixels, fewer if it has fewer."""
    pixels = np.flatnonzero(where)
    chosen = random.choice(pixels, min(n, pixels.size), replace=False)
    return [(int(i % where.shape[1]), int(i // where.shape[1])) for i in chosen]
