"""COCO instance files, read and written: photos with one record per object."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobilesam.core.arrays import Image, Size
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError, LimitError, SetWarning
from mobilesam.core.rle import Rle, dict_to_rle, polygons_to_rle
from mobilesam.core.schema import Array, Either, Flag, OneOf, OrNull, Real, Record, Text, Whole, check
from mobilesam.core.text import shortened
from mobilesam.formats.file_names import file_below, is_file
from mobilesam.formats.image import MAX_PIXELS, read_image
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file

MAX_SET_BYTES = 2 * 2**30  # COCO's largest is 0.5 GB
CORNERS = 3  # of a polygon, at least
UNNAMED = "object"  # the category of what has no name

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
SET_ANNOTATION = Record(
    {
        "id": Whole(),
        "image_id": Whole(),
        "category_id": WORDS,
        "original_category": WORDS,
        "segmentation": Either({dict: SET_RUNS, list: Array(Array(Real(), 2 * CORNERS), 1)}),
        "bbox": Array(Real(), 4, 4),
        "area": Real(0),
        "iscrowd": Either({int: OneOf((0, 1)), bool: Flag()}),
    },
    required=("image_id", "segmentation", "bbox"),
    open=True,
)
SET = Record(
    {"images": Array(SET_IMAGE), "annotations": Array(SET_ANNOTATION)},
    required=("images", "annotations"),
    open=True,
)


@dataclass(frozen=True)
class Instance:
    """One object: its mask as runs, its name in the source, COCO's bounding box and area.

    The area decides whether the object is small, medium or large; it is the mask's where the file has none.
    """

    segmentation: Rle
    name: str
    bbox: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True)
class SetPhoto:
    """One image file with its objects.

    Attributes:
        path: the file.
        width: of its masks.
        height: of its masks.
        instances: its objects.
        source: where the set has it from, or empty.
    """

    path: Path
    width: int
    height: int
    instances: tuple[Instance, ...] = field(default=())
    source: str = ""


def read_instances(folder: str | Path, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Read ``folder/instances.json`` whose images lie in ``folder/images``.

    Masks may be run-length codes, or polygons, which are rasterised as COCO does.

    Args:
        folder: of the set.
        follow_symlinks: read photos that links in ``images`` show of the world outside it.

    Raises:
        ConfigError: if the file is missing, is no COCO instance file, names photos
            that are not there or lie elsewhere, or has masks of another size than theirs.
        LimitError: if the file or one of its images is too large.

    Warns:
        SetWarning: for annotations of crowds, which are left out.
    """
    folder = Path(folder)
    path = folder / "instances.json"
    name = shown(str(path))
    if not is_file(path):
        raise ConfigError(f"{name}: not found; a set is a folder with instances.json and images/")
    content = read_json_file(
        path, name, max_bytes=MAX_SET_BYTES, fail=lambda message, code: ConfigError(message)
    )
    check(content, SET, f"{name}: not a COCO instance file")
    photos = _read_photos(content["images"], name, folder / "images", follow_symlinks)
    by_image = _read_annotations(content["annotations"], name, photos)
    missing = [photo.path for photo in photos.values() if not is_file(photo.path)]
    if missing:
        first = shown(str(missing[0]))
        raise ConfigError(f"{name}: {len(missing)} of its photos are missing, the first is {first}")
    return [replace(photo, instances=tuple(by_image[number])) for number, photo in photos.items()]


def _read_photos(
    records: list[dict[str, Any]], name: str, images: Path, follow_symlinks: bool
) -> dict[int, SetPhoto]:
    """Return the photos by their ids, yet without objects; each file has one id."""
    photos: dict[int, SetPhoto] = {}
    ids: dict[Path, int] = {}
    for i, record in enumerate(records):
        place, number = f"{name}: images[{i}]", record["id"]
        if number in photos:
            raise ConfigError(f"{place}.id: {number} stands twice; each image has an id of its own")
        pixels = record["width"] * record["height"]
        if pixels > MAX_PIXELS:
            raise LimitError(f"{place}: has {pixels:,} pixels; at most {MAX_PIXELS:,} are allowed")
        path = file_below(
            images,
            record["file_name"],
            follow_symlinks=follow_symlinks,
            place=f"{place}.file_name",
            fail=ConfigError,
        )
        if path in ids:
            raise ConfigError(
                f"{place}.file_name: {shortened(record['file_name'])} is the file of image {ids[path]} too; "
                "give a file one id, and its objects that one"
            )
        ids[path] = number
        source = record.get("source")
        photos[number] = SetPhoto(
            path, record["width"], record["height"], source="" if source is None else str(source)
        )
    return photos


def _read_annotations(
    records: list[dict[str, Any]], name: str, photos: dict[int, SetPhoto]
) -> dict[int, list[Instance]]:
    """Return the objects of each photo by its id, without crowds."""
    by_image: dict[int, list[Instance]] = {number: [] for number in photos}
    seen: set[int] = set()
    crowds = 0
    for i, record in enumerate(records):
        place = f"{name}: annotations[{i}]"
        number = record.get("id")
        if number in seen:
            raise ConfigError(f"{place}.id: {number} stands twice; each annotation has an id of its own")
        if number is not None:
            seen.add(number)
        photo = photos.get(record["image_id"])
        if photo is None:
            raise ConfigError(f"{place}.image_id: is {record['image_id']}, of which there is no image")
        instance = record_to_instance(record, photo, place)
        if record.get("iscrowd"):
            crowds += 1
        else:
            by_image[record["image_id"]].append(instance)
    if crowds:
        warnings.warn(
            f"{name}: annotations of crowds (iscrowd = 1) mark groups, not objects; {crowds} left out",
            SetWarning,
            stacklevel=3,
        )
    return by_image


def record_to_instance(record: dict[str, Any], photo: SetPhoto, place: str) -> Instance:
    """Turn COCO's record of an object in a photo into an instance.

    Raises:
        ConfigError: names the field below ``place`` and what is wrong: a mask of another size, a
            polygon or a box that lies elsewhere.
        LimitError: for a polygon with a boundary without end.
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
    image = read_image(photo.path)
    if image.shape[:2] != (photo.height, photo.width):
        height, width = image.shape[:2]
        raise ConfigError(
            f"{shown(str(photo.path))}: is {width} x {height}, its masks are {photo.width} x {photo.height}"
        )
    return image


class ScoredMask(Protocol):
    """A mask of a prompt or of everything in an image, with what the model says of it."""

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
        categories: names of what masks can be of.
        category_of: which of them each mask is of, from 0; all of the first where None.
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
