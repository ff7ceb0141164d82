"""Everything in a photo: what ``mobilesam everything`` asks and writes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, ClassVar

from mobilesam.annotate.objects import document_to_bytes
from mobilesam.annotate.outputs import Name, Place
from mobilesam.annotate.run import shown_path
from mobilesam.annotate.sources import Photo
from mobilesam.core.arrays import Size
from mobilesam.core.types import FoundMask
from mobilesam.detectors.base import Detector
from mobilesam.formats.image import image_to_png
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.everything.search import Progress, no_progress, segment_everything
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Everything

KINDS = ("overlay", "id-map", "coco", "sa1b", "masks")
FOLDER = "masks"  # the kind that is a folder with one file for each mask
ENDINGS = {
    "overlay": "everything.png",
    "id-map": "everything_id-map.png",
    "coco": "everything_coco.json",
    "sa1b": "everything_sa1b.json",
    FOLDER: "everything_masks",
}


class Count:
    """Remembers how many prompts were asked, and passes it on."""

    def __init__(self, progress: Progress) -> None:
        self.done, self.total = 0, 0
        self.progress = progress

    def __call__(self, done: int, total: int) -> None:
        """Take the count of a search."""
        self.done, self.total = done, total
        self.progress(done, total)


@dataclass(frozen=True)
class Search:
    """The question of what there is.

    Attributes:
        predictor: segments the objects.
        options: how a photo is searched.
        detector: what finds boxes; a grid needs none.
        progress: takes a photo's name and returns a callback ``(done, total)`` that counts its prompts.
    """

    needs_file: ClassVar[bool] = False

    predictor: Predictor
    options: EverythingOptions
    detector: Detector | None = None
    progress: Callable[[str], Progress] = lambda name: no_progress

    def names(self, kinds: Sequence[str], size: Size) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Question`."""
        return names_of(kinds)

    def ask(self, photo: Photo) -> Found:
        """See :class:`mobilesam.annotate.run.Question`."""
        count = Count(self.progress(photo.source.name))
        start = time.perf_counter()
        found = segment_everything(
            self.predictor, photo.image, self.options, detector=self.detector, progress=count
        )
        seconds = time.perf_counter() - start
        return Found(photo, found, seconds, count.done, remarks_on(found, count, self.options))


@dataclass(frozen=True, eq=False)
class Found:
    """The answer: masks of everything in a photo.

    Attributes:
        photo: the photo they are in.
        masks: the masks.
        seconds: how long the search took.
        prompts: how many were asked.
        remarks: see :class:`mobilesam.annotate.run.Answer`.
    """

    photo: Photo
    masks: Everything
    seconds: float
    prompts: int
    remarks: list[str]

    def names(self, kinds: Sequence[str]) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        return names_of(kinds)

    def write(self, kinds: Sequence[str], place: Place) -> dict[str, Any]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        files = {}
        for kind, name in zip(kinds, names_of(kinds), strict=True):
            if kind == FOLDER:
                write_masks(self.masks, name, place)
            else:
                place.write(name, encode(kind, self))
            files[kind] = shown_path(place.path(name))
        return {
            "milliseconds": round(self.seconds * 1000, 1),
            "prompts": self.prompts,
            "masks": everything_to_records(self.masks),
            "files": files,
        }


def names_of(kinds: Sequence[str]) -> list[Name]:
    """Return the names of outputs, such as ``everything.png``."""
    return [Name(ENDINGS[kind], folder=kind == FOLDER) for kind in kinds]


def remarks_on(found: Sized, count: Count, options: EverythingOptions) -> list[str]:
    """Return what may not be intended: a search that ran out of time, or that found nothing."""
    remarks = []
    if options.seconds is not None and (count.done < count.total or not count.total):
        asked = f"{count.done:,} of {count.total:,} prompts" if count.total else "no prompt"
        remarks.append(
            f"after {options.seconds:g} s {asked} had been asked; the masks are those found by then"
        )
    if not len(found):
        remarks.append("no mask passed the thresholds of predicted IoU and stability; lower them")
    return remarks


def everything_to_records(found: Everything) -> list[dict[str, Any]]:
    """Return the masks as docs/reference/everything.schema.json describes them."""
    return [found_mask_to_record(mask) for mask in found]


def found_mask_to_record(mask: FoundMask) -> dict[str, Any]:
    """Return one of these masks."""
    return {
        "predicted_iou": round(mask.predicted_iou, 4),
        "stability_score": round(mask.stability_score, 4),
        "objectness": round(mask.objectness, 4),
        "area": mask.area,
        "box": list(mask.box),
        "point": list(mask.point),
        "crop": list(mask.crop),
        "segmentation": mask.rle.to_dict(),
    }


def write_masks(found: Everything, folder: Name, place: Place) -> None:
    """Write one file for each mask, numbered as in the overlay; masks left from an earlier search are removed."""
    for i, mask in enumerate(found, start=1):
        place.write(mask_name(folder, i), image_to_png(mask.mask))
    with contextlib.suppress(OSError):
        i = len(found) + 1
        while (path := place.path(mask_name(folder, i))) is not None and path.exists():
            path.unlink()
            i += 1


def mask_name(folder: Name, number: int) -> Name:
    """Return the name of a mask's file."""
    return Name(f"{folder.ending}/{number:04}.png")


def encode(kind: str, answer: Found) -> bytes:
    """Return the bytes of one output."""
    found, source = answer.masks, answer.photo.source
    if kind == "overlay":
        return image_to_png(found.overlay())
    if kind == "id-map":
        return image_to_png(found.id_map())
    if kind == "coco":
        return document_to_bytes(found.to_coco(file_name=source.file_name, image_id=source.number))
    return document_to_bytes(found.to_sa1b(file_name=source.file_name, image_id=source.number - 1))
