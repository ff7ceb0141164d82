"""Annotated clips, made from real photos by seeded chance: what moves is known to the pixel.

A clip has the objects of some photos, cut out along their human masks, on the ground of another photo.
They move, turn, grow, bend a little and leave the picture's middle; a camera shakes, light changes, edges
blur, others of the same kind cross, and something may pass in front of them. The true mask of an object is
what can be seen of it.

    python -m tests.video_clips FOLDER --data SETS --clips 8     # in DAVIS' layout, to look at or to score
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.indexed_png import index_to_png

SETS = ("coco_val", "msrc_cow", "ccp_fashion")
SIZE = (288, 512)  # height, width
FRAMES = 40
LONG_SERIES = 60
SMALLEST_SIDE, SMALLEST_PART, LARGEST_PART = 70, 0.015, 0.45  # of photos' objects that are taken
MARGIN = 3  # pixels that an object has to all sides of its photo: it is whole
WHOLE = 0.55  # of its box that an object fills at least; others are strings and nets
SEEN = 0.5  # opacity from which a pixel is the object's
BLUR_STEPS = 3  # moments that a frame of a moving camera adds up


@dataclass(frozen=True)
class ClipPlan:
    """What happens in a clip; the rest is chance.

    Attributes:
        seed: of the chance.
        objects: that are followed.
        occlusion: whether something passes in front.
        distractor: whether another of the same kind moves about.
        fast: how far objects move, 1 is about 4 pixels a frame.
        shake: pixels that the camera is off.
        light: how much brighter and darker it gets, 0..1.
        blur: whether moving things blur.
        frames: how many.
    """

    seed: int
    objects: int = 1
    occlusion: bool = False
    distractor: bool = False
    fast: float = 1.0
    shake: float = 0.0
    light: float = 0.0
    blur: bool = False
    frames: int = FRAMES

    @property
    def name(self) -> str:
        """What the clip is called."""
        return f"{'hidden' if self.occlusion else 'open'}{self.seed:02d}"


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip in memory.

    Attributes:
        plan: of it.
        frames: (H, W, 3) uint8 each.
        masks: (K, H, W) each: of every object what is seen of it.
    """

    plan: ClipPlan
    frames: list[np.ndarray] = field(repr=False)
    masks: list[np.ndarray] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Sprite:
    """An object cut out of its photo: RGBA, colours times opacity, 0..1."""

    rgba: np.ndarray


def plans(count: int = LONG_SERIES) -> list[ClipPlan]:
    """Return the plans of the series: half of them with something in front, and all mixtures of the rest."""
    return [plan_of(seed) for seed in range(count)]


def plan_of(seed: int) -> ClipPlan:
    """Return the plan of a seed."""
    chance = np.random.default_rng([seed, 77])
    return ClipPlan(
        seed=seed,
        objects=1 + (seed % 3 == 2),
        occlusion=seed % 2 == 1,
        distractor=bool(chance.random() < 0.4),
        fast=float(chance.choice([0.5, 1.0, 2.0])),
        shake=float(chance.choice([0.0, 2.0, 5.0])),
        light=float(chance.choice([0.0, 0.3])),
        blur=bool(chance.random() < 0.4),
    )


