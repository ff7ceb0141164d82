"""``mobilesam weights``: fetch, import, check, average and remove weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from mobilesam.cli.fields import FileType, option_field, options_from
from mobilesam.cli.progress import TransferProgress
from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.text import printable
from mobilesam.weights import (
    ENTRIES,
    NOT_OFFERED,
    WeightsEntry,
    average_weights,
    entry_of,
    store,
    weights_path,
)
from mobilesam.weights.own import own_names


@click.group()
def weights() -> None:
    """Fetch, import, check, average and remove weights.

    \b
    mobilesam weights list
    mobilesam weights pull mobile_sam
    mobilesam weights import Downloads/mobile_sam.pt
    """


@dataclass(frozen=True)
class PullOptions:
    """How weights are fetched.

    Attributes:
        timeout: give up on an address after this many seconds without a byte.
    """

    timeout: float = option_field(
        store.TIMEOUT, type=click.FloatRange(min=0, min_open=True), metavar="SECONDS"
    )


@dataclass(frozen=True)
class AverageOptions:
    """How much of which weights, and where to.

    Attributes:
        out: file to write.
        parts: how much of each.
        overwrite: replace a file that is there.
    """

    out: str = option_field("", metavar="FILE", required=True)
    parts: str | None = option_field(None, metavar="A,B,...", shown_default="all the same")
    overwrite: bool = False

    def shares(self) -> list[float]:
        """Return the parts as numbers; none if all are the same.

        Raises:
            ConfigError: for parts that are not numbers.
        """
        try:
            return [float(part) for part in self.parts.split(",")] if self.parts is not None else []
        except ValueError:
            raise ConfigError(
                f"parts: {self.parts!r}; give numbers with commas between them, such as 1,3"
            ) from None


@weights.command("list")
def list_weights() -> None:
    """List the published weights: name, size, whether they are here, terms.

    \b
    mobilesam weights list
    """
    for entry in (*ENTRIES.values(), *map(entry_of, own_names())):
        size = (
            f"{'~' if entry.rounded else ''}{size_of(entry) / 1e6:,.{0 if size_of(entry) >= 1e6 else 1}f} MB"
        )
        click.echo(f"{entry.name:<22} {size:>9}  {state_of(entry):<14} {entry.licence.partition(';')[0]}")
    for name, reason in NOT_OFFERED.items():
        click.echo(f"{name:<22} not offered: {reason}")


@weights.command()
@click.argument("name")
@options_from(PullOptions, "options")
def pull(name: str, options: PullOptions) -> None:
    """Fetch weights into the cache and check them; a transfer that was cut goes on.

    \b
    mobilesam weights pull mobile_sam
    """
    entry = entry_of(name)
    with TransferProgress(entry.name) as progress:
        path = store.pull(entry, timeout=options.timeout, report=progress.report, remark=progress.tell)
    click.echo(printable(path))


@weights.command("import")
@click.argument("file", type=FileType())
def import_weights(file: Path) -> None:
    """Copy a file that came from elsewhere into the cache; its SHA-256 says which one it is.

    \b
    mobilesam weights import Downloads/mobile_sam.pt
    """
    entry, path = store.import_file(file, remark=tell)
    click.echo(f"{entry.name}: {printable(path)}")


@weights.command()
@click.argument("name", required=False)
def verify(name: str | None) -> int:
    """Check the sums of one file, or of all that are here.

    \b
    mobilesam weights verify
    mobilesam weights verify pocket
    """
    if name is not None:
        click.echo(f"{printable(store.verify(entry_of(name)))}: is the published file")
        return 0
    exit_code = 0
    for entry in ENTRIES.values():
        if weights_path(entry).is_file():
            try:
                click.echo(f"{printable(store.verify(entry))}: is the published file")
            except WeightsError as error:
                tell(f"error[{error.code}]: {error}")
                exit_code = error.exit_code
    return exit_code


@weights.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where a file lies, or would lie.

    \b
    mobilesam weights path mobile_sam
    """
    click.echo(printable(weights_path(entry_of(name))))


@weights.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete weights from the cache; what is elsewhere stays.

    \b
    mobilesam weights remove mobile_sam
    """
    for removed in store.remove(entry_of(name)):
        click.echo(f"removed {printable(removed)}")


@weights.command()
@click.argument("sources", nargs=-1, metavar="WEIGHTS...")
@options_from(AverageOptions, "options")
def average(sources: tuple[str, ...], options: AverageOptions) -> None:
    """Average WEIGHTS of one network, models by name or files, into one file.

    Weights that were trained further, averaged with those they started from, keep more of what these could do.

    \b
    mobilesam weights average pocket runs/own/weights.safetensors --parts 1,3 --out both.safetensors
    mobilesam segment photo.jpg --point 50%,50% --checkpoint both.safetensors
    """
    path = average_weights(sources, Path(options.out), parts=options.shares(), overwrite=options.overwrite)
    click.echo(f"written: {printable(path)}")


def state_of(entry: WeightsEntry) -> str:
    """Return whether an entry's file is there; its sum is taken by ``verify`` and ``load``."""
    if entry.shipped:
        return "in the package"
    return "here" if weights_path(entry).is_file() else "not here"


def size_of(entry: WeightsEntry) -> int:
    """Return the bytes of an entry's file; for what the package carries, those it has there."""
    return entry.size or weights_path(entry).stat().st_size


def tell(text: str) -> None:
    """Print a remark on standard error."""
    click.echo(printable(text), err=True)
