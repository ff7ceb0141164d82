"""From your own photos with masks to your own model, without a recipe: ``mobilesam finetune``.

:mod:`~mobilesam.train.plan` has what the machine chooses; the run's folder records it in ``recipe.toml``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilesam.core.errors import ConfigError, missing_extra
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.text import shortened
from mobilesam.train.recipe import TUNED
from mobilesam.weights import DEFAULT_MODEL

MOST_MINUTES = 7 * 24 * 60.0


@dataclass(frozen=True)
class FinetuneOptions:
    """What to fine-tune, and for how long.

    Attributes:
        model: whose weights it starts from: ``pocket``, ``mobile_sam`` or another model of ``mobilesam info``.
        checkpoint: other weights of the same network to start from, ``.pt`` or ``.safetensors``.
        what: what learns: ``all`` of the network, only its mask ``decoder``, or ``lora``, additions of low rank. By
            default ``all`` for ``pocket`` and ``decoder`` for the larger models.
        minutes: for everything, including the scores before and after; it ends with the step in which they run out.
        val: set that is scored instead of a fifth of the photos.
        name: name by which ``load`` and ``--model`` then know the result.
        seed: seed of everything random.
        follow_symlinks: also read photos in other folders that links in a set lead to.
        device: ``cpu`` or ``cuda``; by default cuda if there is one.
        threads: processor threads.
        workers: processes that make samples.
        force: resume even if the options or the photos have changed since the checkpoint.

    Raises:
        ConfigError: for an unknown part.
        PromptError: for a number outside its range.
    """

    model: str = DEFAULT_MODEL
    checkpoint: Path | None = None
    what: str | None = field(default=None, metadata={"metavar": "PART"})
    minutes: float = 10.0
    val: Path | None = field(default=None, metadata={"metavar": "SET"})
    name: str | None = None
    seed: int = 0
    follow_symlinks: bool = False
    device: str | None = None
    threads: int | None = None
    workers: int = 1
    force: bool = False

    def __post_init__(self) -> None:
        if self.what is not None and self.what not in TUNED:
            raise ConfigError(f"what: is {shortened(self.what)}; choose one of {', '.join(TUNED)}")
        check_number("minutes", self.minutes, 0.0, MOST_MINUTES, above=True)
        check_whole_number("seed", self.seed, 0, 2**32 - 1)
        check_whole_number("workers", self.workers, 0)
        if self.threads is not None:
            check_whole_number("threads", self.threads, 1)


@dataclass(frozen=True)
class Finetuned:
    """The result of a fine-tuning.

    Attributes:
        weights: the file, for ``load(checkpoint=...)`` and ``--checkpoint``.
        recipe: the file with what the machine chose; ``mobilesam train masks`` takes it.
        sheet: picture of masks before and after, on photos that were not trained on.
        before: mean IoU by kind of prompt, of the model as it was.
        after: the same for the new one, on the same objects.
        photos: number of photos scored.
        objects: number of objects scored.
        steps: number of steps trained.
        name: the model's name from now on, or empty.
    """

    weights: Path
    recipe: Path
    sheet: Path
    before: dict[str, float]
    after: dict[str, float]
    photos: int
    objects: int
    steps: int
    name: str = ""


Tell = Callable[[str], None]


def tell_nobody(text: str) -> None:
    """Report nothing."""


def finetune(
    data: str | Path,
    out: str | Path,
    *,
    options: FinetuneOptions | None = None,
    tell: Tell = tell_nobody,
    **changes: Any,
) -> Finetuned:
    """Train a model further on photos with masks.

    A run that was stopped resumes with the same call.

    Args:
        data: a set in any supported format (docs/reference/datasets.md): a folder or a file of labels.
        out: folder for the weights, scores, contact sheet, recipe and checkpoints.
        options: see :class:`FinetuneOptions`.
        tell: called with each line of progress.
        changes: fields of the options, such as ``minutes=5``, instead of ``options``.

    Raises:
        ConfigError: if the set cannot be read or has no objects, or ``out`` belongs to another run.
        WeightsError: if the weights to start from are missing or damaged.
        MissingExtraError: if the packages for training are not installed.
        TrainingDiverged: if the loss is not a number; the last checkpoint stays.

    Example:
        >>> import mobilesam
        >>> done = mobilesam.finetune("photos", "runs/own", minutes=5)  # doctest: +SKIP
        >>> model = mobilesam.load(checkpoint=done.weights)             # doctest: +SKIP
    """
    if options is not None and changes:
        raise ConfigError(f"finetune: takes options or {', '.join(changes)}, not both")
    options = options or FinetuneOptions(**changes)
    try:
        from mobilesam.train.tuning import Tuning
    except ModuleNotFoundError as error:
        raise missing_extra("finetune", "train") from error
    return Tuning(Path(data), Path(out), options, tell).run()
