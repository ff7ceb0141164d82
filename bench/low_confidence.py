"""What a low predicted IoU says: how often it is remarked on, and how often rightly.

    python bench/low_confidence.py path/to/coco_val path/to/bsds_consensus ...

Each set is a folder with instances.json and images/. A mask is bad with an IoU below 0.5 and good from
0.75 on. The limits in use are those of ``mobilesam.segment.results``; the figures stand in docs/reference/prompts.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mobilesam
from mobilesam.evaluate.prompted import ObjectScore, score_prompted
from mobilesam.segment.results import LARGE_BOX

KINDS = ("box", "loose-box", "point", "any-point", "points")
LIMITS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
BAD, GOOD = 0.5, 0.75


def share_of_image(score: ObjectScore) -> float:
    """Return how much of its photo a prompt's box holds; 0 without a box."""
    if score.prompt.box is None:
        return 0.0
    x0, y0, x1, y1 = score.prompt.box
    return float((x1 - x0) * (y1 - y0) / (score.photo.width * score.photo.height))


def main() -> None:
    """Print a table for each kind of prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--model", default="pocket")
    options = parser.parse_args()
    model = mobilesam.load(options.model)
    scored = [score_prompted(model, folder, kinds=KINDS) for folder in options.sets]
    for kind in KINDS:
        scores = [score for one in scored for score in one.each[kind]]
        predicted, iou = (
            np.array([getattr(score, name) for score in scores]) for name in ("predicted", "iou")
        )
        bad, good = iou < BAD, iou >= GOOD
        print(f"{kind}: {len(scores)} prompts, {bad.mean():.3f} bad")
        for limit in LIMITS:
            low = predicted < limit
            if not (low.any() and bad.any() and good.any()):
                continue
            print(
                f"  below {limit:g}: {low.mean():.3f} of all, precision {bad[low].mean():.3f}, "
                f"recall {low[bad].mean():.3f}, {low[good].mean():.3f} of the good ones"
            )
        large = np.array([share_of_image(score) for score in scores]) >= LARGE_BOX
        if large.any():
            print(
                f"  boxes of {LARGE_BOX:g} of the image and more: {large.sum()}, {bad[large].mean():.3f} bad"
            )


if __name__ == "__main__":
    main()
