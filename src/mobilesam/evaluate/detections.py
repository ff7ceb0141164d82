"""Average precision of the masks in a detector's boxes, as TinySAM, EdgeSAM and EfficientViT-SAM report it with ViTDet's.

Boxes come from a file, masks from the model, and the scores of the boxes rank them. COCO's evaluation is
faster-coco-eval's, which gives pycocotools' figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.boxes import mask_to_box, xywh_to_xyxy, xyxy_to_xywh
from mobilesam.core.errors import ConfigError, missing_extra
from mobilesam.core.rle import mask_to_rle
from mobilesam.core.schema import Array, Real, Record, Whole, check
from mobilesam.core.types import Prompt
from mobilesam.evaluate.choices import multimask_of
from mobilesam.evaluate.identity import names_in
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets import coco
from mobilesam.formats.datasets.load import read_dataset
from mobilesam.formats.datasets.model import Dataset
from mobilesam.formats.datasets.photos import dataset_to_photos
from mobilesam.formats.file_names import open_at_once
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file
from mobilesam.segment.model import Model

MAX_DETECTIONS_BYTES = 2 * 2**30
DETECTIONS = Array(
    Record(
        {"image_id": Whole(), "category_id": Whole(), "bbox": Array(Real(), 4, 4), "score": Real()},
        required=("image_id", "category_id", "bbox", "score"),
        open=True,
    )
)
FIGURES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")  # the first six of COCO's statistics


@dataclass(frozen=True)
class Detections:
    """A set, and what a detector found in it.

    Attributes:
        dataset: with its ids.
        photos: those with a detection, in the order of the set.
        by_photo: records of the detections, by the photo's name below the set.
        sha256: of the file.
    """

    dataset: Dataset = field(repr=False)
    photos: list[SetPhoto] = field(repr=False)
    by_photo: dict[Path, list[dict[str, Any]]] = field(repr=False)
    sha256: str


def read_detections(folder: Path, file: Path, *, follow_symlinks: bool = False) -> Detections:
    """Read a set and a detector's file.

    Raises:
        ConfigError: if one of them is not valid, or the file has ids that the set does not have.
    """
    dataset = read_dataset(folder, format="coco", follow_symlinks=follow_symlinks)
    name = shown(str(file))
    records = read_json_file(
        file, name, max_bytes=MAX_DETECTIONS_BYTES, fail=lambda message, code: ConfigError(message)
    )
    check(records, DETECTIONS, f"{name}: not a file of detections")
    photos = {photo.id: photo for photo in dataset.photos}
    categories = {one.id for one in dataset.categories}
    by_photo: dict[Path, list[dict[str, Any]]] = {}
    for i, record in enumerate(records):
        for key, known in (("image_id", photos), ("category_id", categories)):
            if record[key] not in known:
                raise ConfigError(f"{name}: [{i}].{key}: is {record[key]}, which the set does not have")
        by_photo.setdefault(dataset.path(photos[record["image_id"]]), []).append(record)
    every = dataset_to_photos(dataset, shown(str(folder)))
    with open_at_once(file) as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Detections(dataset, [one for one in every if one.path in by_photo], by_photo, digest)


def detection_rows(model: Model, found: Detections, mask_choice: str, photo: SetPhoto) -> PhotoRecord:
    """Ask for the boxes of a photo; the masks are facts, in the form of COCO's results."""
    embedding = model.embed(read_photo(photo))
    records = found.by_photo[photo.path]
    prompts = [Prompt(box=_inside(record["bbox"], photo)) for record in records]
    results = model.segment(embedding, prompts, multimask=multimask_of(mask_choice))
    answers, masks = [], []
    for record, result in zip(records, results, strict=True):
        rle = mask_to_rle(result.mask)
        answers.append(
            Answer({"predicted": result.best.predicted_iou, "box score": record["score"]}, rle.area)
        )
        masks.append(
            {
                "image_id": record["image_id"],
                "category_id": record["category_id"],
                "segmentation": rle.to_dict(),
                "bbox": [int(v) for v in xyxy_to_xywh(mask_to_box(result.mask))]
                if rle.area
                else [0, 0, 0, 0],
                "area": int(rle.area),
                "score": record["score"],
            }
        )
    return PhotoRecord({f"box of the detector, {mask_choice}": tuple(answers)}, {"masks": masks})


def _inside(bbox: Sequence[float], photo: SetPhoto) -> np.ndarray:
    """Return the corners (4,) of a box (x, y, width, height), cut at the photo's edges, at least a pixel wide."""
    x0, y0, x1, y1 = xywh_to_xyxy((bbox[0], bbox[1], bbox[2], bbox[3]))
    x0, y0 = min(max(x0, 0), photo.width - 1), min(max(y0, 0), photo.height - 1)
    return np.array(
        [x0, y0, min(max(x1, x0 + 1), photo.width), min(max(y1, y0 + 1), photo.height)], np.float64
    )


def average_precision(found: Detections, records: Sequence[PhotoRecord]) -> dict[str, float]:
    """Return COCO's figures of the masks; photos of the set without a detection count as missed.

    Raises:
        MissingExtraError: if faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError as error:
        raise missing_extra("AP of detections", "evaluate") from error
    masks = [mask for record in records for mask in record.facts["masks"]]
    if not masks:
        return dict.fromkeys(FIGURES, 0.0)
    truth = COCO(coco.dataset_to_coco(found.dataset))
    evaluation = COCOeval_faster(truth, truth.loadRes(masks), iouType="segm", print_function=lambda *_: None)
    if len(records) < len(found.photos):  # with a limit
        names = {record.photo for record in records}
        kept = {
            one.path for one, name in zip(found.photos, names_in(found.photos), strict=True) if name in names
        }
        evaluation.params.imgIds = [p.id for p in found.dataset.photos if found.dataset.path(p) in kept]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats, strict=False)}
