"""What is seen of the objects on each frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from mobilesam.core.arrays import Image, Mask
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.draw.cutout import edge_alpha
from mobilesam.draw.overlay import draw_labelled

PROMPTED, FOLLOWED, LOST = "prompted", "followed", "lost"


@dataclass(frozen=True)
class TrackedObject:
    """One object on one frame.

    Attributes:
        id: number of the object, from 1.
        state: ``prompted``, ``followed`` or ``lost``; when lost, the mask is empty.
        rle: the mask as COCO's runs.
        box: tight box (x0, y0, x1, y1), far edges exclusive; zeros where it is lost.
        predicted_iou: the model's own estimate of the mask's IoU; 0 where it is lost.
        visible: how much of the object seems to be seen, 0..1.
        question: where it is lost, why and what would help; otherwise empty.
        label: what the object is called, or None.
    """

    id: int
    state: str
    rle: Rle = field(repr=False)
    box: tuple[int, int, int, int]
    predicted_iou: float
    visible: float
    question: str = ""
    label: str | None = None

    @property
    def lost(self) -> bool:
        """Whether it is not seen, or not with any certainty."""
        return self.state == LOST

    @property
    def mask(self) -> Mask:
        """The mask (H, W), made anew each time."""
        return rle_to_mask(self.rle)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return self.rle.area

    @property
    def caption(self) -> str:
        """Number and label."""
        return f"{self.id} {self.label}" if self.label else str(self.id)


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame with what is seen of the objects.

    Attributes:
        number: of the frame, from 1.
        time: seconds since the first frame, or None where that is not known.
        image: (H, W, 3).
        objects: those that are followed on this frame, by number; none before their first prompt.
    """

    number: int
    time: Fraction | None
    image: Image = field(repr=False)
    objects: tuple[TrackedObject, ...]

    def __getitem__(self, id: int) -> TrackedObject:
        """Return an object by its number."""
        for one in self.objects:
            if one.id == id:
                return one
        raise KeyError(f"object {id} is not followed on frame {self.number}")

    @cached_property
    def masks(self) -> dict[int, Mask]:
        """The masks (H, W) by the objects' numbers."""
        return {one.id: one.mask for one in self.objects}

    def overlay(self) -> Image:
        """The frame with each object tinted, outlined and numbered; an object's colour stays the same."""
        shown = [one for one in self.objects if one.area]
        return draw_labelled(
            self.image,
            [one.mask for one in shown],
            [one.caption for one in shown],
            [one.id - 1 for one in shown],
        )

    def id_map(self) -> np.ndarray:
        """Each pixel's object (H, W) uint16, 0 where there is none; where masks overlap, the smaller one is seen."""
        ids = np.zeros(self.image.shape[:2], np.uint16)
        for one in sorted(self.objects, key=lambda one: one.area, reverse=True):
            ids[one.mask] = one.id
        return ids

    def alpha(self) -> np.ndarray:
        """The objects' joined opacity (H, W) uint8, with the edge that cut-outs have."""
        joined = np.zeros(self.image.shape[:2], bool)
        for one in self.objects:
            joined |= one.mask
        return edge_alpha(joined)
