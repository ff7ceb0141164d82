"""The keywords of ``predict``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.core.arrays import ArrayLike
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened
from mobilesam.segment.everything.options import SAMPLERS, EverythingOptions

OPTIONAL_BOOLEANS = ("multimask_output",)
PARTS = (
    "conf",
    "iou",
    "conf_thres",
    "stability_score_thresh",
    "crop_nms_thresh",
    "crop_overlap_ratio",
)  # 0..1
WHOLE_NUMBERS = {
    "max_det": 1,
    "vid_stride": 1,
    "line_width": 1,
    "points_stride": 1,
    "crop_n_layers": 0,
    "crop_downscale_factor": 1,
}  # each with the least it may be


@dataclass(frozen=True)
class PredictOptions:
    """What ``SAM.predict`` takes by name, besides the prompts; any other name is an error.

    Attributes:
        conf: only masks with a higher predicted IoU are kept.
        imgsz: the model's own input size, or None. Another has no effect, which is said once.
        device: ``cpu``, ``cuda``, ``mps`` or a number of a GPU; None leaves the model where it is.
        max_det: most masks to keep, those with the highest predicted IoU.
        retina_masks: accepted, but without effect: masks always have the image's size.
        multimask_output: False for one mask of each object, True for the three of an ambiguous prompt,
            None for the best of three for a single point, as ``Model.segment`` chooses.
        save: write each picture with its masks drawn in.
        save_txt: write each picture's outlines.
        save_conf: put the predicted IoU at the end of each line.
        save_crop: write the part of the image in each mask's box.
        show: open a window with each picture.
        verbose: print a line for each picture, on standard error.
        show_labels: numbers and names in drawings.
        show_conf: predicted IoU in drawings.
        show_boxes: boxes in drawings.
        line_width: of boxes in drawings, in pixels.
        project: folder of the runs, ``runs/segment`` by default.
        name: of the run's folder in it, ``predict`` by default; a number is added if it is taken.
        exist_ok: write into an existing folder.
        vid_stride: of a video, take one frame in this many.
        iou: of two found masks whose boxes overlap more, the better stays; no effect with prompts.
        sampler: where to ask: ``grid`` as the original does, ``objects`` or ``hybrid``, which are faster;
            this and all that follow apply only without prompts.
        points_stride: points of the grid along each side.
        point_grids: points (N, 2) in 0..1 of the image and of each layer of crops, instead.
        conf_thres: found masks must have a higher predicted IoU; None for the model's own threshold,
            which is 0.88 for published models.
        stability_score_thresh: and at least this stability; None for the model's own, 0.95 for published ones.
        stability_score_offset: how far the threshold moves for it.
        crop_n_layers: layers of crops beyond the whole image.
        crop_overlap_ratio: overlap of the first layer's crops.
        crop_downscale_factor: by how much the grid thins out from layer to layer.
        crop_nms_thresh: as ``iou``, between crops.
        seconds: time to stop after, with the masks found until then.
    """

    conf: float = 0.25
    imgsz: int | Sequence[int] | None = None
    device: Any = None
    max_det: int | None = None
    retina_masks: bool = True
    multimask_output: bool | None = False
    save: bool = False
    save_txt: bool = False
    save_conf: bool = False
    save_crop: bool = False
    show: bool = False
    verbose: bool = False
    show_labels: bool = True
    show_conf: bool = True
    show_boxes: bool = True
    line_width: int | None = None
    project: str | None = None
    name: str | None = None
    exist_ok: bool = False
    vid_stride: int = 1
    iou: float = 0.7
    sampler: str = "grid"
    points_stride: int = 32
    point_grids: Sequence[ArrayLike] | None = None
    conf_thres: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float = 1.0
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_downscale_factor: int = 1
    crop_nms_thresh: float = 0.7
    seconds: float | None = None

    def drawing(self) -> dict[str, Any]:
        """Return how results are drawn, as keywords of ``Results.plot``."""
        return {
            "conf": self.show_conf,
            "labels": self.show_labels,
            "boxes": self.show_boxes,
            "line_width": self.line_width,
        }

    def everything(self) -> EverythingOptions:
        """Return how an image is searched when there is no prompt."""
        return EverythingOptions(
            sampler=self.sampler,
            points_per_side=self.points_stride if self.point_grids is None else None,
            point_grids=self.point_grids,
            pred_iou_thresh=self.conf_thres,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=self.iou,
            crop_n_layers=self.crop_n_layers,
            crop_nms_thresh=self.crop_nms_thresh,
            crop_overlap_ratio=self.crop_overlap_ratio,
            crop_n_points_downscale_factor=self.crop_downscale_factor,
            seconds=self.seconds,
        )


# Keywords of the original without a counterpart here: the values that ask for nothing, and what to use for others.
TAKEN: dict[str, tuple[tuple[Any, ...], str]] = {
    "task": (("segment",), "this model segments; for boxes of objects see docs/how-to/detectors.md"),
    "mode": (("predict",), "call train, val or export by its own name"),
    "half": ((False,), "use SAM(..., runtime='torch', dtype='float16')"),
    "batch": ((1,), "images go one by one; mobilesam.Model.embed_batch takes several"),
    "classes": ((), "masks have no classes; choose among the results, such as result[result.boxes.cls == 0]"),
    "augment": ((False,), "there is no augmentation at test time; leave it out"),
    "agnostic_nms": ((False, True), ""),  # no search here looks at classes
    "stream_buffer": ((False,), "frames are taken as they come; give a generator that buffers"),
    "visualize": ((False,), "features are model.model.embed(image).arrays"),
    "embed": ((), "features are model.model.embed(image).arrays"),
    "dnn": ((False,), "ONNX Runtime runs the model; OpenCV is not used"),
    "rect": ((False, True), ""),  # the input is as long as the model wants, whatever its shape
    "save_frames": ((False,), "save=True writes a picture for each frame"),
    "save_dir": ((), "use project= and name=, which make up the folder"),
    "boxes": ((True,), "use show_boxes=False"),
}

# What only the search for everything has; iou is left alone, because many always give it.
SEARCH = (
    *(
        "sampler",
        "points_stride",
        "point_grids",
        "conf_thres",
        "stability_score_thresh",
        "stability_score_offset",
    ),
    *("crop_n_layers", "crop_overlap_ratio", "crop_downscale_factor", "crop_nms_thresh", "seconds"),
)
DEFAULTS = {field.name: field.default for field in dataclasses.fields(PredictOptions)}


def read_options(given: Mapping[str, Any]) -> PredictOptions:
    """Check keywords; None stands for the default.

    Raises:
        ConfigError: for an unknown name, with the known ones, or a value that is not allowed.
    """
    refuse_taken(given)
    given = {name: value for name, value in given.items() if name not in TAKEN}
    refuse_unknown("predict", given, tuple(DEFAULTS))
    values = {name: value for name, value in given.items() if value is not None or name in OPTIONAL_BOOLEANS}
    for name, value in values.items():
        allowed = _allowed(name, value)
        if allowed:
            raise ConfigError(f"{name}: is {value!r}; must be {allowed}")
    return PredictOptions(**values)


def _allowed(name: str, value: Any) -> str:
    """Return what a keyword's value must be, or an empty text if it is."""
    if name in OPTIONAL_BOOLEANS:
        return "" if value is None or isinstance(value, bool | np.bool_) else "True, False or None"
    if isinstance(DEFAULTS[name], bool):
        return "" if isinstance(value, bool | np.bool_) else "True or False"
    if name in PARTS:
        return "" if is_number(value) and 0 <= value <= 1 else "a number in 0..1"
    if name in WHOLE_NUMBERS:
        least = WHOLE_NUMBERS[name]
        return "" if is_whole(value) and value >= least else f"a whole number from {least}"
    if name in ("stability_score_offset", "seconds"):
        return "" if is_number(value) else "a number"
    if name == "sampler":
        return "" if value in SAMPLERS else f"one of {', '.join(SAMPLERS)}"
    if name == "project":
        return "" if isinstance(value, str | os.PathLike) else "a path"
    if name == "name":
        plain = isinstance(value, str) and value not in ("", ".", "..") and not set(value) & {"/", "\\"}
        return "" if plain else "the name of a folder, without a folder before it"
    return ""


