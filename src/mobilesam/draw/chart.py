"""Plain charts, drawn with Pillow alone: bars with intervals, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from mobilesam.core.arrays import Image

WIDTH = 960
ROW, BAR = 26, 16  # pixels from bar to bar, and of a bar
MARGIN, HEAD, FOOT = 14, 40, 26
PLOT = 360  # height of a curve's field
INK, PALE, GROUND = (40, 40, 40), (205, 205, 205), (255, 255, 255)
COLOURS = ((52, 104, 164), (204, 110, 40), (66, 140, 84), (150, 80, 150), (120, 120, 120), (190, 60, 70))


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: the text before it.
        value: its length.
        low: lower end of its interval.
        high: upper end; None for both if there is no interval.
        note: the text after it, such as its value with a unit.
        colour: number of its colour.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    colour: int = 0


def draw_bars(title: str, bars: Sequence[Bar], *, greatest: float | None = None) -> Image:
    """Return a picture (H, W, 3) of horizontal bars from 0, one below the other.

    Args:
        title: the text above.
        bars: from top to bottom.
        greatest: value at the right end; the largest of the bars if None.
    """
    font, head = ImageFont.load_default(13), ImageFont.load_default(16)
    ends = [bar.value if bar.high is None else bar.high for bar in bars]
    most = greatest or max([value for value in ends if np.isfinite(value)], default=1.0) or 1.0
    labels = max((font.getlength(bar.label) for bar in bars), default=0)
    notes = max((font.getlength(_note(bar)) for bar in bars), default=0)
    left = MARGIN + int(labels) + 10
    room = max(120, WIDTH - left - int(notes) - MARGIN - 10)
    picture = PillowImage.new(
        "RGB", (left + room + int(notes) + MARGIN + 10, HEAD + ROW * len(bars) + MARGIN), GROUND
    )
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 10), title, fill=INK, font=head)
    for i, bar in enumerate(bars):
        top = HEAD + ROW * i
        draw.text((left - 10 - font.getlength(bar.label), top), bar.label, fill=INK, font=font)
        if not np.isfinite(bar.value):
            draw.text((left, top), _note(bar) or "-", fill=INK, font=font)
            continue
        end = left + max(1, round(room * min(bar.value / most, 1)))
        draw.rectangle((left, top, end, top + BAR), fill=COLOURS[bar.colour % len(COLOURS)])
        if bar.low is not None and bar.high is not None:
            ends_at = [left + round(room * max(0.0, min(value / most, 1))) for value in (bar.low, bar.high)]
            draw.line((ends_at[0], top + BAR // 2, ends_at[1], top + BAR // 2), fill=INK)
            for x in ends_at:
                draw.line((x, top + 4, x, top + BAR - 4), fill=INK)
            end = max(end, ends_at[1])
        draw.text((end + 6, top), _note(bar), fill=INK, font=font)
    return np.asarray(picture)


def _note(bar: Bar) -> str:
    return bar.note or (f"{bar.value:.3f}" if np.isfinite(bar.value) else "")


def draw_curves(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], *, across: str, up: str
) -> Image:
    """Return a picture (H, W, 3) of curves through points (x, y), y from 0 to 1.

    Args:
        title: the text above.
        curves: points of each, by name.
        across: what x is.
        up: what y is.
    """
    font, head = ImageFont.load_default(13), ImageFont.load_default(16)
    left, top, right = 60, HEAD, WIDTH - 240
    picture = PillowImage.new("RGB", (WIDTH, HEAD + PLOT + FOOT + MARGIN), GROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 10), f"{title}: {up}", fill=INK, font=head)
    xs = [x for points in curves.values() for x, _ in points] or [0.0, 1.0]
    first, last = min(xs), max(xs)
    span = (last - first) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - first) / span * (right - left), top + PLOT * (1 - min(max(y, 0.0), 1.0))

    for tenth in range(0, 11, 2):
        y = place(first, tenth / 10)[1]
        draw.line((left, y, right, y), fill=PALE)
        draw.text((left - 34, y - 8), f"{tenth / 10:.1f}", fill=INK, font=font)
    for x in sorted(set(xs))[:: max(1, len(set(xs)) // 10)]:
        draw.text((place(x, 0)[0] - 8, top + PLOT + 6), f"{x:g}", fill=INK, font=font)
    draw.text((right + 12, top + PLOT + 6), across, fill=INK, font=font)
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in points]
        if len(placed) > 1:
            draw.line(placed, fill=colour, width=2)
        for x, y in placed:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        draw.text((right + 12, top + 20 * number), name, fill=colour, font=font)
    return np.asarray(picture)
