"""The shipped model on real photos with human masks; skipped where the data are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from mobilesam import Prompt
from mobilesam.core.metrics import mask_iou
from mobilesam.core.rle import rle_to_mask
from mobilesam.evaluate.clicks import next_click, score_clicks
from mobilesam.evaluate.kinds import KINDS, USUAL_KINDS
from mobilesam.evaluate.prompted import nested_pairs, score_nested, score_photo, score_prompted
from mobilesam.evaluate.report import pick, write_report
from mobilesam.evaluate.sets import countable
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.model import Model
from tests.guard import CARD, quality_of
from tests.photos import cat, write_set


def test_a_cat_from_a_point_and_from_a_box(pocket: Model) -> None:
    embedding = pocket.embed(cat())
    for prompt in (Prompt(points=[230, 150]), Prompt(box=[5, 0, 370, 295])):
        mask = pocket.segment(embedding, prompt).mask
        assert mask[50:250, 60:300].mean() > 0.9
        assert mask[100:, 400:].mean() < 0.1


def test_scores_are_what_they_say(tmp_path: Path, pocket: Model) -> None:
    folder = write_set(tmp_path / "set", 2)
    scores = score_prompted(pocket, folder)
    assert (scores.images, scores.objects) == (2, 4)
    assert list(scores.kinds) == list(USUAL_KINDS)
    again = [score_photo(pocket, p) for p in read_photos(folder)]
    for kind, summary in scores.kinds.items():
        each = [score for photo in again for score in photo[kind]]
        assert summary.iou == pytest.approx(np.mean([e.iou for e in each]), abs=1e-6)
        assert summary.iou <= summary.best
        assert max(summary.largest, summary.stablest) <= summary.best
        assert 0 <= summary.boundary <= 1
        assert 0 <= summary.calibration <= 1
    assert scores.kinds["box"].best == scores.kinds["box"].iou  # one mask
    assert not [rle for p in read_photos(folder) for rle in countable(p, 0.9)]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_of_their_kind(kind: str) -> None:
    truth = np.zeros((60, 90), bool)
    truth[10:50, 20:40] = True
    truth[20:30, 40:70] = True
    prompt = KINDS[kind].make(truth, np.random.default_rng(1))
    if prompt.box is not None:
        away = np.abs(np.array(prompt.box) - (20, 10, 70, 50)) / (50, 40, 50, 40)
        assert away.max() <= (0.1 if kind == "loose-box" else 0)
        assert (away > 0).any() == (kind == "loose-box")
    if prompt.points is not None:
        labels = prompt.labels or [1] * len(prompt.points)
        assert all(truth[y, x] == label for (x, y), label in zip(prompt.points, labels, strict=True))
        assert len(labels) == {"points": 3, "background": 3}.get(kind, 1)
        apart = [distance_transform_edt(~truth)[y, x] for x, y in prompt.points]
        assert all(0 < d < 5 for d, label in zip(apart, labels, strict=True) if label == 0)
    if prompt.mask is not None:
        assert 0.5 < mask_iou(prompt.mask, truth) < 1


def test_the_smallest_object_has_every_kind_of_prompt(pocket: Model) -> None:
    truth = np.zeros((40, 50), bool)
    truth[7, 9] = True
    embedding = pocket.embed(np.zeros((40, 50, 3), np.uint8))
    for kind in KINDS.values():
        pocket.segment(embedding, kind.make(truth, np.random.default_rng(0)))
    everything = np.ones((40, 50), bool)
    for kind in KINDS.values():
        kind.make(everything, np.random.default_rng(0))


def test_a_part_and_its_whole(tmp_path: Path, pocket: Model) -> None:
    whole = np.zeros((40, 40), bool)
    whole[5:35, 5:35] = True
    part, other = np.zeros_like(whole), np.zeros_like(whole)
    part[6:12, 6:12] = True
    other[30:40, 30:40] = True  # a quarter of it lies in the whole
    assert nested_pairs([whole, part, other]) == [(1, 0)]
    folder = write_set(tmp_path / "set", 2)
    pairs = [nested_pairs([rle_to_mask(i.segmentation) for i in p.instances]) for p in read_photos(folder)]
    nested = score_nested(pocket, folder)
    assert nested.pairs == sum(map(len, pairs)) == 1
    assert 0 <= nested.part <= 1
    assert 0 <= nested.whole <= 1
    assert nested.both in (0, 1)
    assert np.isnan(score_nested(pocket, write_set(tmp_path / "one", 1)).both)


def test_a_report_shows_the_best_and_the_worst(tmp_path: Path, pocket: Model) -> None:
    scores = score_prompted(pocket, write_set(tmp_path / "set", 3), kinds=("box", "point"))
    best, median, worst = pick(scores.each["box"], 1, worth=lambda score: score.iou)
    assert best[0].iou >= median[0].iou >= worst[0].iou
    assert len({one[0].photo.path for one in (best, median, worst)}) == 3
    paths = write_report(scores, tmp_path / "report")
    assert [path.name for path in paths] == ["set-box.png", "set-point.png", "set-reliability.png"]
    with Image.open(paths[0]) as sheet:
        assert sheet.size == (8 * 240, 18 + 3 * (240 + 18))
        assert len(sheet.convert("L").getcolors()) > 100


def test_the_model_is_as_good_as_its_card(shared: Path, pocket: Model) -> None:
    """24 photos whose names are committed, by box and by one point, as ``make bench-quick`` scores them."""
    found = quality_of(pocket, shared)
    for row, wanted in CARD["iou"].items():
        assert abs(found[row] - wanted) < 0.01, f"{row}: {found[row]:.4f}, on the card {wanted}"


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


@pytest.mark.long
def test_a_mask_prompt_is_looked_at(shared: Path, pocket: Model) -> None:
    """From a coarse mask alone the model finds the object better than from nothing but chance."""
    found = []
    for photo in read_photos(shared / "data" / "eval" / "coco_val")[:15]:
        embedding = pocket.embed(photo.path)
        for rle in countable(photo, 0.02)[:3]:
            truth = rle_to_mask(rle)
            found.append(mask_iou(pocket.segment(embedding, Prompt(mask=truth)).mask, truth))
    assert np.mean(found) > 0.6
