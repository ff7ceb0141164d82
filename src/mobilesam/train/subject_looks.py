"""What a head for the subject learns from: photos, parts of photos, pasted objects and drawings, by number.

The subject of a picture is its largest object, with those beside it that are not much smaller. A look without one has
too many of them, or only small ones; it teaches the head to say so. Every look depends on the recipe's seed and its
own number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.coco import Instance, SetPhoto, read_photo
from mobilesam.train.data import Drawn, recolour

KINDS = {"photo": 0.4, "part": 0.28, "pasted": 0.12, "drawn": 0.1, "none": 0.1}
LEAST, MOST = 0.04, 0.9  # of a picture, that its subject covers
MOST_BORDER = 0.6  # of its border
BESIDE = 0.25  # of the largest object's area, from which one beside it belongs to the subject
MOST_OBJECTS = 4  # that a subject has
TRIES = 200  # photos, until a look is made in another way
PART_SHARES = 0.08, 0.8  # of a part of a photo, that the object around which it is cut covers
LEAST_SIDE = 128  # pixels of a part of a photo
LEAST_PASTED = 0.02  # of its photo, that an object covers
PASTED_SIDES = 0.3, 1.0  # longer side of a pasted object, in shorter sides of what it is pasted on
DRAWN_SIDE = 384  # longer side of a drawing, in pixels
LEAST_CONTRAST = 70.0  # between a drawing's colours


@dataclass(frozen=True)
class Look:
    """One picture to learn from.

    Attributes:
        image: (H, W, 3).
        subject: (H, W) how much of each pixel is the subject's, 0..1; None where there is no subject.
        photo: that it was made of; None for a drawing.
    """

    image: np.ndarray
    subject: np.ndarray | None
    photo: SetPhoto | None = None


def subject_of(masks: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the subject (H, W) among the objects of a picture, or None where there is none."""
    areas = [np.count_nonzero(mask) for mask in masks]
    if not masks or not max(areas):
        return None
    pixels = masks[0].size
    if max(areas) < LEAST * pixels:
        return None
    largest = masks[int(np.argmax(areas))]
    beside = [
        mask
        for mask, area in zip(masks, areas, strict=True)
        if area > BESIDE * max(areas) and np.count_nonzero(mask & ~largest) > BESIDE * max(areas)
    ]
    subject = np.logical_or.reduce([largest, *beside])
    border = np.concatenate([subject[0], subject[-1], subject[1:-1, 0], subject[1:-1, -1]])
    fits = len(beside) < MOST_OBJECTS and subject.mean() <= MOST and border.mean() <= MOST_BORDER
    return subject if fits else None


