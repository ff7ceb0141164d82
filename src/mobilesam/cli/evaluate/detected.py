"""``mobilesam evaluate detections``: AP of the masks in a detector's boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from mobilesam.cli.evaluate.runs import Evaluation, EvaluationOptions, open_model
from mobilesam.cli.fields import FileType, option_field, options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.evaluate.choices import BEST, SINGLE
from mobilesam.evaluate.detections import average_precision, detection_rows, read_detections


@dataclass(frozen=True)
class DetectionOptions:
    """Which mask of a box counts.

    Attributes:
        mask_choice: which mask counts: ``single``, or ``best-score`` of three.
    """

    mask_choice: str = option_field(SINGLE, type=click.Choice([SINGLE, BEST]), metavar="NAME")


@click.command()
@click.argument("set_folder", metavar="SET", type=FileType())
@click.argument("boxes", metavar="DETECTIONS.json", type=FileType())
@options_from(DetectionOptions, "asked")
@options_from(EvaluationOptions, "options")
@options_from(ModelOptions, "model")
def detections(
    set_folder: Path, boxes: Path, asked: DetectionOptions, options: EvaluationOptions, model: ModelOptions
) -> None:
    """Average precision (COCO's AP) of the masks in boxes that a detector found.

    SET is a set in COCO's form. DETECTIONS.json is a list of objects with image_id, category_id, bbox (x, y, width,
    height) and score, as ViTDet's boxes are usually shared. Needs mobilesam[evaluate].

    \b
    mobilesam evaluate detections data/eval/coco_val vitdet_boxes.json --mask-choice best-score
    """
    found = read_detections(set_folder, boxes, follow_symlinks=options.follow_symlinks)
    loaded, facts = open_model(model)
    protocol = {"mask choice": asked.mask_choice, "detections": found.sha256}
    evaluation = Evaluation("detections", protocol, options, facts, "predicted")
    photos = found.photos[: options.limit]
    score = partial(detection_rows, loaded, found, asked.mask_choice)
    records = evaluation.records(set_folder, photos, score)
    if records is None:
        return
    figures = {f"box of the detector, {asked.mask_choice}": average_precision(found, records)}
    evaluation.write(set_folder, photos, records, figures)
    evaluation.tell([evaluation.summary(set_folder, records) | {"figures": figures}])
