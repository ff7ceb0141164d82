"""``mobilesam bench``: how large models are and how long they take, ours and others'."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import click

from mobilesam.benchmark.measure import BenchmarkOptions, Candidate, Row, measure_each
from mobilesam.benchmark.peers import make_environment, read_peers
from mobilesam.benchmark.protocol import PHASES
from mobilesam.benchmark.report import FILES, Benchmark
from mobilesam.benchmark.systems import OURS
from mobilesam.cli.fields import FileType, option_field, options_from
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import printable
from mobilesam.formats.image import read_image
from mobilesam.storage.atomic import refuse_existing
from mobilesam.weights import entry_of
from mobilesam.weights.folders import weights_home


@dataclass(frozen=True)
class BenchOptions:
    """Which systems are measured, and where the figures are written.

    Attributes:
        systems: our models, joined by commas; the first is what all are compared with. Weights that are not here are
            random, for size and speed only.
        peers: folder with files of peers, such as bench/peers; ``all`` systems of it are measured.
        only: only these peers, by name, joined by commas.
        phases: joined by semicolons.
        environments: folder for the peers' environments, of several GB.
        out: folder for benchmark.json, benchmark.md and benchmark.png.
        overwrite: replace files that are there.
        beside_other_work: mark the times as taken while the machine did other work.
        json: print the figures as JSON.
    """

    systems: str = option_field("pocket,mobile_sam", metavar="LIST|all")
    peers: str | None = option_field(None, metavar="DIR")
    only: str | None = option_field(None, metavar="LIST", shown_default="all")
    phases: str | None = option_field(None, metavar="LIST", shown_default="all")
    environments: str | None = option_field(None, metavar="DIR", shown_default="beside the weights")
    out: str | None = option_field(None, "--out", "-o", metavar="DIR")
    overwrite: bool = False
    beside_other_work: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        for flag, value in (("--only", self.only), ("--environments", self.environments)):
            if value is not None and self.peers is None:
                raise ConfigError(f"{flag}: is for --peers, which is not given; add it, or leave {flag} out")

    def ours(self) -> list[Candidate]:
        """Return our systems.

        Raises:
            ConfigError: for a name that is not a promptable model.
        """
        names = OURS if self.systems == "all" else tuple(self.systems.split(","))
        for name in names:
            if not entry_of(name).network:
                raise ConfigError(
                    f"--systems: {printable(name)} is not a promptable model; choose from {', '.join(OURS)}"
                )
        return [Candidate(name, name) for name in names]

    def chosen_phases(self) -> tuple[str, ...]:
        """Return what is timed.

        Raises:
            ConfigError: for an unknown phase.
        """
        names = tuple(PHASES) if self.phases is None else tuple(one.strip() for one in self.phases.split(";"))
        for name in names:
            if name not in PHASES:
                raise ConfigError(
                    f"--phases: {printable(name)!r} is unknown; choose from {'; '.join(PHASES)}"
                )
        return names


@dataclass(frozen=True)
class MeasureOptions:
    """How long is measured.

    Attributes:
        threads: processor threads of each system.
        runs: most runs of each phase, after those that warm up.
        warm_up: runs that are not counted.
        seconds: most time for the runs of one phase; one run counts in any case, and is marked.
        no_macs: leave multiplications out; counting them takes a run without optimisations.
    """

    threads: int = option_field(1, type=click.IntRange(1, 1024), metavar="N")
    runs: int = option_field(BenchmarkOptions.runs, type=click.IntRange(min=1), metavar="N")
    warm_up: int = option_field(BenchmarkOptions.warm_up, type=click.IntRange(min=0), metavar="N")
    seconds: float = option_field(
        BenchmarkOptions.seconds, type=click.FloatRange(min=0, min_open=True), metavar="N"
    )
    no_macs: bool = False

    def options(self) -> BenchmarkOptions:
        """Return them as the benchmark takes them."""
        return BenchmarkOptions(self.threads, self.runs, self.warm_up, self.seconds, macs=not self.no_macs)


@click.command()
@click.argument("photo", type=FileType())
@options_from(BenchOptions, "options")
@options_from(MeasureOptions, "how")
def bench(photo: Path, options: BenchOptions, how: MeasureOptions) -> None:
    """Measure size and speed of models on a PHOTO.

    Each system runs in a process of its own, in turns with the first. It times pre-processing, encoder, decoder by
    batch, post-processing and everything, and reports parameters, multiplications, start, memory and processor time.

    \b
    mobilesam bench photo.jpg
    mobilesam bench photo.jpg --systems all --out bench-out
    mobilesam bench photo.jpg --peers bench/peers --only mobilesam,ultralytics --out bench-out
    """
    candidates, phases = options.ours(), options.chosen_phases()
    height, width = read_image(photo).shape[:2]
    if options.out is not None:
        for name in FILES:
            refuse_existing(Path(options.out) / name, overwrite=options.overwrite)
    failed: list[Row] = []
    if options.peers is not None:
        home = Path(options.environments) if options.environments else weights_home() / "peers"
        found, failed = _peers(options, home)
        candidates += found
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    measured: list[Row] = []
    shown = f"{photo.name}, {width} x {height}"
    for row in measure_each(candidates, photo.resolve(), how.options(), phases, _tell):
        measured.append(row)
        benchmark = Benchmark([*measured, *failed], how.options(), shown, busy, options.beside_other_work)
        if options.out is not None:  # after each row, so that a stop loses one at most
            benchmark.write(Path(options.out), overwrite=True)
    if options.json:
        click.echo(json.dumps(benchmark.to_dict()))
    else:
        click.echo(benchmark.to_markdown())
    if options.out is not None:
        for name in FILES:
            click.echo(f"{printable(Path(options.out) / name)}: written", err=True)


def _peers(options: BenchOptions, home: Path) -> tuple[list[Candidate], list[Row]]:
    """Return the systems of others that can be measured, and a row with the reason for each that cannot."""
    assert options.peers is not None
    kinds = read_peers(Path(options.peers))
    if options.only is not None:
        names = options.only.split(",")
        for name in names:
            if name not in [kind.name for kind in kinds]:
                known = ", ".join(kind.name for kind in kinds)
                raise ConfigError(f"--only: {printable(name)} is not there; choose from {known}")
        kinds = [kind for kind in kinds if kind.name in names]
    found: list[Candidate] = []
    failed: list[Row] = []
    for kind in kinds:
        problem = make_environment(kind, home, tell=_tell)
        if problem:
            failed += [Row(label, problem=problem) for label in kind.systems.values()]
        else:
            found += kind.candidates(home)
    return found, failed


def _tell(text: str) -> None:
    click.echo(printable(text), err=True)
