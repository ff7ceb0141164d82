"""The shipped model on real photographs with human masks; skipped where the data are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilesam import Prompt
from mobilesam.core.metrics import mask_iou
from mobilesam.evaluate.prompted import countable, score_photograph, score_prompted
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
    assert scores.box == pytest.approx(np.mean([e[0] for e in each]))
    assert scores.point_choice <= scores.point_best
    assert not [rle for p in read_instances(folder) for rle in countable(p, 0.9)]


def test_some_photographs_of_coco(shared: Path, pocket: Model) -> None:
    photographs = read_instances(shared / "data" / "eval" / "coco_val")[:25]
    scores = np.array([s for p in photographs for s in score_photograph(pocket, p, 0.002)])
    box, _, best = scores.mean(0)
    assert box > 0.62
    assert best > 0.46


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
