"""Average recall against pycocotools' COCOeval without categories."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest

from mobilesam.core.boxes import mask_to_box, xyxy_to_xywh
from mobilesam.core.metrics import RecallCounts, boxes_ious, count_found, mask_ious
from mobilesam.core.rle import mask_to_rle
from tests.coco_evaluation import coco_recall, our_recall

HEIGHT, WIDTH = 160, 200
Scene = tuple[list[np.ndarray], list[np.ndarray], list[float]]  # objects, masks found, their scores


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def random_mask(rng: np.random.Generator) -> np.ndarray:
    """A rectangle or an ellipse of any size; now and then of the sizes that end a range."""
    width, height = rng.integers(2, 130, 2) if rng.random() < 0.8 else [rng.choice([32, 96])] * 2
    x, y = rng.integers(0, WIDTH - width + 1), rng.integers(0, HEIGHT - height + 1)
    mask = rectangle(x, y, x + width, y + height)
    if rng.random() < 0.4:
        rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        across, down = (columns - x) / width - 0.5, (rows - y) / height - 0.5
        mask &= across**2 + down**2 <= 0.25
    return mask


def near(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask itself, or shifted by a few pixels, or with a part missing."""
    moved = np.roll(mask, rng.integers(-4, 5, 2), (0, 1)) if rng.random() < 0.7 else mask.copy()
    if rng.random() < 0.4:
        moved[: rng.integers(0, HEIGHT)] = False
    return moved


def random_scene(rng: np.random.Generator, objects: int, found: int) -> Scene:
    truths = [random_mask(rng) for _ in range(objects)]
    if objects > 2:
        truths[1] = truths[0].copy()  # two people drew the same
    masks = [
        near(truths[rng.integers(objects)], rng) if objects and rng.random() < 0.7 else random_mask(rng)
        for _ in range(found)
    ]
    if found > 3:
        masks[2] = masks[1].copy()
        masks[3] = np.zeros((HEIGHT, WIDTH), bool)
    return truths, masks, np.round(rng.random(found), 1).tolist()  # many scores are equal


def random_scenes(seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    sizes = [(5, 20), (0, 8), (7, 0), (0, 0), (1, 1), (12, 150), (20, 9), (3, 12)]
    return [random_scene(rng, *size) for size in sizes]


def crowded_scene() -> list[Scene]:
    """More than a thousand masks; those that fit come last."""
    rng = np.random.default_rng(7)
    truths = [random_mask(rng) for _ in range(6)]
    masks = [rectangle(x, y, x + 3, y + 3) for y in range(0, 150, 5) for x in range(0, 180, 5)]
    assert len(masks) > 1000
    for place, truth in zip((0, 9, 10, 99, 100, 999), truths, strict=True):
        masks[place] = truth
    masks[1000:1002] = truths[:2]
    return [(truths, masks, list(np.linspace(1, 0, len(masks))))]


def tied_scene() -> list[Scene]:
    """The first mask is as near to one object as to the other, the second only to the first."""
    truths = [rectangle(0, 0, 80, 50), rectangle(40, 0, 120, 50)]
    return [(truths, [rectangle(20, 0, 100, 50), rectangle(0, 0, 70, 50)], [0.9, 0.8])]


def only_small_scene() -> list[Scene]:
    return [([rectangle(0, 0, 10, 10)], [rectangle(0, 0, 10, 9)], [0.5])]


SCENES = [
    *(random_scenes(seed) for seed in range(6)),
    crowded_scene(),
    tied_scene(),
    tied_scene() + only_small_scene(),
    only_small_scene(),
]


def box(mask: np.ndarray) -> list[float]:
    return [float(side) for side in xyxy_to_xywh(mask_to_box(mask))]


def records(scenes: list[Scene]) -> tuple[dict, list[dict], list[dict]]:
    """COCO's data set, and the results as masks and as boxes."""
    images, annotations, masks, boxes = [], [], [], []
    for number, (truths, found, scores) in enumerate(scenes, start=1):
        images.append({"id": number, "width": WIDTH, "height": HEIGHT})
        for truth in truths:
            record = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            shape = {"segmentation": mask_to_rle(truth).to_dict(), "bbox": box(truth)}
            annotations.append(record | shape | {"area": int(truth.sum())})
        for mask, score in zip(found, scores, strict=True):
            record = {"image_id": number, "category_id": 1, "score": score}
            masks.append(record | {"segmentation": mask_to_rle(mask).to_dict()})
            boxes.append(record | {"bbox": box(mask)})
    categories = [{"id": 1, "name": "object"}]
    return {"images": images, "annotations": annotations, "categories": categories}, masks, boxes


def ours(scenes: list[Scene], kind: str) -> RecallCounts:
    counts = []
    for truths, found, scores in scenes:
        order = np.argsort(-np.array(scores), kind="stable")
        masks = [found[i] for i in order]
        if kind == "segm":
            ious = mask_ious([mask_to_rle(m) for m in masks], [mask_to_rle(t) for t in truths])
        else:
            corners = [np.array([mask_to_box(m) for m in some]).reshape(-1, 4) for some in (masks, truths)]
            ious = boxes_ious(*corners)
        counts.append(count_found(ious, np.array([t.sum() for t in truths])))
    return reduce(add, counts)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("scenes", SCENES, ids=range(len(SCENES)))
def test_recall_is_coco_evals(scenes: list[Scene], kind: str) -> None:
    dataset, masks, boxes = records(scenes)
    theirs = coco_recall(dataset, masks if kind == "segm" else boxes, kind)
    counts = ours(scenes, kind)
    np.testing.assert_allclose(our_recall(counts), theirs, rtol=0, atol=1e-12)
    for size, row in zip(counts.average_recall().values(), theirs.mean(0), strict=True):
        wanted = [np.nan if value == -1 else value for value in row]
        np.testing.assert_allclose(list(size.values()), wanted, rtol=0, atol=1e-12)


def test_the_scenes_have_what_can_go_wrong() -> None:
    """Every size and limit matters: recall differs among them and is neither 0 nor 1 throughout."""
    counts = reduce(add, (ours(scenes, "segm") for scenes in SCENES))
    assert (counts.objects[1:] > 20).all()
    assert counts.objects[1:].sum() > counts.objects[0]  # on the border objects are of two sizes
    share = counts.found[:, 0] / counts.objects[:, None]
    assert ((share > 0.1) & (share < 0.9)).all()
    assert (np.diff(counts.found[0], axis=1) > 0).any(0).all()  # 10 < 100 < 1000
    assert (np.diff(counts.found[0], axis=0) <= 0).all()


def test_of_equally_near_objects_the_last_is_taken() -> None:
    assert ours(tied_scene(), "segm").found[0, 0].tolist() == [2, 2, 2]
