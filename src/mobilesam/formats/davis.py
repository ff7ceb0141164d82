"""Annotated videos in DAVIS' layout: folders of pictures, and of PNG files whose pixels are objects' numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from mobilesam.core.errors import ConfigError, ImageError
from mobilesam.formats.image import MAX_PIXELS, SUFFIXES
from mobilesam.formats.image_bytes import shown

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"
UNKNOWN = 255  # pixels that belong to no object


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video of a set.

    Attributes:
        name: its name.
        frames: files of its frames.
        annotations: file of each frame's annotation, None if there is none.
    """

    name: str
    frames: list[Path] = field(repr=False)
    annotations: list[Path | None] = field(repr=False)


def find_videos(folder: Path) -> list[AnnotatedVideo]:
    """Return the annotated videos of a folder, by name.

    Args:
        folder: with ``JPEGImages/NAME/00000.jpg`` and ``Annotations/NAME/00000.png``; in between there may be a
            resolution, as in ``JPEGImages/480p/NAME``.

    Raises:
        ConfigError: if there is none.
    """
    pictures = _below(folder / IMAGES)
    annotations = _below(folder / ANNOTATIONS)
    videos = []
    for name in sorted(pictures.keys() & annotations.keys()):
        frames = sorted(one for one in pictures[name].iterdir() if one.suffix.lower() in SUFFIXES)
        there = {one.stem: one for one in annotations[name].glob("*.png")}
        if frames and there:
            videos.append(AnnotatedVideo(name, frames, [there.get(one.stem) for one in frames]))
    if not videos:
        raise ConfigError(
            f"{shown(str(folder))}: has no annotated video; it needs {IMAGES}/NAME/00000.jpg and "
            f"{ANNOTATIONS}/NAME/00000.png, as in DAVIS"
        )
    return videos


def _below(folder: Path) -> dict[str, Path]:
    """Return the folders of videos, by their names; folders of resolutions are looked into."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for one in sorted(folder.iterdir()):
        if not one.is_dir():
            continue
        inner = [part for part in sorted(one.iterdir()) if part.is_dir()]
        found |= {part.name: part for part in inner} if inner else {one.name: one}
    return found


def read_annotation(path: Path) -> np.ndarray:
    """Return the number of each pixel's object (H, W) uint16; 0 is the ground.

    Raises:
        ImageError: if the file is not a PNG of numbers.
    """
    name = shown(str(path))
    try:
        with PillowImage.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError(f"{name}: over {MAX_PIXELS:,} pixels, the limit")
            if picture.mode not in ("P", "L", "1", "I;16", "I"):
                raise ImageError(
                    f"{name}: is {picture.mode}; must be a PNG of numbers, with a palette or grey"
                )
            ids = np.asarray(picture).astype(np.uint16)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: cannot be read; copy it again") from error
    values = np.unique(ids)
    if set(values.tolist()) == {0, UNKNOWN}:  # one object, white on black
        return (ids > 0).astype(np.uint16)
    ids[ids == UNKNOWN] = 0
    return ids
