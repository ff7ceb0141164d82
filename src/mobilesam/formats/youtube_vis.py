"""Tracks in YouTube-VIS' form: COCO with a list over the frames in each annotation, null where there is no mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mobilesam.core.arrays import Size
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.phrases import number_texts
from mobilesam.core.rle import Rle
from mobilesam.formats.coco import UNNAMED


class SeenObject(Protocol):
    """An object on one frame."""

    @property
    def id(self) -> int:
        """Number of the object."""
        ...

    @property
    def rle(self) -> Rle:
        """The mask."""
        ...

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its box, x0, y0, x1, y1."""
        ...

    @property
    def label(self) -> str | None:
        """What the object is called."""
        ...


class Tracks:
    """Takes frame after frame; only masks as text are kept.

    Args:
        name: of the video.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames = 0
        self.size: Size = (0, 0)
        self.labels: dict[int, str] = {}
        self.seen: dict[int, dict[int, tuple[dict[str, Any], list[int], int]]] = {}

    def add(self, size: Size, objects: Sequence[SeenObject]) -> None:
        """Take the next frame of (height, width) with its objects."""
        self.size = size
        for one in objects:
            seen = self.seen.setdefault(one.id, {})
            self.labels.setdefault(one.id, one.label or UNNAMED)
            if one.rle.area:
                seen[self.frames] = (one.rle.to_dict(), list(xyxy_to_xywh(one.box)), one.rle.area)
        self.frames += 1

    def document(self) -> dict[str, Any]:
        """Return the JSON document; annotations have the objects' numbers, frames are called 00001.png and so on."""
        height, width = self.size
        numbers = number_texts(list(self.labels.values()))
        everywhere = range(self.frames)
        annotations = []
        for number, seen in sorted(self.seen.items()):
            each = [seen.get(frame) for frame in everywhere]
            annotations.append(
                {
                    "id": number,
                    "video_id": 1,
                    "category_id": numbers[self.labels[number]] + 1,
                    "iscrowd": 0,
                    "width": width,
                    "height": height,
                    "length": 1,
                    "segmentations": [one and one[0] for one in each],
                    "bboxes": [one and one[1] for one in each],
                    "areas": [one and one[2] for one in each],
                }
            )
        names = [f"{self.name}/{frame + 1:05d}.png" for frame in everywhere]
        video = {"id": 1, "width": width, "height": height, "length": self.frames, "file_names": names}
        categories = [{"id": number + 1, "name": name} for name, number in numbers.items()]
        return {"videos": [video], "categories": categories, "annotations": annotations}
