"""``mobilesam evaluate everything``: how many of a set's objects are found without a prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click

from mobilesam.cli.evaluate.runs import (
    Evaluation,
    EvaluationOptions,
    SheetOptions,
    open_model,
    print_json,
    sets_argument,
)
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import OBJECT_SIZES, RECALL_LIMITS
from mobilesam.core.text import counted
from mobilesam.detectors.load import detector_for
from mobilesam.evaluate.everything import (
    EverythingScores,
    Recall,
    SearchScorer,
    everything_scores,
    mean_recall,
    read_with_objects,
)
from mobilesam.evaluate.everything_report import sheet_path, write_sheets
from mobilesam.segment.everything.options import SAMPLERS, EverythingOptions
from mobilesam.storage.atomic import check_folder, refuse_existing

MOST_SIDE, MOST_PROMPTS = 128, 10_000  # points along a side, which is 16,384 prompts; prompts
THRESHOLDS = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")


@dataclass(frozen=True)
class SearchOptions:
    """Which searches are compared.

    Attributes:
        points_per_side: points along each side of the grid; several, joined by commas, are compared.
        sampler: some of ``objects``, ``grid``, ``hybrid`` and ``paper`` (MobileSAMv2's settings), joined by commas.
        max_prompts: boxes and points that ``objects``, ``hybrid`` and ``paper`` may ask; several are compared. So AR@K
            is scored both ways: the best K masks of one search, and a search with a budget of K.
        detector: what finds boxes.
        pred_iou_thresh: masks must have a higher predicted IoU.
        stability_score_thresh: masks must be at least this stable.
        box_nms_thresh: of two masks whose boxes overlap more, the better stays.
    """

    points_per_side: str = option_field("32", metavar="LIST")
    sampler: str = option_field("hybrid", metavar="LIST")
    max_prompts: str = option_field("256", metavar="LIST")
    detector: str | None = option_field(None, metavar="MODEL|FILE", shown_default="pocket's own head")
    pred_iou_thresh: float | None = option_field(
        None, type=click.FloatRange(0, 1), metavar="IOU", shown_default="the model's own"
    )
    stability_score_thresh: float | None = option_field(
        None, type=click.FloatRange(0, 1), metavar="SCORE", shown_default="the model's own"
    )
    box_nms_thresh: float | None = option_field(
        None, type=click.FloatRange(0, 1), metavar="IOU", shown_default="0.7"
    )

    def searches(self) -> dict[str, EverythingOptions]:
        """Return what is compared, by name.

        Raises:
            ConfigError: for unknown samplers and what is not a number.
        """
        known = [*SAMPLERS, "paper"]
        samplers = self.sampler.split(",")
        for name in samplers:
            if name not in known:
                raise ConfigError(f"--sampler: {name!r} is unknown; choose from {', '.join(known)}")
        grids = _numbers("--points-per-side", self.points_per_side, MOST_SIDE)
        budgets = _numbers("--max-prompts", self.max_prompts, MOST_PROMPTS)
        thresholds = {name: getattr(self, name) for name in THRESHOLDS if getattr(self, name) is not None}
        return {
            name: options
            for sampler in samplers
            for name, options in _searches(sampler, grids, budgets, thresholds).items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The options as the protocol of results."""
        given = {
            name: getattr(self, name) for name in (*THRESHOLDS, "detector") if getattr(self, name) is not None
        }
        searches = {"sampler": self.sampler, "grid": self.points_per_side, "budget": self.max_prompts}
        return searches | {name.replace("_", " "): value for name, value in given.items()}


def _numbers(option: str, text: str, most: int) -> list[int]:
    """Split a list of numbers from 1."""
    numbers = []
    for part in text.split(","):
        short = part.isascii() and part.isdigit() and len(part) <= len(str(most))
        if not (short and 1 <= int(part) <= most):
            raise ConfigError(
                f"{option}: {part!r} is not a number from 1 to {most}; "
                f"give one, or several joined by commas such as 8,16,32"
            )
        numbers.append(int(part))
    return numbers


@click.command()
@sets_argument
@options_from(SearchOptions, "asked")
@options_from(EvaluationOptions, "options")
@options_from(SheetOptions, "sheets")
@options_from(ModelOptions, "model")
def everything(
    sets: tuple[Path, ...],
    asked: SearchOptions,
    options: EvaluationOptions,
    sheets: SheetOptions,
    model: ModelOptions,
) -> None:
    """Average recall of segment everything against human masks and boxes, as COCO's evaluation counts it.

    SET is a folder with instances.json (COCO) and images/, or in another format, in which all objects
    have masks. AR@10 counts each photo's ten masks with the highest score; mean is
    that of AR@10, AR@100 and AR@1000; small, medium and large objects are scored with 1000 masks.

    \b
    mobilesam evaluate everything data/eval/coco_val --sampler objects,hybrid --max-prompts 64,256
    mobilesam evaluate everything data/eval/coco_val --sampler grid --points-per-side 8,16,32
    mobilesam evaluate everything data/eval/coco_val --limit 20 --report report
    """
    searches = asked.searches()
    if sheets.folder:
        for folder, search in product(sets, searches):
            refuse_existing(sheet_path(sheets.folder, folder.name, search), overwrite=options.overwrite)
        check_folder(sheets.folder)
    loaded, facts = open_model(model)
    found_by = detector_for(loaded.runtime, loaded.name, asked.detector) if asked.detector else None
    evaluation = Evaluation("everything", asked.to_dict(), options, facts, f"AR@{RECALL_LIMITS[-1]}")
    results = []
    for folder in sets:
        photos = read_with_objects(folder, options.limit, follow_symlinks=options.follow_symlinks)
        scorer = SearchScorer(loaded, searches, found_by)
        records = evaluation.records(folder, photos, scorer)
        if records is None:
            continue
        scores = everything_scores(folder.name, photos, records, scorer)
        results.append(_recall_record(scores))
        evaluation.write(folder, photos, records)
        if not options.json:
            _print_recall(scores)
        if sheets.folder:
            for path in write_sheets(scores, sheets.folder, overwrite=options.overwrite):
                click.echo(f"{path}: written", err=True)
    if options.json:
        print_json(loaded.name, results)


def _searches(
    sampler: str, grids: Sequence[int], budgets: Sequence[int], thresholds: dict[str, Any]
) -> dict[str, EverythingOptions]:
    """Name the searches of one sampler that are compared."""
    if sampler == "grid":
        return {
            f"grid {side}x{side}": EverythingOptions(sampler="grid", points_per_side=side, **thresholds)
            for side in grids
        }
    if sampler == "paper":
        return {f"paper {n}": EverythingOptions.paper(max_boxes=n, **thresholds) for n in budgets}
    return {
        f"{sampler} {n}": EverythingOptions(sampler=sampler, max_boxes=n, max_prompts=n, **thresholds)
        for n in budgets
    }


def _print_recall(scores: EverythingScores) -> None:
    parts = ", ".join(f"{n} {size}" for size, n in scores.objects.items() if size != "all")
    click.echo(
        f"{scores.name}: {counted(scores.images, 'photos')}, {counted(scores.objects['all'], 'objects')} ({parts})"
    )
    wide = max(map(len, scores.searches))
    limits = "".join(f"{f'AR@{limit}':>9}" for limit in RECALL_LIMITS)
    sizes = "".join(f"{size:>9}" for size in ("mean", *list(OBJECT_SIZES)[1:]))
    click.echo(f"{'search':<{wide}}  of   {limits}{sizes}{'masks':>9}{'prompts':>9}{'s/photo':>9}")
    for name, search in scores.searches.items():
        for kind, recall in (("masks", search.masks), ("boxes", search.boxes)):
            click.echo(
                f"{name:<{wide}}  {kind}"
                + "".join(f"{_cell(value, 3):>9}" for value in _recall_row(recall))
                + f"{search.found:>9.1f}{search.prompts:>9.1f}{_cell(search.seconds, 2):>9}"
            )


def _recall_row(recall: Recall) -> list[float]:
    """Return AR at each limit, their mean, and AR by size with the most masks."""
    sizes = [by_limit[RECALL_LIMITS[-1]] for by_limit in recall.values()]
    return [*recall["all"].values(), mean_recall(recall), *sizes[1:]]


def _recall_record(scores: EverythingScores) -> dict[str, Any]:
    """Turn scores into a dictionary, leaving single photos out; null where no object has a size."""
    return {
        "name": scores.name,
        "images": scores.images,
        "objects": scores.objects,
        "searches": {
            name: {
                "masks": _without_nan(search.masks),
                "boxes": _without_nan(search.boxes),
                "found": search.found,
                "prompts": search.prompts,
                "seconds": None if math.isnan(search.seconds) else search.seconds,
            }
            for name, search in scores.searches.items()
        },
    }


def _without_nan(recall: Recall) -> dict[str, dict[int, float | None]]:
    return {
        size: {limit: None if math.isnan(value) else value for limit, value in by_limit.items()}
        for size, by_limit in recall.items()
    }


def _cell(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
