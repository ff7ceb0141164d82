"""Which object is pointed at on which frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mobilesam.core.errors import PromptError
from mobilesam.core.prompts import to_prompt
from mobilesam.core.schema import unknown_key
from mobilesam.core.text import shortened
from mobilesam.core.types import Prompt

MAX_FRAME = 10**9


@dataclass(frozen=True, eq=False)
class TrackPrompt:
    """A prompt on one frame of a video.

    Attributes:
        prompt: in pixels of that frame.
        frame: its number, from 1.
        object: number of the object, from 1. Several prompts for one object, on different frames, correct each other.
    """

    prompt: Prompt
    frame: int = 1
    object: int = 1


@dataclass(frozen=True, eq=False)
class ObjectPlan:
    """All prompts of one object.

    Attributes:
        id: number of the object.
        prompts: by frame, in their order.
        names: what messages call each prompt, by frame.
    """

    id: int
    prompts: dict[int, Prompt] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    @property
    def label(self) -> Any:
        """What the object is called: the first label that one of its prompts has."""
        return next((one.label for one in self.prompts.values() if one.label is not None), None)


def read_plans(prompts: Any) -> list[ObjectPlan]:
    """Return the prompts of each object, sorted by frame.

    Args:
        prompts: a prompt or a list of them. Each may be a :class:`TrackPrompt`, or a dict with ``frame`` and
            ``object`` beside the keys of a prompt; a plain prompt is an object of its own on the first frame.

    Raises:
        PromptError: for what is not a prompt or a frame, or for the same object twice on one frame.
    """
    one = isinstance(prompts, Prompt | TrackPrompt | dict)
    given: Sequence[Any]
    try:
        given = [prompts] if one else list(prompts)
    except TypeError as error:
        raise PromptError(
            f"prompts: is a {type(prompts).__name__}; give a Prompt, a TrackPrompt or a list of them",
            code="U",
        ) from error
    if not given:
        raise PromptError("prompts: is empty; point at an object, such as Prompt(box=[120, 40, 380, 300])")
    plans: dict[int, ObjectPlan] = {}
    taken = _numbers_taken(given)
    for i, value in enumerate(given):
        name = "prompts" if one else f"prompts[{i}]"
        placed = _placed(value, name, taken)
        plan = plans.setdefault(placed.object, ObjectPlan(placed.object))
        if placed.frame in plan.prompts:
            raise PromptError(
                f"{name}: object {placed.object} has a prompt on frame {placed.frame} already; join the two",
                code="U",
            )
        plan.prompts[placed.frame] = placed.prompt
        plan.names[placed.frame] = name
    return [
        ObjectPlan(one.id, dict(sorted(one.prompts.items())), one.names)
        for one in sorted(plans.values(), key=lambda plan: plan.id)
    ]


def _numbers_taken(given: Iterable[Any]) -> set[int]:
    """Return the numbers that prompts name; prompts without one take the next free ones."""
    named = set()
    for value in given:
        number = value.object if isinstance(value, TrackPrompt) else None
        if isinstance(value, dict):
            number = value.get("object")
        if isinstance(number, int):
            named.add(number)
    return named


def _placed(value: Any, name: str, taken: set[int]) -> TrackPrompt:
    if isinstance(value, TrackPrompt):
        prompt = to_prompt(value.prompt, f"{name}.prompt")
        return TrackPrompt(
            prompt, _whole(value.frame, f"{name}.frame"), _whole(value.object, f"{name}.object")
        )
    frame, number = 1, None
    if isinstance(value, dict):
        known = [one.name for one in dataclasses.fields(Prompt)]
        for key in value:
            if key not in known and key not in ("frame", "object"):
                raise PromptError(f"{name}: {unknown_key(str(key), [*known, 'frame', 'object'])}", code="U")
        value = dict(value)
        frame, number = value.pop("frame", 1), value.pop("object", None)
    if number is None:
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        taken.add(number)
    return TrackPrompt(
        to_prompt(value, name), _whole(frame, f"{name}.frame"), _whole(number, f"{name}.object")
    )


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_FRAME:
        raise PromptError(f"{name}: is {shortened(value)}; must be a whole number from 1", code="U")
    return value
