"""Scores of the tracker on seeded clips, clip by clip: followed, by true boxes, and by the box of the frame before.

python -m tests.video_scores 1000-1019 --data SETS     # seeds from 60 on are no part of the long series
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import mobilesam
from mobilesam import Prompt, TrackOptions
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.metrics import mask_iou
from mobilesam.segment.model import Model
from mobilesam.segment.track.prompts import read_plans
from mobilesam.segment.track.stream import Tracker
from tests.video_clips import Clip, ClipMaker, plan_of

LOST = 0.1  # IoU below which an object is lost on a frame


@dataclass(frozen=True)
class ClipScore:
    """An object of a clip: IoUs of all frames, followed, by true boxes where it is seen, and by the box before."""

    hidden: bool
    followed: list[float]
    ceiling: list[float]
    naive: list[float]


def clip_scores(model: Model, clip: Clip) -> list[ClipScore]:
    """Return the scores of each object of a clip."""
    prompts = [Prompt(box=mask_to_box(mask)) for mask in clip.masks[0]]
    tracker = Tracker(model.predictor, read_plans(prompts), TrackOptions())
    scores = [ClipScore(clip.plan.occlusion, [], [], []) for _ in prompts]
    boxes = [mask_to_box(mask) for mask in clip.masks[0]]
    for number, (image, truths) in enumerate(zip(clip.frames, clip.masks, strict=True), start=1):
        embedding = tracker.embed(image)
        seen = tracker.see(number, embedding)
        for i, (score, truth) in enumerate(zip(scores, truths, strict=True)):
            score.followed.append(mask_iou(seen[i].mask, truth))
            if truth.any():
                best = model.segment(embedding, Prompt(box=mask_to_box(truth)))
                score.ceiling.append(mask_iou(best.mask, truth))
            found = model.segment(embedding, Prompt(box=boxes[i]))
            score.naive.append(mask_iou(found.mask, truth))
            boxes[i] = found.box if min(np.subtract(found.box[2:], found.box[:2])) > 1 else boxes[i]
    return scores


def summarise(scores: list[ClipScore]) -> tuple[float, float, float]:
    """Print and return the means over objects: followed, by true boxes, by the box before."""
    kinds = [[one.followed for one in scores], [one.ceiling for one in scores], [one.naive for one in scores]]
    means = [float(np.mean([np.mean(ious) for ious in kind])) for kind in kinds]
    lost = [float(np.mean([iou < LOST for ious in kinds[i] for iou in ious])) for i in (0, 2)]
    print(
        f"{'with' if scores[0].hidden else 'without'} occlusion: {len(scores)} objects, IoU {means[0]:.3f}; by true "
        f"boxes {means[1]:.3f}; by the box before {means[2]:.3f}; lost frames {lost[0]:.1%}, {lost[1]:.1%}",
        flush=True,
    )
    return means[0], means[1], means[2]


def main() -> None:
    """Score clips and print the means after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", help="from-to")
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of sets with coco_val and others"
    )
    given = parser.parse_args()
    model, maker = mobilesam.load("pocket"), ClipMaker(given.data)
    scores: list[ClipScore] = []
    first, last = map(int, given.seeds.split("-"))
    for seed in range(first, last + 1):
        plan = plan_of(seed)
        scores += clip_scores(model, maker.make(plan))
        print(plan.name)
        summarise([one for one in scores if one.hidden == plan.occlusion])


if __name__ == "__main__":
    main()
