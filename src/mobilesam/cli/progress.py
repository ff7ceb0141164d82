"""How far a transfer is: one line that a terminal redraws, and one at the end elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

from mobilesam.core.text import printable

REDRAW_SECONDS = 0.2
MEGA = 1e6


class TransferProgress:
    """Tells on standard error how many bytes are there, how fast they come and how long it will take.

    Args:
        name: what is fetched.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_terminal = sys.stderr.isatty()
        self.width = 0  # of what stands in the terminal's line
        self.drawn = 0.0
        self.first: tuple[float, int] | None = None
        self.done = 0

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_line()
        if self.first and error is None:
            seconds = time.monotonic() - self.first[0]
            self.tell(f"{self.name}: {self.done / MEGA:.1f} MB are here, checked, after {seconds:.0f} s")

    def report(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bytes are there."""
        now = time.monotonic()
        self.done = done
        # What an earlier transfer left does not count for the rate.
        self.first = self.first or (now, done)
        if self.on_terminal and now - self.drawn >= REDRAW_SECONDS:
            self.drawn = now
            line = describe(self.name, done, total, done - self.first[1], now - self.first[0])
            click.echo("\r" + line.ljust(self.width), err=True, nl=False)
            self.width = len(line)

    def tell(self, text: str) -> None:
        """Print a remark in a line of its own."""
        self.end_line()
        click.echo(printable(text), err=True)

    def end_line(self) -> None:
        """Leave the line that is redrawn."""
        if self.width:
            click.echo(err=True)
            self.width = 0


def describe(name: str, done: int, total: int, came: int, seconds: float) -> str:
    """Return the line for ``done`` of ``total`` bytes, of which ``came`` arrived in so many seconds."""
    line = f"{name}: {done / MEGA:.1f} of {total / MEGA:.1f} MB"
    if came <= 0 or seconds <= 0:
        return line
    rate = came / seconds
    left = round(max(total - done, 0) / rate)
    minutes = f"{left // 60} min " if left >= 60 else ""
    return f"{line}, {rate / MEGA:.1f} MB/s, {minutes}{left % 60} s left"