class Looks:
    """Makes looks by number.

    Args:
        photos: what they are made of.
        seed: of all draws.
    """

    def __init__(self, photos: Sequence[Drawn], seed: int) -> None:
        self.seed = seed
        self.photos = list(photos)
        self.chances = _chances(self.photos)
        subjects = [subject_of(_masks(one.photo)) is not None for one in self.photos]
        self.clear = [one for one, is_clear in zip(self.photos, subjects, strict=True) if is_clear]
        self.unclear = [
            one
            for one, is_clear in zip(self.photos, subjects, strict=True)
            if not is_clear and not one.partial
        ]

    def __getitem__(self, number: int) -> Look:
        rng = np.random.default_rng([self.seed, number])
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        makers = {"part": self._part, "pasted": self._pasted, "drawn": draw_one, "none": self._none}
        look = makers[kind](rng) if kind in makers else self._photo(rng)
        image, subject = recolour(look.image, rng), look.subject
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
            subject = None if subject is None else np.ascontiguousarray(subject[:, ::-1])
        return Look(image, subject, look.photo)

    def _photo(self, rng: np.random.Generator) -> Look:
        if not self.clear:
            return draw_one(rng)
        drawn = self.clear[rng.choice(len(self.clear), p=_chances(self.clear))]
        subject = subject_of(_masks(drawn.photo))
        assert subject is not None
        return Look(read_photo(drawn.photo), subject.astype(np.float32), drawn.photo)

    def _part(self, rng: np.random.Generator) -> Look:
        """Cut a part out of a photo in which one object, or a few, stand out."""
        for _ in range(TRIES):
            photo = self.photos[rng.choice(len(self.photos), p=self.chances)].photo
            masks = _masks(photo)
            for _ in range(4 if masks else 0):
                x0, y0, x1, y1 = _window(masks[rng.integers(len(masks))], rng)
                if min(x1 - x0, y1 - y0) < LEAST_SIDE:
                    continue
                subject = subject_of([mask[y0:y1, x0:x1] for mask in masks])
                if subject is not None:
                    image = np.ascontiguousarray(read_photo(photo)[y0:y1, x0:x1])
                    return Look(image, subject.astype(np.float32), photo)
        return self._photo(rng)

    def _pasted(self, rng: np.random.Generator) -> Look:
        """Paste an object on what another photo shows, often out of focus."""
        ground = self.photos[rng.integers(len(self.photos))].photo
        image = read_photo(ground).copy()
        if rng.random() < 0.5:
            picture = Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 12))))
            image = np.asarray(picture).copy()
        for _ in range(TRIES):
            photo = self.photos[rng.choice(len(self.photos), p=self.chances)].photo
            least = LEAST_PASTED * photo.width * photo.height
            large = [one for one in photo.instances if one.segmentation.area > least]
            if large:
                break
        else:
            return self._photo(rng)
        alpha, pixels = _cut_out(large[rng.integers(len(large))], read_photo(photo), image.shape[:2], rng)
        height, width = alpha.shape
        # Some leave the frame by up to a fifth.
        y, x = (
            int(rng.uniform(-0.2 * part, max(whole - 0.8 * part, -0.19 * part)))
            for part, whole in zip(alpha.shape, image.shape, strict=False)
        )
        subject = np.zeros(image.shape[:2], np.float32)
        top, left, bottom, right = (
            max(y, 0),
            max(x, 0),
            min(y + height, len(image)),
            min(x + width, image.shape[1]),
        )
        seen = np.s_[top - y : bottom - y, left - x : right - x]
        window = image[top:bottom, left:right]
        part = alpha[seen][..., None]
        window[:] = window * (1 - part) + pixels[seen] * part
        subject[top:bottom, left:right] = alpha[seen]
        return Look(image, subject if subject.mean() >= LEAST else None, photo)

    def _none(self, rng: np.random.Generator) -> Look:
        """A photo of many things, or a drawing of many."""
        if not self.unclear or rng.random() < 0.25:
            return draw_many(rng)
        photo = self.unclear[rng.choice(len(self.unclear), p=_chances(self.unclear))].photo
        return Look(read_photo(photo), None, photo)


def _chances(photos: Sequence[Drawn]) -> np.ndarray:
    weights = np.array([one.weight for one in photos], np.float64)
    return weights / max(weights.sum(), 1e-9)


def _masks(photo: SetPhoto) -> list[np.ndarray]:
    """Return the masks of a photo's objects that are not tiny."""
    least = 0.002 * photo.width * photo.height
    return [rle_to_mask(i.segmentation) for i in photo.instances if i.segmentation.area >= least]


def _window(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a window of a photo in which an object (H, W) covers a part that is drawn, about in the middle."""
    around, area = mask_to_box(mask), np.count_nonzero(mask)
    share = np.exp(rng.uniform(*np.log(PART_SHARES)))
    aspect = np.exp(rng.uniform(-0.35, 0.35))
    height, width = mask.shape
    across = int(np.clip(np.sqrt(area / share * aspect), 1, width))
    down = int(np.clip(np.sqrt(area / share / aspect), 1, height))
    x = (around[0] + around[2]) / 2 + rng.normal(0, 0.12) * across
    y = (around[1] + around[3]) / 2 + rng.normal(0, 0.12) * down
    left = int(np.clip(x - across / 2, 0, width - across))
    top = int(np.clip(y - down / 2, 0, height - down))
    return left, top, left + across, top + down


def _cut_out(
    instance: Instance, image: np.ndarray, size: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cut an object out, for a picture of a size (h, w): its alpha and its pixels."""
    mask = rle_to_mask(instance.segmentation)
    x0, y0, x1, y1 = mask_to_box(mask)
    side = rng.uniform(*PASTED_SIDES) * min(size)
    scale = side / max(x1 - x0, y1 - y0)
    new = max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale))
    alpha = Image.fromarray(mask[y0:y1, x0:x1].astype(np.uint8) * 255).resize(new, Image.Resampling.BILINEAR)
    pixels = Image.fromarray(image[y0:y1, x0:x1]).resize(new, Image.Resampling.BILINEAR)
    return np.asarray(alpha, np.float32) / 255, np.asarray(pixels)