class ClipMaker:
    """Makes clips of the photos in a folder of sets.

    Args:
        data: folder of the sets, ``eval`` of the shared data.
    """

    def __init__(self, data: Path) -> None:
        self.objects: list[tuple[SetPhoto, Rle]] = []
        self.grounds: list[SetPhoto] = []
        for name in SETS:
            for photo in read_photos(data / name):
                if name == "coco_val" and min(photo.height, photo.width) >= 360:
                    self.grounds.append(photo)
                whole = [one.segmentation for one in photo.instances if _is_whole(one.segmentation)]
                if name == "ccp_fashion":  # the person, not the clothes
                    whole = sorted(whole, key=lambda rle: rle.area)[-1:]
                self.objects += [(photo, rle) for rle in whole]

    def make(self, plan: ClipPlan) -> Clip:
        """Make one clip, always the same of the same plan."""
        chance = np.random.default_rng([plan.seed, plan.frames])
        height, width = SIZE
        ground = self._ground(chance)
        movers = []
        for i in range(plan.objects):
            sprite = self._sprite(chance, chance.uniform(0.28, 0.5) * height)
            part = (width / plan.objects) * np.array([i, i + 1])
            movers.append(Mover(sprite, _path(chance, plan, part)))
        others = []
        if plan.distractor:
            mirrored = Sprite(np.ascontiguousarray(movers[0].sprite.rgba[:, ::-1]))
            others.append(Mover(mirrored, _path(chance, plan, np.array([0, width]))))
        front = [self._pole(chance, plan, movers[0])] if plan.occlusion else []
        shake = _wander(chance, plan.frames, plan.shake)
        light = 1 + plan.light * np.sin(
            np.linspace(0, chance.uniform(3, 9), plan.frames) + chance.uniform(0, 6)
        )
        frames, masks = [], []
        for t in range(plan.frames):
            image, seen = _paint(plan, t, ground, others, movers, front, shake)
            noise = chance.normal(0, 2.5, image.shape)
            frames.append(np.clip(image * 255 * light[t] + noise, 0, 255).astype(np.uint8))
            masks.append(seen)
        return Clip(plan, frames, masks)

    def _ground(self, chance: np.random.Generator) -> np.ndarray:
        """Return a photo's pixels, larger than a frame by what a shaken camera sees."""
        height, width = SIZE
        photo = self.grounds[chance.integers(len(self.grounds))]
        picture = PillowImage.fromarray(read_photo(photo))
        scale = max((height + 64) / picture.height, (width + 64) / picture.width)
        size = (round(picture.width * scale), round(picture.height * scale))
        return np.asarray(picture.resize(size, PillowImage.Resampling.BICUBIC), np.float32) / 255

    def _sprite(self, chance: np.random.Generator, side: float) -> Sprite:
        photo, rle = self.objects[chance.integers(len(self.objects))]
        mask, image = rle_to_mask(rle), read_photo(photo)
        x0, y0, x1, y1 = mask_to_box(mask)
        alpha = PillowImage.fromarray(mask[y0:y1, x0:x1].astype(np.uint8) * 255)
        picture = PillowImage.fromarray(image[y0:y1, x0:x1])
        scale = side / np.sqrt((x1 - x0) * (y1 - y0))
        size = (max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale)))
        alpha = alpha.resize(size, PillowImage.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.6))
        picture = picture.resize(size, PillowImage.Resampling.BICUBIC)
        opacity = np.asarray(alpha, np.float32)[..., None] / 255
        return Sprite(np.dstack([np.asarray(picture, np.float32) / 255 * opacity, opacity]))

    def _pole(self, chance: np.random.Generator, plan: ClipPlan, hidden: Mover) -> Mover:
        """Return something high and narrow, of another photo's pixels, that crosses an object's way."""
        height, _ = SIZE
        photo = read_photo(self.grounds[chance.integers(len(self.grounds))])
        wide = int(hidden.sprite.rgba.shape[1] * chance.uniform(0.5, 1.4))
        wide = min(max(wide, 16), 150, photo.shape[1] - 1)
        x = int(chance.integers(photo.shape[1] - wide))
        strip = PillowImage.fromarray(photo[:, x : x + wide]).resize((wide, height + 160))
        rgba = np.dstack([np.asarray(strip, np.float32) / 255, np.ones((height + 160, wide), np.float32)])
        middle = plan.frames * chance.uniform(0.4, 0.65)
        at = hidden.path[int(middle), 0]
        speed = chance.choice([-1, 1]) * (wide + hidden.sprite.rgba.shape[1]) / chance.uniform(8, 16)
        times = np.arange(plan.frames)
        path = np.zeros((plan.frames, 5))
        path[:, 0] = at + speed * (times - middle)
        path[:, 1], path[:, 2] = height / 2, 1
        return Mover(Sprite(rgba), path)


@dataclass(frozen=True, eq=False)
class Mover:
    """A sprite on its way; the path is (frames, 5): x, y, scale, angle in radians, and shear."""

    sprite: Sprite
    path: np.ndarray


def _is_whole(rle: Rle) -> bool:
    height, width = rle.size
    if not SMALLEST_PART <= rle.area / (height * width) <= LARGEST_PART:
        return False
    x0, y0, x1, y1 = mask_to_box(rle_to_mask(rle))
    inside = x0 >= MARGIN and y0 >= MARGIN and x1 <= width - MARGIN and y1 <= height - MARGIN
    large = min(x1 - x0, y1 - y0) >= SMALLEST_SIDE
    return inside and large and rle.area >= WHOLE * (x1 - x0) * (y1 - y0)


def _path(chance: np.random.Generator, plan: ClipPlan, part: np.ndarray) -> np.ndarray:
    """Return a smooth way (frames, 5) through a part of the picture's width."""
    height, _ = SIZE
    times = np.arange(plan.frames)
    cycles = plan.fast * chance.uniform(0.010, 0.018, 5)  # a frame
    waves = np.sin(2 * np.pi * (cycles * times[:, None] + chance.random(5)))
    x = part.mean() + 0.3 * (part[1] - part[0]) * waves[:, 0]
    y = height / 2 + 0.2 * height * waves[:, 1]
    scale = 1 + 0.25 * waves[:, 2]
    return np.stack([x, y, scale, 0.3 * waves[:, 3], 0.12 * waves[:, 4]], 1)


def _wander(chance: np.random.Generator, frames: int, size: float) -> np.ndarray:
    """Return where a hand that shakes holds the camera, (frames, 2) pixels."""
    steps = chance.normal(0, 1, (frames, 2))
    place = np.zeros(2)
    places = []
    for step in steps:
        place = 0.8 * place + 0.6 * step
        places.append(place * size)
    return np.clip(places, -30, 30)


