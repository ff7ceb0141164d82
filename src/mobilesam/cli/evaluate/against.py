"""``mobilesam evaluate agreement``: one model's masks against another's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from mobilesam.cli.evaluate.prompted import mask_choice_field
from mobilesam.cli.evaluate.runs import Evaluation, EvaluationOptions, open_model, sets_argument
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.core.errors import ConfigError
from mobilesam.evaluate.agreement import DISTANCES, POINTS, AgreementOptions, agreement_rows, read_any_photos
from mobilesam.evaluate.identity import as_dict


@dataclass(frozen=True)
class TeacherOptions:
    """Which model is compared with, and what both are asked.

    Attributes:
        teacher: the other model, by name.
        teacher_checkpoint: its weights, if they are not the published ones.
        points: points drawn in each photo.
        distances: pixels from the point on the object to the one off it, joined by commas.
        mask_choice: which mask counts, of both models: ``single``, ``best-score``, ``oracle``, or ``model``, which is
            best-score for a single point and otherwise single.
    """

    teacher: str = option_field("", metavar="NAME", required=True)
    teacher_checkpoint: str | None = option_field(None, metavar="FILE")
    points: int = option_field(POINTS, type=click.IntRange(1, 1000), metavar="N")
    distances: str = option_field(",".join(map(str, DISTANCES)), metavar="LIST")
    mask_choice: str = mask_choice_field()

    def options(self) -> AgreementOptions:
        """Return what both are asked.

        Raises:
            ConfigError: for distances that are not numbers.
        """
        parts = self.distances.split(",")
        if not all(part.isascii() and part.isdigit() and 0 < len(part) < 6 and int(part) for part in parts):
            raise ConfigError(
                f"--distances: {self.distances!r}; give pixels joined by commas, such as 100,200"
            )
        return AgreementOptions(self.points, tuple(map(int, parts)), self.mask_choice)


@click.command()
@sets_argument
@options_from(TeacherOptions, "other")
@options_from(EvaluationOptions, "options")
@options_from(ModelOptions, "model")
def agreement(
    sets: tuple[Path, ...], other: TeacherOptions, options: EvaluationOptions, model: ModelOptions
) -> None:
    """Mean IoU of a model's masks with those of another for the same prompts, without human masks.

    SET is a set, or any folder of photos. Points are random, but the same for a photo's name. These are MobileSAM's
    protocols (Tables 2 and 7), as far as they are stated; asking boxes of the other model's masks is our addition.

    \b
    mobilesam evaluate agreement shots --model mobile_sam --teacher sam_vit_h
    mobilesam evaluate agreement data/eval/coco_val --teacher mobile_sam --points 8 --out scores
    """
    questions = other.options()
    loaded, facts = open_model(model)
    teacher, of_teacher = open_model(ModelOptions(model=other.teacher, checkpoint=other.teacher_checkpoint))
    protocol = questions.to_dict() | {"teacher": as_dict(of_teacher)}
    evaluation = Evaluation("agreement", protocol, options, facts)
    found = []
    for folder in sets:
        photos = read_any_photos(folder, follow_symlinks=options.follow_symlinks)[: options.limit]
        score = partial(agreement_rows, loaded, teacher, options=questions)
        records = evaluation.records(folder, photos, score)
        if records is None:
            continue
        evaluation.write(folder, photos, records)
        found.append(evaluation.summary(folder, records))
    evaluation.tell(found)
