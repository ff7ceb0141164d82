"""COCO instance files: photographs with one record per object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.rle import Rle, dict_to_rle


@dataclass(frozen=True)
class Instance:
    """One object: its mask as runs, its name in the source and COCO's bounding box."""

    segmentation: Rle
    name: str
    bbox: tuple[float, float, float, float]


@dataclass(frozen=True)
class Photograph:
    """One image file with its objects; ``width`` and ``height`` are those of the masks."""

    path: Path
    width: int
    height: int
    instances: tuple[Instance, ...] = field(default=())


def read_instances(folder: str | Path) -> list[Photograph]:
    """Read ``folder/instances.json`` whose images lie in ``folder/images``.

    Photographs whose file is missing are left out; the masks must be run-length codes.

    Raises:
        ConfigError: if the file is missing or is no COCO instance file.
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
            by_image[record["image_id"]].append(
                Instance(
                    dict_to_rle(record["segmentation"]),
                    str(record.get("original_category", record.get("category_id", ""))),
                    tuple(record["bbox"]),
                )
            )
        photographs = [
            Photograph(
                folder / "images" / image["file_name"],
                int(image["width"]),
                int(image["height"]),
                tuple(by_image[image["id"]]),
            )
            for image in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a COCO instance file with run-length masks ({error})") from error
    return [photograph for photograph in photographs if photograph.path.is_file()]
