"""The values that the library passes around: prompts in, embeddings between."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobilesam.core.arrays import (
    ArrayLike,
    Image,
    Mask,
    MaskInput,
    NamedArrays,
    PointCoords,
    PointLabels,
    Size,
)
from mobilesam.core.frame import Frame
from mobilesam.core.rle import Rle, rle_to_mask

SINGLE_MASK = (0,)  # the decoder's mask token for prompts that are not ambiguous
MULTIMASK = (1, 2, 3)  # the three for those that are


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is known about one object: points, a box, a mask, or any of them together.

    Args:
        points: (N, 2) x and y in pixels of the image, or one (2,).
        labels: (N,) 1 for a point on the object, 0 for one beside it; all 1 by default.
        box: (4,) x0, y0, x1, y1 in pixels.
        mask: (H, W) boolean or 0/1 or 0/255 mask of the image's size, the same as
            :class:`~mobilesam.core.rle.Rle`, or float logits from an earlier segmentation, (h, w) or
            (1, h, w) as in ``low_res_masks``.
        label: what the object is called, such as ``dog``; results carry it, the mask does not depend on it.

    Nothing is checked here: an image is needed for that, see
    :func:`mobilesam.core.prompts.validate_prompt`.

    Example:
        >>> Prompt(points=[[210, 140], [80, 60]], labels=[1, 0]).box is None
        True
    """

    points: ArrayLike = None
    labels: ArrayLike = None
    box: ArrayLike = None
    mask: ArrayLike = None
    label: Any = None  # a str or None


@dataclass(frozen=True, eq=False)
class DecoderInputs:
    """A batch of prompts with the same number of points, in the frame of the model's input.

    Attributes:
        point_coords: (B, N, 2) x and y.
        point_labels: (B, N) 1 foreground, 0 background, 2 and 3 box corners, -1 pad.
        mask_input: (B, 1, h, w) logits, or None.
    """

    point_coords: PointCoords
    point_labels: PointLabels
    mask_input: MaskInput | None = None

    def take(self, numbers: np.ndarray | slice) -> DecoderInputs:
        """Return some of the prompts, by their numbers."""
        masks = None if self.mask_input is None else self.mask_input[numbers]
        return DecoderInputs(self.point_coords[numbers], self.point_labels[numbers], masks)


@dataclass(frozen=True, eq=False)
class Embedding:
    """An image as a model sees it: named arrays, and what is needed to come back from them.

    Attributes:
        arrays: ``image_embedding`` (1, C, h, w) and whatever else the model's decoder reads.
        model: name of the model that made them; no other can read them.
        frame: where the image lies in the square that prompts are given in; for all models but
            EfficientViT-SAM that is the model's input.
        image: the image itself (H, W, 3), for overlays and cut-outs.
        remarks: what was read but may not be intended, such as an animation's first frame.
    """

    arrays: NamedArrays = field(repr=False)
    model: str
    frame: Frame
    image: Image = field(repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def image_embedding(self) -> np.ndarray:
        """The array (1, C, h, w) that a segment_anything user knows."""
        return self.arrays["image_embedding"]

    @property
    def original_size(self) -> Size:
        """(height, width) of the image."""
        return self.frame.original_size


@dataclass(frozen=True)
class MaskThresholds:
    """Which of a model's masks are trusted when it segments everything; the defaults are SAM's.

    They belong to the weights: a model trained with few photos is less sure of itself.

    Attributes:
        predicted_iou: masks must have a higher predicted IoU.
        stability_score: masks must have at least this stability.
    """

    predicted_iou: float = 0.88
    stability_score: float = 0.95


SAM_THRESHOLDS = MaskThresholds()


@dataclass(frozen=True)
class FoundMask:
    """One mask of an image.

    Attributes:
        rle: the mask.
        box: tight box (x0, y0, x1, y1), far edges exclusive.
        predicted_iou: the model's own estimate of the mask's IoU.
        stability_score: how little the mask changes with its threshold.
        point: (x, y) that was asked for; the middle of a box.
        crop: (x0, y0, x1, y1) of the crop it was found in.
        objectness: how likely the box that was asked for holds an object; for a point of the hybrid
            ``everything.objects.POINT_OBJECTNESS``, 1 for a point of a grid.
    """

    rle: Rle = field(repr=False)
    box: tuple[int, int, int, int]
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    crop: tuple[int, int, int, int]
    objectness: float = 1.0

    @property
    def score(self) -> float:
        """What masks are ranked by: the predicted IoU times the root of the objectness."""
        return self.predicted_iou * math.sqrt(self.objectness)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return self.rle.area

    @property
    def mask(self) -> Mask:
        """The mask (H, W), made again each time."""
        return rle_to_mask(self.rle)
