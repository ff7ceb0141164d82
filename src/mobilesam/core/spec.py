"""What those who run, export or list a network need to know about it. ``graphs/NAME.json`` holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mobilesam.core.errors import ConfigError
from mobilesam.core.views import Views

MB = 1_000_000
COARSEST = 32  # pixels of a small input to a cell of an encoder's coarsest maps


@dataclass(frozen=True)
class WorkingSet:
    """Bytes that steps add at their peak: those of the hungrier runtime in float32, rounded up.

    ``bench/memory.py`` measures them.

    Attributes:
        image: what the encoder takes for each image.
        prompt: what the decoder takes for each prompt.
        slot: and for each point, pad and box corner of it.
    """

    image: int
    prompt: int = 40 * MB  # SAM's decoder
    slot: int = 300_000

    def of_prompt(self, slots: int) -> int:
        """Bytes for one prompt with this many slots."""
        return self.prompt + self.slot * slots


@dataclass(frozen=True)
class NetworkSpec:
    """One network.

    Attributes:
        name: what the code calls it.
        called: what messages call it.
        image_size: side of the square input, in pixels.
        prompt_size: side of the square whose pixels prompts are given in; EfficientViT-SAM looks at 512 pixels
            and is asked in 1024. The input's if 0.
        padded_to: an input's shorter side is padded to a multiple of this; to the longer one if 0.
        rectangles: the same, where the user asks for less padding; 0 for a network that has no such inputs. The
            image embedding is filled up to the square's with zeros, so that the decoder stays the same.
        view_size: side of what the decoder reads at once, in pixels of the input (see
            :mod:`mobilesam.core.views`); everything if 0.
        decoder: name of its decoder, whose graphs all networks with it share; empty for a detector of objects,
            which takes no prompts.
        proposes: whether it finds boxes of objects.
        stride: pixels of the input's side for one cell of the image embedding.
        fixed_size: whether the network takes only inputs of its own size.
        working_set: bytes that its steps take; None for a detector.
    """

    name: str
    called: str
    image_size: int
    prompt_size: int = 0
    padded_to: int = 0
    rectangles: int = 0
    view_size: int = 0
    decoder: str = "sam"
    proposes: bool = False
    stride: int = 16
    fixed_size: bool = False
    working_set: WorkingSet | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_size", self.prompt_size or self.image_size)

    @property
    def views(self) -> Views | None:
        """What the decoder reads of an input, or None if that is everything."""
        return Views(self.image_size, self.view_size, stride=self.stride) if self.view_size else None

    @property
    def rectangular(self) -> NetworkSpec:
        """The same network for inputs with less padding; see ``rectangles``.

        Raises:
            ConfigError: if it takes squares only, or leaves the padding out by itself.
        """
        if not self.rectangles:
            why = "leaves the padding out by itself" if self.padded_to else "takes only squares"
            raise ConfigError(f"rectangular: {self.called} {why}; leave the option out")
        return replace(self, padded_to=self.rectangles)

    @property
    def fills_up(self) -> bool:
        """Whether inputs are rectangles, and image embeddings are filled up to the square's."""
        return bool(self.rectangles and self.padded_to)

    @property
    def small(self) -> NetworkSpec:
        """The same network for inputs that the decoder reads at once; unchanged where it takes no smaller ones."""
        if not self.view_size or not self.padded_to:
            return self
        side = self.view_size
        return replace(self, image_size=side, prompt_size=side, padded_to=COARSEST)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> NetworkSpec:
        """The spec that :meth:`to_dict` returned."""
        memory = content["working_set"]
        return cls(**content | {"working_set": WorkingSet(**memory) if memory else None})
