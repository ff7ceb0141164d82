"""Things cut out of photos: what ``mobilesam cutout`` asks and writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mobilesam.annotate.objects import Clock, segmentation_to_record
from mobilesam.annotate.outputs import Name, Place
from mobilesam.annotate.run import shown_path
from mobilesam.annotate.sources import Photo, Source
from mobilesam.core.arrays import Size
from mobilesam.core.prompts import names_with
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Detector
from mobilesam.formats.original import Original, read_original
from mobilesam.formats.picture_file import WITHOUT_ALPHA, encode_picture
from mobilesam.segment.cutout import Cutout, CutoutOptions, make_cutout
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation
from mobilesam.segment.subject import find_subject
from mobilesam.segment.text import TextOptions, segment_text

KIND = "cutout"


@dataclass(frozen=True)
class Wanted:
    """What is cut out of one photo.

    Attributes:
        objects: what is joined, one prompt for each object; with no texts either, the subject is found.
        subtract: what is taken away.
        texts: all objects that fit one of them are joined.
        subtract_texts: all objects that fit one of them are taken away.
    """

    objects: tuple[Prompt, ...] = ()
    subtract: tuple[Prompt, ...] = ()
    texts: tuple[str, ...] = ()
    subtract_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cutting:
    """The question of what to cut out.

    Attributes:
        predictor: segments the objects.
        detector: what finds boxes of objects, for the subject.
        wanted: says what is cut out of a photo; its coordinates may depend on the photo's size.
        options: edge, background and size.
        suffix: ending of the files, such as ``.png``.
        text_model: what finds boxes by texts; needed if there are texts.
        text_options: which boxes are accepted.
    """

    needs_file: ClassVar[bool] = True

    predictor: Predictor
    detector: Detector
    wanted: Callable[[Photo], Wanted]
    options: CutoutOptions = field(default_factory=CutoutOptions)
    suffix: str = ".png"
    text_model: Detector | None = None
    text_options: TextOptions = field(default_factory=TextOptions)

    def names(self, kinds: Sequence[str], size: Size) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Question`."""
        return [Name(f"{KIND}{self.suffix}") for _ in kinds]

    def ask(self, photo: Photo) -> Cut:
        """See :class:`mobilesam.annotate.run.Question`."""
        clock = Clock()
        embedding = self.predictor.embed(photo.image, photo.remarks)
        clock.lap("embed")
        wanted = self.wanted(photo)
        kept = self._segment(embedding, wanted.objects, wanted.texts, "objects")
        if not (wanted.objects or wanted.texts):
            kept = (find_subject(self.predictor, embedding, self.detector),)
        gone = self._segment(embedding, wanted.subtract, wanted.subtract_texts, "subtract")
        remarks = []
        if wanted.texts and not kept:
            remarks.append(
                f"nothing was found that fits {' or '.join(wanted.texts)}; use other words, or give a box"
            )
        if self.suffix in WITHOUT_ALPHA and self.options.background == "none" and not self.options.only_mask:
            remarks.append("JPEG has no transparency; what is cut away is white (--background changes it)")
        made = make_cutout(embedding, kept, gone, self.options, remarks)
        clock.lap("segment")
        return Cut(photo, made, self.suffix, clock.laps)

    def _segment(
        self, embedding: Embedding, prompts: Sequence[Prompt], texts: tuple[str, ...], name: str
    ) -> tuple[Segmentation, ...]:
        names = [names_with(f"{name}[{i}]." if len(prompts) > 1 else "") for i in range(len(prompts))]
        valid = self.predictor.validate(embedding, prompts, names)
        found = self.predictor.segment(embedding, valid)
        if texts:
            assert self.text_model is not None
            found += tuple(segment_text(self.predictor, embedding, texts, self.text_model, self.text_options))
        return found


@dataclass(frozen=True, eq=False)
class Cut:
    """The answer: what was cut out of a photo.

    Attributes:
        photo: the photo it was cut from.
        made: the cut-out.
        suffix: of the file.
        milliseconds: how long each part of the work took.
    """

    photo: Photo
    made: Cutout
    suffix: str
    milliseconds: dict[str, float] = field(default_factory=dict)

    @property
    def remarks(self) -> Sequence[str]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        return self.made.remarks

    def names(self, kinds: Sequence[str]) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        return [Name(f"{KIND}{self.suffix}") for _ in kinds]

    def write(self, kinds: Sequence[str], place: Place) -> dict[str, Any]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        files = {}
        for kind, name in zip(kinds, self.names(kinds), strict=True):
            original = self._original()
            picture = self.made.picture(original.samples)
            place.write(name, encode_picture(picture, self.suffix, original.profile))
            files[kind] = shown_path(place.path(name))
        records = [segmentation_to_record(one, {}) for one in self.made.results]
        return {"milliseconds": self.milliseconds, "objects": records, "files": files}

    def _original(self) -> Original:
        """Return the file's 16-bit samples and profile, which the image lacks."""
        assert self.photo.file is not None  # because the question needs it
        return read_original(self.photo.file, self.photo.source.name, self.photo.size)


def names_of(source: Source, folders: Sequence[Path]) -> list[str]:
    """Return what a prompt file may call a photo: its path in the given folder, or its name."""
    content = source.content
    if not isinstance(content, Path):
        return [source.name]
    inside = [content.relative_to(one).as_posix() for one in folders if content.is_relative_to(one)]
    return [*inside, content.name]
