"""The settings of a training run, read from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesam.core.errors import ConfigError
from mobilesam.networks.configs import DETECTORS, NETWORKS

POSITIVE = ("image_size", "steps", "images", "objects", "averaged")
PARTS = (
    "held_out",
    "correct",
    "background",
    "copy_paste",
    "whole",
    "smallest_crop",
    "windows",
    "loose_boxes",
    "last_rate",
    "averaged",
)


@dataclass(frozen=True)
class SourceSet:
    """A training set: a folder with ``instances.json`` and ``images/``.

    Attributes:
        path: folder, relative to the recipe's ``data`` folder.
        weight: how often one of its photographs is drawn, relative to those of other sets.
        terms: licence of the set, which goes into the weights' metadata.
        partial: sources in the set whose photographs have objects without a mask, or ``*`` for all:
            there the head for objects is not told that there is nothing elsewhere.
    """

    path: str
    weight: float = 1.0
    terms: str = ""
    partial: tuple[str, ...] = ()

    def labels_all(self, source: str) -> bool:
        """Whether the set's photographs from ``source`` have a mask for every object."""
        return not {"*", source} & set(self.partial)


@dataclass(frozen=True)
class Stage:
    """A part of the run at one image size.

    Attributes:
        image_size: side of the square model input, in pixels.
        steps: optimiser steps.
        images: photographs a step.
        objects: prompts a photograph.
        learning_rate: peak; falls as a cosine over the stage.
        warm_up: steps over which it rises.
        last_rate: part of the learning rate that is left at the stage's end.
        averaged: about which part of the steps so far, the latest of them, the averaged weights are the mean of:
            1 for all alike, the start among them. ``ema_decay`` limits how many these may be.
        masks: whether everything that makes masks is trained, their predicted IoU included.
        scores: whether, where masks are not, what predicts their IoU is trained on the masks as they are.
        boxes: weight of the loss of the head for objects; without one, it is left as it is.
        background: chance that one of a photograph's objects is what none of them covers, asked for by a
            box. Without it a box around a background means the thing in front.
        copy_paste: chance that an object of another photograph is pasted in; not where boxes are trained.
        focal: weight of the focal loss, to one of the dice loss; 20 is SAM's proportion.
        boundary: how much more the focal loss of pixels near an object's edge counts.
        sharpness: of the sigmoid in the dice loss; above 1 it is less about how sure a pixel is, and more about
            which side of the threshold it lies on.
        whole: part of the samples that show a whole photograph; the others show a part of it.
        smallest_crop: the least part of a photograph's sides that such a part has; smaller ones show small
            objects large.
        windows: chance that a step shows small objects in windows, and not any in views of the whole, where
            the image size is that of a network with views (:mod:`mobilesam.core.views`). At any other size
            the decoder reads all of the input.
        loose_boxes: part of the boxes whose corners are jittered, as people draw them; the others are tight.
    """

    image_size: int
    steps: int
    images: int = 8
    objects: int = 6
    learning_rate: float = 6e-4
    warm_up: int = 200
    last_rate: float = 0.01
    averaged: float = 1 / 9
    masks: bool = True
    scores: bool = False
    boxes: float = 0.0
    background: float = 0.0
    copy_paste: float = 0.0
    focal: float = 20.0
    boundary: float = 0.0
    sharpness: float = 1.0
    whole: float = 0.3
    smallest_crop: float = 0.35
    windows: float = 0.5
    loose_boxes: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a run, besides the data's bytes.

    Attributes:
        network: name in ``networks.configs.NETWORKS`` or, for ``train boxes``, ``DETECTORS``.
        sets: what is trained on.
        stages: image sizes and lengths, in order.
        seed: of everything random.
        start: model whose weights the run starts from, such as ``pocket``, or a file in the data folder; or empty.
        trunk: MobileNetV2 weights to start from (``.npz``), or empty.
        detector: YOLOX-nano's ONNX file, for the second trunk or a detector to start from, or empty.
        trunk_rate: the learning rate of these trunks, as a part of the others'.
        weight_decay: AdamW's.
        ema_decay: of the averaged weights that are kept.
        held_out: part of each set's photographs that is only scored, never trained on.
        correct: chance that a step corrects its prompts with a click, and the mask so far as mask prompt,
            before it trains; once more with the same chance after each.
        smallest_object: least part of the input that an object must cover.
        clip_norm: largest norm of the gradient.
    """

    network: str
    sets: tuple[SourceSet, ...]
    stages: tuple[Stage, ...]
    seed: int = 0
    start: str = ""
    trunk: str = ""
    detector: str = ""
    trunk_rate: float = 0.2
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    held_out: float = 0.03
    correct: float = 0.4
    smallest_object: float = 0.0012
    clip_norm: float = 1.0

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """Return the stage that ``step`` belongs to, and the step's number inside it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError(step)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; unknown keys are errors.

    Raises:
        ConfigError: if the file is missing, is not TOML or holds unknown or missing keys.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
    sets = tuple(_build(path, SourceSet, entry) for entry in _tables(path, content, "sets"))
    stages = tuple(_build(path, Stage, entry) for entry in _tables(path, content, "stages"))
    for number, stage in enumerate(stages, start=1):
        if not (stage.masks or stage.scores or stage.boxes):
            raise ConfigError(f"{path}: stage {number} trains nothing; give it masks, scores or boxes")
    known = {*NETWORKS, *DETECTORS}
    if content.get("network") not in known:
        raise ConfigError(f"{path}: network must be one of {', '.join(sorted(known))}")
    return _build(path, Recipe, {**content, "sets": sets, "stages": stages})


def _tables(path: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Take a list of tables out of a recipe."""
    tables = content.pop(key, None)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: needs at least one [[sets]] and one [[stages]]")
    return tables


def _build(path: Path, kind: type, entry: dict[str, Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in entry.items():
        if key not in fields:
            raise ConfigError(f"{path}: unknown key {key!r}; {kind.__name__} has {', '.join(fields)}")
        _check(path, key, value, str(fields[key].type))
    entry = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    required = [
        name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in entry
    ]
    if required:
        raise ConfigError(f"{path}: {kind.__name__} lacks {', '.join(required)}")
    return kind(**entry)


def _check(path: Path, key: str, value: Any, kind: str) -> None:
    accepted: dict[str, type | tuple[type, ...]] = {
        "str": str,
        "int": int,
        "float": (int, float),
        "bool": bool,
        "tuple[str, ...]": list,
    }
    if kind not in accepted:
        return
    if not isinstance(value, accepted[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ConfigError(f"{path}: {key} is {value!r}; give a value of type {kind}")
    if not isinstance(value, int | float):
        return
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{path}: {key} is {value!r}; must be 0 or more")
    if key in PARTS and value > 1:
        raise ConfigError(f"{path}: {key} is {value!r}; must be from 0 to 1")
    if key in POSITIVE and value == 0:
        raise ConfigError(f"{path}: {key} is {value!r}; must be {'1 or more' if kind == 'int' else 'more'}")
