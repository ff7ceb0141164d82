"""Which of a prompt's masks is scored, and where an object is clicked first: what a figure's name has to say.

One published model has an AP of 39.4 or 41.0, depending on the choice of the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.errors import ConfigError
from mobilesam.core.regions import central_pixel
from mobilesam.core.text import printable
from mobilesam.segment.results import Segmentation

SINGLE, BEST, ORACLE, MODEL = "single", "best-score", "oracle", "model"
MASK_CHOICES = {
    MODEL: "as the model does: best-score for a single point, otherwise single",
    SINGLE: "the mask of the token for prompts that mean one thing",
    BEST: "of three masks the one with the highest predicted IoU",
    ORACLE: "of three masks the one with the highest IoU with the human mask, which no user can know",
}
Random = np.random.Generator


def check_mask_choice(name: str) -> str:
    """Return a choice of the mask.

    Raises:
        ConfigError: for an unknown one.
    """
    if name not in MASK_CHOICES:
        raise ConfigError(
            f"mask_choice: {printable(name)!r} is unknown; choose one of {', '.join(MASK_CHOICES)}"
        )
    return name


def multimask_of(choice: str) -> bool | None:
    """Return the ``multimask`` that :meth:`mobilesam.Model.segment` is given."""
    return {MODEL: None, SINGLE: False}.get(choice, True)


def chosen(result: Segmentation, ious: Sequence[float], choice: str) -> int:
    """Return the number of the mask that is scored, given the IoUs of all."""
    return int(np.argmax(ious)) if choice == ORACLE else result.choice


def centroid_pixel(truth: Mask) -> tuple[int, int]:
    """Return the object's pixel (x, y) that is nearest to its centre of mass."""
    rows, columns = np.nonzero(truth)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return int(columns[nearest]), int(rows[nearest])


def random_pixel(truth: Mask, random: Random) -> tuple[int, int]:
    """Return one of the object's pixels (x, y), each with the same chance."""
    place = int(random.choice(np.flatnonzero(truth)))
    return place % truth.shape[1], place // truth.shape[1]


FIRST_CLICKS: dict[str, Callable[[Mask, Random], tuple[int, int]]] = {
    "deepest": lambda truth, random: central_pixel(truth),
    "centroid": lambda truth, random: centroid_pixel(truth),
    "random": random_pixel,
}


def check_first_click(name: str) -> str:
    """Return where an object is clicked first.

    Raises:
        ConfigError: for an unknown one.
    """
    if name not in FIRST_CLICKS:
        raise ConfigError(
            f"first_click: {printable(name)!r} is unknown; choose one of {', '.join(FIRST_CLICKS)}"
        )
    return name
