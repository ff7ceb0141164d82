"""What every runtime has to give: the masks of another, for every kind of prompt."""

from __future__ import annotations

import numpy as np

from mobilesam import Model, Prompt
from tests.photos import cat

PROMPTS = (
    Prompt(points=[180, 140]),
    Prompt(box=[90, 20, 330, 290]),
    Prompt(box=[160, 120, 200, 150]),
    Prompt(points=[[180, 140], [20, 280]], labels=[1, 0]),
)
LOGITS = 1e-3


def assert_alike(ours: Model, theirs: Model) -> None:
    """Points, boxes large and small, and the mask of before give the same."""
    image = cat()
    a, b = ours.embed(image), theirs.embed(image)
    ours_have, theirs_have = (
        {name for name in one.arrays if not name.startswith("first_layer_")} for one in (a, b)
    )
    assert ours_have == theirs_have
    first = ours.segment(a, PROMPTS)
    again = [Prompt(mask=first[1].low_res_masks[:1])]
    for one, two in zip(
        [*first, *ours.segment(a, again)],
        [*theirs.segment(b, PROMPTS), *theirs.segment(b, again)],
        strict=True,
    ):
        assert np.abs(one.low_res_masks - two.low_res_masks).max() <= LOGITS
        assert np.abs(one.predicted_iou - two.predicted_iou).max() <= 1e-3
        union = (one.masks | two.masks).sum((1, 2))
        assert ((one.masks & two.masks).sum((1, 2)) >= 0.999 * union).all()
