"""``mobilesam evaluate edges``: edges from segmenting everything."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from mobilesam.cli.evaluate.runs import Evaluation, EvaluationOptions, open_model, sets_argument
from mobilesam.cli.fields import options_from
from mobilesam.cli.options import ModelOptions
from mobilesam.evaluate.edges import LEVELS, ROW, TOLERANCE, edge_figures, edge_rows, read_edges
from mobilesam.segment.everything.options import EverythingOptions


@click.command()
@sets_argument
@options_from(EverythingOptions, "given", make=dict)
@options_from(EvaluationOptions, "options")
@options_from(ModelOptions, "model")
def edges(
    sets: tuple[Path, ...], given: dict[str, Any], options: EvaluationOptions, model: ModelOptions
) -> None:
    """Edges from segmenting everything against those that people drew: ODS, OIS and AP, as BSDS500 defines them.

    SET is BSDS500 as its site ships it (images/test and groundTruth/test), or a set with human masks, whose outlines
    count then. Needs mobilesam[evaluate].

    \b
    mobilesam evaluate edges BSDS500/data --sampler grid --points-per-side 16
    """
    search = EverythingOptions(**given)
    loaded, facts = open_model(model)
    protocol = {
        "levels": len(LEVELS),
        "tolerance": TOLERANCE,
        **{k: v for k, v in asdict(search).items() if k in given},
    }
    evaluation = Evaluation("edges", protocol, options, facts, "best F")
    found = []
    for folder in sets:
        photos = read_edges(folder, follow_symlinks=options.follow_symlinks)[: options.limit]
        records = evaluation.records(folder, photos, partial(edge_rows, loaded, folder, search))
        if records is None:
            continue
        figures = {ROW: edge_figures(records)}
        evaluation.write(folder, photos, records, figures)
        found.append(evaluation.summary(folder, records) | {"figures": figures})
    evaluation.tell(found)
