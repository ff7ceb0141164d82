"""Figures from records: means with intervals, by size of object and by row; as JSON, Markdown and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.errors import ConfigError
from mobilesam.core.intervals import Mean, mean_of_groups
from mobilesam.core.metrics import OBJECT_SIZES, calibration_error
from mobilesam.core.text import counted
from mobilesam.draw.chart import Bar, draw_bars
from mobilesam.evaluate.identity import circumstances
from mobilesam.evaluate.record import DIGITS, Answer, PhotoRecord
from mobilesam.formats.image import image_to_png
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.json_text import read_json_file
from mobilesam.storage.atomic import write_bytes

FORM = "mobilesam evaluation 1"
RESULTS, TABLE, PICTURE = "results.json", "results.md", "results.png"
MAX_RESULTS_BYTES = 2**30
SIZES = ("small", "medium", "large")
PARTS = {  # of the photo that an object covers, from and below
    "below 1 %": (0.0, 0.01),
    "1 to 10 %": (0.01, 0.1),
    "from 10 %": (0.1, np.inf),
}


@dataclass(frozen=True)
class Results:
    """What a run found.

    Attributes:
        command: the one that was run, such as ``masks``.
        protocol: its settings, as JSON has them.
        model: see :class:`mobilesam.evaluate.identity.ModelFacts`.
        data: see :class:`mobilesam.evaluate.identity.DataFacts`.
        records: of all photos.
        main: the measure that is drawn and compared.
        figures: of a row as a whole, which are not means over objects, such as the calibration error.
    """

    command: str
    protocol: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    records: Sequence[PhotoRecord] = field(repr=False)
    main: str = "iou"
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """The rows in the order in which they come."""
        return list(dict.fromkeys(row for record in self.records for row in record.rows))

    def measures(self, row: str) -> list[str]:
        """The measures of a row."""
        answers = (one for record in self.records for one in record.rows.get(row, ()))
        return list(dict.fromkeys(key for one in answers for key in one.values))

    def mean(self, row: str, measure: str, size: str = "all") -> Mean:
        """Return a measure's mean over a row's objects of one size."""
        return mean_of_groups([values_of(record.rows.get(row, ()), measure, size) for record in self.records])

    def mean_of_part(self, row: str, part: str) -> Mean:
        """Return the main measure's mean over a row's objects that cover this part of their photo."""
        least, below = PARTS[part]
        return mean_of_groups(
            [
                [
                    value
                    for one in record.rows.get(row, ())
                    if least <= one.area / max(1, record.pixels) < below
                    and (value := one.values.get(self.main)) is not None
                ]
                for record in self.records
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The results as JSON has them, without what they belong to on the machine."""
        return {
            "form": FORM,
            "command": self.command,
            "protocol": dict(self.protocol),
            "model": dict(self.model),
            "data": dict(self.data),
            **circumstances(),
            "main": self.main,
            "rows": {row: self._row(row) for row in self.rows},
            "photos": [_photo_to_dict(record) for record in self.records],
        }

    def _row(self, row: str) -> dict[str, Any]:
        found: dict[str, Any] = {key: _short(self.mean(row, key)) for key in self.measures(row)}
        found["by_size"] = {size: _short(self.mean(row, self.main, size)) for size in SIZES}
        found["by_part"] = {part: _short(self.mean_of_part(row, part)) for part in PARTS}
        if {"predicted", "iou"} <= set(found):
            found["calibration_error"] = round(self.calibration(row), DIGITS)
        return found | {key: round(value, DIGITS) for key, value in self.figures.get(row, {}).items()}

    def calibration(self, row: str) -> float:
        """Return the expected calibration error of a row's predicted IoU."""
        answers = [one for record in self.records for one in record.rows.get(row, ())]
        pairs = [(one.values["predicted"], one.values["iou"]) for one in answers]
        known = [(p, i) for p, i in pairs if p is not None and i is not None]
        return calibration_error([p for p, _ in known], [i for _, i in known])

    def to_markdown(self) -> str:
        """The results as tables."""
        data, model = self.data, self.model
        protocol = ", ".join(f"{key} {value}" for key, value in self.protocol.items())
        sum_of = {
            key: str(facts.get("sha256", ""))[:12] or "none"
            for key, facts in (("model", model), ("data", data))
        }
        lines = [
            f"# {self.command}: {model['name']} on {data['name']}",
            "",
            f"Protocol: {protocol}. {counted(data['photos'], 'photos')}, {counted(data['objects'], 'objects')}. Weights {sum_of['model']}, "
            f"data {sum_of['data']}, runtime {model['runtime']} on {model['device']}.",
            "",
            "Means over objects, with the interval in which 95 % of them lie when the photos are drawn again.",
            "",
        ]
        measures = list(dict.fromkeys(key for row in self.rows for key in self.measures(row)))
        lines += _table(
            ["row", "objects", *measures],
            [
                [row, str(self.mean(row, self.main).n), *(_cell(self.mean(row, key)) for key in measures)]
                for row in self.rows
            ],
        )
        wholes = list(dict.fromkeys(key for row in self.rows for key in self.figures.get(row, {})))
        if wholes:
            lines += ["", "Figures of the set as a whole:", ""]
            lines += _table(
                ["row", *wholes],
                [
                    [
                        row,
                        *(
                            f"{self.figures[row][key]:.3f}" if key in self.figures[row] else "-"
                            for key in wholes
                        ),
                    ]
                    for row in self.rows
                    if row in self.figures
                ],
            )
        lines += [
            "",
            f"{self.main} by size of object (COCO's: up to 32 x 32 pixels, up to 96 x 96, larger):",
            "",
        ]
        sized = [[row, *(_cell(self.mean(row, self.main, size)) for size in SIZES)] for row in self.rows]
        lines += [
            *_table(["row", *SIZES], sized),
            "",
            f"{self.main} by the part of its photo that an object covers:",
            "",
        ]
        parts = [[row, *(_cell(self.mean_of_part(row, part)) for part in PARTS)] for row in self.rows]
        return "\n".join([*lines, *_table(["row", *PARTS], parts)]) + "\n"

    def draw(self) -> bytes:
        """Return a PNG: a bar for each row's main measure, with its interval."""
        bars = []
        for row in self.rows:
            mean = self.mean(row, self.main)
            note = f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"
            bars.append(Bar(row, mean.mean, mean.low, mean.high, note))
        title = f"{self.command}, {self.main}: {self.model['name']} on {self.data['name']}"
        return image_to_png(draw_bars(title, bars, greatest=1.0))

    def write(self, folder: Path) -> list[Path]:
        """Write ``results.json``, ``results.md`` and ``results.png``; the same results give the same bytes."""
        text = json.dumps(_without_nan(self.to_dict()), indent=1) + "\n"
        files = {RESULTS: text.encode(), TABLE: self.to_markdown().encode(), PICTURE: self.draw()}
        for name, data in files.items():
            write_bytes(folder / name, data)
        return [folder / name for name in files]


