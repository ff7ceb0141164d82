"""Mending a mask that exists: only the connected region around a click or stroke changes.

A model that is asked anew may lose what was right. So its answer is compared with the mask, and of all
that differs only the region that was pointed at is taken over.
"""

from __future__ import annotations

import numpy as np

from mobilesam.core.arrays import Labels, Mask, Points
from mobilesam.core.prompts import LOW_RES_PER_GRID, mask_to_logits, names_with
from mobilesam.core.regions import central_pixel, regions_touching
from mobilesam.core.types import Embedding, Prompt
from mobilesam.segment.predictor import Predictor

UNSURE = 0.25  # of a mask's logits where it is said less surely
NOTHING = "nothing changed: the mask already says so there; click where it is wrong"


def mend(
    predictor: Predictor,
    embedding: Embedding,
    mask: Mask,
    asked: tuple[Points, Labels],
    places: Mask,
) -> tuple[Mask, tuple[str, ...]]:
    """Return a mask (H, W) that is changed around places only, and what may not be meant.

    Args:
        predictor: what segments.
        embedding: of the image.
        mask: (H, W) that is mended.
        asked: points (N, 2) that were clicked or brushed since mending began, and their labels (N,); the
            last is what is asked now: 1 where more belongs to the object, 0 where less does.
        places: (H, W) pixels that were clicked or brushed now.
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
    """Return the mask (H, W) that the model believes in most, of three ways to ask for it.

    They are: the mask as a prompt, which the model hardly leaves; the same said less surely; and, instead of
    it, a point in its middle, which lets go what was never of the object.
    """
    side = max(embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID
    logits = mask_to_logits(mask, side, embedding.frame)
    asked = [Prompt(points, labels, mask=logits), Prompt(points, labels, mask=logits * UNSURE)]
    if mask.any():
        middle = np.add(central_pixel(mask), 0.5)
        asked.append(Prompt([*points, middle], [*labels, 1]))
    valid = predictor.validate(embedding, asked, [names_with("")] * len(asked))
    answers = predictor.segment(embedding, valid, multimask=False)
    return max(answers, key=lambda one: one.best.predicted_iou).mask
