"""What ``predict`` is given to look at: files, folders, patterns, videos, arrays, and lists of them."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.core.text import printable
from mobilesam.formats.image import read_image, suffix_is_image
from mobilesam.formats.image_folder import find_images
from mobilesam.formats.video import read_frames, suffix_is_video

PATTERN = "*?["
ENCODED = (PillowImage.Image, bytes, bytearray, memoryview)
ALLOWED = (
    "give a path, a folder, a pattern, an array (H, W, 3) uint8 BGR, a PIL image, the bytes of a file, "
    "a list of these, or a generator with stream=True"
)


@dataclass(frozen=True, eq=False)
class Picture:
    """One image of a source.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        path: of its file; ``image0.jpg`` and so on for those without one.
        stem: what the names of its outputs begin with.
        milliseconds: how long reading it took.
    """

    image: np.ndarray = field(repr=False)
    path: str
    stem: str
    milliseconds: float


def open_source(source: Any, *, vid_stride: int = 1) -> Iterator[Picture]:
    """Return a source's pictures, read one at a time when they are asked for.

    Which files there are is found out at once; only a generator's items are taken one by one.

    Raises:
        ConfigError: for a folder or pattern with nothing in it, or no source at all.
        ImageError: for anything that is not a source (``U``), and later for what cannot be read.
    """
    if source is None:
        raise ConfigError(f"source: is None; {ALLOWED}")
    if isinstance(source, list | tuple):
        items: Iterable[Any] = [item for one in source for item in _items(one)]
    elif isinstance(source, Iterator):
        items = chain.from_iterable(_items(one) for one in source)
    else:
        items = _items(source)
    return chain.from_iterable(_read(item, i, vid_stride) for i, item in enumerate(items))


def _items(source: Any) -> list[Any]:
    """Return what one entry stands for: the files of a folder or pattern, or itself."""
    if not isinstance(source, str | os.PathLike):
        _check_kind(source)
        return [source]
    text = os.fsdecode(source)
    if "://" in text:
        raise ImageError(
            f"{printable(text)}: is an address; nothing is fetched here, download it and give the file",
            code="U",
        )
    path = Path(text)
    if _is_folder(path):
        return _images_in(path)
    if any(sign in text for sign in PATTERN) and not os.path.lexists(text):
        found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        found = [one for one in found if suffix_is_image(one) or suffix_is_video(one)]
        if not found:
            raise ConfigError(f"{printable(text)}: matches no image or video")
        return list(found)
    return [path]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # reading it will say what is wrong


def _images_in(folder: Path) -> list[Any]:
    """Return the images in a folder, not those of the folders below it."""
    found = find_images(folder, follow_symlinks=True, below=False)
    if not found:
        raise ConfigError(
            f"{printable(folder)}: holds no images; videos and folders below it are given by a pattern"
        )
    for image in found:
        if image.problem is not None:
            raise image.problem
    return [image.path for image in found]


def _check_kind(source: Any) -> None:
    """Refuse what would have to be guessed."""
    if hasattr(source, "detach"):
        raise ImageError(
            "source: is a tensor; whether it is RGB, and 0..1 or 0..255, is not guessed; "
            "give an array (H, W, 3) uint8 BGR, such as (255 * tensor).byte().permute(1, 2, 0).numpy()[..., ::-1]",
            code="U",
        )
    if isinstance(source, int):
        raise ImageError(
            f"source: is {source}; cameras are not opened, give a generator of their frames with stream=True",
            code="U",
        )
    if isinstance(source, ENCODED):
        return
    if not hasattr(source, "__array__"):
        raise ImageError(f"source: holds a {type(source).__name__}; {ALLOWED}", code="U")
    array = np.asarray(source)
    colours = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype not in (np.uint8, np.uint16) or not colours:
        raise ImageError(
            f"source: has shape {array.shape} and type {array.dtype}; "
            "must be (H, W, 3) uint8 BGR as OpenCV reads it, (H, W) grey or (H, W, 4) with alpha",
            code="U",
        )


def _read(item: Any, number: int, vid_stride: int) -> Iterator[Picture]:
    """Read an item: one picture, or a video's frames."""
    started = time.perf_counter()
    if isinstance(item, Path) and suffix_is_video(item):
        for frame, image in read_frames(item, stride=vid_stride):
            bgr = _swapped(image)
            yield Picture(bgr, str(item), f"{item.stem}_{frame}", _since(started))
            started = time.perf_counter()
        return
    if isinstance(item, Path):
        yield Picture(_swapped(read_image(item)), str(item), item.stem, _since(started))
        return
    path = getattr(item, "filename", "") or f"image{number}.jpg"  # a PIL image knows its file
    image = read_image(item, name=f"source[{number}]")
    bgr = _swapped(image) if isinstance(item, ENCODED) else image  # arrays come as BGR
    yield Picture(bgr, str(path), Path(str(path)).stem, _since(started))


def _swapped(image: np.ndarray) -> np.ndarray:
    """RGB to BGR, and back."""
    return np.ascontiguousarray(image[..., ::-1])


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
