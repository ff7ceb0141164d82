"""The pictures of docs/how-to/video.md: strips of frames, made from scikit-image's photos and tracked.

python bench/video_pictures.py docs/pictures
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from tests.moving import box_of_face, moving_face

import mobilesam
from mobilesam import Prompt
from mobilesam.segment.model import Model
from mobilesam.segment.track.results import TrackedFrame

CELL = 250  # pixels of a frame's width in a strip


def camera(photo: np.ndarray, count: int) -> list[np.ndarray]:
    """Return frames of a camera that moves over a photo, comes nearer and turns."""
    picture, frames = Image.fromarray(photo), []
    for t in range(count):
        turned = picture.rotate(1.2 * t, Image.Resampling.BICUBIC, center=(300, 180))
        left, top, zoom = 60 + 7 * t, 30 + 2 * t, 1 - 0.02 * t
        box = (left, top, left + round(420 * zoom), top + round(300 * zoom))
        frames.append(np.asarray(turned.crop(box).resize((420, 300), Image.Resampling.BICUBIC)))
    return frames


def twins(count: int) -> list[np.ndarray]:
    """Return frames of two faces that are the same and cross."""
    frames, masks = moving_face(count)
    back = [frame.copy() for frame in frames]
    for t, frame in enumerate(back):
        other = count - 1 - t
        mask = np.roll(masks[other], 4, axis=0)
        frame[mask] = np.roll(frames[other], 4, axis=0)[mask]
    return back


def strip(frames: Sequence[TrackedFrame], numbers: Sequence[int]) -> np.ndarray:
    """Return some frames side by side, with their numbers and what is lost."""
    cells = []
    for number in numbers:
        frame = frames[number - 1]
        picture = Image.fromarray(frame.overlay())
        picture = picture.resize((CELL, round(CELL * picture.height / picture.width)))
        lost = [f"{one.caption} lost" for one in frame.objects if one.lost]
        text = f"frame {number}{': ' if lost else ''}{', '.join(lost)}"
        draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
        draw.rectangle(draw.textbbox((5, 4), text, font=font), fill="black")
        draw.text((5, 4), text, fill="white", font=font)
        cells.append(np.pad(np.asarray(picture), ((0, 0), (0, 4), (0, 0)), constant_values=255))
    return np.hstack(cells)


def scenes(model: Model) -> dict[str, np.ndarray]:
    """Track three clips, and return a strip of each."""
    hidden = list(model.track(moving_face(10, wall=True)[0], Prompt(box=box_of_face())))
    two = [Prompt(box=[106, 0, 350, 232], label="cup"), Prompt(box=[262, 190, 350, 298], label="spoon")]
    moving = list(model.track(camera(data.coffee(), 12), two))
    crossing = list(model.track(twins(14), Prompt(box=box_of_face())))
    return {
        "track-hidden": strip(hidden, (1, 3, 4, 6, 10)),
        "track-two": strip(moving, (1, 4, 7, 10, 12)),
        "track-twins": strip(crossing, (1, 5, 7, 9, 14)),
    }


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, picture in scenes(mobilesam.load("pocket")).items():
        Image.fromarray(picture).save(folder / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
