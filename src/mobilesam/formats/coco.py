"""COCO instance files, read and written: photographs with one record per object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mobilesam.core.arrays import Image, Size
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError
from mobilesam.core.rle import Rle, dict_to_rle
from mobilesam.formats.image import read_image


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
class Photograph:
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


def read_instances(folder: str | Path) -> list[Photograph]:
    """Read ``folder/instances.json`` whose images lie in ``folder/images``.

    The masks must be run-length codes.

    Raises:
        ConfigError: if the file is missing, is no COCO instance file, names photographs
            that are not there, or has masks of another size than theirs.
    """
    folder = Path(folder)
    path = folder / "instances.json"
    if not path.is_file():
        raise ConfigError(f"{path}: not found; a set is a folder with instances.json and images/")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        by_image: dict[int, list[Instance]] = {image["id"]: [] for image in content["images"]}
        for record in content["annotations"]:
            if record.get("iscrowd"):
                continue
            by_image[record["image_id"]].append(record_to_instance(record))
        photographs = [
            Photograph(
                folder / "images" / image["file_name"],
                int(image["width"]),
                int(image["height"]),
                tuple(by_image[image["id"]]),
                str(image.get("source", "")),
            )
            for image in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a COCO instance file with run-length masks ({error})") from error
    for photograph in photographs:
        check_sizes(path, photograph)
    missing = [photograph.path for photograph in photographs if not photograph.path.is_file()]
    if missing:
        raise ConfigError(f"{path}: {len(missing)} of its photographs are missing, the first is {missing[0]}")
    return photographs


def check_sizes(path: Path, photograph: Photograph) -> None:
    """Refuse masks that have another size than their photograph."""
    for instance in photograph.instances:
        height, width = instance.segmentation.size
        if (height, width) != (photograph.height, photograph.width):
            raise ConfigError(
                f"{path}: a mask of {photograph.path.name} is {width} x {height}, "
                f"the photograph {photograph.width} x {photograph.height}; they must agree"
            )


def record_to_instance(record: dict) -> Instance:
    """Turn COCO's record of an object into an instance.

    Raises:
        ValueError: if its mask is not as runs.
    """
    if isinstance(record["segmentation"], list):
        raise ValueError(
            f"annotation {record.get('id')} has polygons; pycocotools' COCO.annToRLE makes runs of them"
        )
    segmentation = dict_to_rle(record["segmentation"])
    x, y, width, height = map(float, record["bbox"])
    return Instance(
        segmentation,
        str(record.get("original_category", record.get("category_id", ""))),
        (x, y, width, height),
        float(record.get("area", segmentation.area)),
    )


def read_photograph(photograph: Photograph) -> Image:
    """Read a photograph's pixels (H, W, 3).

    Raises:
        ConfigError: if its size is not that of its masks.
    """
    image = read_image(photograph.path)
    if image.shape[:2] != (photograph.height, photograph.width):
        height, width = image.shape[:2]
        raise ConfigError(
            f"{photograph.path}: is {width} x {height}, its masks are {photograph.width} x {photograph.height}"
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
    categories: Sequence[str] = ("object",),
    category_of: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return a COCO instance document of one image (height, width), its masks and categories numbered from 1.

    Args:
        masks: of the image.
        size: of the image.
        file_name: of the image.
        categories: names of what masks can be of.
        category_of: which of them each mask is of, from 0; all of the first where None.
    """
    height, width = size
    numbers = [0] * len(masks) if category_of is None else category_of
    return {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
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