def _paint(
    plan: ClipPlan,
    t: int,
    ground: np.ndarray,
    others: list[Mover],
    movers: list[Mover],
    front: list[Mover],
    shake: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame (H, W, 3) 0..1, and what is seen of each object (K, H, W)."""
    steps = BLUR_STEPS if plan.blur else 1
    total: np.ndarray | float = 0.0
    for step in range(steps):
        when = t + 0.5 * (step / max(1, steps - 1) - 0.5) * (steps > 1)
        total = total + _moment(plan, when, ground, [*others, *movers, *front], shake)[0]
    opacities = [_moment_opacity(one, t, shake) for one in [*movers, *front]]
    seen = []
    for i in range(len(movers)):
        visible = opacities[i].copy()
        for above in opacities[i + 1 :]:
            visible *= 1 - above
        seen.append(visible > SEEN)
    return np.asarray(total) / steps, np.stack(seen)


def _moment(
    plan: ClipPlan, when: float, ground: np.ndarray, movers: list[Mover], shake: np.ndarray
) -> tuple[np.ndarray]:
    height, width = SIZE
    dx, dy = _at(shake, when)
    top, left = (ground.shape[0] - height) / 2 + dy, (ground.shape[1] - width) / 2 + dx
    picture = _shifted(ground, top, left)
    for mover in movers:
        rgba, x, y = _placed(mover, when, shake)
        rows, columns, inner = _window(rgba, x, y)
        if inner is not None:
            picture[rows, columns] *= 1 - inner[..., 3:]
            picture[rows, columns] += inner[..., :3]
    return (picture,)


def _moment_opacity(mover: Mover, when: float, shake: np.ndarray) -> np.ndarray:
    out = np.zeros(SIZE, np.float32)
    rgba, x, y = _placed(mover, when, shake)
    rows, columns, inner = _window(rgba, x, y)
    if inner is not None:
        out[rows, columns] = inner[..., 3]
    return out


def _at(values: np.ndarray, when: float) -> np.ndarray:
    when = float(np.clip(when, 0, len(values) - 1))
    low = int(when)
    high = min(low + 1, len(values) - 1)
    return values[low] * (1 - (when - low)) + values[high] * (when - low)


def _shifted(ground: np.ndarray, top: float, left: float) -> np.ndarray:
    """Return a window of the ground whose corner lies between pixels."""
    height, width = SIZE
    y, x = int(top), int(left)
    fy, fx = top - y, left - x
    part = ground[y : y + height + 1, x : x + width + 1]
    rows = part[:-1] * (1 - fy) + part[1:] * fy
    return np.ascontiguousarray(rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx)


def _placed(mover: Mover, when: float, shake: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return a sprite as it is at a moment, and its corner's place in the picture."""
    x, y, scale, angle, shear = _at(mover.path, when)
    dx, dy = _at(shake, when)
    x, y = x - dx, y - dy
    rgba = mover.sprite.rgba
    height, width = rgba.shape[:2]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to = scale * turn @ np.array([[1, shear], [0, 1 - 0.3 * shear]])
    corners = to @ np.array([[-width, width, width, -width], [-height, -height, height, height]]) / 2
    reach = np.ceil(np.abs(corners).max(1)).astype(int) + 2
    x0, y0 = int(np.floor(x)) - reach[0], int(np.floor(y)) - reach[1]
    back = np.linalg.inv(to)
    middle = np.array([x - x0, y - y0])
    shift = np.array([width, height]) / 2 - back @ middle
    data = (*back[0], shift[0], *back[1], shift[1])
    size = (2 * int(reach[0]) + 1, 2 * int(reach[1]) + 1)
    layers = [
        np.asarray(
            PillowImage.fromarray(rgba[..., c]).transform(
                size, PillowImage.Transform.AFFINE, data, PillowImage.Resampling.BILINEAR
            )
        )
        for c in range(4)
    ]
    return np.dstack(layers), x0, y0


def _window(rgba: np.ndarray, x: float, y: float) -> tuple[slice, slice, np.ndarray | None]:
    """Return where in a frame a sprite lies, and the part of it that lies there."""
    height, width = SIZE
    x0, y0 = int(x), int(y)
    x1, y1 = x0 + rgba.shape[1], y0 + rgba.shape[0]
    rows, columns = slice(max(0, y0), min(height, y1)), slice(max(0, x0), min(width, x1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return rows, columns, None
    return rows, columns, rgba[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]


def write_davis(clip: Clip, folder: Path) -> Path:
    """Write a clip into a folder in DAVIS' layout."""
    images, annotations = (folder / part / clip.plan.name for part in ("JPEGImages", "Annotations"))
    for path in (images, annotations):
        path.mkdir(parents=True, exist_ok=True)
    for number, (frame, masks) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        PillowImage.fromarray(frame).save(images / f"{number:05d}.png")
        ids = np.zeros(frame.shape[:2], np.uint16)
        for id, mask in enumerate(masks, start=1):
            ids[mask] = id
        (annotations / f"{number:05d}.png").write_bytes(index_to_png(ids))
    return folder


def main() -> None:
    """Write clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=LONG_SERIES)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of sets with coco_val and others"
    )
    given = parser.parse_args()
    maker = ClipMaker(given.data)
    for plan in plans(given.clips):
        write_davis(maker.make(replace(plan, frames=given.frames)), given.folder)
        print(plan.name)


if __name__ == "__main__":
    main()
