"""The settings of a training run, read from a TOML file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.schema import Array, Flag, OneOf, Real, Record, Text, Whole, check, shape_of
from mobilesam.core.text import printable, shortened
from mobilesam.formats.file_names import open_at_once
from mobilesam.formats.image_bytes import shown
from mobilesam.weights.graph_index import network_specs

MAX_RECIPE_BYTES = 128 * 2**10
MAX_LINE = 1000  # characters; Python's reader takes time in the square of a dotted key's length
CELL = 32  # pixels of the input's side per cell of the coarsest maps

PART = Real(0, 1)
CHANCE = PART
WEIGHT = Real(0, 1e6)


class HasSteps(Protocol):
    """A stage of a run."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""


AnyStage = TypeVar("AnyStage", bound=HasSteps)
TUNED = ("all", "decoder", "lora")


@dataclass(frozen=True)
class SourceSet:
    """A training set: a folder with ``instances.json`` and ``images/``, or in another supported format.

    Attributes:
        path: folder, relative to the recipe's ``data`` folder.
        weight: how often one of its photos is drawn, relative to those of other sets; more than 0.
        terms: licence of the set, which goes into the weights' metadata.
        partial: sources in the set whose photos have objects without a mask, or ``*`` for all;
            there the head for objects does not learn that there is nothing elsewhere.
    """

    path: Annotated[str, Text(1)]
    weight: Annotated[float, Real(0, 1e6, above=True)] = 1.0
    terms: Annotated[str, Text()] = ""
    partial: Annotated[tuple[str, ...], Array(Text())] = ()

    def labels_all(self, source: str) -> bool:
        """Whether the set's photos from ``source`` have a mask for every object."""
        return not {"*", source} & set(self.partial)


@dataclass(frozen=True)
class Stage:
    """A part of the run at one image size.

    Attributes:
        image_size: side of the square model input, in pixels; a multiple of 32.
        steps: optimiser steps.
        images: photos per step.
        objects: prompts per photo.
        learning_rate: its peak; it falls as a cosine over the stage.
        warm_up: steps over which it rises.
        last_rate: part of the learning rate that is left at the stage's end.
        averaged: roughly what part of the steps so far, the latest ones, the averaged weights are the mean of;
            1 for all of them, including the start. ``ema_decay`` limits their number.
        masks: whether everything that makes masks is trained, their predicted IoU included.
        scores: where masks are not trained, whether what predicts their IoU is, on the masks as they are.
        boxes: weight of the loss of the head for objects; without it, the head is left as it is.
        background: chance that one of a photo's objects is the area that none of them covers, asked for by a
            box. Without it, a box around a background would mean the thing in front.
        copy_paste: chance that an object of another photo is pasted in; not where boxes are trained.
        focal: weight of the focal loss, where the dice loss has 1; SAM's is 20.
        boundary: how much more the focal loss of pixels near an object's edge counts.
        sharpness: sharpness of the sigmoid in the dice loss; above 1 it is less about how sure a pixel is, and more
            about which side of the threshold it is on.
        whole: part of the samples that show a whole photo; the others show a part of it.
        smallest_crop: least side of such a part, relative to the photo's; smaller parts show small
            objects enlarged.
        windows: chance that a step shows small objects in windows rather than any in views of the whole, where
            the image size is that of a network with views (:mod:`mobilesam.core.views`). At any other size
            the decoder reads the whole input.
        loose_boxes: part of the boxes whose corners are jittered, as people draw them; the others are tight.
    """

    image_size: Annotated[int, Whole(64, 4096)]
    steps: Annotated[int, Whole(1, 10**8)]
    images: Annotated[int, Whole(1, 4096)] = 8
    objects: Annotated[int, Whole(1, 4096)] = 6
    learning_rate: Annotated[float, Real(0, 1e38)] = 6e-4
    warm_up: Annotated[int, Whole(0, 10**8)] = 200
    last_rate: Annotated[float, PART] = 0.01
    averaged: Annotated[float, Real(0, 1, above=True)] = 1 / 9
    masks: Annotated[bool, Flag()] = True
    scores: Annotated[bool, Flag()] = False
    boxes: Annotated[float, WEIGHT] = 0.0
    background: Annotated[float, CHANCE] = 0.0
    copy_paste: Annotated[float, CHANCE] = 0.0
    focal: Annotated[float, WEIGHT] = 20.0
    boundary: Annotated[float, WEIGHT] = 0.0
    sharpness: Annotated[float, WEIGHT] = 1.0
    whole: Annotated[float, PART] = 0.3
    smallest_crop: Annotated[float, PART] = 0.35
    windows: Annotated[float, CHANCE] = 0.5
    loose_boxes: Annotated[float, PART] = 0.5


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights of a run, besides the data's bytes.

    Attributes:
        network: name in ``networks.build.NETWORKS`` or, for ``train boxes``, ``DETECTORS``.
        sets: what is trained on.
        stages: image sizes and lengths, in order.
        seed: seed of everything random.
        start: model whose weights the run starts from, such as ``pocket``, or a file in the data folder; or empty.
        trunk: MobileNetV2 weights to start from (``.npz``), or empty.
        detector: YOLOX-nano's ONNX file, for the second trunk or a detector to start from, or empty.
        trunk_rate: learning rate of these trunks, relative to the rest.
        weight_decay: AdamW's.
        ema_decay: decay of the averaged weights that are kept.
        held_out: part of each set's photos that is only scored, never trained on.
        correct: chance that a step corrects its prompts with a click, and with the mask so far as a mask prompt,
            before it trains; after each correction, there is another with the same chance.
        smallest_object: least part of the input that an object must cover.
        clip_norm: largest norm of the gradient.
        tuned: what learns: ``all`` of the network, only its mask ``decoder``, or ``lora``: additions of low rank to
            its matrices, which are merged into them at the end.
        lora_rank: rank of these additions.
    """

    network: Annotated[str, OneOf(tuple(network_specs()))]
    sets: tuple[SourceSet, ...]
    stages: tuple[Stage, ...]
    seed: Annotated[int, Whole(0, 2**32 - 1)] = 0
    start: Annotated[str, Text()] = ""
    trunk: Annotated[str, Text()] = ""
    detector: Annotated[str, Text()] = ""
    trunk_rate: Annotated[float, Real(0, 1000)] = 0.2
    weight_decay: Annotated[float, Real(0, 100)] = 0.01
    ema_decay: Annotated[float, PART] = 0.999
    held_out: Annotated[float, PART] = 0.03
    correct: Annotated[float, CHANCE] = 0.4
    smallest_object: Annotated[float, PART] = 0.0012
    clip_norm: Annotated[float, Real(0, 1e6, above=True)] = 1.0
    tuned: Annotated[str, OneOf(TUNED)] = "all"
    lora_rank: Annotated[int, Whole(1, 256)] = 8

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """Return the stage that ``step`` belongs to, and the step's number inside it."""
        return stage_at(self.stages, step)


