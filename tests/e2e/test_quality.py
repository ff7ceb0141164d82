"""The shipped model on real photographs with human masks; skipped where the data are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilesam import Prompt
from mobilesam.core.metrics import mask_iou
from mobilesam.evaluate.prompted import (
    countable,
    next_click,
    score_clicks,
    score_photograph,
    score_prompted,
)
from mobilesam.formats.coco import read_instances
from mobilesam.predictor import Model
from tests.photographs import cat, write_set


def test_a_cat_from_a_point_and_from_a_box(pocket: Model) -> None:
    embedding = pocket.embed(cat())
    for prompt in (Prompt(points=[230, 150]), Prompt(box=[5, 0, 370, 295])):
        mask = pocket.segment(embedding, prompt).mask
        assert mask[50:250, 60:300].mean() > 0.9
        assert mask[100:, 400:].mean() < 0.1


def test_scores_are_what_they_say(tmp_path: Path, pocket: Model) -> None:
    folder = write_set(tmp_path / "set", 2)
    scores = score_prompted(pocket, folder)
    each = [t for p in read_instances(folder) for t in score_photograph(pocket, p, 0.002)]
    assert (scores.images, scores.objects) == (2, 4)
    assert scores.box == pytest.approx(np.mean([e.box for e in each]))
    assert scores.point_choice <= scores.point_best
    assert 0 <= scores.box_boundary <= 1
    assert 0 <= scores.calibration <= 1
    assert not [rle for p in read_instances(folder) for rle in countable(p, 0.9)]


def test_some_photographs_of_coco(shared: Path, pocket: Model) -> None:
    photographs = read_instances(shared / "data" / "eval" / "coco_val")[:25]
    scores = [s for p in photographs for s in score_photograph(pocket, p, 0.002)]
    assert np.mean([s.box for s in scores]) > 0.64
    assert np.mean([s.point_best for s in scores]) > 0.48


def test_clicks_lie_deepest_in_the_error() -> None:
    truth = np.zeros((40, 60), bool)
    truth[10:31, 10:31] = True
    assert next_click(np.zeros_like(truth), truth) == ((20, 20), 1)
    half = truth.copy()
    half[:, 24:] = False  # 7 columns are missing
    (x, y), label = next_click(half, truth)
    assert (x, label) == (27, 1)
    assert 13 <= y <= 27
    more = truth.copy()
    more[10:31, 31:50] = True
    assert next_click(more, truth)[1] == 0
    assert next_click(truth, truth) == ((20, 20), 1)


def test_five_clicks_are_better_than_one(tmp_path: Path, pocket: Model) -> None:
    scores = score_clicks(pocket, write_set(tmp_path / "set", 3), clicks=5)
    assert (scores.images, scores.objects) == (3, 6)
    assert len(scores.ious) == 5
    assert scores.ious[-1] > scores.ious[0]
    assert all(1 <= n <= 5 for n in scores.clicks_to)
    assert list(scores.clicks_to) == sorted(scores.clicks_to)


def test_a_mask_prompt_is_looked_at(shared: Path, pocket: Model) -> None:
    """From a coarse mask alone the model finds the object better than from nothing but chance."""
    from mobilesam.core.rle import rle_to_mask

    found = []
    for photograph in read_instances(shared / "data" / "eval" / "coco_val")[:15]:
        embedding = pocket.embed(photograph.path)
        for rle in countable(photograph, 0.02)[:3]:
            truth = rle_to_mask(rle)
            found.append(mask_iou(pocket.segment(embedding, Prompt(mask=truth)).mask, truth))
    assert np.mean(found) > 0.6
