"""The settings of a distillation, read from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mobilesam.core.errors import ConfigError
from mobilesam.core.schema import Array, OneOf, Real, Record, Text, Whole, check, shape_of
from mobilesam.formats.image_bytes import shown
from mobilesam.train.recipe import PART, WEIGHT, build_from, check_size, read_toml, stage_at
from mobilesam.weights.graph_index import network_specs

MODES = ("decoupled", "semi-coupled", "coupled", "prompt-in-the-loop")
PADDINGS = ("keep", "mask")
DISTANCES = ("mse", "l1", "huber")
NORMS = ("frozen", "trained")
TARGETS = ("teacher", "human")


@dataclass(frozen=True)
class PhotoSet:
    """Photos to learn from.

    Attributes:
        path: a folder of photos, or a set in any supported format; relative to the ``data`` folder.
        terms: licence of the photos, which goes into the weights' metadata.
    """

    path: Annotated[str, Text(1)]
    terms: Annotated[str, Text()] = ""


@dataclass(frozen=True)
class DistillStage:
    """A part of the run at one image size.

    Attributes:
        image_size: side of the student's square input, in pixels; a multiple of 32. The teacher's may differ.
        steps: optimiser steps.
        images: photos per step, over all ranks.
        objects: prompts per photo, where masks are compared.
        learning_rate: its peak; it falls as a cosine over the stage.
        warm_up: steps over which it rises.
        last_rate: part of the learning rate that is left at the stage's end.
        averaged: roughly what part of the steps so far the averaged weights are the mean of.
    """

    image_size: Annotated[int, Whole(64, 4096)]
    steps: Annotated[int, Whole(1, 10**8)]
    images: Annotated[int, Whole(1, 4096)] = 8
    objects: Annotated[int, Whole(1, 4096)] = 4
    learning_rate: Annotated[float, Real(0, 1e38)] = 1e-3
    warm_up: Annotated[int, Whole(0, 10**8)] = 50
    last_rate: Annotated[float, PART] = 0.01
    averaged: Annotated[float, Real(0, 1, above=True)] = 1 / 9


@dataclass(frozen=True)
class DistillRecipe:
    """Everything that determines the weights of a distillation, besides the photos' bytes.

    Attributes:
        network: the student: name in ``networks.build.NETWORKS``.
        sets: the photos.
        stages: image sizes and lengths, in order.
        mode: ``decoupled`` compares embeddings, and needs only the teacher's; ``semi-coupled`` compares the masks that
            the teacher's decoder, which stays as it is, makes of both; ``coupled`` lets the decoder learn as well;
            ``prompt-in-the-loop`` also clicks where the two masks differ, and compares again.
        store: folder of the teacher's embeddings, from ``mobilesam train teacher``, in the data folder; or empty.
        teacher: model that is run on each batch if there is no store: ``pocket``, or a file in the data folder
            that names its network.
        teacher_size: side of the teacher's input if there is no store; 0 for its own.
        start: weights that the student starts from, as far as names and shapes agree: a model or a file; or empty.
        padding: ``mask`` compares embeddings only where the input shows the photo; ``keep`` also compares the padding.
        distance: distance of embeddings: ``mse``, ``l1`` or ``huber``.
        embedding: weight of the embeddings' distance. In modes other than ``decoupled`` it adds to the masks' loss.
        token: weight of the L1 distance of the decoder's output tokens (TinySAM); only for SAM's decoder.
        output: weight of the L1 distance of the mask logits (TinySAM).
        bce: weight of the masks' binary cross entropy.
        focal: weight of their focal loss.
        dice: weight of their dice loss.
        targets: whose masks to learn: the ``teacher``'s, above its threshold, or ``human`` ones.
        boxes: part of the prompts that are boxes of human masks; the others are points in them.
        smallest_object: least part of its photo that an object must cover to be prompted.
        rounds: number of clicks in the loop.
        hardest: part of the prompts that counts: those with the greatest loss.
        batch_norm: ``frozen`` uses the statistics as they are, for students with trained weights; ``trained``
            lets them learn, for all others.
        seed: seed of everything random.
        weight_decay: AdamW's; 0 for Adam.
        ema_decay: decay of the averaged weights that are kept.
        held_out: part of the photos that is only scored.
        clip_norm: largest norm of the gradient.
    """

    network: Annotated[str, OneOf(tuple(name for name, spec in network_specs().items() if spec.decoder))]
    sets: tuple[PhotoSet, ...]
    stages: tuple[DistillStage, ...]
    mode: Annotated[str, OneOf(MODES)] = "decoupled"
    store: Annotated[str, Text()] = ""
    teacher: Annotated[str, Text()] = ""
    teacher_size: Annotated[int, Whole(0, 4096)] = 0
    start: Annotated[str, Text()] = ""
    padding: Annotated[str, OneOf(PADDINGS)] = "mask"
    distance: Annotated[str, OneOf(DISTANCES)] = "mse"
    embedding: Annotated[float, WEIGHT] = 0.0
    token: Annotated[float, WEIGHT] = 0.0
    output: Annotated[float, WEIGHT] = 0.0
    bce: Annotated[float, WEIGHT] = 0.0
    focal: Annotated[float, WEIGHT] = 0.0
    dice: Annotated[float, WEIGHT] = 0.0
    targets: Annotated[str, OneOf(TARGETS)] = "teacher"
    boxes: Annotated[float, PART] = 0.5
    smallest_object: Annotated[float, PART] = 0.005
    rounds: Annotated[int, Whole(0, 16)] = 0
    hardest: Annotated[float, Real(0, 1, above=True)] = 1.0
    batch_norm: Annotated[str, OneOf(NORMS)] = "frozen"
    seed: Annotated[int, Whole(0, 2**32 - 1)] = 0
    weight_decay: Annotated[float, Real(0, 100)] = 0.01
    ema_decay: Annotated[float, PART] = 0.999
    held_out: Annotated[float, PART] = 0.03
    clip_norm: Annotated[float, Real(0, 1e6, above=True)] = 1.0

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def compares_masks(self) -> bool:
        """Whether the loss needs prompts and a decoder."""
        return self.mode != "decoupled"

    def stage_at(self, step: int) -> tuple[DistillStage, int]:
        """Return the stage that ``step`` belongs to, and the step's number inside it."""
        return stage_at(self.stages, step)


