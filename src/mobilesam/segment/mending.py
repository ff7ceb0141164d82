"""Mending an existing mask: only the connected region around a click or stroke changes.

A model that is asked anew may lose what was right. So its answer is compared with the mask, and only the
differing region that was pointed at is taken over.

A closer look at a window around the object was tried, and took more clicks (docs/how-to/correct.md).
"""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Labels, Mask, Points
from mobilesam.core.prompts import LOW_RES_PER_GRID, mask_to_logits, names_with
from mobilesam.core.regions import central_pixel, regions_touching
from mobilesam.core.types import Embedding, Prompt
from mobilesam.segment.predictor import Predictor

UNSURE = 0.25  # factor of a mask's logits where it is given as less certain
MOST_TAKEN = 0.5  # share of a mask that a click takes away, where it can be less
NOTHING = "nothing changed: the mask already says so there; click where it is wrong"


def mend(
    predictor: Predictor,
    embedding: Embedding,
    mask: Mask,
    asked: tuple[Points, Labels],
    places: Mask,
) -> tuple[Mask, tuple[str, ...]]:
    """Return a mask (H, W) that is changed around ``places`` only, and remarks.

    Args:
        predictor: asks the model.
        embedding: of the image.
        mask: (H, W) to mend.
        asked: points (N, 2) that were clicked or brushed since mending began, and their labels (N,); the
            last is the current one: 1 where more belongs to the object, 0 where less does.
        places: (H, W) pixels that were clicked or brushed just now.
    """
    points, labels = asked
    more = bool(labels[-1])
    wrong = places & (~mask if more else mask)
    if not wrong.any():
        return mask, (NOTHING,)
    found = _best_answer(predictor, embedding, mask, points, labels)
    differs = (found & ~mask) if more else (mask & ~found)
    region = regions_touching(differs | wrong, wrong)
    return (mask | region) if more else (mask & ~region), ()


def _best_answer(
    predictor: Predictor, embedding: Embedding, mask: Mask, points: Points, labels: Labels
) -> Mask:
    """Ask in three ways for the mask, and return the answer (H, W) that heeds most points; of equals, the surest.

    The ways: the mask as a prompt, which the model hardly departs from; the same given as less certain; and
    instead of the mask a point in its middle, which lets go of what never belonged to the object. Where no answer
    heeds the last point, what the model sees at that point alone is added, or taken away.
    """
    side = max(embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID
    logits = mask_to_logits(mask, side, embedding.frame)
    asked = [Prompt(points, labels, mask=logits), Prompt(points, labels, mask=logits * UNSURE)]
    if mask.any():
        middle = np.add(central_pixel(mask), 0.5)
        asked.append(Prompt([*points, middle], [*labels, 1]))
    valid = predictor.validate(embedding, asked, [names_with("")] * len(asked))
    answers = predictor.segment(embedding, valid, multimask=False)
    across, down = np.floor(points).astype(int).T
    heeded = [one.mask[down, across] == (labels == 1) for one in answers]
    if not any(each[-1] for each in heeded):
        part = _part_at(predictor, embedding, points[-1], mask, more=bool(labels[-1]))
        if part is not None:
            return (mask | part) if labels[-1] else (mask & ~part)
    best = max(
        range(len(answers)),
        key=lambda i: (heeded[i][-1], np.count_nonzero(heeded[i]), answers[i].best.predicted_iou),
    )
    return answers[best].mask


def _part_at(
    predictor: Predictor, embedding: Embedding, point: np.ndarray, mask: Mask, *, more: bool
) -> Mask | None:
    """Return the one of the three masks (H, W) at a point that changes most of itself; None if all miss the point.

    What is taken away leaves half of the mask, where one of the three does; where none does, it is the smallest.
    """
    valid = predictor.validate(embedding, [Prompt(point[None])], [names_with("")])
    x, y = np.floor(point).astype(int)
    parts = [one.mask for one in predictor.segment(embedding, valid, multimask=True)[0] if one.mask[y, x]]
    if not more and parts:
        left = [part for part in parts if np.mean(part[mask]) <= MOST_TAKEN]
        parts = left or [min(parts, key=np.count_nonzero)]
    return max(parts, key=lambda part: np.mean((~mask if more else mask)[part]), default=None)
