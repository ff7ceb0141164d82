"""From image files to files of everything in them: what ``mobilesam everything`` does with each image."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from mobilesam.annotate.segment_files import Settings, Source, check_free, document_to_bytes
from mobilesam.detectors.base import Detector
from mobilesam.formats.image import image_to_png, read_image
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.everything.search import Progress
from mobilesam.segment.model import Model
from mobilesam.segment.results import Everything
from mobilesam.storage.atomic import write_bytes

KINDS = ("overlay", "id-map", "coco", "sa1b", "masks")
FOLDER = "masks"  # the kind that is one file a mask, in a folder
ENDINGS = {
    "overlay": "everything.png",
    "id-map": "everything_id-map.png",
    "coco": "everything_coco.json",
    "sa1b": "everything_sa1b.json",
    FOLDER: "everything_masks",
}


class Count:
    """Remembers how many prompts were asked, and tells it on."""

    def __init__(self, progress: Progress) -> None:
        self.done, self.total = 0, 0
        self.progress = progress

    def __call__(self, done: int, total: int) -> None:
        """Take the count of a search."""
        self.done, self.total = done, total
        self.progress(done, total)


def search_file(
    model: Model,
    source: Source,
    options: EverythingOptions,
    settings: Settings,
    detector: Detector | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Segment everything in one image, write what is asked for, and return the image's record.

    Raises:
        MobileSamError: as its parts do; no output is then half written.
    """
    remarks: list[str] = []
    image = read_image(source.content, max_pixels=settings.max_pixels, name=source.name, remarks=remarks)
    check_free(outputs_of(source, settings).values(), overwrite=settings.overwrite)
    start = time.perf_counter()
    count = Count(progress)
    found = model.everything(
        image, options, detector=detector, max_pixels=settings.max_pixels, progress=count
    )
    seconds = time.perf_counter() - start
    return {
        "file": source.name,
        "width": image.shape[1],
        "height": image.shape[0],
        "milliseconds": round(seconds * 1000, 1),
        "prompts": count.done,
        "masks": everything_to_records(found),
        "files": write_outputs(found, source, settings),
        "warnings": remarks + remarks_on(found, count, options),
    }


def remarks_on(found: Everything, count: Count, options: EverythingOptions) -> list[str]:
    """Return what may not be meant: a search that ran out of time, or that found nothing."""
    remarks = []
    if options.seconds is not None and (count.done < count.total or not count.total):
        asked = f"{count.done:,} of {count.total:,} prompts" if count.total else "no prompt"
        remarks.append(
            f"after {options.seconds:g} s {asked} had been asked; the masks are those found by then"
        )
    if not len(found):
        remarks.append("no mask was believed; lower the thresholds of predicted IoU and stability")
    return remarks


def everything_to_records(found: Everything) -> list[dict[str, Any]]:
    """Return the masks as docs/reference/everything.schema.json has them."""
    return [
        {
            "predicted_iou": round(mask.predicted_iou, 4),
            "stability_score": round(mask.stability_score, 4),
            "objectness": round(mask.objectness, 4),
            "area": mask.area,
            "box": list(mask.box),
            "point": list(mask.point),
            "crop": list(mask.crop),
            "segmentation": mask.rle.to_dict(),
        }
        for mask in found
    ]


def outputs_of(source: Source, settings: Settings) -> dict[str, Path]:
    """Return where each kind of output lies: ``STEM_everything.png`` and so on."""
    return {kind: settings.out / f"{source.stem}_{ENDINGS[kind]}" for kind in settings.save}


def write_outputs(found: Everything, source: Source, settings: Settings) -> dict[str, str]:
    """Write the outputs and return their paths."""
    outputs = outputs_of(source, settings)
    for kind, path in outputs.items():
        if kind == FOLDER:
            write_masks(found, path, overwrite=settings.overwrite)
        else:
            write_bytes(path, encode(kind, found, source), overwrite=settings.overwrite)
    return {kind: str(path) for kind, path in outputs.items()}


def write_masks(found: Everything, folder: Path, *, overwrite: bool) -> None:
    """Write a file a mask, numbered as in the overlay; an earlier search's further masks are removed."""
    for i, mask in enumerate(found, start=1):
        write_bytes(mask_path(folder, i), image_to_png(mask.mask), overwrite=overwrite)
    i = len(found) + 1
    with contextlib.suppress(OSError):
        while overwrite and mask_path(folder, i).exists():
            mask_path(folder, i).unlink()
            i += 1


def mask_path(folder: Path, number: int) -> Path:
    """Return where a mask's file lies."""
    return folder / f"{number:04}.png"


def encode(kind: str, found: Everything, source: Source) -> bytes:
    """Return the bytes of one output."""
    if kind == "overlay":
        return image_to_png(found.overlay())
    if kind == "id-map":
        return image_to_png(found.id_map())
    name = Path(source.name).name
    if kind == "coco":
        return document_to_bytes(found.to_coco(file_name=name, image_id=source.number))
    return document_to_bytes(found.to_sa1b(file_name=name, image_id=source.number - 1))
