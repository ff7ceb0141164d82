"""What tells how sure the subject of a photo is, and from which limit on a wrong one is told.

    python bench/subject_confidence.py recipes/subject.toml --data path/to/data

It asks for the subject of the photos that the recipe holds out, fits the IoU with the dominant object to the evidence
(``mobilesam.segment.subject.Evidence``) and prints the weights, and for limits of the predicted IoU how many are
remarked. A subject is wrong with an IoU below 0.7. With ``--set`` it scores sets with the weights in use instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mobilesam
from mobilesam.core.metrics import mask_iou
from mobilesam.detectors.load import detector_for
from mobilesam.evaluate.subject import dominant_object, read_dominant
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.segment.subject import Evidence, find_with_evidence
from mobilesam.train.data import split_sets
from mobilesam.train.recipe import read_recipe

WRONG = 0.7  # IoU
LIMITS = (0.5, 0.55, 0.6, 0.65, 0.68, 0.7, 0.75, 0.8)
MOST_OF_A_SET = 40  # photos, so that none outweighs the others
STEADY = 0.5  # of the fit: adds to the diagonal


def held_out_photos(recipe: Path, data: Path) -> list[SetPhoto]:
    """Return the held-out photos with one dominant object, at most so many of each set."""
    photos: dict[Path, list[SetPhoto]] = {}
    for drawn in split_sets(read_recipe(recipe), data)[1]:
        if dominant_object(drawn.photo) is not None:
            photos.setdefault(drawn.photo.path.parent, []).append(drawn.photo)
    return [photo for some in photos.values() for photo in some[:MOST_OF_A_SET]]


def features(evidence: Evidence) -> list[float]:
    """Return what the predicted IoU is made of."""
    alike, there = evidence.alike or 0.0, evidence.there or 0.0
    return [evidence.sure * evidence.agreement, alike, there, 1.0]


def main() -> None:
    """Print the fit and a table of limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--set", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    photos = [one for folder in options.set for one in read_dominant(folder, None)]
    photos = photos or held_out_photos(options.recipe, options.data)
    model = mobilesam.load("pocket")
    detector = detector_for(model.runtime, model.name)
    rows, ious, predicted = [], [], []
    for photo in photos:
        found, evidence = find_with_evidence(model.predictor, model.embed(read_photo(photo)), detector)
        truth = dominant_object(photo)
        assert truth is not None
        rows.append(features(evidence))
        ious.append(mask_iou(found.mask, truth))
        predicted.append(found.best.predicted_iou)
        print(
            photo.path.parts[-3],
            photo.path.name,
            *(f"{x:.3f}" for x in (*rows[-1], ious[-1], predicted[-1])),
            flush=True,
        )
    x, iou = np.array(rows), np.array(ious)
    fit = np.linalg.solve(x.T @ x + STEADY * np.diag([1, 1, 1, 0]), x.T @ iou)
    print("weights of sure x agreement, alike, there, and the rest:", np.round(fit, 3))
    for name, values in (("fitted", x @ fit), ("in use", np.array(predicted))):
        print(
            f"{name}: correlation {np.corrcoef(values, iou)[0, 1]:.3f}, mean {values.mean():.3f} of {iou.mean():.3f}"
        )
        for limit in LIMITS:
            low, wrong = values < limit, iou < WRONG
            print(
                f"  below {limit:g}: {low.mean():.2f} of all, precision {wrong[low].mean() if low.any() else 0:.2f}, "
                f"recall {low[wrong].mean():.2f}, {low[~wrong].mean():.2f} of the right ones"
            )


if __name__ == "__main__":
    main()
