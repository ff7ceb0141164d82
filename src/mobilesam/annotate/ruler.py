"""The picture with a coordinate grid, for choosing coordinates without a mouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mobilesam.annotate.objects import Prompting
from mobilesam.annotate.outputs import Name, Place
from mobilesam.annotate.run import shown_path
from mobilesam.annotate.sources import Photo
from mobilesam.core.arrays import Image, Size
from mobilesam.core.frame import Frame
from mobilesam.core.prompts import ValidPrompt, names_with, validate_prompt
from mobilesam.draw.overlay import draw_ruler
from mobilesam.formats.image import image_to_png

ENDINGS = {"ruler": "ruler.png"}
NAME = Name(ENDINGS["ruler"])


@dataclass(frozen=True)
class Ruler:
    """A question that needs no model: where is what?

    Attributes:
        prompting: points and boxes to draw in, if any.
    """

    needs_file: ClassVar[bool] = False

    prompting: Prompting | None = None

    def names(self, kinds: Sequence[str], size: Size) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Question`."""
        return [NAME]

    def ask(self, photo: Photo) -> RulerAnswer:
        """See :class:`mobilesam.annotate.run.Question`.

        Raises:
            PromptError: for wrong points and boxes, just as when segmenting.
        """
        size = photo.size
        prompts, prefixes = ((), ()) if self.prompting is None else self.prompting(size)
        valid = [
            validate_prompt(prompt, Frame(size, size, max(size)), grid=1, names=names_with(prefix))
            for prompt, prefix in zip(prompts, prefixes, strict=True)
        ]
        return RulerAnswer(photo.image, valid)


@dataclass(frozen=True, eq=False)
class RulerAnswer:
    """An image and what is drawn into it.

    Attributes:
        image: (H, W, 3).
        prompts: points and boxes.
    """

    image: Image
    prompts: Sequence[ValidPrompt]

    @property
    def remarks(self) -> list[str]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        return [remark for prompt in self.prompts for remark in prompt.remarks]

    def names(self, kinds: Sequence[str]) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        return [NAME]

    def write(self, kinds: Sequence[str], place: Place) -> dict[str, Any]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        place.write(NAME, image_to_png(draw_ruler(self.image, self.prompts)))
        return {"files": {"ruler": shown_path(place.path(NAME))}}