def values_of(answers: Sequence[Answer], measure: str, size: str = "all") -> list[float]:
    """Return a measure's values for the objects of one of COCO's sizes."""
    least, greatest = OBJECT_SIZES[size]
    found = [one.values.get(measure) for one in answers if least <= one.area <= greatest]
    return [value for value in found if value is not None]


def read_results(path: str | Path) -> Results:
    """Read a file ``results.json``, or the one in a folder.

    Raises:
        ConfigError: if it is not such a file.
    """
    path = Path(path)
    file = path / RESULTS if path.is_dir() else path
    name = shown(str(file))
    content = read_json_file(
        file, name, max_bytes=MAX_RESULTS_BYTES, fail=lambda message, code: ConfigError(message)
    )
    try:
        if content["form"] != FORM:
            raise KeyError
        records = [
            PhotoRecord(
                {
                    row: tuple(
                        Answer({key: values[i] for key, values in cells["values"].items()}, area)
                        for i, area in enumerate(cells["areas"])
                    )
                    for row, cells in one["rows"].items()
                },
                photo=one["photo"],
                pixels=one["pixels"],
            )
            for one in content["photos"]
        ]
        return Results(
            content["command"],
            content["protocol"],
            content["model"],
            content["data"],
            records,
            content["main"],
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"{name}: is not a file of results; give {RESULTS} of mobilesam evaluate --out"
        ) from error


def _photo_to_dict(record: PhotoRecord) -> dict[str, Any]:
    rows = {}
    for row, answers in record.rows.items():
        keys = list(dict.fromkeys(key for one in answers for key in one.values))
        rows[row] = {
            "areas": [one.area for one in answers],
            "values": {key: [one.values.get(key) for one in answers] for key in keys},
        }
    return {"photo": record.photo, "pixels": record.pixels, "rows": rows}


def _short(mean: Mean) -> dict[str, float | int]:
    return {
        key: round(value, DIGITS) if isinstance(value, float) else value
        for key, value in asdict(mean).items()
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(mean: Mean) -> str:
    return f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})" if mean.n else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
