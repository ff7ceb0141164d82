"""``auto_annotate``: photos in, YOLO's label files out, as in ``ultralytics.data.annotator``.

    >>> from mobilesam.compat.ultralytics.data.annotator import auto_annotate
    >>> auto_annotate("shots", det_model="yolox_nano.onnx", sam_model="pocket")  # doctest: +SKIP

Written from its documentation and behaviour. The labels' numbers are those of the detector's classes, even if
masks before them are dropped. ``mobilesam annotate`` can do more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.annotate.labelling import BoxLimits, select_by_class
from mobilesam.compat.ultralytics.model import SAM
from mobilesam.compat.ultralytics.options import is_whole
from mobilesam.compat.ultralytics.sources import Picture, open_source
from mobilesam.core.errors import ConfigError
from mobilesam.core.prompts import names_with
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.detectors.base import Boxes, Detector, check_boxes
from mobilesam.detectors.load import detector_for
from mobilesam.detectors.onnx_layouts import LayoutDetector
from mobilesam.formats.yolo import mask_to_yolo_line
from mobilesam.segment.model import Model
from mobilesam.segment.results import Segmentation
from mobilesam.storage.atomic import write_bytes

MASK_CONFIDENCE = 0.25  # masks need a higher predicted IoU, as in SAM.predict
PICKLED = (".pt", ".pth", ".yaml")


def auto_annotate(
    data: str | Path,
    det_model: str | Path | Detector = "yolo26x.pt",
    sam_model: str | Path = "sam_b.pt",
    device: Any = "",
    conf: float = 0.25,
    iou: float = 0.45,
    imgsz: int = 640,
    max_det: int = 300,
    classes: Sequence[int] | None = None,
    output_dir: str | Path | None = None,
) -> None:
    """Label photos: a detector finds boxes, SAM segments them, and a text file for each photo has the outlines.

    Args:
        data: a folder of photos, or anything else that ``SAM.predict`` takes as a path.
        det_model: a detector's .onnx file, as ``yolo export format=onnx`` writes it; ``detector_nano``, or the name of
            a model with a head for objects; or an object with ``find(embedding, texts)``.
        sam_model: as :class:`~mobilesam.compat.ultralytics.SAM` takes it.
        device: ``cpu``, ``cuda``, a number of a GPU, or empty.
        conf: boxes must be at least this likely.
        iou: of two boxes of one class with a higher IoU, the likelier is taken.
        imgsz: side of the detector's input; a file with another input size is refused.
        max_det: most boxes for a photo.
        classes: numbers of the classes that are wanted; None for all.
        output_dir: where the label files go; ``{parent}/{stem}_auto_annotate_labels`` if None.

    Raises:
        ConfigError: for arguments that make no sense, and for two photos whose label files would have one name.
        ImageError: if a photo cannot be read.
        WeightsError: if weights are missing or damaged.
        OutputError: if a label file cannot be written.
    """
    if not isinstance(data, str | os.PathLike):
        raise ConfigError(f"data: is a {type(data).__name__}; give the path of a folder of photos")
    check_number("conf", conf, 0.0, 1.0)
    check_number("iou", iou, 0.0, 1.0)
    check_whole_number("max_det", max_det, 1)
    keep = _check_classes(classes)
    path = Path(data)
    folder = path.parent / f"{path.stem}_auto_annotate_labels" if output_dir is None else Path(output_dir)
    pictures = open_source(data)
    model = SAM(sam_model, device=device).model
    detector = _open_detector(model, det_model, imgsz)
    limits = BoxLimits(conf, iou, max_det)
    written: dict[str, str] = {}
    for picture in pictures:
        other = written.setdefault(picture.stem, picture.path)
        if other != picture.path:
            raise ConfigError(
                f"{printable(other)} and {printable(picture.path)}: would have label files of the same name; rename one"
            )
        lines = label_picture(model, detector, picture, limits, keep)
        write_bytes(folder / f"{picture.stem}.txt", "".join(f"{line}\n" for line in lines).encode())


def label_picture(
    model: Model, detector: Detector, picture: Picture, limits: BoxLimits, keep: frozenset[int] | None
) -> list[str]:
    """Return the lines of a picture's label file: a class's number, and x and y of an outline in 0..1."""
    embedding = model.embed(np.ascontiguousarray(picture.image[..., ::-1]))
    found = check_boxes(detector.find(embedding), "det_model")
    boxes = select_by_class(found, embedding.original_size, limits, keep)
    prompts = [Prompt(box=box) for box in boxes.xyxy]
    valid = model.predictor.validate(embedding, prompts, [names_with("")] * len(prompts))
    results = model.predictor.segment(embedding, valid, multimask=False)
    return [line for line in lines_of_results(results, boxes) if line]


def lines_of_results(results: Sequence[Segmentation], boxes: Boxes) -> list[str]:
    """Return a line for each box, which is empty if its mask is dropped."""
    classes = np.zeros(len(boxes), int) if boxes.classes is None else boxes.classes
    return [
        mask_to_yolo_line(result.mask, int(number)) if result.best.predicted_iou > MASK_CONFIDENCE else ""
        for result, number in zip(results, classes, strict=True)
    ]


def _open_detector(model: Model, det_model: str | Path | Detector, imgsz: int) -> Detector:
    check_whole_number("imgsz", imgsz, 1)
    if isinstance(det_model, str | Path) and Path(det_model).suffix.lower() in PICKLED:
        raise ConfigError(
            f"det_model: is {printable(det_model)}, which only ultralytics reads; export it with "
            f"'yolo export model={printable(det_model)} format=onnx' and give the .onnx file, or detector_nano"
        )
    detector = detector_for(model.runtime, model.name, det_model)
    if isinstance(detector, LayoutDetector) and imgsz != max(detector.size) and imgsz != 640:
        height, width = detector.size
        raise ConfigError(f"imgsz: is {imgsz}; the file's input is {height} x {width}, leave imgsz out")
    return detector


def _check_classes(classes: Sequence[int] | None) -> frozenset[int] | None:
    if classes is None:
        return None
    numbers: list[Any] = [classes] if is_whole(classes) else list(classes)
    for i, number in enumerate(numbers):
        if not is_whole(number) or number < 0:
            raise ConfigError(
                f"classes[{i}]: is {printable(repr(number)[:40])}; must be a class's number, from 0"
            )
    return frozenset(int(number) for number in numbers)
