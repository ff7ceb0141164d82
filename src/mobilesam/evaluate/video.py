"""Tracks against annotated videos: region similarity J, contour accuracy F, and what is lost.

Each object is asked for once, on the first frame that has it, and followed to the end. That frame does not count, nor
do frames without an annotation. Where an object is not visible, an empty mask scores 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mobilesam.core.errors import ConfigError, PromptWarning
from mobilesam.core.metrics import boundary_f, mask_iou
from mobilesam.core.types import Prompt
from mobilesam.evaluate.kinds import KINDS
from mobilesam.evaluate.sets import Progress
from mobilesam.formats.davis import AnnotatedVideo, find_videos, read_annotation
from mobilesam.segment.model import Model
from mobilesam.segment.track.prompts import TrackPrompt

PROMPTS = ("box", "mask", "point")


@dataclass(frozen=True)
class ObjectTrack:
    """How well one object was followed.

    Attributes:
        video: the one it is in.
        id: its number.
        j: mean IoU over the frames that count.
        f: mean F-measure of the outline.
        missed: share of the frames that show it on which it was reported lost.
        ghosts: frames that do not show it, but on which something was taken for it.
    """

    video: str
    id: int
    j: float
    f: float
    missed: float
    ghosts: int


@dataclass(frozen=True)
class VideoScores:
    """A set's scores; means over its objects.

    Attributes:
        name: of the set.
        videos: those that were scored.
        objects: every object's scores.
    """

    name: str
    videos: int
    objects: list[ObjectTrack] = field(repr=False)

    @property
    def j(self) -> float:
        """Mean region similarity."""
        return float(np.mean([one.j for one in self.objects]))

    @property
    def f(self) -> float:
        """Mean contour accuracy."""
        return float(np.mean([one.f for one in self.objects]))

    @property
    def jf(self) -> float:
        """Mean of both."""
        return (self.j + self.f) / 2

    @property
    def missed(self) -> float:
        """Mean share of the frames on which a visible object was reported lost."""
        return float(np.mean([one.missed for one in self.objects]))


def score_videos(
    model: Model, folder: Path, *, prompt: str = "box", progress: Progress = lambda done, total: None
) -> VideoScores:
    """Follow every object of a set of videos in DAVIS' layout, and score it.

    Args:
        model: what is scored.
        folder: see :func:`mobilesam.formats.davis.find_videos`.
        prompt: what is given from an object's first mask: its ``box``, the ``mask`` or its central ``point``.
        progress: called after each video as ``(done, total)``.

    Raises:
        ConfigError: for another prompt, or a folder without annotated videos.
        ImageError: for a file that cannot be read.
    """
    if prompt not in PROMPTS:
        raise ConfigError(f"prompt: is {prompt!r}; choose one of {', '.join(PROMPTS)}")
    videos = find_videos(folder)
    tracks: list[ObjectTrack] = []
    for done, video in enumerate(videos, start=1):
        tracks += _score(model, video, prompt)
        progress(done, len(videos))
    if not tracks:
        raise ConfigError(f"{folder}: no annotation has an object; is each pixel its object's number?")
    return VideoScores(folder.name, len(videos), tracks)


def _score(model: Model, video: AnnotatedVideo, prompt: str) -> list[ObjectTrack]:
    truths = [None if one is None else read_annotation(one) for one in video.annotations]
    prompts = _prompts(truths, prompt)
    if not prompts:
        return []
    scores: dict[int, list[tuple[float, float, bool, bool]]] = {one.object: [] for one in prompts}
    started = {one.object: one.frame for one in prompts}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)
        for frame in model.track(video.frames, prompts):
            ids = truths[frame.number - 1]
            if ids is None:
                continue
            for one in frame.objects:
                if frame.number == started[one.id]:
                    continue
                truth, mask = ids == one.id, one.mask
                both = mask_iou(mask, truth), boundary_f(mask, truth)
                scores[one.id].append((*both, bool(truth.any()), bool(mask.any())))
    return [_summarise(video.name, id, each) for id, each in scores.items() if each]


def _prompts(truths: Sequence[np.ndarray | None], prompt: str) -> list[TrackPrompt]:
    """Return a prompt for each object, on the first frame that has it."""
    found: dict[int, TrackPrompt] = {}
    chance = np.random.default_rng(0)  # none of these prompts leaves anything to chance
    for number, ids in enumerate(truths, start=1):
        if ids is None:
            continue
        for id in np.unique(ids[ids > 0]).tolist():
            if id not in found:
                mask = ids == id
                asked = Prompt(mask=mask) if prompt == "mask" else KINDS[prompt].make(mask, chance)
                found[id] = TrackPrompt(asked, number, id)
    return list(found.values())


def _summarise(video: str, id: int, scores: list[tuple[float, float, bool, bool]]) -> ObjectTrack:
    j, f, seen, said = (np.array(column) for column in zip(*scores, strict=True))
    missed = float((seen & ~said).sum() / max(1, seen.sum()))
    return ObjectTrack(video, id, float(j.mean()), float(f.mean()), missed, int((~seen & said).sum()))
