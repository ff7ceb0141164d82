"""``mobilesam compare``: what differs between two evaluations, and how sure that is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mobilesam.cli.fields import FileType, option_field, options_from
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import printable
from mobilesam.evaluate.compare import RowDifference, draw_differences
from mobilesam.evaluate.compare import compare as compare_results
from mobilesam.evaluate.results import RESULTS, Results, read_results
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.image import image_to_png
from mobilesam.storage.atomic import write_bytes


@dataclass(frozen=True)
class CompareOptions:
    """What is shown of the difference.

    Attributes:
        draw: also draw the photos where the two differ most into this file.
        row: the row that is drawn.
        set: folder of the photos, if they have been moved since.
        follow_symlinks: also follow links to photos in other folders.
        overwrite: replace a picture that is there.
        json: print the differences as JSON.
    """

    draw: str | None = option_field(None, metavar="FILE.png")
    row: str | None = option_field(None, shown_default="the first")
    set: str | None = option_field(None, metavar="DIR", shown_default="as the first was given")
    follow_symlinks: bool = False
    overwrite: bool = False
    json: bool = False


@click.command()
@click.argument("first", metavar="A", type=FileType())
@click.argument("second", metavar="B", type=FileType())
@options_from(CompareOptions, "options")
def compare(first: Path, second: Path, options: CompareOptions) -> None:
    """Print the paired difference of two evaluations, B minus A, with its interval.

    A and B are files results.json of mobilesam evaluate --out, or their folders, of the same command, protocol and
    set. An interval that leaves 0 out is marked with *.

    \b
    mobilesam compare scores/pocket/coco_val scores/own/coco_val
    mobilesam compare scores/pocket/coco_val scores/own/coco_val --draw apart.png
    """
    results = read_results(first), read_results(second)
    rows = compare_results(*results)
    if options.json:
        click.echo(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows, results)
    if options.draw is not None:
        chosen = {row.row: row for row in rows}
        name = options.row or next(iter(chosen), "")
        if name not in chosen:
            raise ConfigError(f"row: {printable(name)!r} is not in both; choose one of {'; '.join(chosen)}")
        folder = Path(options.set or str(results[0].data["folder"]))
        folders = tuple(path if path.is_dir() else path.parent for path in (first, second))
        photos = read_photos(folder, follow_symlinks=options.follow_symlinks)
        picture = draw_differences(chosen[name], (folders[0], folders[1]), photos, results[0].main)
        write_bytes(Path(options.draw), image_to_png(picture), overwrite=options.overwrite)
        click.echo(f"{printable(options.draw)}: written", err=True)


def _print(rows: list[RowDifference], results: tuple[Results, Results]) -> None:
    first, second = results
    click.echo(
        f"{first.command} on {first.data['name']}, {first.main}: A {first.model['name']}, B {second.model['name']}"
    )
    wide = max((len(row.row) for row in rows), default=0)
    click.echo(f"{'row':<{wide}}{'objects':>9}{'A':>8}{'B':>8}{'B - A':>9}  interval of 95 %")
    for row in rows:
        mean = row.difference
        click.echo(
            f"{row.row:<{wide}}{mean.n:>9}{row.first:>8.3f}{row.second:>8.3f}{mean.mean:>+9.3f}"
            f"  {mean.low:+.3f} to {mean.high:+.3f}{' *' if row.sure else ''}"
        )
    if not rows:
        raise ConfigError(f"{RESULTS}: the two have no row in common")
