"""Things cut out of a photo: masks joined into one, given a soft edge, and laid on another ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from mobilesam.core.arrays import Image, Logits, Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.regions import drop_small_islands, fill_unsure_holes
from mobilesam.core.rle import mask_to_rle, rle_to_mask
from mobilesam.core.types import Embedding
from mobilesam.draw.alpha import SoftEdge, clean_colours, soften
from mobilesam.draw.ground import as_ground, check_background, lay_over
from mobilesam.draw.matting import load_matte
from mobilesam.formats.image import image_to_png
from mobilesam.segment.results import CERTAIN_HOLE, LARGE_HOLE, Segmentation

FRAME_CELLS = 2  # cells of the logits along the frame, where a model is unsure
CRUMB = 0.02  # share of a subject's mask: smaller islands are left out
MOST_PIXELS = 500  # by which an edge may be grown, shrunk or feathered


@dataclass(frozen=True)
class CutoutOptions:
    """How something is cut out.

    Attributes:
        background: what it is laid on: a colour such as ``white``, ``#ff8800`` or ``255,136,0``, a picture's file,
            ``blur`` for the photo itself out of focus, or ``none``.
        feather: fade the edge over this many more pixels.
        grow: move the edge outwards by this many pixels.
        shrink: move the edge inwards by this many pixels.
        invert: keep everything else instead.
        crop: cut to what is kept, or leave the photo's full size.
        only_mask: only the alpha channel, as a grey picture.
        matte: find hair and fur by closed-form matting, which needs ``mobilesam[matting]``.
        holes: keep holes in the mask that the model is not sure of, such as a face in a coat.

    Raises:
        PromptError: for a number outside its range.
        ConfigError: for a background that is neither a colour nor a file.
    """

    background: str = "none"
    feather: float = 0.0
    grow: int = 0
    shrink: int = 0
    invert: bool = False
    crop: bool = field(
        default=False, metadata={"flags": ("--crop/--full-size",), "shown_default": "full size"}
    )
    only_mask: bool = False
    matte: bool = False
    holes: bool = False

    def __post_init__(self) -> None:
        check_number("feather", self.feather, 0.0, float(MOST_PIXELS))
        check_whole_number("grow", self.grow, 0, MOST_PIXELS)
        check_whole_number("shrink", self.shrink, 0, MOST_PIXELS)
        if self.grow and self.shrink:
            raise ConfigError("grow, shrink: move the edge in opposite directions; give one of them")
        object.__setattr__(self, "background", check_background(self.background))
        if self.only_mask and self.background != "none":
            raise ConfigError("only_mask, background: a mask has no background; leave one of them out")


@dataclass(frozen=True, eq=False)
class Cutout:
    """What was cut out of an image.

    Attributes:
        image: (H, W, 3); where the edge is soft, the object's own colours without those behind it.
        alpha: (H, W) uint8, how much of each pixel is kept.
        edge: what ``image`` and ``alpha`` are made from.
        results: the masks that were joined, or the subject's, then those that were subtracted.
        options: how it was cut out.
        photo: (H, W, 3) the photo as it was.
        remarks: what may not be intended.
    """

    image: Image = field(repr=False)
    alpha: np.ndarray = field(repr=False)
    edge: SoftEdge = field(repr=False)
    results: tuple[Segmentation, ...]
    options: CutoutOptions
    photo: Image = field(repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Box (x0, y0, x1, y1) of what is kept, far edges exclusive."""
        return mask_to_box(self.alpha > 0)

    def rgba(self) -> np.ndarray:
        """What is kept on transparent ground (h, w, 4) uint8; the whole image's size unless ``crop``."""
        return self._cropped(np.dstack([self.image, self.alpha]))

    def picture(self, samples: np.ndarray | None = None) -> np.ndarray:
        """What the options ask for: (h, w, 4), (h, w, 3) on a background, or (h, w) with ``only_mask``.

        Args:
            samples: (H, W, 3) uint16, the photo at its full depth, which the picture then also has.
        """
        options = self.options
        if options.only_mask:
            return self._cropped(self.alpha)
        photo = self.photo if samples is None else samples
        image = self.image if samples is None else clean_colours(samples, self.edge)
        ground = as_ground(options.background, photo, self.alpha)
        if ground is None:
            unit = np.iinfo(photo.dtype).max // 255
            return self._cropped(np.dstack([image, self.alpha.astype(photo.dtype) * photo.dtype.type(unit)]))
        return self._cropped(lay_over(image, self.alpha, ground))

    def _cropped(self, picture: np.ndarray) -> np.ndarray:
        if not self.options.crop or not self.alpha.any():
            return picture
        x0, y0, x1, y1 = self.box
        return picture[y0:y1, x0:x1]

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return image_to_png(self.picture())


def make_cutout(
    embedding: Embedding,
    kept: Sequence[Segmentation],
    subtracted: Sequence[Segmentation],
    options: CutoutOptions,
    remarks: Sequence[str] = (),
) -> Cutout:
    """Join masks, subtract others, and cut out what is left; see :meth:`mobilesam.Model.cutout`."""
    mask, logits = join(kept, subtracted, embedding.original_size, fill=not options.holes)
    told = [*remarks, *(remark for one in (*kept, *subtracted) for remark in one.remarks)]
    return _cut_out(embedding.image, mask, logits, (*kept, *subtracted), options, told)


def cut_out_mask(embedding: Embedding, mask: Mask, options: CutoutOptions) -> Cutout:
    """Cut out exactly what a mask (H, W) covers, such as one that was corrected by hand; its holes stay."""
    return _cut_out(embedding.image, mask, None, (), options, ())


