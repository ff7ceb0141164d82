"""What ``pocket`` scores on 24 photos of COCO val whose names are committed, and what it scored when its card was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mobilesam import Prompt
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.metrics import mask_iou
from mobilesam.core.regions import central_pixel
from mobilesam.core.rle import rle_to_mask
from mobilesam.evaluate.sets import SMALLEST_OBJECT, countable, read_countable
from mobilesam.formats.coco import read_photo
from mobilesam.segment.model import Model

CARD = json.loads((Path(__file__).parent / "golden" / "pocket_guard.json").read_text())


def quality_of(model: Model, shared: Path) -> dict[str, float]:
    """Return the mean IoU of the photos' objects by row, as ``mobilesam evaluate masks`` has it."""
    photos = read_countable(shared / "data" / "eval" / CARD["set"], SMALLEST_OBJECT)
    found: dict[str, list[float]] = {row: [] for row in CARD["iou"]}
    chosen = [photo for photo in photos if photo.path.name in CARD["photos"]]
    assert len(chosen) == len(CARD["photos"])
    for photo in chosen:
        embedding = model.embed(read_photo(photo))
        truths = [rle_to_mask(rle) for rle in countable(photo, SMALLEST_OBJECT)]
        for row, prompts in (
            ("box, single", [Prompt(box=mask_to_box(truth)) for truth in truths]),
            ("point, best-score", [Prompt(points=[central_pixel(truth)]) for truth in truths]),
        ):
            results = model.segment(embedding, prompts)
            found[row] += [mask_iou(one.mask, truth) for one, truth in zip(results, truths, strict=True)]
    return {row: float(np.mean(ious)) for row, ious in found.items()}
