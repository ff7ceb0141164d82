"""How far a transfer or a search is: one line that a terminal redraws."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TextIO

import click

from mobilesam.annotate.sources import Source
from mobilesam.core.text import printable
from mobilesam.formats.image_bytes import shown

REDRAW_SECONDS = 0.2
MEGA = 1e6


def bar_stream(*, wanted: bool = True) -> TextIO:
    """Return where a progress bar is drawn: standard error where that is a terminal, otherwise nowhere."""
    return sys.stderr if wanted and sys.stderr.isatty() else io.StringIO()


class StatusLine:
    """A line on standard error that is redrawn where that is a terminal, and not shown elsewhere."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self.width = 0  # of the text in the terminal's line
        self.drawn = 0.0

    def draw(self, text: Callable[[], str]) -> None:
        """Draw the line, unless it was drawn just now."""
        now = time.monotonic()
        if self.on_terminal and now - self.drawn >= REDRAW_SECONDS:
            self.drawn = now
            line = text()
            click.echo("\r" + line.ljust(self.width), err=True, nl=False)
            self.width = len(line)

    def tell(self, text: str) -> None:
        """Print a remark on a line of its own."""
        self.end()
        click.echo(printable(text), err=True)

    def end(self) -> None:
        """Leave the line that is redrawn."""
        if self.width:
            click.echo(err=True)
            self.width = 0

    def clear(self) -> None:
        """Wipe the line, for what is printed next."""
        if self.width:
            click.echo("\r" + " " * self.width + "\r", err=True, nl=False)
            self.width, self.drawn = 0, 0.0


class TransferProgress:
    """Shows on standard error how many bytes are there, how fast they come and how long it will take.

    Elsewhere than on a terminal it is one line at the end.

    Args:
        name: what is fetched.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = StatusLine()
        self.first: tuple[float, int] | None = None
        self.done = 0

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.end()
        if self.first and error is None:
            seconds = time.monotonic() - self.first[0]
            self.tell(f"{self.name}: {self.done / MEGA:.1f} MB are here, checked, after {seconds:.0f} s")

    def report(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bytes are there."""
        now = time.monotonic()
        self.done = done
        # What an earlier transfer left does not count for the rate.
        start, there = self.first = self.first or (now, done)
        self.line.draw(lambda: describe(self.name, done, total, done - there, now - start))

    def tell(self, text: str) -> None:
        """Print a remark on a line of its own."""
        self.line.tell(text)


class ImagesProgress:
    """Shows on standard error how far a run over photos is, and how long it will take.

    Args:
        images: how many there are.
        quiet: print nothing.
    """

    def __init__(self, images: int, *, quiet: bool = False) -> None:
        self.images = images
        self.image = 0  # how many are done
        self.line = StatusLine()
        self.line.on_terminal &= not quiet
        self.start = time.monotonic()

    def __enter__(self) -> ImagesProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def over(self, sources: Sequence[Source]) -> Iterator[Source]:
        """Yield photos; show which one is worked on."""
        for self.image, source in enumerate(sources):
            if self.images > 1:
                self._draw(shown(source.name), self.image / self.images)
            yield source

    def of(self, name: str) -> Callable[[int, int], None]:
        """Return a callback ``(done, total)`` that shows how many of a photo's prompts are done."""

        def report(done: int, total: int) -> None:
            part = (self.image + done / total) / self.images if total else 0
            self._draw(f"{shown(name)}: {done:,} of {total:,} prompts", part)

        return report

    def clear(self) -> None:
        """Wipe the line, for what is printed next."""
        self.line.clear()

    def _draw(self, what: str, part: float) -> None:
        where = f"{self.image + 1} of {self.images}, " if self.images > 1 else ""
        seconds = time.monotonic() - self.start
        left = f", {time_left(seconds * (1 / part - 1))}" if part else ""
        self.line.draw(lambda: f"{where}{what}{left}")


def describe(name: str, done: int, total: int, came: int, seconds: float) -> str:
    """Return the line for ``done`` of ``total`` bytes, of which ``came`` arrived in ``seconds``."""
    line = f"{name}: {done / MEGA:.1f} of {total / MEGA:.1f} MB"
    if came <= 0 or seconds <= 0:
        return line
    rate = came / seconds
    return f"{line}, {rate / MEGA:.1f} MB/s, {time_left(max(total - done, 0) / rate)}"


def time_left(seconds: float) -> str:
    """Return a remaining time as it is read aloud."""
    whole = round(seconds)
    minutes = f"{whole // 60} min " if whole >= 60 else ""
    return f"{minutes}{whole % 60} s left"
