"""Through the frames of a video, forward and backward: what is asked on which, while the next frame is encoded."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import ConfigError, PromptError, PromptWarning
from mobilesam.core.prompts import names_with
from mobilesam.core.rle import Rle, mask_to_rle
from mobilesam.core.types import Embedding
from mobilesam.formats.video import VideoFrame
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.track.follow import Follower, Sighting
from mobilesam.segment.track.frames import FrameSource
from mobilesam.segment.track.prompts import ObjectPlan
from mobilesam.segment.track.results import FOLLOWED, LOST, PROMPTED, TrackedFrame, TrackedObject

DIRECTIONS = ("forward", "both")
Progress = Callable[[int, int | None], None]


def no_progress(done: int, total: int | None) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class TrackOptions:
    """How objects are followed.

    Attributes:
        direction: ``forward`` from each prompt, or ``both`` ways; then the nearest prompt counts for each frame.
        search: number of frames on which to look for a lost object; 0 for all that follow.
        fine: look at frames by the network's full input; for small objects in large frames, at half the speed.
    """

    direction: str = "forward"
    search: int = 0
    fine: bool = False

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ConfigError(f"direction: is {self.direction!r}; choose {' or '.join(DIRECTIONS)}")
        if isinstance(self.search, bool) or not isinstance(self.search, int) or self.search < 0:
            raise ConfigError(f"search: is {self.search!r}; must be a whole number of frames, 0 for all")
        if not isinstance(self.fine, bool):
            raise ConfigError(f"fine: is {self.fine!r}; must be True or False")


def track(
    predictor: Predictor,
    source: FrameSource,
    plans: list[ObjectPlan],
    options: TrackOptions,
    progress: Progress = no_progress,
) -> Iterator[TrackedFrame]:
    """Yield every frame with what is seen of the objects; see :meth:`mobilesam.Model.track`."""
    if options.direction == "forward" or all(list(plan.prompts) == [1] for plan in plans):
        yield from _forward(predictor, source, plans, options, progress)
        return
    if not source.again:
        raise ConfigError(
            f"{source.name}: can be gone through once only; for direction='both' give a video's path or a list"
        )
    found = {
        (frame.number, one.id): one
        for frame in _forward(predictor, source, plans, options, progress)
        for one in frame.objects
    }
    found.update(_backward(predictor, source, plans, options, progress))
    for frame in source.forward():
        seen = (found.get((frame.number, plan.id)) for plan in plans)
        objects = tuple(one for one in seen if one is not None)
        yield TrackedFrame(frame.number, frame.time, frame.image, objects)


def _forward(
    predictor: Predictor,
    source: FrameSource,
    plans: list[ObjectPlan],
    options: TrackOptions,
    progress: Progress,
) -> Iterator[TrackedFrame]:
    """Go through all frames; each object follows its last prompt."""
    tracker = Tracker(predictor, plans, options)
    last = 0
    embedded = _embedded(tracker.embed, source.forward(), tracker.needs, live=source.live)
    for frame, embedding in embedded:
        last = frame.number
        objects = () if embedding is None else tracker.see(frame.number, embedding)
        progress(frame.number, source.total)
        yield TrackedFrame(frame.number, frame.time, frame.image, objects)
    _check_reached(plans, last, source.name)


def _backward(
    predictor: Predictor,
    source: FrameSource,
    plans: list[ObjectPlan],
    options: TrackOptions,
    progress: Progress,
) -> dict[tuple[int, int], TrackedObject]:
    """Return what is seen on frames whose nearest prompt comes after them."""
    needed = {plan.id: _nearer_to_later(list(plan.prompts)) for plan in plans}
    wanted = {number for spans in needed.values() for span in spans for number in span}
    followed = [_Followed(predictor, plan, options) for plan in plans]
    prompted = {number for plan in plans for number in plan.prompts}
    found = {}
    back = source.backward(max(prompted))
    embed = Tracker(predictor, plans, options).embed
    for frame, embedding in _embedded(embed, back, lambda number: number in wanted | prompted):
        if embedding is None:
            continue
        progress(frame.number, source.total)
        for one in followed:
            asked = frame.number in one.plan.prompts
            if not (asked or any(frame.number in span for span in needed[one.plan.id])):
                continue
            seen = one.on(frame.number, embedding, alone=True)
            if seen is not None and not asked:
                found[frame.number, one.plan.id] = seen
    return found


def _nearer_to_later(prompted: list[int]) -> list[range]:
    """Return the frames that are nearer to the next prompt than to the one before."""
    spans = []
    before = None
    for number in prompted:
        start = 1 if before is None else (before + number) // 2 + 1
        spans.append(range(start, number))
        before = number
    return spans


def _embedded(
    embed: Callable[[Image], Embedding],
    frames: Iterator[VideoFrame],
    wanted: Callable[[int], bool],
    *,
    live: bool = False,
) -> Iterator[tuple[VideoFrame, Embedding | None]]:
    """Yield frames with their embeddings; while one is in use, the next is read and encoded.

    Two frames are in memory at a time.

    Args:
        embed: encodes a frame.
        frames: to go through.
        wanted: whether a frame with this number is encoded.
        live: the next frame is taken late, so that it is not older than need be when its turn comes.
    """
    asked = threading.Event()
    encoding = 0.0  # seconds that the last frame took

    def following(pause: float) -> tuple[VideoFrame, Embedding | None] | None:
        nonlocal encoding
        if pause > 0:
            asked.wait(pause)
        frame = next(frames, None)
        if frame is None:
            return None
        image = frame.image
        image.flags.writeable = False
        start = time.monotonic()
        embedding = embed(image) if wanted(frame.number) else None
        encoding = time.monotonic() - start
        return frame, embedding

    with ThreadPoolExecutor(1, thread_name_prefix="next frame") as worker:
        coming, using = worker.submit(following, 0.0), 0.0
        try:
            while (here := coming.result()) is not None:
                asked.clear()
                start = time.monotonic()
                coming = worker.submit(following, using - encoding if live else 0.0)
                yield here
                asked.set()
                using = time.monotonic() - start
        finally:
            asked.set()
            coming.cancel()


class Tracker:
    """Follows objects through frames that are handed to it one by one.

    Args:
        predictor: segments them.
        plans: their prompts.
        options: how they are followed.
    """

    def __init__(self, predictor: Predictor, plans: list[ObjectPlan], options: TrackOptions) -> None:
        self.first = min(number for plan in plans for number in plan.prompts)
        self._predictor, self._small = predictor, not options.fine
        self._followed = [_Followed(predictor, plan, options) for plan in plans]

    def embed(self, image: Image) -> Embedding:
        """Encode a frame (H, W, 3) as the options say."""
        return self._predictor.embed(image, small=self._small)

    def needs(self, number: int) -> bool:
        """Whether a frame has to be looked at."""
        return number >= self.first

    def see(self, number: int, embedding: Embedding) -> tuple[TrackedObject, ...]:
        """Return what is seen of the objects on the next frame."""
        seen = [one.on(number, embedding) for one in self._followed]
        return tuple(one for one in seen if one is not None)


class _Followed:
    """An object on its way through the frames.

    Args:
        predictor: segments it.
        plan: its prompts.
        options: how it is followed.
    """

    def __init__(self, predictor: Predictor, plan: ObjectPlan, options: TrackOptions) -> None:
        self.predictor, self.plan, self.options = predictor, plan, options
        self.follower: Follower | None = None

    def on(self, number: int, embedding: Embedding, *, alone: bool = False) -> TrackedObject | None:
        """Return what is seen on a frame; None before the first prompt.

        Args:
            number: of the frame.
            embedding: of the frame.
            alone: take a prompt by itself, not as a correction of what is followed.
        """
        if number in self.plan.prompts:
            before = None if alone else self.follower
            sighting, self.follower = self._ask(number, embedding, before)
            return self._tell(PROMPTED, sighting, embedding.original_size)
        if self.follower is None:
            return None
        if 0 < self.options.search <= self.follower.missing:
            return self._tell(LOST, self.follower.given_up(), embedding.original_size)
        sighting = self.follower.step(embedding)
        return self._tell(FOLLOWED, sighting, embedding.original_size)

    def _ask(self, number: int, embedding: Embedding, before: Follower | None) -> tuple[Sighting, Follower]:
        name = self.plan.names[number]
        names = names_with(f"{name}.")
        (valid,) = self.predictor.validate(embedding, [self.plan.prompts[number]], [names])
        for remark in valid.remarks:
            warnings.warn(f"frame {number}: {remark}", PromptWarning, stacklevel=4)
        if before is not None and valid.box is None and valid.mask_input is None:
            seen = before.step(embedding)
            if seen.found is not None:
                logits = seen.found.low_res_masks[seen.found.choice][None]
                valid = replace(valid, mask_input=np.asarray(logits, np.float32))
        (found,) = self.predictor.segment(embedding, [valid])
        follower = Follower(self.predictor)
        return follower.start(embedding, found), follower

    def _tell(self, state: str, sighting: Sighting, size: Size) -> TrackedObject:
        label = self.plan.label
        if sighting.found is None:
            question = f"{sighting.why}; if it is seen, point at it on this frame"
            return TrackedObject(self.plan.id, LOST, _empty(size), (0, 0, 0, 0), 0.0, 0.0, question, label)
        best = sighting.found.best
        return TrackedObject(
            self.plan.id,
            state,
            mask_to_rle(best.mask),
            best.box,
            float(best.predicted_iou),
            sighting.visible,
            label=label,
        )


def _empty(size: Size) -> Rle:
    return mask_to_rle(np.zeros(size, bool))


def _check_reached(plans: list[ObjectPlan], last: int, name: str) -> None:
    """Refuse prompts on frames after the last."""
    for plan in plans:
        for number in plan.prompts:
            if number > last:
                raise PromptError(f"{plan.names[number]}.frame: is {number}; {name} has {last} frames")
