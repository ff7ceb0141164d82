"""What a command writes and where, how it goes through the photos, and how it reports what became of them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mobilesam.annotate.outputs import Destination, Folder, OneFile, Stream
from mobilesam.annotate.run import Outcome, Run, outcomes_to_document
from mobilesam.annotate.sources import Source
from mobilesam.cli.errors import words_of
from mobilesam.cli.fields import option_field
from mobilesam.cli.images import STANDARD_STREAM
from mobilesam.cli.progress import ImagesProgress
from mobilesam.core.text import printable
from mobilesam.formats.image import MAX_PIXELS, SUFFIXES
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.image_folder import resolved
from mobilesam.formats.video import SUFFIXES as VIDEO_SUFFIXES
from mobilesam.segment.predictor import Predictor

PARTIAL_EXIT = 5
LIKE_AN_ENDING = re.compile(
    r"\.(?=[a-z0-9]*[a-z])[a-z0-9]{2,5}", re.IGNORECASE
)  # "cut.pgn", not "run.1" or "v1.5"
FILE_SUFFIXES = (
    *SUFFIXES,
    *VIDEO_SUFFIXES,
    ".json",
    ".npz",
    ".npy",
    ".svg",
    ".txt",
    ".pdf",
)  # nobody calls a folder that


@dataclass(frozen=True)
class ResultOptions:
    """What is written, and where.

    Attributes:
        out: folder for the results; a file's name for a single one; ``-`` for standard output.
        overwrite: replace results that are there; without it a further run on a photo takes the next numbers.
        json: print the results as JSON.
        quiet: print errors only.
        follow_symlinks: in a folder, also follow links to other folders.
        max_pixels: limit on a photo's pixels.
    """

    out: str = option_field("mobilesam-out", "--out", "-o", metavar="DIR|FILE")
    overwrite: bool = False
    json: bool = False
    quiet: bool = option_field(False, "--quiet", "-q")
    follow_symlinks: bool = False
    max_pixels: int = option_field(MAX_PIXELS, type=click.IntRange(1), metavar="N")

    def __post_init__(self) -> None:
        suffix = Path(self.out).suffix
        if LIKE_AN_ENDING.fullmatch(suffix) and not (
            self.to_file or self.to_stdout or self.out.endswith(("/", os.sep)) or os.path.isdir(self.out)
        ):
            raise click.UsageError(
                f"--out: {printable(self.out)} ends in {suffix}, and no result does; choose another ending, "
                f"or write {printable(self.out)}/ for a folder of that name"
            )
        if not self.out.strip():
            raise click.UsageError("--out: is empty; give a folder, a file's name, or - for standard output")
        if self.to_stdout and self.json:
            raise click.UsageError("--out -: cannot be joined with --json, which prints to the same place")

    @property
    def to_stdout(self) -> bool:
        """Whether the result itself is printed."""
        return self.out == STANDARD_STREAM

    @property
    def to_file(self) -> bool:
        """Whether ``out`` is the name of a file."""
        suffix = Path(self.out).suffix.lower()
        return not self.to_stdout and suffix in FILE_SUFFIXES and not os.path.isdir(self.out)

    @property
    def folder(self) -> Path | None:
        """The folder of the results, if there is one."""
        return None if self.to_stdout or self.to_file else Path(self.out)

    def destination(self, sources: Sequence[Source], others: Sequence[str | None] = ()) -> Destination:
        """Return where the results of some photos go.

        Args:
            sources: the photos.
            others: further files that are read, which no result may replace.
        """
        inputs = {one.content for one in sources if isinstance(one.content, Path)}
        inputs |= {Path(one) for one in others if one}
        if (self.to_stdout or self.to_file) and len(sources) > 1:
            raise click.UsageError(
                f"--out {self.out}: takes one photo, and there are {len(sources)}; give a folder"
            )
        if self.to_stdout:
            return Stream(sys.stdout.buffer)
        if not self.to_file:
            if os.path.isfile(self.out):  # a Path would raise for names that are too long
                raise click.UsageError(
                    f"--out: {self.out} is a file; give a folder, which is made if it is not there"
                )
            return Folder(Path(self.out), self.overwrite, frozenset(map(resolved, inputs)))
        if any(_same(one, self.out) for one in inputs):
            raise click.UsageError(f"--out: {self.out} is read, too; give another name")
        return OneFile(Path(self.out), self.overwrite)


def save_option(kinds: Sequence[str], default: str) -> Callable[[Callable], Callable]:
    """Add --save with some of ``kinds``."""
    about = f"Some of {','.join(kinds)}.  [default: {default}; for a single file, by its ending]"
    return click.option("--save", metavar="LIST", help=about)


def choose_kinds(
    save: str | None, options: ResultOptions, endings: Mapping[str, str], default: str
) -> tuple[str, ...]:
    """Return the kinds of results to write.

    Args:
        save: some of the kinds, joined by commas; None for the usual ones.
        options: say whether a folder or a single file is written.
        endings: of each kind's files; where several share a suffix, a file without ``save`` is the first of them.
        default: the usual ones, for a folder.
    """
    suffix = Path(options.out).suffix.lower()
    fitting = [kind for kind, ending in endings.items() if Path(ending).suffix == suffix]
    if options.to_file and not fitting:
        known = sorted({Path(ending).suffix for ending in endings.values()} - {""})
        raise click.UsageError(
            f"--out: {options.out} ends in {suffix}, and results end in {', '.join(known)}; choose one of these"
        )
    if save is None:
        if options.to_file:
            return (fitting[0],)
        return (default.split(",")[0],) if options.to_stdout else tuple(default.split(","))
    kinds = tuple(dict.fromkeys(kind.strip() for kind in save.split(",") if kind.strip()))
    for kind in kinds:
        if kind not in endings:
            raise click.UsageError(f"--save: {kind!r} is unknown; choose some of {','.join(endings)}")
    if not kinds and not options.json:
        raise click.UsageError(f"--save: is empty; choose some of {','.join(endings)}, or pass --json")
    if (options.to_stdout or options.to_file) and len(kinds) != 1:
        raise click.UsageError(
            f"--out {options.out}: takes one kind of result, such as --save {next(iter(endings))}"
        )
    if options.to_file and kinds[0] not in fitting:
        raise click.UsageError(
            f"--out: {options.out} ends in {suffix}, and --save {kinds[0]} in {Path(endings[kinds[0]]).suffix or 'a folder'}"
        )
    return kinds


def go_through(
    run: Run,
    sources: Sequence[Source],
    options: ResultOptions,
    progress: ImagesProgress,
    *,
    predictor: Predictor | None = None,
    print_record: Callable[[dict[str, Any]], None],
) -> int:
    """Work on every photo, report what happens, and return the exit code.

    Args:
        run: what is done with each.
        sources: the photos.
        options: what is printed.
        progress: shows how far the run is.
        predictor: of the run, for JSON.
        print_record: prints the record of a single photo.
    """
    many = len(sources) > 1
    outcomes: list[Outcome] = []
    try:
        with progress:
            for outcome in run.each(progress.over(sources)):
                outcomes.append(outcome)
                progress.clear()
                tell(outcome, many, quiet=options.quiet)
    finally:
        if options.json and predictor is not None:
            click.echo(json.dumps(outcomes_to_document(predictor, outcomes, words_of)))
    done = [outcome.record for outcome in outcomes if outcome.record is not None]
    if not (options.json or options.to_stdout or options.quiet):
        if many:
            click.echo(f"{len(done)} of {len(sources)} photos done; results in {printable(options.out)}")
        elif done:
            print_record(done[0])
    return exit_code(outcomes)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return what the command ends with."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not errors:
        return 0
    return PARTIAL_EXIT if len(errors) < len(outcomes) else errors[0].exit_code


def tell(outcome: Outcome, many: bool, *, quiet: bool = False) -> None:
    """Print a photo's error or warnings to standard error."""
    name = shown(outcome.source.name)
    if outcome.error is not None:
        text = words_of(outcome.error)
        if many and not text.startswith(name):
            text = f"{name}: {text}"
        click.echo(f"error[{outcome.error.code}]: {text}", err=True)
    elif outcome.record is not None and not quiet:
        for warning in outcome.record["warnings"]:
            click.echo(f"warning: {name}: {printable(warning)}", err=True)


def _same(one: Path, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