def stage_at(stages: Sequence[AnyStage], step: int) -> tuple[AnyStage, int]:
    """Return the one of several stages that ``step`` belongs to, and the step's number inside it."""
    for stage in stages:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise IndexError(step)


RECIPE: Record = shape_of(
    Recipe, sets=Array(shape_of(SourceSet), 1, 1000), stages=Array(shape_of(Stage), 1, 1000)
)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; unknown keys are errors.

    Raises:
        ConfigError: if the file is missing, is not TOML or holds unknown or missing keys.
        LimitError: if it is too large.
    """
    path = Path(path)
    name = shown(str(path))
    content = read_toml(path, name)
    check(content, RECIPE, name)
    sets = tuple(build_from(SourceSet, entry) for entry in content["sets"])
    stages = tuple(build_from(Stage, entry) for entry in content["stages"])
    for number, stage in enumerate(stages):
        _check_stage(stage, content["network"], f"{name}: stages[{number}]")
    return build_from(Recipe, {**content, "sets": sets, "stages": stages})


def recipe_to_toml(recipe: Any, comment: str = "") -> str:
    """Return a recipe as the text that :func:`read_recipe` reads, without default values.

    Args:
        recipe: a dataclass of plain values, and of tuples of such dataclasses.
        comment: lines to put before it.
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += _table_lines(recipe)
    for name in ("sets", "stages"):
        for entry in getattr(recipe, name):
            lines += ["", f"[[{name}]]", *_table_lines(entry)]
    return "\n".join(lines) + "\n"


def _table_lines(entry: Any) -> list[str]:
    return [
        f"{one.name} = {_toml_value(getattr(entry, one.name))}"
        for one in dataclasses.fields(entry)
        if one.name not in ("sets", "stages") and getattr(entry, one.name) != one.default
    ]


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_stage(stage: Stage, network: str, place: str) -> None:
    """Refuse a stage whose settings do not fit together."""
    if not (stage.masks or stage.scores or stage.boxes):
        raise ConfigError(f"{place}: trains nothing; give it masks, scores or boxes")
    check_size(stage.image_size, network, place)


def check_size(image_size: int, network: str, place: str) -> None:
    """Refuse an input size that a network does not take."""
    spec = network_specs()[network]
    if spec.fixed_size and image_size != spec.image_size:
        raise ConfigError(
            f"{place}.image_size: is {image_size}; {network} has a place for each cell, "
            f"so it must be {spec.image_size}"
        )
    if image_size % CELL:
        lower = image_size // CELL * CELL
        raise ConfigError(
            f"{place}.image_size: is {image_size}; must be a multiple of {CELL} such as {lower + CELL}"
        )


def read_toml(path: Path, name: str) -> dict[str, Any]:
    """Read TOML that strangers may have written; what would crash Python's reader is refused."""
    try:
        with open_at_once(path) as file:
            data = file.read(MAX_RECIPE_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name}: cannot be read ({printable(reason)})") from error
    if len(data) > MAX_RECIPE_BYTES:
        raise LimitError(f"{name}: over {MAX_RECIPE_BYTES >> 10} KiB, the limit for a recipe")
    try:
        text = data.decode("utf-8-sig")
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > MAX_LINE:
                raise ConfigError(
                    f"{name}: line {number}, {shortened(line, 30)}, has {len(line):,} characters; "
                    f"at most {MAX_LINE} are allowed"
                )
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{name}: not a TOML file that can be read: lists nested too deep") from error
    except ConfigError:
        raise
    except ValueError as error:  # not TOML, not UTF-8, or a number with thousands of digits
        raise ConfigError(f"{name}: not a TOML file ({shortened(str(error), 200)[1:-1]})") from error


def build_from(kind: type, entry: dict[str, Any]) -> Any:
    """Return a dataclass of a table's values; lists become tuples."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})