def draw_one(rng: np.random.Generator) -> Look:
    """Draw one thing: a silhouette, a sign, a flat figure with parts of other colours."""
    size, colours = _drawn_size(rng), _colours(rng, 4)
    ground = _ground(size, colours[0], rng)
    while True:
        mask = Image.new("L", size)
        middle = rng.uniform(0.25, 0.75, 2) * size
        reach = rng.uniform(0.15, 0.75) * min(size)
        for _ in range(rng.integers(1, 5)):
            _shape(
                ImageDraw.Draw(mask),
                middle + rng.normal(0, 0.4, 2) * reach,
                reach * rng.uniform(0.4, 1),
                255,
                rng,
            )
        share = (np.asarray(mask) > 0).mean()
        if LEAST < share < MOST:
            break
    figure = _ground(size, colours[1], rng)
    for colour in colours[2:]:
        if rng.random() < 0.5:  # a part of it
            place = middle + rng.normal(0, 0.4, 2) * reach
            _shape(ImageDraw.Draw(figure), place, reach * rng.uniform(0.1, 0.5), tuple(colour), rng)
    ground.paste(figure, mask=mask)
    return Look(_printed(ground, rng), np.asarray(mask, np.float32) / 255)


def draw_many(rng: np.random.Generator) -> Look:
    """Draw many things alike, or nothing."""
    size, colours = _drawn_size(rng), _colours(rng, 3)
    picture = _ground(size, colours[0], rng)
    if rng.random() < 0.8:
        draw = ImageDraw.Draw(picture)
        for _ in range(rng.integers(8, 120)):
            place, reach = rng.uniform(0, 1, 2) * size, rng.uniform(0.01, 0.06) * min(size)
            _shape(draw, place, reach, tuple(colours[rng.integers(1, 3)]), rng)
    return Look(_printed(picture, rng), None)


def _drawn_size(rng: np.random.Generator) -> tuple[int, int]:
    aspect = np.exp(rng.uniform(-0.5, 0.5))
    return (
        (DRAWN_SIDE, round(DRAWN_SIDE / aspect)) if aspect > 1 else (round(DRAWN_SIDE * aspect), DRAWN_SIDE)
    )


def _colours(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """Return colours of which none is like the first; often black and white."""
    first = rng.choice([0, 255]) * np.ones(3) if rng.random() < 0.5 else rng.uniform(0, 255, 3)
    colours = [first]
    while len(colours) < count:
        colour = rng.choice([0, 255]) * np.ones(3) if rng.random() < 0.3 else rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - first) > LEAST_CONTRAST:
            colours.append(colour)
    return [(int(r), int(g), int(b)) for r, g, b in colours]


def _ground(size: tuple[int, int], colour: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    """Return a flat colour, sometimes shaded."""
    if rng.random() < 0.6:
        return Image.new("RGB", size, colour)
    across = (
        np.linspace(-1, 1, size[0])[None] * rng.normal() + np.linspace(-1, 1, size[1])[:, None] * rng.normal()
    )
    shaded = np.array(colour) + 18 * across[..., None]
    return Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))


def _shape(
    draw: ImageDraw.ImageDraw, middle: np.ndarray, reach: float, fill: object, rng: np.random.Generator
) -> None:
    """Draw an ellipse, a rectangle, a star or a smooth or jagged blob around a place."""
    kind = rng.integers(4)
    sides = reach * rng.uniform(0.4, 1, 2)
    box = [*(middle - sides), *(middle + sides)]
    if kind == 0:
        draw.ellipse(box, fill=fill)  # type: ignore[arg-type]
        return
    if kind == 1:
        draw.rounded_rectangle(box, float(rng.uniform(0, 0.4) * sides.min()), fill=fill)  # type: ignore[arg-type]
        return
    corners = 2 * int(rng.integers(4, 8)) if kind == 2 else 48
    angle = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 6)
    if kind == 2:
        radius = np.where(np.arange(corners) % 2, rng.uniform(0.3, 0.8), 1.0)
    else:
        waves = sum(rng.normal() / k * np.cos(k * angle + rng.uniform(0, 6)) for k in range(1, 6))
        radius = np.clip(0.6 + 0.3 * waves, 0.15, 1)
    points = middle[:, None] + radius * sides[:, None] * np.stack([np.cos(angle), np.sin(angle)])
    draw.polygon([(float(x), float(y)) for x, y in points.T], fill=fill)  # type: ignore[arg-type]


def _printed(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Return pixels, of which some pictures are noisy or out of focus."""
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2))))
    pixels = np.asarray(picture, np.float64)
    if rng.random() < 0.4:
        pixels = pixels + rng.normal(0, rng.uniform(1, 14), pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)
