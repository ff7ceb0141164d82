"""``SAM(...).track``: pictures in order, results with ids out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from mobilesam.compat.ultralytics.options import PredictOptions
from mobilesam.compat.ultralytics.results import Results
from mobilesam.compat.ultralytics.sources import Picture
from mobilesam.core.errors import PromptError
from mobilesam.core.phrases import number_texts
from mobilesam.core.types import Prompt
from mobilesam.formats.coco import UNNAMED
from mobilesam.segment.model import Model
from mobilesam.segment.track.prompts import read_plans
from mobilesam.segment.track.results import TrackedObject
from mobilesam.segment.track.stream import Tracker, TrackOptions


class Tracking:
    """Objects that are followed over one call, or over several.

    Args:
        model: the model that segments them.
        prompts: of the first picture.

    Raises:
        PromptError: if there are none.
    """

    def __init__(self, model: Model, prompts: list[Prompt] | None) -> None:
        if not prompts:
            raise PromptError(
                "track: there is no prompt; say what is followed by bboxes, points or masks of the first frame"
            )
        self.model = model
        self.tracker = Tracker(model.predictor, read_plans(prompts), TrackOptions())
        self.number = 0
        called = [prompt.label or UNNAMED for prompt in prompts]
        if any(prompt.label for prompt in prompts):
            self.classes = [number_texts(called)[name] for name in called]
            self.names = {number: name for name, number in number_texts(called).items()}
        else:
            self.classes = list(range(len(prompts)))
            self.names = {i: str(i) for i in self.classes}

    def over(self, pictures: Iterator[Picture], options: PredictOptions) -> Iterator[tuple[Picture, Results]]:
        """Follow the objects over the next pictures."""
        for picture in pictures:
            started = time.perf_counter()
            self.number += 1
            embedding = self.tracker.embed(np.ascontiguousarray(picture.image[..., ::-1]))
            seen = [one for one in self.tracker.see(self.number, embedding) if one.area]
            kept = sorted(
                (one for one in seen if one.predicted_iou > options.conf), key=lambda one: -one.predicted_iou
            )
            kept = sorted(kept[: options.max_det], key=lambda one: one.id)
            yield picture, self._result(picture, kept, (time.perf_counter() - started) * 1000)

    def _result(self, picture: Picture, seen: list[TrackedObject], milliseconds: float) -> Results:
        rows = [[*one.box, one.id, one.predicted_iou, self.classes[one.id - 1]] for one in seen]
        boxes = np.array(rows, np.float32).reshape(-1, 7)
        empty = np.zeros((0, *picture.image.shape[:2]), bool)
        masks = np.stack([one.mask for one in seen]) if seen else empty
        speed = {"preprocess": picture.milliseconds, "inference": milliseconds, "postprocess": 0.0}
        return Results(picture.image, picture.path, self.names, boxes, masks, speed=speed)
