"""Two runs of one protocol on one set, object by object: the difference with its interval, and where it is greatest.

It is paired: the same objects of the same photos, so that hard photos do not hide what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ConfigError
from mobilesam.core.intervals import Mean, mean_of_groups
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.draw.overlay import draw_overlay, line_width, outline
from mobilesam.evaluate.identity import names_in
from mobilesam.evaluate.journal import read_journals
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.report import TRUTH_COLOUR, draw_tiles
from mobilesam.evaluate.results import Results
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.image_bytes import shown

FIRST_COLOUR, SECOND_COLOUR = (204, 110, 40), (52, 104, 164)
MOST_TILES = 8


@dataclass(frozen=True)
class RowDifference:
    """One row of both runs.

    Attributes:
        row: its name.
        first: mean of the first run.
        second: mean of the second.
        difference: second minus first, on the same objects, with its interval.
        by_photo: mean difference of each photo.
    """

    row: str
    first: float
    second: float
    difference: Mean
    by_photo: dict[str, float] = field(repr=False)

    @property
    def sure(self) -> bool:
        """Whether the interval rules out that there is no difference."""
        return self.difference.low > 0 or self.difference.high < 0


def compare(first: Results, second: Results) -> list[RowDifference]:
    """Return the rows that both runs have.

    Raises:
        ConfigError: if they are not of the same command, protocol and set.
    """
    for what, ours, theirs in (
        ("command", first.command, second.command),
        ("protocol", dict(first.protocol), dict(second.protocol)),
        ("data", first.data.get("sha256"), second.data.get("sha256")),
    ):
        if ours != theirs:
            raise ConfigError(
                f"{what}: is {ours} and {theirs}; give two runs of the same command, protocol and set"
            )
    others = {record.photo: record for record in second.records}
    rows = [row for row in first.rows if row in second.rows]
    return [_row(row, first.main, first.records, others) for row in rows]


def _row(
    row: str, measure: str, records: Sequence[PhotoRecord], others: dict[str, PhotoRecord]
) -> RowDifference:
    pairs: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        own, other = record.rows.get(row, ()), others[record.photo].rows.get(row, ())
        pairs[record.photo] = [
            (a, b)
            for one, two in zip(own, other, strict=False)
            if (a := one.values.get(measure)) is not None and (b := two.values.get(measure)) is not None
        ]
    every = np.array([pair for some in pairs.values() for pair in some]).reshape(-1, 2)
    differences = {name: [b - a for a, b in some] for name, some in pairs.items()}
    first, second = every.mean(0).tolist() if len(every) else (float("nan"), float("nan"))
    by_photo = {name: float(np.mean(some)) for name, some in differences.items() if some}
    return RowDifference(row, first, second, mean_of_groups(list(differences.values())), by_photo)


def most_different(row: RowDifference, most: int = MOST_TILES) -> tuple[list[str], list[str]]:
    """Return the photos where the second run is better by the most, and those where it is worse."""
    order = sorted(row.by_photo, key=lambda name: (row.by_photo[name], name))
    worse = [name for name in order if row.by_photo[name] < 0][:most]
    better = [name for name in reversed(order) if row.by_photo[name] > 0][:most]
    return better, worse


def draw_differences(
    row: RowDifference, folders: tuple[Path, Path], photos: Sequence[SetPhoto], measure: str
) -> Image:
    """Return a sheet of the photos where two runs differ most, with the object whose figures are farthest apart.

    The first run's mask is orange, the second's blue, the human outline white.

    Args:
        row: the row that is drawn.
        folders: of the two runs, with what they remember.
        photos: of the set.
        measure: the measure that objects are chosen by.

    Raises:
        ConfigError: if a run kept no masks of the row.
    """
    named = dict(zip(names_in(photos), photos, strict=True))
    first, second = (read_journals(folder) for folder in folders)
    rows = []
    for names in most_different(row):
        tiles = []
        for name in names:
            if name not in named or name not in first or name not in second:
                raise ConfigError(f"{shown(name)}: is not in the set, or not remembered beside the results")
            pair = _farthest(first[name].rows[row.row], second[name].rows[row.row], measure)
            caption = f"{name[:14]}: {pair[0].values[measure]:.2f} to {pair[1].values[measure]:.2f}"
            tiles.append((_draw(named[name], pair), caption))
        rows.append(tiles)
    return draw_tiles(
        rows, f"{row.row}, {measure}: second better by the most (above), worse by the most (below)"
    )


def _farthest(ours: Sequence[Answer], theirs: Sequence[Answer], measure: str) -> tuple[Answer, Answer]:
    def apart(pair: tuple[Answer, Answer]) -> float:
        return abs((pair[0].values[measure] or 0.0) - (pair[1].values[measure] or 0.0))

    return max(zip(ours, theirs, strict=True), key=apart)


def _draw(photo: SetPhoto, pair: tuple[Answer, Answer]) -> Image:
    image = read_photo(photo)
    masks = [rle_to_mask(one.mask) for one in pair if one.mask is not None]
    if len(masks) < 2:
        raise ConfigError("these results keep no masks to draw; compare runs of masks or clicks")
    out = draw_overlay(image, masks, colours=[FIRST_COLOUR, SECOND_COLOUR]).copy()
    truth = _truth_of(photo, pair[0].area)
    if truth is not None:
        out[outline(rle_to_mask(truth), line_width(image))] = TRUTH_COLOUR
    return out


def _truth_of(photo: SetPhoto, area: float) -> Rle | None:
    """Return the photo's object with this area; objects of one photo that share it are rare."""
    return next((one.segmentation for one in photo.instances if one.segmentation.area == area), None)