def refuse_taken(given: Mapping[str, Any]) -> None:
    """Refuse keywords of the original that would ask for something that is not here.

    Raises:
        ConfigError: says what to use.
    """
    for name, (allowed, advice) in TAKEN.items():
        value = given.get(name)
        if value is not None and not any(
            value is one or (type(value) is type(one) and value == one) for one in allowed
        ):
            known = " or ".join(map(repr, (*allowed, None)))
            raise ConfigError(
                f"{name}: is {shortened(value)}; only {known} is taken; {advice or 'leave it out'}"
            )


def refuse_search_options(given: Mapping[str, Any]) -> None:
    """Refuse what would have no effect on prompts.

    Raises:
        ConfigError: for a keyword of the search for everything.
    """
    for name, value in given.items():
        if name in SEARCH and value is not None:
            raise ConfigError(
                f"{name}: is for segmenting everything, and there are prompts; leave one of them out"
            )


def refuse_unknown(method: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse keywords that a method does not have, naming those it has.

    Raises:
        ConfigError: for the first of them.
    """
    for name in given:
        if name not in known:
            raise ConfigError(f"{name}: is not an argument of {method}; there are {', '.join(known)}")


def is_other_size(imgsz: int | Sequence[int] | None, image_size: int) -> bool:
    """Whether a size is asked for that is not the model's own.

    Raises:
        ConfigError: for anything but a size.
    """
    if imgsz is None:
        return False
    sides: list[Any] = list(imgsz) if isinstance(imgsz, list | tuple) else [imgsz]
    if not 1 <= len(sides) <= 2 or not all(is_whole(side) and side > 0 for side in sides):
        raise ConfigError(f"imgsz: is {shortened(imgsz)}; must be a whole number of pixels, or two")
    return any(side != image_size for side in sides)


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and not a truth value."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))  # type: ignore[call-overload]


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and not a truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