def _cut_out(
    image: Image,
    mask: Mask,
    logits: Logits | None,
    results: tuple[Segmentation, ...],
    options: CutoutOptions,
    remarks: Sequence[str],
) -> Cutout:
    """Make the edge of a mask soft, using the logits (h, w) that say where it may lie, if they are known."""
    matte = load_matte() if options.matte else None
    if options.grow or options.shrink:
        mask = moved(mask, options.grow - options.shrink)
        logits = None  # they describe the edge where it was
    if options.invert:
        mask, logits = ~mask, None if logits is None else -logits
    edge = soften(image, mask, logits, matte=matte)
    alpha = feathered(edge.alpha, options.feather) if options.feather else edge.alpha
    told = list(remarks)
    if not mask.any():
        told.append("nothing is left to cut out; point at the object, or draw a box around it")
    colours = clean_colours(image, edge)
    return Cutout(colours, alpha, edge, results, options, image, tuple(dict.fromkeys(told)))


def join(
    kept: Sequence[Segmentation], subtracted: Sequence[Segmentation], size: tuple[int, ...], *, fill: bool
) -> tuple[Mask, Logits | None]:
    """Return the union of masks (H, W) without what is subtracted, and its logits over the whole image.

    Args:
        kept: the masks that are joined.
        subtracted: those that are taken away.
        size: (height, width) of the image.
        fill: fill those holes of each mask that the model is not sure of.
    """
    mask = np.zeros(size, bool)
    logits: Logits | None = None
    for one in kept:
        part = one.mask & ~_crumbs(one) if one.is_subject else one.mask
        mask |= (part | _unsure_holes(one)) if fill else part
        logits = one.small_logits if logits is None else np.maximum(logits, one.small_logits)
    if logits is not None:
        cells = FRAME_CELLS * max(n / m for n, m in zip(size, logits.shape, strict=True))
        mask, logits = to_the_frame(mask, int(np.ceil(cells))), to_the_frame(logits, FRAME_CELLS)
    for one in subtracted:
        mask &= ~(one.mask | _unsure_holes(one) if fill else one.mask)
        if logits is not None:
            logits = np.minimum(logits, -one.small_logits)
    return mask, logits


def to_the_frame(values: np.ndarray, reach: int) -> np.ndarray:
    """Return a mask or logits (h, w) in which whatever comes within ``reach`` of the frame extends to it.

    A model is unsure at the frame, where it sees nothing beyond; a thing cut off by the frame would end early.
    """
    carried = values.copy()
    for along in (carried, carried.T):
        n = min(reach, (len(along) - 1) // 2)
        if n:
            np.maximum(along[:n], along[n], out=along[:n])
            np.maximum(along[-n:], along[-n - 1], out=along[-n:])
    return carried


def _unsure_holes(result: Segmentation) -> Mask:
    """Return the holes (H, W) of a mask that its model is not sure of, with the edge around them.

    They are looked for on small logits: at full size this would take longer than all the rest.
    """
    logits = result.small_logits
    small = logits > 0
    largest = LARGE_HOLE * np.count_nonzero(small)
    holes = fill_unsure_holes(small, logits, certain=CERTAIN_HOLE, largest=largest) & ~small
    return _enlarged(holes, result.mask.shape)


def _crumbs(result: Segmentation) -> Mask:
    """Return the islands (H, W) of a subject's mask that are far smaller than the rest."""
    small = result.small_logits > 0
    kept, changed = drop_small_islands(mask_to_rle(small), round(CRUMB * np.count_nonzero(small)))
    return _enlarged(small & ~rle_to_mask(kept) if changed else np.zeros_like(small), result.mask.shape)


def _enlarged(small: Mask, size: tuple[int, ...]) -> Mask:
    """Return a small mask, with the cells around it, at the size (H, W) of an image."""
    if not small.any():
        return np.zeros(size, bool)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, small.shape, strict=True))
    return moved(small, 1)[np.ix_(rows, columns)]


def moved(mask: Mask, pixels: int) -> Mask:
    """Return a mask with its edge ``pixels`` further out, or in if negative; the image's border is no edge."""
    if pixels < 0:
        return ~moved(~mask, -pixels)
    if not mask.any():
        return mask
    height, width = mask.shape
    x0, y0, x1, y1 = mask_to_box(mask)
    window = np.s_[
        max(0, y0 - pixels) : min(height, y1 + pixels), max(0, x0 - pixels) : min(width, x1 + pixels)
    ]
    grown = mask.copy()
    part = grown[window]
    rows_away = _rows_away(part, pixels)
    for across in range(min(pixels, part.shape[1] - 1) + 1):
        near = rows_away <= int(np.sqrt(pixels**2 - across**2))
        part[:, across:] |= near[:, : near.shape[1] - across]
        part[:, : near.shape[1] - across] |= near[:, across:]
    return grown


def _rows_away(mask: Mask, most: int) -> np.ndarray:
    """Return how many rows (H, W) each pixel is from the mask in its column; ``most + 1`` for all further away."""
    away = np.where(mask, 0, most + 1).astype(np.uint8 if most < 254 else np.uint16)
    for rows in (away, away[::-1]):
        for last, row in pairwise(rows):
            np.minimum(row, last + 1, out=row)
    return away


def feathered(alpha: np.ndarray, pixels: float) -> np.ndarray:
    """Return alpha (H, W) uint8 that fades inwards over ``pixels`` more, so that none of the ground comes in."""
    from PIL import Image as Pillow
    from PIL import ImageFilter

    blurred = np.asarray(Pillow.fromarray(alpha).filter(ImageFilter.GaussianBlur(pixels / 2)), np.float32)
    inwards = np.clip(2 * blurred - 255, 0, 255)
    return np.minimum(alpha, np.rint(inwards).astype(np.uint8))
