"""The one path from photos to results: sources -> a question to each -> outputs.

``mobilesam segment``, ``mobilesam everything`` and the ruler are three questions. Each photo is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from mobilesam.annotate.outputs import Destination, Name, Place
from mobilesam.annotate.sources import Photo, Source, read_photo
from mobilesam.core.arrays import Size
from mobilesam.core.errors import MobileSamError, OutputError
from mobilesam.core.text import one_line
from mobilesam.formats.image import MAX_PIXELS
from mobilesam.segment.predictor import Predictor

RESULTS_VERSION = 1


class Answer(Protocol):
    """What was found in one photo."""

    @property
    def remarks(self) -> Sequence[str]:
        """What may not be intended."""
        ...

    def names(self, kinds: Sequence[str]) -> list[Name]:
        """Return the names of the outputs of some kinds."""
        ...

    def write(self, kinds: Sequence[str], place: Place) -> dict[str, Any]:
        """Write the outputs of some kinds, and return the record of what was found with their paths."""
        ...


class Question(Protocol):
    """What is asked of each photo.

    Attributes:
        needs_file: whether the answer takes more from the file than its image.
    """

    needs_file: ClassVar[bool]

    def names(self, kinds: Sequence[str], size: Size) -> list[Name]:
        """Return the outputs that a photo of (height, width) will have, as far as they are known before the work."""
        ...

    def ask(self, photo: Photo) -> Answer:
        """Look for the answer.

        Raises:
            MobileSamError: if a part of the work fails.
        """
        ...


@dataclass(frozen=True)
class Run:
    """What is done with each photo.

    Attributes:
        question: what is asked of it.
        kinds: what is written of the answer.
        destination: where it goes.
        max_pixels: limit on a photo.
    """

    question: Question
    kinds: tuple[str, ...]
    destination: Destination
    max_pixels: int = MAX_PIXELS

    def each(self, sources: Iterable[Source]) -> Iterator[Outcome]:
        """Work on photo after photo; one that fails does not stop the rest.

        Raises:
            OutputError: if nothing more can be written, as on a full disk.
        """
        for source in sources:
            try:
                yield Outcome(source, self.one(source))
            except MobileSamError as error:
                if isinstance(error, OutputError) and error.__cause__ is not None:
                    raise  # not one photo's fault
                yield Outcome(source, error=error)

    def one(self, source: Source) -> dict[str, Any]:
        """Work on one photo and return its record.

        Raises:
            MobileSamError: if a part of the work fails; no output is left half written.
        """
        photo = read_photo(source, self.max_pixels, keep_file=self.question.needs_file)
        # What could not be written afterwards is refused before the work.
        self.destination.place(source, self.question.names(self.kinds, photo.size))
        answer = self.question.ask(photo)
        place = self.destination.place(source, answer.names(self.kinds))
        found = answer.write(self.kinds, place)
        height, width = photo.size
        warnings = [*photo.remarks, *answer.remarks]
        return {"file": source.name, "width": width, "height": height, **found, "warnings": warnings}


@dataclass(frozen=True)
class Outcome:
    """What became of one photo: its record, or the error."""

    source: Source
    record: dict[str, Any] | None = None
    error: MobileSamError | None = None


def outcomes_to_document(
    predictor: Predictor, outcomes: Iterable[Outcome], words: Callable[[MobileSamError], str] = str
) -> dict[str, Any]:
    """Return the results as docs/reference/results.schema.json describes them.

    Args:
        predictor: what segmented.
        outcomes: of each photo.
        words: puts an error into words.
    """
    outcomes = list(outcomes)
    return {
        "version": RESULTS_VERSION,
        "model": {
            "name": predictor.name,
            "runtime": predictor.runtime.name,
            "device": predictor.runtime.device,
        },
        "images": [o.record for o in outcomes if o.record is not None],
        "errors": [
            {"file": o.source.name, "code": o.error.code, "message": one_line(words(o.error))}
            for o in outcomes
            if o.error is not None
        ],
    }


def shown_path(path: Path | None) -> str:
    """Return an output's path as records have it; standard output is ``-``."""
    return "-" if path is None else str(path)
