"""A run's memory: a line for each photo, on disk before the next, so that a run goes on after any stop.

A folder holds ``photos.jsonl``, or ``photos-2-of-4.jsonl`` for each part of a run that is spread over
processes. The first line says what the figures depend on; a run does not go on with others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from mobilesam.core.errors import ConfigError, OutputError, Remedy
from mobilesam.evaluate.identity import names_in
from mobilesam.evaluate.record import PhotoRecord, record_from_line
from mobilesam.evaluate.sets import Progress
from mobilesam.formats.coco import SetPhoto
from mobilesam.formats.image_bytes import shown
from mobilesam.storage.atomic import write_bytes
from mobilesam.storage.ledger import Ledger

PHOTOS, TIMINGS = "photos.jsonl", "timings.jsonl"
PART = re.compile(r"(\d{1,4})/(\d{1,4})")
FORM = "mobilesam evaluation 1"

Score = Callable[[SetPhoto], PhotoRecord]


@dataclass(frozen=True)
class Part:
    """One of several equal parts of a run, from 1: every ``of``-th photo."""

    number: int = 1
    of: int = 1

    def has(self, place: int) -> bool:
        """Whether the photo at a place, from 0, belongs to it."""
        return place % self.of == self.number - 1


def read_part(text: str) -> Part:
    """Read ``2/4``.

    Raises:
        ConfigError: for anything else.
    """
    found = PART.fullmatch(text)
    part = Part(int(found[1]), int(found[2])) if found else Part(0, 0)
    if not 1 <= part.number <= part.of:
        raise ConfigError(f"shard: {text!r} is not a part; give NUMBER/COUNT such as 2/4")
    return part


@dataclass(frozen=True)
class Journal:
    """Where a run is remembered.

    Attributes:
        folder: of the run.
        head: what the figures depend on.
        part: of the photos that this process scores.
        overwrite: begin anew if the folder was begun with another head.
    """

    folder: Path
    head: Mapping[str, Any]
    part: Part = Part()
    overwrite: bool = False

    def path(self, name: str) -> Path:
        """Return the path of a file of this part."""
        stem, _, suffix = name.partition(".")
        ending = "" if self.part.of == 1 else f"-{self.part.number}-of-{self.part.of}"
        return self.folder / f"{stem}{ending}.{suffix}"

    def records(self) -> dict[str, PhotoRecord]:
        """Return what all parts remember, by photo."""
        return read_journals(self.folder, self.head)

    def begin(self) -> tuple[dict[str, PhotoRecord], int]:
        """Return what this part remembers and its length without a line that was cut; begin if there is nothing.

        Raises:
            OutputError: if it was begun with another head.
        """
        path = self.path(PHOTOS)
        if path.is_file():
            try:
                return _read(path, self.head)
            except OutputError:
                if not self.overwrite:
                    raise
        line = (
            json.dumps({"form": FORM, **self.head}, separators=(",", ":"), sort_keys=True) + "\n"
        ).encode()
        write_bytes(path, line)
        write_bytes(self.path(TIMINGS), b"")
        return {}, len(line)


def read_journals(folder: Path, head: Mapping[str, Any] | None = None) -> dict[str, PhotoRecord]:
    """Return what all parts of a run remember, by photo.

    Raises:
        OutputError: if a part was begun with another head than the one given.
    """
    found: dict[str, PhotoRecord] = {}
    for path in sorted(folder.glob("photos*.jsonl")):
        found |= _read(path, head or {})[0]
    return found


def _read(path: Path, head: Mapping[str, Any]) -> tuple[dict[str, PhotoRecord], int]:
    whole, place = 0, shown(str(path))
    found: dict[str, PhotoRecord] = {}
    for i, line in enumerate(path.read_bytes().splitlines(keepends=True)):
        if not line.endswith(b"\n"):
            break
        try:
            if i == 0:
                begun = json.loads(line)
                differing = [
                    key for key, value in head.items() if begun.get(key) != json.loads(json.dumps(value))
                ]
                if begun.get("form") != FORM or differing:
                    what = f"another {differing[0]}" if differing else "another form"
                    raise OutputError(
                        f"{place}: was begun with {what}; choose another folder",
                        remedy=Remedy("overwrite", True, "to begin anew"),
                    )
            else:
                record = record_from_line(line)
                found[record.photo] = record
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{place}: line {i + 1} does not come from an evaluation; move the file away, or choose another folder"
            ) from error
        whole += len(line)
    if not whole:
        raise OutputError(
            f"{place}: is empty; choose another folder", remedy=Remedy("overwrite", True, "to begin anew")
        )
    return found, whole


def score_photos(
    score: Score,
    photos: Sequence[SetPhoto],
    journal: Journal | None = None,
    progress: Progress = lambda done, total: None,
) -> list[PhotoRecord]:
    """Score photos and return their records in the photos' order; with a journal, only those that are not done.

    Args:
        score: what is asked of each photo.
        photos: of the set.
        journal: where it is remembered.
        progress: called after each photo as ``(done, total)``.

    Returns:
        The records of all photos, or of those that are done if the rest belongs to other parts.

    Raises:
        OutputError: if the journal cannot be written, or was begun with other settings.
    """
    names = names_in(photos)
    if journal is None:
        records = []
        for done, (name, photo) in enumerate(zip(names, photos, strict=True), start=1):
            records.append(record_from_line(_scored(score, photo, name).to_line()))
            progress(done, len(photos))
        return records
    there, whole = journal.begin()
    own = [i for i in range(len(photos)) if journal.part.has(i)]
    timings = journal.path(TIMINGS)
    if not timings.is_file():
        write_bytes(timings, b"")
    with Ledger(journal.path(PHOTOS), whole) as ledger, Ledger(timings, timings.stat().st_size) as watch:
        for done, i in enumerate(own, start=1):
            if names[i] not in there:
                start = perf_counter()
                line = _scored(score, photos[i], names[i]).to_line()
                seconds = round(perf_counter() - start, 4)
                ledger.append(line)
                watch.append((json.dumps({"photo": names[i], "seconds": seconds}) + "\n").encode())
            progress(done, len(own))
    done_ones = journal.records()
    return [done_ones[name] for name in names if name in done_ones]


def _scored(score: Score, photo: SetPhoto, name: str) -> PhotoRecord:
    return replace(score(photo), photo=name, pixels=photo.width * photo.height)
