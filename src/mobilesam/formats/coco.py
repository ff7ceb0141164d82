"""COCO's records of images and objects, read and written. Files are read in ``datasets.coco``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobilesam.core.arrays import Image, Size
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.rle import Rle, dict_to_rle, polygons_to_rle
from mobilesam.core.schema import Array, Either, OrNull, Record, Text, Whole
from mobilesam.formats.image import MAX_PIXELS, read_image
from mobilesam.formats.image_bytes import read_file, shown
from mobilesam.formats.stored import Stored

MAX_SET_BYTES = 2 * 2**30  # COCO's largest is 0.5 GB
CORNERS = 3  # least corners of a polygon
UNNAMED = "object"  # the category of objects without a name

WORDS = OrNull(Either({str: Text(), int: Whole()}))
SET_IMAGE = Record(
    {
        "id": Whole(),
        "file_name": Text(1, about="below images/, with / between folders"),
        "width": Whole(1, MAX_PIXELS),
        "height": Whole(1, MAX_PIXELS),
        "source": WORDS,
    },
    required=("id", "file_name", "width", "height"),
    open=True,
)
SET_RUNS = Record(
    {
        "size": Array(Whole(1, MAX_PIXELS), 2, 2),
        "counts": Either({str: Text(), list: Array(Whole(0, MAX_PIXELS))}),
    },
    required=("size", "counts"),
    open=True,
)


@dataclass(frozen=True)
class Instance:
    """One object: its mask as runs, its name in the source, COCO's bounding box and area.

    The area decides whether the object is small, medium or large; it is the mask's if the file states none.
    """

    segmentation: Rle
    name: str
    bbox: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True)
class SetPhoto:
    """One image file with its objects.

    Attributes:
        path: the file; of a photo in a tar, a name that no other photo of the set has.
        width: of its masks.
        height: of its masks.
        instances: its objects.
        source: where the set got it from, or empty.
        ignored: pixels that nobody decided on, such as the border of GrabCut's masks; None without any.
        stored: where its bytes are if it is no file of its own.
    """

    path: Path
    width: int
    height: int
    instances: tuple[Instance, ...] = field(default=())
    source: str = ""
    ignored: Rle | None = None
    stored: Stored | None = None

    @property
    def file_bytes(self) -> int:
        """Length of the file."""
        return self.path.stat().st_size if self.stored is None else self.stored.length

    def read(self) -> bytes:
        """Read the file.

        Raises:
            ImageError: if it cannot be read.
            LimitError: if it is too large.
        """
        name = str(self.path)
        return read_file(self.path, name=name) if self.stored is None else self.stored.read(name)


def record_to_instance(record: dict[str, Any], photo: SetPhoto, place: str) -> Instance:
    """Turn COCO's record of an object in a photo into an instance.

    Raises:
        ConfigError: names the field below ``place`` and what is wrong: a mask of another size, a
            polygon or a box that lies elsewhere.
        LimitError: for a polygon whose boundary is far too long.
    """
    size = (photo.height, photo.width)
    segmentation = _read_segmentation(record["segmentation"], size, f"{place}.segmentation", photo)
    x, y, width, height = map(float, record["bbox"])
    if width < 0 or height < 0 or not _lies_about(np.array([[x, y], [x + width, y + height]]), size):
        raise ConfigError(
            f"{place}.bbox: is {x:g}, {y:g}, {width:g}, {height:g}; must be x, y, width, height in the image "
            f"of {photo.width} x {photo.height}"
        )
    category = record.get("original_category", record.get("category_id", ""))
    return Instance(
        segmentation, str(category), (x, y, width, height), float(record.get("area", segmentation.area))
    )


def _read_segmentation(value: Any, size: Size, place: str, photo: SetPhoto) -> Rle:
    """Read runs or polygons as a mask of the photo's size."""
    height, width = size
    try:
        if isinstance(value, list):
            return polygons_to_rle(_read_polygons(value, size, place), size)
        rle = dict_to_rle(value)
    except (ConfigError, LimitError) as error:
        known = str(error).startswith(place)
        raise error if known else type(error)(f"{place}.{error}") from error
    if rle.size != size:
        raise ConfigError(
            f"{place}: a mask of {shown(photo.path.name)} is {rle.size[1]} x {rle.size[0]}, "
            f"the photo {width} x {height}; they must agree"
        )
    return rle


def _read_polygons(value: list[list[float]], size: Size, place: str) -> list[np.ndarray]:
    polygons = []
    for i, numbers in enumerate(value):
        if len(numbers) % 2:
            raise ConfigError(f"{place}[{i}]: has {len(numbers)} numbers; must be x, y, x, y, ...")
        polygons.append(np.array(numbers, np.float64).reshape(-1, 2))
        if not _lies_about(polygons[-1], size):
            raise ConfigError(
                f"{place}[{i}]: reaches more than an image beyond the image of {size[1]} x {size[0]}"
            )
    return polygons


def _lies_about(points: np.ndarray, size: Size) -> bool:
    """Whether points (N, 2) lie in an image (height, width), or less than an image beyond it."""
    sides = np.array(size[::-1])
    return bool(((points >= -sides) & (points <= 2 * sides)).all())


def read_photo(photo: SetPhoto) -> Image:
    """Read a photo's pixels (H, W, 3).

    Raises:
        ConfigError: if its size is not that of its masks.
    """
    image = read_image(photo.read(), name=str(photo.path))
    if image.shape[:2] != (photo.height, photo.width):
        height, width = image.shape[:2]
        raise ConfigError(
            f"{shown(str(photo.path))}: is {width} x {height}, its masks are {photo.width} x {photo.height}"
        )
    return image


class ScoredMask(Protocol):
    """A mask of a prompt or of everything in an image, with what the model says about it."""

    @property
    def rle(self) -> Rle: ...  # noqa: D102
    @property
    def box(self) -> tuple[int, int, int, int]: ...  # noqa: D102
    @property
    def area(self) -> int: ...  # noqa: D102
    @property
    def predicted_iou(self) -> float: ...  # noqa: D102
    @property
    def stability_score(self) -> float: ...  # noqa: D102


def masks_to_coco(
    masks: Sequence[ScoredMask],
    size: Size,
    *,
    file_name: str,
    categories: Sequence[str] = (UNNAMED,),
    category_of: Sequence[int] | None = None,
    image_id: int = 1,
) -> dict[str, Any]:
    """Return a COCO instance document of one image (height, width), its masks and categories numbered from 1.

    Args:
        masks: of the image.
        size: of the image.
        file_name: of the image.
        categories: names of the categories.
        category_of: the category of each mask, from 0; the first for all if None.
        image_id: of the image.
    """
    height, width = size
    numbers = [0] * len(masks) if category_of is None else category_of
    return {
        "images": [{"id": image_id, "file_name": file_name, "width": width, "height": height}],
        "annotations": [
            {
                "id": i,
                "image_id": image_id,
                "category_id": number + 1,
                "segmentation": mask.rle.to_dict(),
                "bbox": list(xyxy_to_xywh(mask.box)),
                "area": mask.area,
                "iscrowd": 0,
                "predicted_iou": round(mask.predicted_iou, 4),
                "stability_score": round(mask.stability_score, 4),
            }
            for i, (mask, number) in enumerate(zip(masks, numbers, strict=True), start=1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, start=1)],
    }
