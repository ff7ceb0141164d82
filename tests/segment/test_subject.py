"""The subject of a photo is found without a prompt; where that is unclear it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from mobilesam import Model, Prompt, load
from mobilesam.core.metrics import mask_iou
from mobilesam.detectors.load import detector_for
from mobilesam.evaluate.subject import dominant_object, score_subject
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.subject import MOST_OF_EVERYTHING, Evidence, find_with_evidence

DOMINANT = Path(__file__).parents[1] / "golden" / "dominant_objects.json"


def test_a_person_before_a_busy_ground(pocket: Model) -> None:
    embedding = pocket.embed(data.astronaut())
    subject = pocket.subject(embedding)
    assert subject.mask[300, 225]
    assert not subject.mask[20, 20]


def test_a_clear_subject_has_no_remark(pocket: Model) -> None:
    subject = pocket.subject(pocket.embed(data.coffee()))
    assert subject.remarks == ()
    assert subject.mask[200, 300]


def test_it_is_a_segmentation_like_any_other(pocket: Model) -> None:
    embedding = pocket.embed(data.coffee())
    subject = pocket.subject(embedding)
    assert len(subject) == 1
    assert 0 <= subject.best.predicted_iou <= 1
    again = pocket.segment(embedding, Prompt(points=[300, 200], mask=subject.low_res_masks))
    assert mask_iou(again.mask, subject.mask) > 0.7


def test_a_silhouette(pocket: Model) -> None:
    ground = data.horse()
    subject = pocket.subject(pocket.embed(ground.astype(np.uint8) * 255))
    assert mask_iou(subject.mask, ~ground) > 0.9


def test_what_holds_everything_is_told(pocket: Model) -> None:
    subject = pocket.subject(pocket.embed(data.hubble_deep_field()))
    assert any("not clear what the subject is" in told for told in subject.remarks)
    assert replace(Evidence(1.0, 1.0, 1.0, 1.0), border=0.95).confidence == MOST_OF_EVERYTHING


def test_other_weights_are_asked_by_the_rules_alone(pocket: Model) -> None:
    """The head reads the features of one model; those of another it would misread."""
    tuned = Model(pocket.runtime, name="pocket network with own.safetensors")
    found, evidence = find_with_evidence(
        tuned.predictor, tuned.embed(data.coffee()), detector_for(tuned.runtime, tuned.name)
    )
    assert evidence.alike is None and evidence.there is None
    assert found.mask[200, 300]
    ours = find_with_evidence(
        pocket.predictor, pocket.embed(data.coffee()), detector_for(pocket.runtime, pocket.name)
    )[1]
    assert ours.alike is not None and 0 <= ours.alike <= 1
    assert ours.there is not None and 0 <= ours.there <= 1


@pytest.mark.long
def test_every_runtime_has_it(pocket: Model) -> None:
    image = data.coffee()
    other = load("pocket", runtime="torch")
    assert mask_iou(other.subject(other.embed(image)).mask, pocket.subject(pocket.embed(image)).mask) > 0.999


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_photo_is_told(pocket: Model, value: int) -> None:
    subject = pocket.subject(pocket.embed(np.full((60, 90, 3), value, np.uint8)))
    assert any("not clear what the subject is" in told or "empty" in told for told in subject.remarks)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 90), (90, 3)])
def test_tiny_photos(pocket: Model, height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    assert pocket.subject(pocket.embed(image)).mask.shape == (height, width)


@pytest.mark.long
def test_a_mirrored_photo_has_the_mirrored_subject(pocket: Model) -> None:
    image = data.astronaut()
    one = pocket.subject(pocket.embed(image)).mask
    other = pocket.subject(pocket.embed(np.ascontiguousarray(image[:, ::-1]))).mask
    assert mask_iou(one, other[:, ::-1]) > 0.95


@pytest.mark.parametrize("name", ["msrc_cow", "ccp_fashion", "coco_val", "bsds_consensus", "nuclei"])
def test_the_photos_that_count_are_those_that_were_scored(shared: Path, name: str) -> None:
    wanted = json.loads(DOMINANT.read_text()).get(name, [])
    found = [
        one.path.name for one in read_photos(shared / "data/eval" / name) if dominant_object(one) is not None
    ]
    assert found == wanted


@pytest.mark.long
def test_cows_are_found_about_as_well_as_by_their_boxes(pocket: Model, shared: Path) -> None:
    scores = score_subject(pocket, shared / "data/eval/msrc_cow", limit=5)
    assert scores.images == 5
    assert scores.ways["subject"]["iou"] > 0.93
    assert scores.ways["subject"]["iou"] > scores.ways["ground"]["iou"]
    assert scores.ways["subject"]["max_f"] > 0.95
    assert scores.ways["subject"]["mae"] < scores.ways["ground"]["mae"]
