"""Correcting by hand: clicks, boxes and strokes, one after the other, each of which can be undone.

A session is a value. Each action returns a new one, and all that it holds is the image's hash and the
actions; the masks follow from them. So it is small as JSON, and to undo is to go back a step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import ArrayLike, Image, Logits, Mask
from mobilesam.core.errors import LimitError, PromptError
from mobilesam.core.prompts import (
    LOW_RES_PER_GRID,
    MASK_LOGIT,
    as_numbers,
    mask_to_logits,
    names_with,
    validate_prompt,
)
from mobilesam.core.ranges import check_number
from mobilesam.core.rle import Rle, mask_to_rle, rle_to_mask
from mobilesam.core.schema import Array, OneOf, Real, Record, Text, Whole, check
from mobilesam.core.strokes import points_along, stroke_to_mask
from mobilesam.core.types import Embedding, Prompt
from mobilesam.formats.json_text import read_json_file
from mobilesam.formats.prompt_file import RUNS, runs_to_rle
from mobilesam.segment.mending import mend
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation, SegmentedMask
from mobilesam.storage.atomic import write_bytes

VERSION = 1
MAX_ACTIONS = 500
MAX_STATES = 32  # that are kept, up to 2 MB each; others are worked out again
MAX_STROKE = 1000  # points of a brushed line
USUAL_WIDTH = 10.0  # of a brushed line, in pixels
STROKE_POINTS = 3  # that the model gets of a brushed line, besides its mask
MAX_FILE_BYTES = 64 * 2**20

PLACE = Array(Real(), 2, 2)
ACTION = Record(
    {
        "point": PLACE,
        "box": Array(Real(), 4, 4),
        "stroke": Array(PLACE, 1, MAX_STROKE),
        "mask": RUNS,
        "choose": Whole(0, 2),
        "clear": OneOf((True,)),
        "label": OneOf((0, 1)),
        "width": Real(0),
    }
)
SESSION = Record(
    {
        "version": OneOf((VERSION,)),
        "image": Text(64, 64, about="SHA-256 of the image's size and pixels"),
        "size": Array(Whole(1), 2, 2),
        "model": Text(1),
        "position": Whole(0, MAX_ACTIONS),
        "actions": Array(ACTION, 0, MAX_ACTIONS),
    },
    required=("version", "image", "size", "model", "position", "actions"),
)
# The kinds of action: the field of each, and which fields may go with it.
KINDS: dict[str, tuple[str, ...]] = {
    "point": ("label",),
    "box": (),
    "stroke": ("label", "width"),
    "mask": (),
    "choose": (),
    "clear": (),
}


@dataclass(frozen=True, eq=False)
class State:
    """What has been asked so far, and the result.

    Attributes:
        points: (N, 2) clicks, x and y.
        labels: (N,) 1 on the object, 0 off it.
        box: x0, y0, x1, y1, or None.
        found: the model's answer; None while nothing is asked, and while a mask is being mended.
        mended: the mask that is being mended.
        chosen: number of the chosen mask.
        remarks: what may not be intended.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, ...] | None = None
    found: Segmentation | None = field(default=None, repr=False)
    mended: Rle | None = field(default=None, repr=False)
    chosen: int = 0
    remarks: tuple[str, ...] = ()

    @cached_property
    def masks(self) -> tuple[SegmentedMask, ...]:
        """The masks to choose from: none, one or three. A mask that is being mended counts as certain."""
        if self.mended is not None:
            mask = rle_to_mask(self.mended)
            mask.flags.writeable = False
            return (SegmentedMask(mask, 1.0, 1.0),)
        return () if self.found is None else tuple(self.found)

    def with_points(self, points: Sequence[tuple[float, float]], action: Mapping[str, Any]) -> State:
        """Return the same with further points; the action says whether they are on the object."""
        labels = [action.get("label", 1)] * len(points)
        return replace(self, points=(*self.points, *points), labels=(*self.labels, *labels))

    def without_masks(self) -> State:
        """Return the same without its masks at the image's size, to be kept for undoing."""
        return replace(self, found=None if self.found is None else replace(self.found))


