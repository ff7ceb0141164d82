"""From a folder of photos to a set: label each photo, remember it, and write the formats of what is remembered.

What is remembered is ``record.jsonl``: a line for each photo, on disk before the next. A run that was killed
goes on with the photos that have none. When all are done the record is put into the order of the photos, and the
formats are written from it alone. So the files are the same bytes whatever happened on the way.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilesam.annotate.labelling import Labeller
from mobilesam.annotate.review import look_of
from mobilesam.annotate.set_folder import COPY, IMAGES, LINK, NONE, put_bytes, put_photo
from mobilesam.annotate.sources import Source, read_photo
from mobilesam.core.errors import ConfigError, ImageError, LimitError, MobileSamError, OutputError, Remedy
from mobilesam.core.text import one_line, printable, shortened
from mobilesam.formats.datasets import record
from mobilesam.formats.datasets.load import write_files
from mobilesam.formats.datasets.model import (
    Category,
    Dataset,
    LabelledPhoto,
    Numbers,
    all_categories,
    numbered,
    occur_once,
    split_of,
)
from mobilesam.formats.datasets.record import Failure, Head, RecordFile, RecordPhotos
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.stored import Stored
from mobilesam.storage.atomic import remove_remains, write_bytes, write_pieces
from mobilesam.storage.ledger import Ledger
from mobilesam.storage.lock import held
from mobilesam.work.base import Engine

LOCK, ERRORS = ".mobilesam.lock", "errors.jsonl"
MOST_DIFFERENCES = 8  # that a message lists
NUMBER = "Q"  # how arrays keep numbers


@dataclass(frozen=True)
class SetRun:
    """How a set is made.

    Attributes:
        labeller: says what is in a photo.
        engine: spreads the work.
        out: the set's folder.
        formats: those that are written, see :data:`mobilesam.formats.datasets.load.WRITABLE`.
        categories: those known beforehand; others follow as they are found.
        settings: what the labels depend on; a run does not go on with others.
        val: share of the photos, chosen by their content, that is for validation; 0 for no split.
        photos: ``copy``, ``link`` or ``none``: what becomes of them in ``images/``.
        overwrite: begin anew, whatever is in the folder.
        max_pixels: limit on a photo.
    """

    labeller: Labeller
    engine: Engine
    out: Path
    formats: tuple[str, ...]
    categories: tuple[Category, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    val: float = 0.0
    photos: str = COPY
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS

    def over(self, sources: Sequence[Source]) -> Iterator[Step]:
        """Label photos and yield what became of each; at the end the set is written.

        Raises:
            OutputError: if another run writes into the folder, it holds other files, or nothing more can
                be written, as on a full disk. What is remembered stays.
            ConfigError: if it was begun with other settings.
        """
        try:
            with held(self.out / LOCK):
                yield from self._locked(sources)
        except BlockingIOError as error:
            raise OutputError(
                f"{shown(str(self.out))}: another run is writing into it; wait for it, or choose another folder"
            ) from error
        except OSError as error:
            if isinstance(error, MobileSamError):
                raise
            raise OutputError(
                f"{shown(str(self.out))}: cannot be written ({error.strerror}); choose another folder"
            ) from error

    def _locked(self, sources: Sequence[Source]) -> Iterator[Step]:
        stored = next((one for one in sources if isinstance(one.content, Stored)), None)
        if self.photos == LINK and stored is not None:
            raise ConfigError(
                f"photos: cannot be {LINK}, as {shown(stored.name)} is in a tar or at an address; choose {COPY} or {NONE}"
            )
        there = self._begin()
        total = len(sources)
        todo = array(NUMBER, numbers_left(sources, there, self.out / record.NAME))
        jobs = (Job(sources[number], name_in_set(sources[number])) for number in todo)
        yield Step(total - len(todo), total)
        with Ledger(self.out / record.NAME, there.whole_bytes) as ledger:
            for done, made in enumerate(self.engine.run(self.label, jobs, give_up), total - len(todo) + 1):
                there.photos.pop(made.file_name, None)
                there.failures.pop(made.file_name, None)
                if isinstance(made, Failure):
                    there.failures[made.file_name] = ledger.length
                    ledger.append(record.failure_to_line(made))
                else:
                    there.photos[made.file_name] = ledger.length
                    ledger.append(record.photo_to_line(made))
                yield Step(done, total, made)
        dataset, objects = self._finish(there, sources)
        yield Step(total, total, dataset=dataset, objects=objects)

    def _begin(self) -> RecordFile:
        """Return what is remembered; begin a record where there is none."""
        for folder, _, _ in os.walk(self.out):
            remove_remains(Path(folder))
        path = self.out / record.NAME
        if path.is_file() and not self.overwrite:
            there = record.read_record_file(path)
            self._refuse_other_settings(there.head.provenance)
            return there
        others = [one.name for one in self.out.iterdir() if not one.name.startswith(".")]
        if others and not self.overwrite:
            raise OutputError(
                f"{shown(str(self.out))}: holds other files, such as {printable(min(others))}; choose another folder",
                remedy=Remedy("overwrite", True, "to replace files that have the names of the set's"),
            )
        head = Head(self.categories, dict(self.settings))
        line = record.head_to_line(head)
        write_bytes(path, line)
        return RecordFile(head, {}, {}, len(line))

    def _refuse_other_settings(self, before: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(dict(self.settings)))
        told = [
            f"{key} was {shortened(old)} and is {shortened(new)}"
            for key, old, new in differences(before, now)
        ]
        if told:
            more = f" and {len(told) - MOST_DIFFERENCES} more" if len(told) > MOST_DIFFERENCES else ""
            raise ConfigError(
                f"{shown(str(self.out))}: was begun with other settings: "
                f"{'; '.join(told[:MOST_DIFFERENCES])}{more}; give those, or choose another folder",
                remedy=Remedy("overwrite", True, "to begin anew"),
            )

    def label(self, job: Job) -> LabelledPhoto | Failure:
        """Label one photo.

        Raises:
            OutputError: if nothing more can be written.
        """
        try:
            return self._label(job)
        except MobileSamError as error:
            if isinstance(error, OutputError) and error.__cause__ is not None:
                raise  # not one photo's fault
            return Failure(job.file_name, job.source.name, error.code, one_line(error.message))

    def _label(self, job: Job) -> LabelledPhoto:
        self._check_folder()
        source = job.source
        check_name_in_set(job.file_name, source.name)
        path = source.content
        photo = read_photo(source, self.max_pixels, keep_file=True)
        data = photo.file
        assert data is not None
        labels = self.labeller.label(photo, job.file_name)
        if self.photos == LINK and isinstance(path, Path):
            put_photo(path, self.out, job.file_name, LINK, overwrite=True)
        elif self.photos == COPY:
            put_bytes(data, self.out, job.file_name)
        sha256 = hashlib.sha256(data).hexdigest()
        height, width = photo.size
        return numbered(
            LabelledPhoto(
                job.file_name,
                (height, width),
                labels.objects,
                sha256=sha256,
                file_bytes=len(data),
                split=split_of(sha256, self.val),
                look=look_of(photo.image),
                remarks=(*photo.remarks, *labels.remarks),
            )
        )

    def _check_folder(self) -> None:
        """Refuse to copy photos where nobody will look for them, such as on another machine's own disk."""
        if self.photos == NONE:
            return
        try:
            (self.out / record.NAME).stat()
        except OSError as error:
            raise OutputError(
                f"{shown(str(self.out))}: is not seen on {socket.gethostname()}; give --out a folder that all machines "
                "share, or leave the photos where they are with --photos none"
            ) from error

    def _finish(self, there: RecordFile, sources: Sequence[Source]) -> tuple[Dataset, int]:
        """Write everything anew from what is remembered; return the set and the number of its objects.

        Photos are read from the record one by one, each time that they are needed. Files that are the same already
        are left alone.
        """
        path = self.out / record.NAME
        known = RecordPhotos(path, _in_order(there.photos, sources))
        failures = _in_order(there.failures, sources)
        photo_ids, object_ids, labels = _summary(known)
        categories = all_categories(self.categories, labels)
        places = array(record.PLACE)

        def lines() -> Iterator[bytes]:
            photos, objects = Numbers(occur_once(photo_ids)), Numbers(occur_once(object_ids))
            line = record.head_to_line(Head(categories, dict(self.settings)))
            end = len(line)
            yield line
            for one in known.records():
                one["id"] = photos.take(one["id"])
                one["split"] = split_of(one.get("sha256", ""), self.val)
                for thing in one["objects"]:
                    thing["id"] = objects.take(thing["id"])
                line = record.record_to_line(one)
                places.append(end)
                end += len(line)
                yield line
            yield from record.lines_at(path, failures)

        failed = b"".join(
            f"{json.dumps({'path': one.path, 'code': one.code, 'reason': one.reason})}\n".encode()
            for one in record.failures_at(path, failures)
        )
        write_pieces(path, lines())
        if failed:
            write_bytes(self.out / ERRORS, failed)
        else:
            (self.out / ERRORS).unlink(missing_ok=True)
        root = self.out / IMAGES if self.photos in (COPY, LINK) else None
        dataset = Dataset(RecordPhotos(path, places), categories, root, dict(self.settings))
        others = [one for one in self.formats if one != "record"]
        for _ in write_files(dataset, self.out, others, overwrite=True):
            pass
        return dataset, len(object_ids)


