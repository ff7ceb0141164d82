"""Every form in which ultralytics' prompts may be nested, and every other that is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mobilesam.compat.ultralytics.prompts import nested_to_prompts, nesting
from mobilesam.core.errors import PromptError

MASK = np.ones((4, 6), bool)
P, Q, R = [1, 2], [3, 4], [5, 6]
B, C = [0, 0, 4, 3], [1, 1, 5, 4]

# The arguments, and for each object its points, labels and box.
ALLOWED: list[tuple[str, dict[str, Any], list[tuple[Any, Any, Any]]]] = [
    ("one point", {"points": P}, [(P, None, None)]),
    ("one point as an array", {"points": np.array(P)}, [(P, None, None)]),
    ("one point as a tensor", {"points": torch.tensor(P)}, [(P, None, None)]),
    ("a point for each of one object", {"points": [P]}, [(P, None, None)]),
    ("a point for each of two objects", {"points": [P, Q]}, [(P, None, None), (Q, None, None)]),
    ("two tuples", {"points": (tuple(P), tuple(Q))}, [(P, None, None), (Q, None, None)]),
    ("two points as an array", {"points": np.array([P, Q])}, [(P, None, None), (Q, None, None)]),
    ("a list of arrays", {"points": [np.array(P), np.array(Q)]}, [(P, None, None), (Q, None, None)]),
    ("two points of one object", {"points": [[P, Q]]}, [([P, Q], None, None)]),
    ("as an array", {"points": np.array([[P, Q]])}, [([P, Q], None, None)]),
    ("different numbers of points", {"points": [[P], [Q, R]]}, [([P], None, None), ([Q, R], None, None)]),
    ("one point and a bare label", {"points": P, "labels": 0}, [(P, [0], None)]),
    ("one point and its label", {"points": P, "labels": [1]}, [(P, [1], None)]),
    ("a label for each object", {"points": [P, Q], "labels": [1, 0]}, [(P, [1], None), (Q, [0], None)]),
    ("labels as a column", {"points": [P, Q], "labels": [[1], [0]]}, [(P, [1], None), (Q, [0], None)]),
    ("labels as an array", {"points": [P, Q], "labels": np.array([1, 0])}, [(P, [1], None), (Q, [0], None)]),
    ("labels of several points", {"points": [[P, Q]], "labels": [[1, 0]]}, [([P, Q], [1, 0], None)]),
    (
        "labels of different numbers of points",
        {"points": [[P], [Q, R]], "labels": [[1], [1, 0]]},
        [([P], [1], None), ([Q, R], [1, 0], None)],
    ),
    ("one box", {"bboxes": B}, [(None, None, B)]),
    ("one box as a tensor", {"bboxes": torch.tensor([B])}, [(None, None, B)]),
    ("two boxes", {"bboxes": [B, C]}, [(None, None, B), (None, None, C)]),
    ("two boxes as an array", {"bboxes": np.array([B, C])}, [(None, None, B), (None, None, C)]),
    ("a box and a point", {"bboxes": B, "points": P, "labels": [1]}, [(P, [1], B)]),
    ("a box and several points", {"bboxes": [B], "points": [[P, Q]]}, [([P, Q], None, B)]),
    ("boxes and points", {"bboxes": [B, C], "points": [P, Q]}, [(P, None, B), (Q, None, C)]),
    ("no boxes", {"bboxes": []}, []),
    ("no boxes as an array", {"bboxes": np.zeros((0, 4))}, []),
    ("no points", {"points": np.zeros((0, 2)), "labels": []}, []),
]


@pytest.mark.parametrize(
    ("arguments", "wanted"), [row[1:] for row in ALLOWED], ids=[row[0] for row in ALLOWED]
)
def test_allowed(arguments: dict[str, Any], wanted: list) -> None:
    prompts = nested_to_prompts(**arguments)
    assert prompts is not None

    def plain(value: Any) -> Any:
        return None if value is None else np.asarray(value).tolist()

    assert [(plain(p.points), plain(p.labels), plain(p.box)) for p in prompts] == wanted


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("three numbers for a point", {"points": [1, 2, 3]}, r"points: has 3 numbers; must be \[x, y\]"),
    ("four numbers for a point", {"points": B}, "points: has 4 numbers"),
    ("points too deep", {"points": [[[P]]]}, "points: is nested 4 deep; must be"),
    ("points far too deep", {"points": [[[[[P]]]]]}, "points: lists are nested deeper than 4"),
    ("a number for points", {"points": 3}, "points: is a int; must be"),
    ("text for points", {"points": "1,2"}, "points: is a str; must be"),
    ("points of mixed depth", {"points": [P, [Q]]}, "points: some numbers are nested deeper than others"),
    ("labels alone", {"labels": [1]}, "labels: given without points"),
    ("labels with a box alone", {"labels": [1], "bboxes": B}, "labels: given without points"),
    ("too few labels", {"points": [P, Q], "labels": [1]}, "labels: 1 for 2 objects"),
    ("too many labels", {"points": [P, Q], "labels": [1, 1, 0]}, "labels: 3 for 2 objects"),
    ("a bare label for two", {"points": [P, Q], "labels": 1}, "labels: nested 0 deep, points 2 deep"),
    (
        "flat labels for one object",
        {"points": [[P, Q]], "labels": [1, 0]},
        "labels: nested 1 deep, points 3 deep",
    ),
    ("labels too deep", {"points": P, "labels": [[1]]}, "labels: nested 2 deep, points 1 deep"),
    ("three numbers for a box", {"bboxes": [1, 2, 3]}, r"bboxes: has 3 numbers; must be \[x0, y0, x1, y1\]"),
    ("boxes too deep", {"bboxes": [[B]]}, "bboxes: is nested 3 deep"),
    ("two boxes, one point", {"bboxes": [B, C], "points": P}, "bboxes of 2 objects, points of 1 objects"),
    ("one box, two points", {"bboxes": B, "points": [P, Q]}, "several points of one object are"),
    ("no box, one point", {"bboxes": [], "points": P}, "bboxes of 0 objects, points of 1 objects"),
    ("one mask, two boxes", {"bboxes": [B, C], "masks": MASK}, "bboxes of 2 objects, masks of 1 objects"),
    ("a row for a mask", {"masks": [0, 1]}, r"masks: is nested 1 deep; must be \(H, W\)"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        nested_to_prompts(**arguments)


@pytest.mark.parametrize(
    ("masks", "shapes"),
    [
        (MASK, [(4, 6)]),
        (MASK[None], [(4, 6)]),
        (np.stack([MASK] * 3), [(4, 6)] * 3),
        (np.stack([MASK] * 3)[:, None], [(4, 6)] * 3),
        ([MASK, MASK], [(4, 6)] * 2),
        (np.zeros((1, 256, 256), np.float32), [(256, 256)]),
        (np.zeros((0, 4, 6), bool), []),
    ],
    ids=str,
)
def test_masks(masks: Any, shapes: list) -> None:
    prompts = nested_to_prompts(masks=masks)
    assert prompts is not None
    assert [np.shape(prompt.mask) for prompt in prompts] == shapes


def test_no_prompt_is_none_and_no_objects_are_an_empty_list() -> None:
    assert nested_to_prompts() is None
    assert nested_to_prompts(bboxes=torch.zeros(0, 4)) == []


def test_a_list_in_itself_ends() -> None:
    endless: list = []
    endless.append(endless)
    with pytest.raises(PromptError, match="deeper than 4"):
        nesting(endless, "points")
