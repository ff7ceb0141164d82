"""What an evaluation remembers about each photo: the answers in each row of the table, one for each object asked for.

Rows are named by their protocol: what was asked, and which mask counted (``point, best-score``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mobilesam.core.rle import Rle, dict_to_rle

DIGITS = 6  # of values, so that runs that differ by less have the same bytes


@dataclass(frozen=True)
class Answer:
    """One object asked for in one way.

    Attributes:
        values: by measure, such as ``iou``; None where a measure does not apply to the object.
        area: pixels of the object.
        mask: the one that counted; None if no masks are kept.
        prompt: what was asked, as JSON has it: ``points`` and ``labels``, ``box``.
    """

    values: Mapping[str, float | None]
    area: float = 0.0
    mask: Rle | None = field(default=None, repr=False)
    prompt: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PhotoRecord:
    """All answers of one photo.

    Attributes:
        rows: answers by row.
        facts: what is known about the photo as a whole, as JSON has it.
        photo: its name below the set.
        pixels: how many it has.
    """

    rows: Mapping[str, tuple[Answer, ...]]
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    photo: str = ""
    pixels: int = 0

    def to_line(self) -> bytes:
        """One line of JSON."""
        rows = {row: [_to_dict(one) for one in answers] for row, answers in self.rows.items()}
        content: dict[str, Any] = {"photo": self.photo, "pixels": self.pixels, "rows": rows}
        if self.facts:
            content["facts"] = self.facts
        return (json.dumps(content, separators=(",", ":")) + "\n").encode()


def record_from_line(line: str | bytes) -> PhotoRecord:
    """Return what :meth:`PhotoRecord.to_line` wrote.

    Raises:
        ValueError, KeyError, TypeError: for a line that it did not write.
    """
    content = json.loads(line)
    rows = {row: tuple(_from_dict(one) for one in answers) for row, answers in content["rows"].items()}
    return PhotoRecord(rows, content.get("facts", {}), content["photo"], content["pixels"])


def _to_dict(one: Answer) -> dict[str, Any]:
    values = {
        key: None if value is None else round(float(value), DIGITS) for key, value in one.values.items()
    }
    record: dict[str, Any] = {"values": values, "area": round(float(one.area), 2)}
    if one.mask is not None:
        record["mask"] = one.mask.to_dict()
    if one.prompt is not None:
        record["prompt"] = dict(one.prompt)
    return record


def _from_dict(content: dict[str, Any]) -> Answer:
    mask = dict_to_rle(content["mask"]) if "mask" in content else None
    return Answer(content["values"], content["area"], mask, content.get("prompt"))
