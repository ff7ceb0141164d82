"""What OWL-ViT and OWLv2 are given: an image's pixels, and the tokens of texts.

Files beside the network describe both, in the form in which Hugging Face's tools write
them: ``preprocessor_config.json`` and ``tokenizer.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import WeightsError
from mobilesam.core.resize import resize_image, smooth_taps
from mobilesam.core.text import printable
from mobilesam.weights.reading import open_weights

PREPARATION_FILE, TOKENIZER_FILE = "preprocessor_config.json", "tokenizer.json"
MAX_PREPARATION_BYTES, MAX_TOKENIZER_BYTES = 2**20, 2**26
MAX_SIDE = 4096  # of an input
MOST_SHRINKING = (
    16  # factor that the blur handles; larger images are first reduced to this many times the input
)
STRETCHED, PADDED = "OwlViT", "Owlv2"  # starts of the names of their image processors
TOKENS = 16  # of a text, if the network leaves it open: what OWL-ViT and OWLv2 were trained with
PANIC = "PanicException"  # from Rust, not an Exception in Python
PAD = 0  # token after a text's end, where nothing is read
SHOWN = 60  # characters of a text that messages show


@dataclass(frozen=True)
class Preparation:
    """How an image becomes a network's input.

    Attributes:
        size: (height, width) of the input.
        padded: whether the image is made a square with black below or right of it, and blurred
            before it is shrunk (OWLv2); if not, it is stretched to the input (OWL-ViT).
        filter: Pillow's number of the filter that a stretched image is resized by.
        scale: what a value of 0..255 is multiplied by.
        mean: of each channel, in the values after that.
        std: of each channel.
    """

    size: Size
    padded: bool
    filter: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, image: Image) -> np.ndarray:
        """Turn an image (H, W, 3) into the input (1, 3, h, w) float32."""
        small = shrink_to_square(image, self.size) if self.padded else self._stretch(image)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        pixels = (small * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)

    def shown_size(self, original_size: Size) -> Size:
        """Return the (height, width) that the whole input shows, in pixels of the image."""
        side = max(original_size)
        return (side, side) if self.padded else original_size

    def _stretch(self, image: Image) -> np.ndarray:
        height, width = self.size
        picture = PIL.Image.fromarray(image)
        return np.asarray(picture.resize((width, height), PIL.Image.Resampling(self.filter)), np.float32)


def shrink_to_square(image: Image, size: Size) -> np.ndarray:
    """Pad an image (H, W, 3) with black to a square, blur it and resize it to (h, w): (h, w, 3) float32.

    Both are linear along each axis, so the padding is never made: black adds nothing.
    """
    most = MOST_SHRINKING * max(size)
    if max(image.shape[:2]) > most:
        scale = most / max(image.shape[:2])
        image = resize_image(image, tuple(max(1, round(side * scale)) for side in image.shape[:2]))
    side = max(image.shape[:2])
    for new_length in size:  # the rows, then the columns
        taps = smooth_taps(side, new_length).within(len(image))
        rows = taps.apply(image.reshape(len(image), -1))
        image = rows.reshape(new_length, *image.shape[1:]).swapaxes(0, 1)
    return image


def read_preparation(path: Path) -> Preparation:
    """Read ``preprocessor_config.json``.

    Raises:
        WeightsError: if it is missing, damaged, or not from OWL-ViT or OWLv2.
    """
    with open_weights(path, "it says how images are prepared", MAX_PREPARATION_BYTES) as file:
        data = file.read()
    try:
        config = json.loads(data)
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
        return _config_to_preparation(config)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise WeightsError(
            f"{path}: does not say how OWL-ViT or OWLv2 prepare an image "
            f"({printable(error)[:SHOWN]}); download it again"
        ) from error


def _config_to_preparation(config: dict[str, Any]) -> Preparation:
    kind = str(config.get("image_processor_type", config.get("feature_extractor_type")))
    if not kind.startswith((STRETCHED, PADDED)):
        raise ValueError(f"is of {kind}")
    padded = kind.startswith(PADDED)
    for step in ("do_resize", "do_rescale", "do_normalize", *(["do_pad"] if padded else [])):
        if not config.get(step, True):
            raise ValueError(f"{step} is off")
    if config.get("do_center_crop"):
        raise ValueError("do_center_crop is on")
    size = config["size"]
    sides = (size["height"], size["width"]) if isinstance(size, dict) else size
    height, width = (sides, sides) if isinstance(sides, int) else sides
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in (height, width)):
        raise ValueError(f"size is {size}")
    bicubic = PIL.Image.Resampling.BICUBIC
    mean, std = _channels(config, "image_mean"), _channels(config, "image_std")
    scale = float(config.get("rescale_factor", 1 / 255))
    if not (math.isfinite(scale) and scale > 0 and min(std) > 0):
        raise ValueError("rescale_factor and image_std must be above 0")
    return Preparation(
        (height, width), padded, int(PIL.Image.Resampling(config.get("resample", bicubic))), scale, mean, std
    )


def _channels(config: dict[str, Any], name: str) -> tuple[float, ...]:
    values = tuple(float(value) for value in config[name])
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be three numbers")
    return values


@dataclass(frozen=True)
class Tokens:
    """A text as a network reads it.

    Attributes:
        ids: (N,) int64, its tokens and pads after them.
        mask: (N,) int64, 1 for its tokens.
        read: the part of the text that is read, if it is too long; otherwise None.
    """

    ids: np.ndarray
    mask: np.ndarray
    read: str | None


class Tokenizer:
    """Turns texts into tokens with a ``tokenizer.json``.

    Args:
        path: of the file.
        length: tokens of a text, including its marks for start and end.

    Raises:
        WeightsError: if the file is missing, damaged or not a tokenizer.
    """

    def __init__(self, path: Path, length: int = TOKENS) -> None:
        from tokenizers import Tokenizer as LibraryTokenizer

        self.path = path
        with open_weights(path, "it says how texts are split", MAX_TOKENIZER_BYTES) as file:
            data = file.read()
        with _damage_told(path):
            self._rules = LibraryTokenizer.from_buffer(data)
            self._rules.no_padding()
        self.limit(length)

    def limit(self, length: int) -> None:
        """Set how many tokens a text has."""
        self.length = length
        with _damage_told(self.path):
            self._rules.enable_truncation(length)

    def __call__(self, text: str) -> Tokens:
        """Return the tokens of a text."""
        with _damage_told(self.path):
            encoding = self._rules.encode(text)
            count = len(encoding.ids)
            ids, mask = np.full(self.length, PAD, np.int64), np.zeros(self.length, np.int64)
            ids[:count], mask[:count] = encoding.ids, 1
            end = max((end for _, end in encoding.offsets), default=0)
            return Tokens(ids, mask, text[:end] if encoding.overflowing else None)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what the tokenizer library raises, a plain Exception or a panic, into our error."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        reason = printable(error)[:SHOWN]
        raise WeightsError(f"{path}: is not a tokenizer ({reason}); download it again") from error
