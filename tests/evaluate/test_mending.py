"""How mending is scored: damages are damages, and what is counted is what was clicked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import mobilesam
from mobilesam.core.metrics import mask_iou
from mobilesam.evaluate.mending import TARGETS, MendingScores, Trial, damages, score_mending
from tests.photos import write_set


def test_a_mask_is_damaged_in_four_ways() -> None:
    rows, columns = np.mgrid[:80, :120]
    truth = (columns - 40) ** 2 + (rows - 40) ** 2 < 900
    other = (columns - 100) ** 2 + (rows - 40) ** 2 < 300
    found = damages(truth, [other], np.random.default_rng(0))
    assert set(found) == {"eroded", "dilated", "part missing", "with another object"}
    assert all(0.3 < mask_iou(mask, truth) < TARGETS[-1] for mask in found.values())
    assert not (found["eroded"] & ~truth).any() and not (truth & ~found["dilated"]).any()
    assert abs(found["part missing"].sum() / truth.sum() - 0.65) < 0.02
    assert (found["with another object"] == truth | other).all()


def test_clicks_are_counted() -> None:
    trials = (Trial("eroded", (0.5, 0.8, 0.91), (0.6, 0.95)), Trial("dilated", (0.95,), (0.87, 0.92)))
    scores = MendingScores("set", trials)
    assert scores.clicks(0.85) == (1, 3.0, 1.0, 1.0)  # the other mask is as good already
    assert scores.clicks(0.9) == (2, 2.0, 1.0, 0.5)
    assert scores.clicks(0.9, "dilated") == (1, 1.0, 1.0, 0.0)


def test_a_set_is_scored(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 1)
    scores = score_mending(mobilesam.load("pocket", threads=1), folder, clicks=2)
    assert scores.name == "set" and len(scores.trials) >= 6
    for one in scores.trials:
        assert 1 <= len(one.anew) <= 2 and 2 <= len(one.mended) <= 3
        assert all(0 <= iou <= 1 for iou in (*one.anew, *one.mended))
