"""Mending a mask that exists: only the connected region around a click or stroke changes.

A model that is asked anew may lose what was right. So its answer is compared with the mask, and of all
that differs only the region that was pointed at is taken over.
"""

from __future__ import annotations

from mobilesam.core.arrays import Labels, Mask, Points
from mobilesam.core.prompts import names_with
from mobilesam.core.regions import regions_touching
from mobilesam.core.types import Embedding, Prompt
from mobilesam.segment.predictor import Predictor

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
    prompt = Prompt(points, labels, mask=mask)
    found = predictor.segment(embedding, predictor.validate(embedding, [prompt], [names_with("")]))[0].mask
    differs = (found & ~mask) if more else (mask & ~found)
    region = regions_touching(differs | wrong, wrong)
    return (mask | region) if more else (mask & ~region), ()
