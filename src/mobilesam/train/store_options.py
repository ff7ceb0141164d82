"""How a store of a teacher's embeddings is made; the command line's options are made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.ranges import check_whole_number
from mobilesam.core.text import shortened
from mobilesam.weights import DEFAULT_MODEL

DTYPES = ("float16", "int8", "float32")


@dataclass(frozen=True)
class StoreOptions:
    """How a store is made.

    Attributes:
        model: the teacher: ``pocket``, ``sam_vit_h`` or another model of ``mobilesam info``.
        checkpoint: other weights of the same network.
        dtype: type of the embeddings on disk: ``float16``, ``int8`` with a factor for each channel, or ``float32``.
        image_size: side of the square input, in pixels; by default the teacher's.
        follow_symlinks: also read photos outside the folder that links lead to.
        device: ``cpu`` or ``cuda``; by default cuda if there is one.
        threads: processor threads.

    Raises:
        ConfigError: for an unknown dtype.
        PromptError: for a number outside its range.
    """

    model: str = DEFAULT_MODEL
    checkpoint: Path | None = None
    dtype: str = "float16"
    image_size: int | None = field(default=None, metadata={"metavar": "PIXELS"})
    follow_symlinks: bool = False
    device: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype: is {shortened(self.dtype)}; choose one of {', '.join(DTYPES)}")
        if self.image_size is not None:
            check_whole_number("image_size", self.image_size, 32, 4096)
            if self.image_size % 32:
                raise ConfigError(f"image_size: is {self.image_size}; must be a multiple of 32")
        if self.threads is not None:
            check_whole_number("threads", self.threads, 1)