@dataclass(frozen=True, eq=False)
class Session:
    """An object that is pointed at and corrected, step by step; see :meth:`mobilesam.Model.session`.

    Attributes:
        embedding: of the image.
        actions: what was done, including what was undone and can be redone.
        position: how many of them count.

    Example:
        >>> import numpy as np, mobilesam
        >>> image = np.full((60, 80, 3), 200, np.uint8)
        >>> image[20:45, 25:50] = (180, 30, 30)
        >>> session = mobilesam.load("pocket").session(image)
        >>> clicked = session.click([37, 32]).click([5, 5], label=0)
        >>> clicked.mask.shape, clicked.undo().can_redo, session.mask is None
        ((60, 80), True, True)
    """

    predictor: Predictor = field(repr=False)
    embedding: Embedding = field(repr=False)
    actions: tuple[Mapping[str, Any], ...] = ()
    position: int = 0
    _states: dict[tuple, State] = field(default_factory=dict, repr=False)

    def click(self, point: ArrayLike, label: int = 1) -> Session:
        """Say that a pixel belongs to the object (1), or does not (0).

        Raises:
            PromptError: for a point outside the image.
        """
        x, y = _numbers(point, (2,), "point")
        return self.act({"point": [x, y], "label": label})

    def box(self, box: ArrayLike) -> Session:
        """Say that the object lies in a box x0, y0, x1, y1, which replaces an earlier one."""
        return self.act({"box": _numbers(box, (4,), "box")})

    def stroke(self, points: ArrayLike, *, width: float = USUAL_WIDTH, label: int = 1) -> Session:
        """Brush along points (N, 2), ``width`` pixels wide: all of it belongs to the object (1), or does not (0)."""
        return self.act({"stroke": _numbers(points, (-1, 2), "points"), "width": width, "label": label})

    def from_mask(self, mask: Mask | Rle) -> Session:
        """Begin with an existing mask (H, W): clicks and strokes then change only the connected region around them."""
        rle = mask if isinstance(mask, Rle) else mask_to_rle(_as_mask(mask))
        return self.act({"mask": rle.to_dict()})

    def choose(self, number: int) -> Session:
        """Choose another of the masks that a single click returns: 0, 1 or 2."""
        return self.act({"choose": number})

    def clear(self) -> Session:
        """Begin anew. This can be undone."""
        return self.act({"clear": True})

    def undo(self) -> Session:
        """Undo the last action; without one, nothing changes."""
        return replace(self, position=max(0, self.position - 1))

    def redo(self) -> Session:
        """Redo what was undone last; if there is nothing, nothing changes."""
        return replace(self, position=min(len(self.actions), self.position + 1))

    def act(self, action: Mapping[str, Any]) -> Session:
        """Do what a JSON object says, such as ``{"point": [210, 140], "label": 1}``; see docs/reference/json.md.

        Raises:
            PromptError: for an action that is malformed, or makes no sense in this image.
            LimitError: for too many actions.
        """
        check_action(action, "action")
        if self.position >= MAX_ACTIONS:
            raise LimitError(f"action: {MAX_ACTIONS} are made, the limit; begin anew from the mask")
        acted = replace(
            self, actions=(*self.actions[: self.position], dict(action)), position=self.position + 1
        )
        acted.__dict__["state"] = acted._state_at(acted.position, "action")  # refuses what makes no sense
        return acted

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return self.position < len(self.actions)

    @cached_property
    def state(self) -> State:
        """What has been asked so far, and the result."""
        return self._state_at(self.position, f"actions[{self.position - 1}]")

    @property
    def masks(self) -> tuple[SegmentedMask, ...]:
        """The masks to choose from: none, one or three."""
        return self.state.masks

    @property
    def best(self) -> SegmentedMask | None:
        """The chosen mask; None while nothing is asked."""
        masks = self.masks
        return masks[self.state.chosen] if masks else None

    @property
    def mask(self) -> Mask | None:
        """The chosen mask (H, W); None while nothing is asked."""
        return None if self.best is None else self.best.mask

    @property
    def remarks(self) -> tuple[str, ...]:
        """What may not be intended."""
        state = self.state
        return state.remarks if state.found is None else (*state.remarks, *state.found.remarks)

    @cached_property
    def image_hash(self) -> str:
        """SHA-256 of the image's size and pixels."""
        return hash_image(self.embedding.image)

    def to_dict(self) -> dict[str, Any]:
        """Return the session as JSON can hold it."""
        return {
            "version": VERSION,
            "image": self.image_hash,
            "size": list(self.embedding.original_size),
            "model": self.embedding.model,
            "position": self.position,
            "actions": [dict(action) for action in self.actions],
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the session as JSON.

        Raises:
            OutputError: if it cannot be written, or the file exists and may not be replaced.
        """
        write_bytes(path, (json.dumps(self.to_dict()) + "\n").encode(), overwrite=overwrite)

    def load(self, saved: str | Path | Mapping[str, Any]) -> Session:
        """Return a saved session of this image, from a file or from what :meth:`to_dict` returned.

        Raises:
            PromptError: if it is not such JSON, or belongs to another image or model.
        """
        if isinstance(saved, Mapping):
            return self._from_content(dict(saved), "session")
        name = str(saved)
        return self._from_content(
            read_json_file(Path(saved), name, max_bytes=MAX_FILE_BYTES, fail=_fail), name
        )

    def _from_content(self, content: Any, name: str) -> Session:
        check_session(content, name)
        if content["image"] != self.image_hash or tuple(content["size"]) != self.embedding.original_size:
            raise PromptError(f"{name}: image: belongs to another image; open the one it was made with")
        if content["model"] != self.embedding.model:
            raise PromptError(
                f"{name}: model: was made with {content['model']}, this model is {self.embedding.model}"
            )
        return replace(self, actions=tuple(content["actions"]), position=content["position"])

    def _state_at(self, position: int, name: str) -> State:
        """Return the state after ``position`` actions, starting from the latest known one before it."""
        keys: list[tuple[bytes, ...]] = [()]
        for action in self.actions[:position]:
            keys.append((*keys[-1], _digest(action)))
        known = max((i for i in range(position + 1) if keys[i] in self._states), default=0)
        state = self._states.get(keys[known], State())
        for i in range(known, position):
            called = name if i == position - 1 else f"actions[{i}]"
            state = _Doing(self.predictor, self.embedding, called).after(state, self.actions[i])
            self._states[keys[i + 1]] = state.without_masks()
            while len(self._states) > MAX_STATES:
                del self._states[next(iter(self._states))]
        return state


def hash_image(image: Image) -> str:
    """Return the SHA-256 of an image's size and pixels (H, W, 3)."""
    digest = hashlib.sha256("{} {}\n".format(*image.shape[:2]).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def check_session(content: Any, name: str) -> None:
    """Refuse anything but a session's JSON.

    Raises:
        PromptError: names the place, what is there and what is allowed.
    """
    check(content, SESSION, name, _malformed)
    for i, action in enumerate(content["actions"]):
        check_action(action, f"{name}: actions[{i}]")
    if content["position"] > len(content["actions"]):
        raise PromptError(
            f"{name}: position: is {content['position']}; there are {len(content['actions'])} actions",
            code="U",
        )


def check_action(action: Any, name: str) -> None:
    """Refuse anything but an action.

    Raises:
        PromptError: names the wrong field and what is allowed.
    """
    check(action, ACTION, name, _malformed)
    kinds = [kind for kind in KINDS if kind in action]
    if len(kinds) != 1:
        raise PromptError(
            f"{name}: has {' and '.join(kinds) or 'none'} of {', '.join(KINDS)}; give one", code="U"
        )
    for key in action:
        if key != kinds[0] and key not in KINDS[kinds[0]]:
            raise PromptError(f"{name}: {key}: does not belong to {kinds[0]}; leave it out", code="U")


def _fail(message: str, code: str) -> PromptError:
    return PromptError(message, code=code)


def _malformed(message: str) -> PromptError:
    return PromptError(message, code="U")


def _digest(action: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(action, sort_keys=True).encode()).digest()


def _numbers(value: ArrayLike, shape: tuple[int, ...], name: str) -> list:
    """Return numbers as nested lists, for JSON."""
    wanted = (
        "4 numbers x0, y0, x1, y1" if shape == (4,) else "numbers x, y" + " of each point" * (len(shape) - 1)
    )
    array = as_numbers(value, name, wanted)
    if array.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
        raise PromptError(f"{name}: has shape {array.shape}; must be {wanted}", code="U")
    return array.tolist()


def _as_mask(mask: Mask) -> Mask:
    array = np.asarray(mask)
    if (
        array.ndim != 2
        or array.dtype.kind not in "bu"
        or (array.dtype.kind == "u" and len(np.unique(array)) > 2)
    ):
        raise PromptError("mask: must be a boolean mask (H, W) of the image's size", code="U")
    return array != 0


@dataclass(frozen=True, eq=False)
class _Doing:
    """Does one action.

    Attributes:
        predictor: asks the model.
        embedding: of the image.
        name: what messages call the action.
    """

    predictor: Predictor
    embedding: Embedding
    name: str

    def after(self, state: State, action: Mapping[str, Any]) -> State:
        """Return the state after an action."""
        kind = next(kind for kind in KINDS if kind in action)
        done: State = getattr(self, f"_{kind}")(state, action)
        return done

    def _point(self, state: State, action: Mapping[str, Any]) -> State:
        (point,) = self._places([action["point"]], "point")
        if state.mended is not None:
            here = np.zeros(self.embedding.original_size, bool)
            here[int(point[1]), int(point[0])] = True
            return self._mend(state.with_points([point], action), here)
        return self._ask(state.with_points([point], action), _logits(state))

    def _box(self, state: State, action: Mapping[str, Any]) -> State:
        return self._ask(replace(state, box=tuple(map(float, action["box"])), mended=None), None)

    def _stroke(self, state: State, action: Mapping[str, Any]) -> State:
        line = np.array(self._places(action["stroke"], "stroke"))
        width = action.get("width", USUAL_WIDTH)
        check_number(f"{self.name}.width", width, 0.0, float(max(self.embedding.original_size)))
        band = stroke_to_mask(line, float(width), self.embedding.original_size)
        brushed = state.with_points([(x, y) for x, y in points_along(line, STROKE_POINTS).tolist()], action)
        if state.mended is not None:
            return self._mend(brushed, band)
        return self._ask(brushed, self._brushed(_logits(state), band, brushed.labels[-1]))

    def _mask(self, state: State, action: Mapping[str, Any]) -> State:
        rle = runs_to_rle(dict(action["mask"]), f"{self.name}.mask")
        height, width = self.embedding.original_size
        if rle.size != (height, width):
            raise PromptError(
                f"{self.name}.mask: is {rle.size[1]} x {rle.size[0]}, the image is {width} x {height}"
            )
        return State(mended=rle)

    def _choose(self, state: State, action: Mapping[str, Any]) -> State:
        number, there = action["choose"], len(state.masks)
        if number >= there:
            raise PromptError(f"{self.name}.choose: is {number}; there are {there} masks, numbered from 0")
        return replace(state, chosen=number)

    def _clear(self, state: State, action: Mapping[str, Any]) -> State:
        return State()

    def _places(self, points: list, field: str) -> list[tuple[float, float]]:
        """Return points of the image; others are refused, as they are in a prompt."""
        names = replace(names_with(""), points=f"{self.name}.{field}")
        valid = validate_prompt(Prompt(points), self.embedding.frame, grid=1, names=names)
        return [(x, y) for x, y in valid.points.tolist()]

    def _ask(self, state: State, logits: Logits | None) -> State:
        """Ask for the object of all points and the box, with the logits (h, w) of its mask so far."""
        prompt = Prompt(state.points or None, state.labels or None, state.box, logits)
        valid = self.predictor.validate(self.embedding, [prompt], [names_with(f"{self.name}.")])
        found = self.predictor.segment(self.embedding, valid)[0]
        return replace(state, found=found, chosen=found.choice)

    def _brushed(self, logits: Logits | None, band: Mask, label: int) -> Logits | None:
        """Return logits (h, w) in which what was brushed is certain."""
        if logits is None and not label:
            return None
        side = max(self.embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID
        brushed: Logits = mask_to_logits(band, side, self.embedding.frame)[0]
        if logits is None:
            return brushed
        return np.where(brushed > 0, MASK_LOGIT if label else -MASK_LOGIT, logits).astype(np.float32)

    def _mend(self, state: State, places: Mask) -> State:
        """Change a mask around what was clicked or brushed, and nowhere else."""
        asked = (np.array(state.points), np.array(state.labels))
        mask, remarks = mend(self.predictor, self.embedding, state.masks[0].mask, asked, places)
        return replace(state, mended=mask_to_rle(mask), remarks=remarks)


def _logits(state: State) -> Logits | None:
    """Return the logits (h, w) of the chosen mask."""
    return None if state.found is None else state.found.low_res_masks[state.chosen]
