"""A labeller that needs no model, and runs of it in processes that are killed: ``python -m tests.bright PHOTOS OUT LOG``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mobilesam.annotate.labelling import Labels
from mobilesam.annotate.set_run import SetRun
from mobilesam.annotate.sources import Photo, find_sources
from mobilesam.core.rle import mask_to_rle
from mobilesam.formats.datasets.model import LabelledObject, box_of
from mobilesam.work.local import LocalEngine

FORMATS = ("coco", "yolo", "labelme", "voc", "png", "sa1b", "geojson")
WORKERS = 2


class Bright:
    """What is bright is the object; each photo that is asked for is a line of a log."""

    def __init__(self, log: Path | None = None, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds

    def label(self, photo: Photo, file_name: str) -> Labels:
        if self.log is not None:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{file_name}\n".encode())
            os.close(descriptor)
        time.sleep(self.seconds)
        mask = mask_to_rle(photo.image[..., 0] > 100)
        objects = (LabelledObject("bright", box_of(mask), mask, score=0.5),) if mask.area else ()
        return Labels(objects)


def bright_run(out: Path, log: Path | None = None, seconds: float = 0.0, **more: object) -> SetRun:
    given = {
        "labeller": Bright(log, seconds),
        "engine": LocalEngine(WORKERS),
        "formats": FORMATS,
        "val": 0.3,
        "settings": {"threshold": 100},
    } | more
    return SetRun(out=out, **given)


if __name__ == "__main__":
    photos, out, log = map(Path, sys.argv[1:])
    for _ in bright_run(out, log, 0.01).over(find_sources([photos], beside=out).sources):
        pass
