"""How far two models agree: one's masks against the other's, for the same prompts, without human masks.

MobileSAM's figures are measured this way: its Table 2 asks teacher and student for the same single point, its
Table 7 for one point on the object and one off it, 100 to 500 pixels apart. It does not say which photos and
points. Here points are drawn at random, the same for a photo's name; boxes, from the teacher's masks, are ours.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import boundary_iou, mask_iou
from mobilesam.core.rle import mask_to_rle
from mobilesam.core.types import Embedding, Prompt
from mobilesam.evaluate.choices import BEST, MODEL, SINGLE, check_mask_choice, chosen, multimask_of
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.load import recognise
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.image import read_image
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.image_folder import find_images
from mobilesam.segment.model import Model

POINTS = 4  # drawn in each photo
DISTANCES = (100, 200, 300, 400, 500)  # pixels of the photo, from the foreground to the background point
DIRECTIONS = 16  # in which a background point is tried
MARGIN = 0.05  # of each side, in which no point is drawn


@dataclass(frozen=True)
class AgreementOptions:
    """What both models are asked.

    Attributes:
        points: points that are drawn in each photo.
        distances: pixels from the point on the object to the one off it, joined by commas.
        mask_choice: which mask counts, of both models: ``model``, ``single``, ``best-score`` or ``oracle``, the
            student's mask nearest to the teacher's best.
    """

    points: int = POINTS
    distances: tuple[int, ...] = DISTANCES
    mask_choice: str = MODEL

    def __post_init__(self) -> None:
        check_mask_choice(self.mask_choice)
        if not (isinstance(self.points, int) and self.points >= 1):
            raise ConfigError(f"points: is {self.points!r}; must be a whole number from 1")
        if not all(isinstance(one, int) and one >= 1 for one in self.distances):
            raise ConfigError(f"distances: are {self.distances!r}; must be whole numbers from 1")

    def row(self, kind: str) -> str:
        """Return the name of a kind's row."""
        own = BEST if kind == "point" else SINGLE
        return f"{kind}, {own if self.mask_choice == MODEL else self.mask_choice}"

    @property
    def rows(self) -> tuple[str, ...]:
        """All rows."""
        kinds = (
            "point",
            *(f"point and background at {far} px" for far in self.distances),
            "box of the teacher",
        )
        return tuple(self.row(kind) for kind in kinds)

    def to_dict(self) -> dict[str, Any]:
        """The options as the protocol of results."""
        return {
            "points a photo": self.points,
            "distances": ",".join(map(str, self.distances)),
            "mask choice": self.mask_choice,
        }


def read_any_photos(folder: Path, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read the photos of a set, or all photos of a folder that is not a set.

    Raises:
        ConfigError: if there are none.
    """
    try:
        recognise(folder)
    except ConfigError:
        photos = []
        for found in find_images(folder, follow_symlinks=follow_symlinks):
            if found.problem is not None:
                raise found.problem from None
            height, width = read_image(found.path).shape[:2]
            photos.append(SetPhoto(found.path, width, height))
        if not photos:
            raise ConfigError(
                f"{shown(str(folder))}: holds no photo; give a set or a folder of photos"
            ) from None
        return photos
    return read_photos(folder, follow_symlinks=follow_symlinks)


def agreement_rows(student: Model, teacher: Model, photo: SetPhoto, options: AgreementOptions) -> PhotoRecord:
    """Ask both models for the same prompts in a photo; return the answers by row.

    ``iou`` and ``boundary`` are the student's masks against the teacher's.
    """
    image = read_photo(photo)
    size = image.shape[:2]
    random = np.random.default_rng([zlib.crc32(photo.path.name.encode()), 7])
    points = draw_points(size, options.points, random)
    models = Pair(student, teacher, student.embed(image), teacher.embed(image), options.mask_choice)
    asked: dict[str, list[Prompt]] = {"point": [Prompt(points=[point]) for point in points]}
    for far in options.distances:
        pairs = ((point, point_at(point, far, size, random)) for point in points)
        asked[f"point and background at {far} px"] = [
            Prompt(points=[point, other], labels=[1, 0]) for point, other in pairs if other is not None
        ]
    found = {kind: models.ask(prompts) for kind, prompts in asked.items()}
    boxes = [Prompt(box=_box(answer)) for answer in found["point"] if answer.area]
    found["box of the teacher"] = models.ask(boxes)
    return PhotoRecord({options.row(kind): tuple(answers) for kind, answers in found.items()})


@dataclass(frozen=True)
class Pair:
    """Two models with their embeddings of one photo."""

    student: Model
    teacher: Model
    of_student: Embedding
    of_teacher: Embedding
    mask_choice: str

    def ask(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Ask both; return how far the student agrees with the teacher."""
        multimask = multimask_of(self.mask_choice)
        theirs = self.teacher.segment(self.of_teacher, prompts, multimask=multimask)
        ours = self.student.segment(self.of_student, prompts, multimask=multimask)
        answers = []
        for wanted, found in zip(theirs, ours, strict=True):
            truth = wanted.mask
            ious = [mask_iou(one.mask, truth) for one in found]
            number = chosen(found, ious, self.mask_choice)
            mask = found[number].mask
            values = {"iou": ious[number], "boundary": boundary_iou(mask, truth), "best": max(ious)}
            box = [float(v) for v in wanted.box] if truth.any() else None
            prompt = {"box of the teacher": box, "points": _points_of(wanted.prompt.points)}
            answers.append(Answer(values, int(truth.sum()), mask_to_rle(mask), prompt))
        return answers


def _points_of(points: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 1), round(float(y), 1)] for x, y in points]


def _box(answer: Answer) -> list[float]:
    assert answer.prompt is not None
    return list(answer.prompt["box of the teacher"])


def draw_points(size: Size, n: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Draw ``n`` points (x, y) in an image (height, width), off its margin."""
    height, width = size
    low, high = (
        np.array([MARGIN * width, MARGIN * height]),
        np.array([(1 - MARGIN) * width, (1 - MARGIN) * height]),
    )
    return [(int(x), int(y)) for x, y in random.uniform(low, high, (n, 2))]


def point_at(
    point: tuple[int, int], distance: float, size: Size, random: np.random.Generator
) -> tuple[int, int] | None:
    """Return a point in the image (height, width) at a distance, in a random direction; None if there is none."""
    start = random.uniform(0, 2 * np.pi)
    for turn in random.permutation(DIRECTIONS):
        angle = start + 2 * np.pi * turn / DIRECTIONS
        x, y = round(point[0] + distance * np.cos(angle)), round(point[1] + distance * np.sin(angle))
        if 0 <= x < size[1] and 0 <= y < size[0]:
            return x, y
    return None