@dataclass(frozen=True)
class Job:
    """One photo to label, and what the set calls it."""

    source: Source
    file_name: str


def give_up(job: Job, reason: str) -> Failure:
    """Return the failure of a photo whose worker's process died of it, again and again."""
    return Failure(
        job.file_name, job.source.name, MobileSamError.code, one_line(f"{shown(job.source.name)}: {reason}")
    )


@dataclass(frozen=True)
class Step:
    """How far a run is.

    Attributes:
        done: photos that are done, those of earlier runs included.
        total: photos there are.
        made: what became of the last one; None at the beginning and the end.
        dataset: the set, at the end. Its photos are read from the record each time that they are gone through.
        objects: how many the set has, at the end.
    """

    done: int
    total: int
    made: LabelledPhoto | Failure | None = None
    dataset: Dataset | None = None
    objects: int = 0


def name_in_set(source: Source) -> str:
    """Return what a set calls a photo: its path below the given folder, which no other photo has."""
    suffix = ".jpg" if isinstance(source.content, bytes) else source.content.suffix
    return f"{source.stem}{suffix}".replace("\\", "/")


def check_name_in_set(file_name: str, name: str) -> None:
    """Refuse a photo whose name cannot stand in files of labels.

    Raises:
        ImageError: with what to do.
    """
    if any("\ud800" <= c <= "\udfff" for c in file_name):
        raise ImageError(f"{shown(name)}: its name is not UTF-8 text, which files of labels need; rename it")
    if not file_name.isprintable():
        raise ImageError(
            f"{shown(name)}: its name has a line break or the like, which files of labels cannot hold; rename it"
        )


