"""From prompts nested as in ultralytics to ours: one for each object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mobilesam.core.arrays import ArrayLike
from mobilesam.core.errors import PromptError
from mobilesam.core.phrases import check_label
from mobilesam.core.types import Prompt

POINT_FORMS = (
    "[x, y] for one object, [[x, y], ...] with a point for each object, "
    "or [[[x, y], ...], ...] with several points for each object"
)
BOX_FORMS = "[x0, y0, x1, y1] for one object, or [[x0, y0, x1, y1], ...] with a box for each object"
MASK_FORMS = "(H, W) for one object, or (N, H, W) with a mask for each object"
LABEL_FORMS = "must be nested as the points are, with 1 (on the object) or 0 (beside it) for each of them"
DEEPEST = 4  # the deepest nesting of any form: masks (N, 1, H, W)


def nested_to_prompts(
    bboxes: ArrayLike = None,
    points: ArrayLike = None,
    labels: ArrayLike = None,
    masks: ArrayLike = None,
    names: str | Sequence[str] | None = None,
) -> list[Prompt] | None:
    """Return one prompt for each object, or None where no prompt is given.

    Only the nesting is looked at here; the numbers are checked with the image.

    Args:
        bboxes: (4,) or (N, 4) x0, y0, x1, y1; no boxes, such as (0, 4), mean no objects.
        points: (2,) one object, (N, 2) N objects, (N, n, 2) N objects of n points, where n may differ.
        labels: nested as the points; all 1 by default.
        masks: (H, W), (N, H, W) or (N, 1, H, W) masks or logits.
        names: what the objects are called, one for each or one for all.

    Raises:
        PromptError: for another nesting, or different numbers of objects.

    Example:
        >>> [prompt.points for prompt in nested_to_prompts(points=[[10, 20], [30, 40]])]
        [[10, 20], [30, 40]]
        >>> [prompt.points for prompt in nested_to_prompts(points=[[[10, 20], [30, 40]]])]
        [[[10, 20], [30, 40]]]
    """
    bboxes, points, labels, masks = (_off_device(value) for value in (bboxes, points, labels, masks))
    given: dict[str, list[Any]] = {}
    if bboxes is not None:
        given["bboxes"] = _split(bboxes, "bboxes", 1, (2,), BOX_FORMS, numbers=4)
    if points is not None:
        given["points"] = _split(points, "points", 1, (2, 3), POINT_FORMS, numbers=2)
    if masks is not None:
        given["masks"] = [_plain_mask(mask) for mask in _split(masks, "masks", 2, (3, 4), MASK_FORMS)]
    if labels is not None and points is None:
        raise PromptError("labels: given without points; give one point for each label")
    if not given and names is not None:
        raise PromptError("names: given without prompts; give one box, point or mask for each name")
    if not given:
        return None
    counts = {name: len(objects) for name, objects in given.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} of {count} objects" for name, count in counts.items())
        raise PromptError(
            f"{told}: give one entry of each for every object; several points of one object are [[[x, y], [x, y]]]"
        )
    count = next(iter(counts.values()))
    each = {name: given.get(name, [None] * count) for name in ("bboxes", "points", "masks")}
    of_points = [None] * count if labels is None else _split_labels(labels, nesting(points, "points"), count)
    called = _split_names(names, count)
    parts = zip(each["points"], of_points, each["bboxes"], each["masks"], called, strict=True)
    return [Prompt(points=p, labels=label, box=b, mask=m, label=name) for p, label, b, m, name in parts]


def _split_names(names: str | Sequence[str] | None, count: int) -> list[str | None]:
    """Return what each object is called."""
    if names is None or isinstance(names, str):
        return [check_label(names, "names")] * count
    if not isinstance(names, list | tuple):
        raise PromptError(
            f"names: is a {type(names).__name__}; must be a text, or a list with one for each object",
            code="U",
        )
    if len(names) != count:
        raise PromptError(f"names: {len(names)} for {count} objects; give one for each, or one text for all")
    return [check_label(name, f"names[{i}]") for i, name in enumerate(names)]


def _off_device(value: ArrayLike) -> ArrayLike:
    """Return a tensor's values as an array, and anything else as it is."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def nesting(value: ArrayLike, name: str, deepest: int = DEEPEST) -> int:
    """Return how deep numbers lie in lists: 1 for a list of numbers; arrays and tensors count by their axes.

    Raises:
        PromptError: if some lie deeper than others, or deeper than ``deepest``.
    """
    if not isinstance(value, list | tuple):
        return int(getattr(value, "ndim", 0))
    if deepest == 0:
        raise PromptError(f"{name}: lists are nested deeper than {DEEPEST}", code="U")
    depths = {nesting(one, name, deepest - 1) for one in value}
    if len(depths) > 1:
        raise PromptError(f"{name}: some numbers are nested deeper than others; nest all alike", code="U")
    return 1 + (depths.pop() if depths else 0)


def _split(
    value: ArrayLike, name: str, one: int, several: tuple[int, ...], forms: str, *, numbers: int = 0
) -> list[Any]:
    """Return the part of each object.

    Args:
        value: as the user gave it.
        name: of the argument.
        one: nesting of a single object.
        several: nestings of several.
        forms: what messages say is allowed.
        numbers: how many numbers a single object has, if that is fixed.
    """
    depth = nesting(value, name)
    if depth and len(value) == 0:
        return []
    if depth == one:
        if numbers and len(value) != numbers:
            raise PromptError(f"{name}: has {len(value)} numbers; must be {forms}", code="U")
        return [value]
    if depth not in several:
        told = f"is a {type(value).__name__}" if depth == 0 else f"is nested {depth} deep"
        raise PromptError(f"{name}: {told}; must be {forms}", code="U")
    return list(value)


def _split_labels(labels: ArrayLike, points_depth: int, count: int) -> list[Any]:
    """Return the labels of each object's points."""
    depth = nesting(labels, "labels")
    if points_depth == 1:  # one point
        if depth == 0:
            return [[labels]]
        if depth == 1:
            return [labels]
    elif depth == points_depth - 1 or (points_depth == 2 and depth == 2):
        if len(labels) != count:
            raise PromptError(f"labels: {len(labels)} for {count} objects; {LABEL_FORMS}")
        return [[one] if depth == 1 else one for one in labels]
    raise PromptError(f"labels: nested {depth} deep, points {points_depth} deep; {LABEL_FORMS}", code="U")


def _plain_mask(mask: ArrayLike) -> ArrayLike:
    """Take (1, H, W) as (H, W)."""
    return mask[0] if nesting(mask, "masks") == 3 and len(mask) == 1 else mask


def naming(prompts: list[Prompt]) -> Callable[[int], str]:
    """Return what messages put before the parts of prompt i: nothing where there is only one."""
    return (lambda i: f"object {i}: ") if len(prompts) > 1 else (lambda i: "")
