"""``mobilesam evaluate masks``, ``clicks`` and ``robustness``: prompts made from human masks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from mobilesam.cli.evaluate.runs import (
    Evaluation,
    EvaluationOptions,
    SheetOptions,
    SmallestOptions,
    open_model,
    print_json,
    sets_argument,
    with_bar,
)
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import counted
from mobilesam.evaluate.choices import FIRST_CLICKS, MASK_CHOICES, MODEL
from mobilesam.evaluate.clicks import CLICKS, TARGETS, ClickOptions, click_rows, click_scores
from mobilesam.evaluate.kinds import KINDS, USUAL_KINDS
from mobilesam.evaluate.prompted import (
    PromptedOptions,
    PromptedScores,
    photo_rows,
    score_nested,
    scores_of,
)
from mobilesam.evaluate.robustness import RobustnessOptions, robustness_rows
from mobilesam.evaluate.sets import read_countable
from mobilesam.formats.image import image_to_png
from mobilesam.storage.atomic import write_bytes


def mask_choice_field() -> Any:
    """Return the field of the option that says which mask counts."""
    return option_field(MODEL, type=click.Choice(list(MASK_CHOICES)), metavar="NAME")


@dataclass(frozen=True)
class MaskQuestions:
    """What is asked for each object, and which mask counts.

    Attributes:
        kinds: kinds of prompt, joined by commas.
        mask_choice: which mask counts: ``single``, ``best-score`` (of three, by the predicted IoU), ``oracle`` (of three,
            by the human mask), or ``model``, which is best-score for a single point and otherwise single.
    """

    kinds: str | None = option_field(
        None, metavar="LIST", shown_default=f"all but centroid: {', '.join(USUAL_KINDS)}"
    )
    mask_choice: str = mask_choice_field()

    def options(self, smallest: float) -> PromptedOptions:
        """Return what is asked.

        Raises:
            ConfigError: for unknown kinds.
        """
        kinds = tuple(self.kinds.split(",")) if self.kinds else USUAL_KINDS
        for kind in kinds:
            if kind not in KINDS:
                raise ConfigError(f"--kinds: {kind!r} is unknown; choose from {', '.join(KINDS)}")
        return PromptedOptions(kinds, self.mask_choice, smallest)


@dataclass(frozen=True)
class ClickQuestions:
    """How objects are clicked, and which mask counts.

    Attributes:
        clicks: clicks on each object.
        first_click: where an object is clicked first: ``deepest`` inside, at its ``centroid``, or at a ``random`` pixel.
        mask_choice: which mask of the first click counts: ``single``, ``best-score``, ``oracle``, or ``model``, which
            is best-score.
    """

    clicks: int = option_field(CLICKS, type=click.IntRange(1, 100), metavar="N")
    first_click: str = option_field("deepest", type=click.Choice(list(FIRST_CLICKS)), metavar="NAME")
    mask_choice: str = mask_choice_field()


@click.command()
@sets_argument
@options_from(MaskQuestions, "asked")
@options_from(SmallestOptions, "which")
@options_from(EvaluationOptions, "options")
@options_from(SheetOptions, "sheets")
@options_from(ModelOptions, "model")
def masks(
    sets: tuple[Path, ...],
    asked: MaskQuestions,
    which: SmallestOptions,
    options: EvaluationOptions,
    sheets: SheetOptions,
    model: ModelOptions,
) -> None:
    """Mean IoU of every kind of prompt against human masks, at full size.

    SET is a folder with instances.json (COCO) and images/, or in another format that convert reads. It also prints
    the boundary IoU, what the best, the largest and the most stable of three masks would have
    scored beside the one that counts, and the calibration error of the predicted IoU.

    \b
    mobilesam evaluate masks data/eval/coco_val --report report
    mobilesam evaluate masks data/eval/coco_val data/eval/msrc_cow --kinds box,point --json
    mobilesam evaluate masks data/eval/coco_val --mask-choice oracle --out scores
    """
    questions = asked.options(which.smallest)
    if sheets.folder:
        from mobilesam.evaluate.report import check_report, report_paths, write_report

        for folder in sets:
            paths = report_paths(sheets.folder, folder.name, questions.kinds).values()
            check_report(paths, overwrite=options.overwrite)
    loaded, facts = open_model(model)
    evaluation = Evaluation("masks", questions.to_dict(), options, facts)
    results = []
    for folder in sets:
        read: dict[str, Any] = {"smallest": which.smallest, "follow_symlinks": options.follow_symlinks}
        photos = read_countable(folder, **read)[: options.limit]
        records = evaluation.records(folder, photos, partial(photo_rows, loaded, options=questions))
        if records is None:
            continue
        scores = scores_of(folder.name, photos, records, questions)
        nested = with_bar(folder.name, partial(score_nested, loaded, folder, limit=options.limit, **read))
        results.append(_without_each(scores) | {"nested": dataclasses.asdict(nested)})
        if not options.json:
            _print_kinds(scores, questions)
            if nested.pairs:
                click.echo(
                    f"part and whole from one point, {nested.pairs} pairs: part {nested.part:.3f}, "
                    f"whole {nested.whole:.3f}, both found {nested.both:.0%}"
                )
        evaluation.write(folder, photos, records)
        if sheets.folder:
            for path in write_report(scores, sheets.folder, overwrite=options.overwrite):
                click.echo(f"{path}: written", err=True)
    if options.json:
        print_json(loaded.name, results)


def _print_kinds(scores: PromptedScores, questions: PromptedOptions) -> None:
    click.echo(f"{scores.name}: {counted(scores.images, 'photos')}, {counted(scores.objects, 'objects')}")
    columns = ("IoU", "boundary", "best", "largest", "stablest", "ECE")
    click.echo(f"{'prompt, mask':<26}" + "".join(f"{name:>10}" for name in columns))
    for kind, s in scores.kinds.items():
        values = (s.iou, s.boundary, s.best, s.largest, s.stablest, s.calibration)
        row = KINDS[kind].row(questions.mask_choice)
        click.echo(f"{row:<26}" + "".join(f"{value:>10.3f}" for value in values))
    click.echo(f"{'all':<26}{scores.calibration:>60.3f}")


def _without_each(scores: PromptedScores) -> dict[str, Any]:
    """Turn scores into a dictionary, leaving single objects out."""
    summary = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    del summary["each"]
    return summary | {"kinds": {kind: dataclasses.asdict(s) for kind, s in scores.kinds.items()}}


@click.command()
@sets_argument
@options_from(ClickQuestions, "asked")
@options_from(SmallestOptions, "which")
@options_from(EvaluationOptions, "options")
@options_from(ModelOptions, "model")
def clicks(
    sets: tuple[Path, ...],
    asked: ClickQuestions,
    which: SmallestOptions,
    options: EvaluationOptions,
    model: ModelOptions,
) -> None:
    """Mean IoU after each of several corrective clicks, and the number of clicks to an IoU.

    Each click lies deepest inside what is wrong; the mask before it is the mask prompt.

    \b
    mobilesam evaluate clicks data/eval/coco_val --clicks 10
    mobilesam evaluate clicks GrabCut --clicks 20 --first-click centroid --out scores
    """
    questions = ClickOptions(asked.clicks, asked.first_click, asked.mask_choice, which.smallest)
    loaded, facts = open_model(model)
    main = f"iou {asked.clicks}"
    evaluation = Evaluation("clicks", questions.to_dict(), options, facts, main)
    scores = []
    for folder in sets:
        photos = read_countable(folder, which.smallest, follow_symlinks=options.follow_symlinks)
        photos = photos[: options.limit]
        records = evaluation.records(folder, photos, partial(click_rows, loaded, options=questions))
        if records is None:
            continue
        scores.append(click_scores(folder.name, records, questions))
        evaluation.write(folder, photos, records)
        if options.out:
            _write_curve(Path(options.out) / folder.resolve().name, {facts.name: scores[-1].ious})
    if options.json:
        print_json(loaded.name, [dataclasses.asdict(s) for s in scores])
        return
    after = "".join(f"{f'IoU {i}':>8}" for i in range(1, asked.clicks + 1))
    click.echo(questions.row)
    click.echo(
        f"{'set':<20}{'images':>8}{'objects':>9}{after}" + "".join(f"{f'NoC@{t:.0%}':>9}" for t in TARGETS)
    )
    for s in scores:
        click.echo(
            f"{s.name:<20}{s.images:>8}{s.objects:>9}"
            + "".join(f"{iou:>8.3f}" for iou in s.ious)
            + "".join(f"{n:>9.2f}" for n in s.clicks_to)
        )


def _write_curve(folder: Path, curves: dict[str, tuple[float, ...]]) -> None:
    from mobilesam.draw.chart import draw_curves

    points = {name: [(float(i), iou) for i, iou in enumerate(ious, start=1)] for name, ious in curves.items()}
    picture = draw_curves("clicks", points, across="clicks", up="mean IoU after each click")
    write_bytes(folder / "curve.png", image_to_png(picture))
    click.echo(f"{folder / 'curve.png'}: written", err=True)


@click.command()
@sets_argument
@options_from(SmallestOptions, "which")
@options_from(EvaluationOptions, "options")
@options_from(ModelOptions, "model")
def robustness(
    sets: tuple[Path, ...], which: SmallestOptions, options: EvaluationOptions, model: ModelOptions
) -> None:
    """Mean IoU when photos or boxes get worse: JPEG, blur, noise, low light, rotation, resolution, jitter.

    \b
    mobilesam evaluate robustness data/eval/coco_val --limit 30 --out scores
    """
    questions = RobustnessOptions(smallest=which.smallest)
    loaded, facts = open_model(model)
    evaluation = Evaluation("robustness", questions.to_dict(), options, facts)
    found = []
    for folder in sets:
        photos = read_countable(folder, which.smallest, follow_symlinks=options.follow_symlinks)
        photos = photos[: options.limit]
        records = evaluation.records(folder, photos, partial(robustness_rows, loaded, options=questions))
        if records is None:
            continue
        evaluation.write(folder, photos, records)
        found.append(evaluation.summary(folder, records))
    evaluation.tell(found)