def numbers_left(sources: Sequence[Source], there: RecordFile, path: Path) -> Iterator[int]:
    """Yield which photos, by their places among the sources, are not remembered, or changed since.

    A photo has changed if its length has; if its times are later than the record's, its SHA-256 is compared.
    """
    since = path.stat().st_mtime_ns
    for number, source in enumerate(sources):
        place = there.photos.get(name_in_set(source))
        if place is None or _has_changed(source, RecordPhotos(path, array(record.PLACE, [place])), since):
            yield number


def _has_changed(source: Source, remembered: RecordPhotos, since: int) -> bool:
    content = source.content
    (known,) = remembered.heads()
    try:
        if isinstance(content, Stored):
            if content.length != known.file_bytes:
                return True
            changed = content.changed_since(since)
            return changed and hashlib.sha256(content.read(source.name)).hexdigest() != known.sha256
        if not isinstance(content, Path):
            return True
        status = content.stat()
        if status.st_size != known.file_bytes:
            return True
        if max(status.st_mtime_ns, status.st_ctime_ns) < since:
            return False
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != known.sha256
    except (OSError, LimitError):
        return True  # reading it will say what is wrong


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ, with both values; nested ones by their path.

    Example:
        >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}))
        [('a.b', 1, 3)]
    """
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from ((f"{key}.{inner}", one, other) for inner, one, other in differences(old, new))
        elif old != new:
            yield key, old, new


def _in_order(there: dict[str, int], sources: Sequence[Source]) -> array[int]:
    """Return the values of names in the order of the sources, and after them those of photos that are no longer given.

    The names are taken out, so that they are not in memory together with what is made of them.
    """
    given = (there.pop(name_in_set(source), None) for source in sources)
    ordered = array(record.PLACE, (place for place in given if place is not None))
    ordered.extend(there.values())
    there.clear()
    return ordered


def _summary(photos: RecordPhotos) -> tuple[array[int], array[int], set[str]]:
    """Return the numbers of photos, the numbers of objects, and the labels that there are."""
    photo_ids, object_ids = array(NUMBER), array(NUMBER)
    labels: set[str] = set()
    for one in photos.records():
        photo_ids.append(one["id"])
        for thing in one["objects"]:
            object_ids.append(thing["id"])
            labels.add(thing["label"])
    return photo_ids, object_ids, labels