DISTILL_RECIPE: Record = shape_of(
    DistillRecipe,
    sets=Array(shape_of(PhotoSet), 1, 1000),
    stages=Array(shape_of(DistillStage), 1, 1000),
)


def read_distill_recipe(path: str | Path) -> DistillRecipe:
    """Read a recipe; unknown keys are errors.

    Raises:
        ConfigError: if the file is missing, is not TOML, holds unknown or missing keys, or asks for nothing.
        LimitError: if it is too large.
    """
    path = Path(path)
    name = shown(str(path))
    content = read_toml(path, name)
    check(content, DISTILL_RECIPE, name)
    sets = tuple(build_from(PhotoSet, entry) for entry in content["sets"])
    stages = tuple(build_from(DistillStage, entry) for entry in content["stages"])
    recipe: DistillRecipe = build_from(DistillRecipe, {**content, "sets": sets, "stages": stages})
    _check(recipe, name)
    return recipe


def _check(recipe: DistillRecipe, name: str) -> None:
    """Refuse settings that do not fit together."""
    spec = network_specs()[recipe.network]
    for number, stage in enumerate(recipe.stages):
        place = f"{name}: stages[{number}]"
        check_size(stage.image_size, recipe.network, place)
        if recipe.compares_masks and spec.views and stage.image_size > spec.view_size:
            raise ConfigError(
                f"{place}.image_size: is {stage.image_size}; masks of {recipe.network} are compared in one view, "
                f"so it must be at most {spec.view_size}"
            )
    if not (recipe.store or recipe.teacher):
        raise ConfigError(f"{name}: names no teacher; give teacher, or store, the folder of its embeddings")
    masks = recipe.bce + recipe.focal + recipe.dice + recipe.token + recipe.output
    if recipe.compares_masks and not masks:
        raise ConfigError(
            f"{name}: mode {recipe.mode} compares masks; give bce, focal, dice, token or output a weight"
        )
    if not recipe.compares_masks and masks:
        raise ConfigError(
            f"{name}: mode decoupled compares embeddings alone; leave out bce, focal, dice, token, output"
        )
    if recipe.token and spec.decoder != "sam":
        raise ConfigError(f"{name}: token: {recipe.network} has a different decoder from SAM's; leave it out")
    if recipe.rounds and recipe.mode != "prompt-in-the-loop":
        raise ConfigError(
            f'{name}: rounds: mode {recipe.mode} has no clicks; write mode = "prompt-in-the-loop"'
        )
