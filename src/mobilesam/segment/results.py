"""What a model says about a prompt or a whole image, and everything that can be made of it."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mobilesam.core.arrays import Image, Logits, Mask, Masks, Size
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import LimitError
from mobilesam.core.phrases import number_texts
from mobilesam.core.polygons import Polygon, mask_to_polygons
from mobilesam.core.postprocess import enlarge_logits, enlarge_masks, stability_scores, visible_part
from mobilesam.core.prompts import ValidPrompt
from mobilesam.core.ranges import check_whole_number
from mobilesam.core.regions import fill_unsure_holes, remove_small_regions
from mobilesam.core.rle import Rle, mask_to_rle, rle_to_mask
from mobilesam.core.types import Embedding, FoundMask
from mobilesam.draw.cutout import cut_out
from mobilesam.draw.overlay import draw_numbered, draw_overlay
from mobilesam.formats.coco import UNNAMED, masks_to_coco
from mobilesam.formats.image import image_to_png
from mobilesam.formats.sa1b import masks_to_sa1b

MAX_IDS = np.iinfo(np.uint16).max
# When to remark on a result, from experience with pocket on photos with human masks (docs/reference/prompts.md).
LOW_PREDICTED_IOU = 0.45  # of points and masks
LOW_PREDICTED_IOU_BOX = 0.6  # of boxes, which mean one thing
LOW_PREDICTED_IOU_SUBJECT = 0.75  # of what was found without a prompt
UNSURE_SUBJECT = (
    "it is not clear what the subject is (predicted IoU {:.2f}); look at the result, and say what is meant "
    "by a point on it or a box around it"
)
LARGE_BOX = 0.8  # share of the image
STRAYING = 0.1  # share of the mask that lies outside its box
SURROUNDING = 0.5  # share of the outside of the box that the mask takes

# Which holes a cut-out keeps: over 1,707 objects of four sets, masks are no worse without the others.
CERTAIN_HOLE = -1.0  # a logit (27 % likely to be the object): a hole with a lower one is kept
LARGE_HOLE = 0.1  # share of the mask: a hole this large is kept
SMALL_SIDE = 512  # of the logits that show where an edge is uncertain


@dataclass(frozen=True, eq=False)
class SegmentedMask:
    """One mask of an object, at the image's size.

    Attributes:
        mask: (H, W).
        predicted_iou: the model's own estimate of the mask's IoU, about 0..1.
        stability_score: how little the mask changes with its threshold, 0..1.
    """

    mask: Mask = field(repr=False)
    predicted_iou: float
    stability_score: float

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box (x0, y0, x1, y1), far edges exclusive; zeros if the mask is empty."""
        return mask_to_box(self.mask)

    @cached_property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def rle(self) -> Rle:
        """The mask as COCO's runs."""
        return mask_to_rle(self.mask)

    def polygons(self, *, tolerance: float = 0.0) -> tuple[Polygon, ...]:
        """The mask as polygons with holes; see :func:`mobilesam.core.polygons.mask_to_polygons`."""
        return mask_to_polygons(self.mask, tolerance=tolerance)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model says about one prompt: one mask, or three where the prompt is ambiguous.

    Iterating yields each :class:`SegmentedMask`. ``best`` is the model's own choice; its
    ``mask``, ``box``, ``area`` and ``rle`` are also properties of the segmentation. Masks
    are enlarged to the image's size only when asked for.

    Attributes:
        low_res_masks: (M, h, w) logits of the model's whole input.
        predicted_iou: (M,) estimated IoU of each mask.
        embedding: of the image.
        prompt: the prompt after validation.
        label: what the object is called: the prompt's label, or the text that found it; None where neither says.
        text_score: how well the text fits, 0..1, as the text model says; None where it was not found by text.
        min_mask_region_area: see :meth:`cleaned`.
        is_subject: whether it was found without a prompt, see :meth:`mobilesam.Model.subject`.
    """

    low_res_masks: Logits = field(repr=False)
    predicted_iou: np.ndarray
    embedding: Embedding = field(repr=False)
    prompt: ValidPrompt
    label: str | None = None
    text_score: float | None = None
    min_mask_region_area: int = 0
    is_subject: bool = False

    def cleaned(self, min_mask_region_area: int) -> Segmentation:
        """Return the same with tidy masks: holes smaller than this many pixels filled, islands dropped.

        If every island is small, the largest stays. Logits and scores are those of the masks before tidying.

        Raises:
            PromptError: for anything but a whole number from 0.
        """
        check_whole_number("min_mask_region_area", min_mask_region_area, 0)
        return replace(self, min_mask_region_area=int(min_mask_region_area))

    def __len__(self) -> int:
        return len(self.predicted_iou)

    def __iter__(self) -> Iterator[SegmentedMask]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> SegmentedMask:
        index = self._number(index)
        if index not in self._enlarged:
            low_res = self.low_res_masks[index : index + 1]
            mask = enlarge_masks(low_res, self.embedding.frame)[0]
            if self.min_mask_region_area:
                rle, changed = remove_small_regions(mask_to_rle(mask), self.min_mask_region_area)
                mask = rle_to_mask(rle) if changed else mask
            mask.flags.writeable = False
            self._enlarged[index] = SegmentedMask(
                mask, float(self.predicted_iou[index]), float(self.stability_score[index])
            )
        return self._enlarged[index]

    def _number(self, index: int) -> int:
        try:
            return range(len(self))[operator.index(index)]
        except IndexError:
            raise IndexError(f"mask {index}: there are {len(self)}") from None

    @cached_property
    def _enlarged(self) -> dict[int, SegmentedMask]:
        return {}

    def logits(self, index: int) -> Logits:
        """One mask's logits (H, W) at the image's size; the mask is where they are above 0."""
        index = self._number(index)
        return enlarge_logits(self.low_res_masks[index : index + 1], self.embedding.frame)[0]

    @property
    def small_logits(self) -> Logits:
        """The best mask's logits (h, w) over the whole image, at no more than 512 pixels a side."""
        height, width = self.embedding.original_size
        scale = min(1.0, SMALL_SIDE / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        frame = replace(self.embedding.frame, original_size=size)
        return enlarge_logits(self.low_res_masks[self.choice : self.choice + 1], frame)[0]

    @cached_property
    def stability_score(self) -> np.ndarray:
        """(M,) how little each mask changes with its threshold, taken on the low-resolution logits."""
        return stability_scores(visible_part(self.low_res_masks, self.embedding.frame))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is valid in the prompt or in the result, but may not be intended."""
        if not self.area:
            return (*self.prompt.remarks, "the mask is empty")
        own = (self._large_box(), self._low_confidence(), self._straying())
        return (*self.prompt.remarks, *(remark for remark in own if remark))

    def _large_box(self) -> str:
        """Remark on a box that leaves nothing around it, or an empty text."""
        if self.prompt.box is None:
            return ""
        x0, y0, x1, y1 = self.prompt.box
        share = (x1 - x0) * (y1 - y0) / self.mask.size
        if share < LARGE_BOX:
            return ""
        return (
            f"the box holds {share:.0%} of the image, and the mask may be the ground; "
            "look at it, and draw the box closely around the object or give points"
        )

    def _low_confidence(self) -> str:
        """Remark on a low predicted IoU, or an empty text."""
        predicted = self.best.predicted_iou
        if self.is_subject:
            return "" if predicted >= LOW_PREDICTED_IOU_SUBJECT else UNSURE_SUBJECT.format(predicted)
        limit = LOW_PREDICTED_IOU if self.prompt.box is None else LOW_PREDICTED_IOU_BOX
        if predicted >= limit:
            return ""
        advice = "give a box or more points" if self.prompt.box is None else "give points as well"
        return f"the predicted IoU is {predicted:.2f}, below {limit:g}; look at the mask, and {advice}"

    def _straying(self) -> str:
        """Remark on a mask that is not what lies in its box, or an empty text."""
        if self.prompt.box is None:
            return ""
        x0, y0 = np.floor(self.prompt.box[:2]).astype(int)
        x1, y1 = np.ceil(self.prompt.box[2:]).astype(int)
        outside = self.area - np.count_nonzero(self.mask[y0:y1, x0:x1])
        beyond = self.mask.size - (y1 - y0) * (x1 - x0)
        if outside >= STRAYING * self.area:
            return (
                f"{outside / self.area:.0%} of the mask lies outside its box; "
                "a box is x0, y0, x1, y1 around a whole object"
            )
        if outside > SURROUNDING * beyond:
            return (
                f"the mask takes {outside / beyond:.0%} of what lies outside the box, as the ground would; "
                "give a point on the object as well"
            )
        return ""

    @property
    def masks(self) -> Masks:
        """All masks (M, H, W) at the image's size."""
        return np.stack([one.mask for one in self])

    @property
    def choice(self) -> int:
        """Number of the mask with the highest predicted IoU."""
        return int(self.predicted_iou.argmax())

    @property
    def best(self) -> SegmentedMask:
        """The mask with the highest predicted IoU."""
        return self[self.choice]

    @property
    def mask(self) -> Mask:
        """The best mask (H, W)."""
        return self.best.mask

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box of the best mask."""
        return self.best.box

    @property
    def area(self) -> int:
        """Pixels in the best mask."""
        return self.best.area

    @property
    def rle(self) -> Rle:
        """The best mask as COCO's runs."""
        return self.best.rle

    def polygons(self, *, tolerance: float = 0.0) -> tuple[Polygon, ...]:
        """The best mask as polygons with holes."""
        return self.best.polygons(tolerance=tolerance)

    @property
    def caption(self) -> str:
        """The label, with its score if it has one, for pictures and lists; empty without a label."""
        if self.label is None or self.text_score is None:
            return self.label or ""
        return f"{self.label} {self.text_score:.2f}"

    def overlay(self) -> np.ndarray:
        """The image (H, W, 3) with the best mask, the prompt and the label drawn over it."""
        return draw_results(self.embedding.image, [self])

    def cutout(self, *, crop: bool = True, fill_holes: bool = True) -> np.ndarray:
        """The object alone (h, w, 4) RGBA, with a soft edge.

        Args:
            crop: cut to the mask's box.
            fill_holes: fill those holes of the mask that are smaller than a tenth of it and that the
                model is not sure of, as none of their logits is below -1. A face in a coat is an
                example. The mask itself keeps its holes.
        """
        mask = self.mask
        if fill_holes:
            largest = LARGE_HOLE * self.area
            mask = fill_unsure_holes(mask, self.logits(self.choice), certain=CERTAIN_HOLE, largest=largest)
        return cut_out(self.embedding.image, mask, crop=crop)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay."""
        return image_to_png(self.overlay())


def draw_results(image: Image, results: Sequence[Segmentation]) -> Image:
    """Return the image (H, W, 3) with the results' best masks, prompts and labels drawn over it.

    Several are numbered from 1, as their files are.
    """
    masks, prompts = [result.mask for result in results], [result.prompt for result in results]
    captions = [result.caption for result in results]
    if len(results) > 1:
        captions = [f"{number} {caption}".rstrip() for number, caption in enumerate(captions, start=1)]
    return draw_overlay(image, masks, prompts=prompts, captions=captions)


def results_to_coco(
    results: Sequence[Segmentation],
    size: Size,
    *,
    file_name: str = "",
    texts: Sequence[str] = (),
    image_id: int = 1,
) -> dict[str, Any]:
    """Return a COCO instance document of the results' best masks in one image.

    Args:
        results: what was found.
        size: (height, width) of the image.
        file_name: its file name.
        texts: the texts that were asked for. Each becomes a category, in their order, so that the
            documents of several images agree. Without them each label does, in the order of the results.
        image_id: its number, which should differ between the documents of several images.
    """
    masks = [result.best for result in results]
    labels = [result.label for result in results]
    if not texts and not any(labels):
        return masks_to_coco(masks, size, file_name=file_name, image_id=image_id)
    called = [label or UNNAMED for label in labels]
    numbers = number_texts(texts or called)
    document = masks_to_coco(
        masks,
        size,
        file_name=file_name,
        categories=list(numbers),
        category_of=[numbers[name] for name in called],
        image_id=image_id,
    )
    for record, result in zip(document["annotations"], results, strict=True):
        if result.text_score is not None:
            record["text_score"] = round(float(result.text_score), 4)
    return document


@dataclass(frozen=True, eq=False)
class TextMatches:
    """The objects in an image that texts name, best first; a sequence of :class:`Segmentation`.

    It is empty where nothing is found, rather than holding the best of wrong masks.

    Attributes:
        image: (H, W, 3).
        segmentations: what was found, each with its ``label`` and ``text_score``.
        texts: what was asked for.
        remarks: which parts of the texts were not read, or may not be understood.
    """

    image: Image = field(repr=False)
    segmentations: tuple[Segmentation, ...]
    texts: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.segmentations)

    def __iter__(self) -> Iterator[Segmentation]:
        return iter(self.segmentations)

    def __getitem__(self, index: int) -> Segmentation:
        return self.segmentations[index]

    def overlay(self) -> Image:
        """The image with every mask tinted and outlined, its box and its label."""
        return draw_results(self.image, self.segmentations)

    def to_coco(self, *, file_name: str = "", image_id: int = 1) -> dict[str, Any]:
        """A COCO instance document of the image; the texts are its categories, from 1."""
        size = self.image.shape[:2]
        return results_to_coco(
            self.segmentations, size, file_name=file_name, texts=self.texts, image_id=image_id
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay."""
        return image_to_png(self.overlay())


@dataclass(frozen=True, eq=False)
class Everything:
    """The masks of an image, best first; a sequence of :class:`FoundMask`.

    Attributes:
        image: (H, W, 3).
        masks: what was found.
    """

    image: Image = field(repr=False)
    masks: tuple[FoundMask, ...]

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Everything({len(self)} masks of {width} x {height})"

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[FoundMask]:
        return iter(self.masks)

    def __getitem__(self, index: int) -> FoundMask:
        return self.masks[index]

    def overlay(self) -> Image:
        """The image with every mask tinted, outlined and numbered from 1."""
        return draw_numbered(self.image, [mask.rle for mask in self])

    def id_map(self) -> np.ndarray:
        """Each pixel's mask (H, W) uint16, numbered from 1 as in the overlay; 0 where there is none.

        Where masks overlap, the smaller one is seen.

        Raises:
            LimitError: for more masks than 16 bits can number.
        """
        if len(self) > MAX_IDS:
            raise LimitError(f"id map: there are {len(self):,} masks; 16 bits number at most {MAX_IDS:,}")
        ids = np.zeros(self.image.shape[:2], np.uint16)
        for i in sorted(range(len(self)), key=lambda i: self[i].area, reverse=True):
            ids[self[i].mask] = i + 1
        return ids

    def to_coco(self, *, file_name: str = "", image_id: int = 1) -> dict[str, Any]:
        """A COCO instance document of the image, masks numbered from 1 as in the overlay."""
        return masks_to_coco(self.masks, self.image.shape[:2], file_name=file_name, image_id=image_id)

    def to_sa1b(self, *, file_name: str = "", image_id: int = 0) -> dict[str, Any]:
        """SA-1B's JSON of the image."""
        return masks_to_sa1b(self.masks, self.image.shape[:2], file_name=file_name, image_id=image_id)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay."""
        return image_to_png(self.overlay())
