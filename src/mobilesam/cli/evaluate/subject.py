"""``mobilesam evaluate subject``: what is found without a prompt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from mobilesam.cli.evaluate.runs import Evaluation, EvaluationOptions, open_model, print_json, sets_argument
from mobilesam.cli.fields import options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.evaluate.subject import SUBJECT_PROTOCOL, read_dominant, subject_rows, subject_scores


@click.command()
@sets_argument
@options_from(EvaluationOptions, "options")
@options_from(ModelOptions, "model")
def subject(sets: tuple[Path, ...], options: EvaluationOptions, model: ModelOptions) -> None:
    """Score what is found without a prompt, beside what the ground leaves and what the object's box gives.

    Only photos with one dominant object count; docs/how-to/evaluate.md says what that is.

    \b
    mobilesam evaluate subject data/eval/msrc_cow data/eval/coco_val
    """
    loaded, facts = open_model(model)
    evaluation = Evaluation("subject", SUBJECT_PROTOCOL, options, facts)
    scores = []
    for folder in sets:
        photos = read_dominant(folder, options.limit, follow_symlinks=options.follow_symlinks)
        records = evaluation.records(folder, photos, partial(subject_rows, loaded))
        if records is None:
            continue
        scores.append(subject_scores(folder.name, photos, records))
        evaluation.write(folder, photos, records)
    if options.json:
        print_json(loaded.name, [{"name": s.name, "images": s.images, "ways": s.ways} for s in scores])
        return
    columns = {"iou": "IoU", "mae": "MAE", "max_f": "max F", "s": "S"}
    click.echo(f"{'set':<20}{'images':>8}  {'way':<10}" + "".join(f"{c:>8}" for c in columns.values()))
    for s in scores:
        for way, means in s.ways.items():
            values = "".join(f"{means[name]:>8.3f}" for name in columns)
            click.echo(f"{s.name:<20}{s.images:>8}  {way:<10}{values}")
