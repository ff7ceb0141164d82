"""What all evaluations share: sets, where results go, and how a run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from mobilesam.cli.fields import FileType, option_field
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.cli.progress import bar_stream
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import counted, printable
from mobilesam.evaluate.identity import ModelFacts, as_dict, describe_data, describe_model
from mobilesam.evaluate.journal import Journal, Score, read_part, score_photos
from mobilesam.evaluate.record import PhotoRecord
from mobilesam.evaluate.results import Results
from mobilesam.evaluate.sets import SMALLEST_OBJECT
from mobilesam.formats.coco import SetPhoto
from mobilesam.segment.model import Model
from mobilesam.weights import DEFAULT_MODEL, entry_of, weights_path

Value = TypeVar("Value")


@dataclass(frozen=True)
class EvaluationOptions:
    """Which photos of a set, and what is written of the scores.

    Attributes:
        limit: only the first N photos that count.
        follow_symlinks: also follow links to photos in other folders.
        json: print the scores as JSON.
        out: also write results.json, results.md and results.png of each set into a folder of its name in DIR. The
            same command again goes on after a stop.
        shard: with --out, only this part of the photos: NUMBER/COUNT such as 2/4. The part that is done last
            writes the results.
        overwrite: replace what is in the folders, and files of a report.
    """

    limit: int | None = option_field(None, type=click.IntRange(min=1), metavar="N")
    follow_symlinks: bool = False
    json: bool = False
    out: str | None = option_field(None, "--out", "-o", metavar="DIR")
    shard: str = option_field("1/1", metavar="PART", shown_default="all")
    overwrite: bool = False

    def __post_init__(self) -> None:
        if read_part(self.shard).of > 1 and self.out is None:
            raise ConfigError("shard: parts of a run meet in a folder; give --out as well")


@dataclass(frozen=True)
class SmallestOptions:
    """Which objects count.

    Attributes:
        smallest: least share of a photo that an object covers.
    """

    smallest: float = option_field(SMALLEST_OBJECT, type=float, metavar="PART")


@dataclass(frozen=True)
class SheetOptions:
    """Pictures to look at.

    Attributes:
        report: also write contact sheets of the best, the median and the worst.
    """

    report: str | None = option_field(None, metavar="DIR")

    @property
    def folder(self) -> Path | None:
        """The folder."""
        return None if self.report is None else Path(self.report)


sets_argument = click.argument("sets", nargs=-1, required=True, metavar="SET...", type=FileType())


@dataclass(frozen=True)
class Evaluation:
    """One question, asked of a model on one set after the other.

    Attributes:
        command: that is run.
        protocol: its settings.
        options: see :class:`EvaluationOptions`.
        facts: of the model.
        main: the measure that is drawn and compared.
    """

    command: str
    protocol: Mapping[str, Any]
    options: EvaluationOptions
    facts: ModelFacts
    main: str = "iou"

    def records(self, folder: Path, photos: Sequence[SetPhoto], score: Score) -> list[PhotoRecord] | None:
        """Score a set with a progress bar; None where the rest of it belongs to other parts of the run."""
        photos = photos[: self.options.limit]
        journal = self._journal(folder, photos)
        found = with_bar(folder.name, partial(score_photos, score, photos, journal))
        if len(found) < len(photos):
            click.echo(
                f"{folder.name}: {len(found)} of {len(photos)} photos are done; the last part writes the results",
                err=True,
            )
            return None
        return found

    def write(
        self,
        folder: Path,
        photos: Sequence[SetPhoto],
        records: Sequence[PhotoRecord],
        figures: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Write a set's results if that is asked for."""
        journal = self._journal(folder, photos[: self.options.limit])
        if journal is None:
            return
        head = journal.head
        results = Results(
            self.command, self.protocol, head["model"], head["data"], records, self.main, figures or {}
        )
        for path in results.write(journal.folder):
            click.echo(f"{printable(path)}: written", err=True)

    def summary(self, folder: Path, records: Sequence[PhotoRecord]) -> dict[str, Any]:
        """Return a set's means with their intervals."""
        results = Results(self.command, self.protocol, {}, {}, records, self.main)
        rows = {
            row: {measure: asdict(results.mean(row, measure)) for measure in results.measures(row)}
            for row in results.rows
        }
        return {"name": folder.name, "images": len(records), "rows": rows}

    def tell(self, summaries: Sequence[dict[str, Any]]) -> None:
        """Print the means of all sets, as JSON or as a table."""
        if self.options.json:
            print_json(self.facts.name, summaries)
            return
        for one in summaries:
            click.echo(f"{one['name']}: {counted(one['images'], 'photos')}")
            wide = max((len(row) for row in one["rows"]), default=0)
            for row, measures in one["rows"].items():
                cells = (
                    f"{name} {m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f})"
                    for name, m in measures.items()
                    if m["n"]
                )
                n = measures.get(self.main, {}).get("n", 0)
                click.echo(f"{row:<{wide}}  n {n:<6}" + "  ".join(cells))
            for row, figures in one.get("figures", {}).items():
                click.echo(
                    f"{row:<{wide}}  " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
                )

    def _journal(self, folder: Path, photos: Sequence[SetPhoto]) -> Journal | None:
        if self.options.out is None:
            return None
        head = {
            "command": self.command,
            "protocol": dict(self.protocol),
            "model": as_dict(self.facts),
            "data": as_dict(describe_data(folder, photos)),
        }
        part = read_part(self.options.shard)
        return Journal(Path(self.options.out) / folder.resolve().name, head, part, self.options.overwrite)


def open_model(options: ModelOptions) -> tuple[Model, ModelFacts]:
    """Load the model asked for; return it with what results say about it."""
    model = load_model(options)
    file = (
        Path(options.checkpoint)
        if options.checkpoint
        else weights_path(entry_of(options.model or DEFAULT_MODEL))
    )
    return model, describe_model(model, file)


def with_bar(label: str, score: Callable[..., Value]) -> Value:
    """Score with a progress bar, which only a terminal shows."""
    with click.progressbar(length=1, label=label, file=bar_stream()) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(1)

        return score(progress=advance)


def print_json(model: str, sets: Sequence[dict[str, Any]]) -> None:
    """Print the scores of all sets."""
    click.echo(json.dumps({"model": model, "sets": sets}))
