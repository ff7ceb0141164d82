"""A short clip of real pixels: a face from one photo moves over another, and a wall may pass in front."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from skimage import data

SIZE = (180, 260)
RADIUS = 30
START, STEP = (60, 100), (7, -2)  # x, y; a frame


@lru_cache
def moving_face(count: int = 8, *, wall: bool = False) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return frames (H, W, 3) and the true masks (H, W) of what is seen of the face.

    Args:
        count: of frames.
        wall: whether something hides the face from the third frame on, and goes away after two frames.
    """
    ground = data.coffee()[60 : 60 + SIZE[0], 100 : 100 + SIZE[1]]
    face = data.astronaut()[60:180, 170:290][::2, ::2]
    front = data.rocket()[100 : 100 + SIZE[0], 200:300]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    frames, masks = [], []
    for t in range(count):
        x, y = START[0] + STEP[0] * t, START[1] + STEP[1] * t
        mask = ((columns - x) / (0.8 * RADIUS)) ** 2 + ((rows - y) / RADIUS) ** 2 < 1
        image = ground.copy()
        dy, dx = np.clip(rows - y + RADIUS, 0, 59), np.clip(columns - x + RADIUS, 0, 59)
        image[mask] = face[dy, dx][mask]
        if wall and t in (3, 4):
            image[:, x - 50 : x + 50] = front
            mask = mask & False
        frames.append(image)
        masks.append(mask)
    return frames, masks


def box_of_face(number: int = 1) -> list[int]:
    """Return the box of the face on a frame, from 1."""
    x, y = START[0] + STEP[0] * (number - 1), START[1] + STEP[1] * (number - 1)
    return [round(x - 0.8 * RADIUS), y - RADIUS, round(x + 0.8 * RADIUS) + 1, y + RADIUS + 1]
