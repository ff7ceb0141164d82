"""Sessions: correcting step by step, taking back, and mending a mask without losing what is right in it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import mobilesam
from mobilesam.core.errors import ConfigError, LimitError, OutputError, PromptError
from mobilesam.core.metrics import mask_iou
from mobilesam.core.regions import regions_touching
from mobilesam.core.rle import mask_to_rle
from mobilesam.core.schema import document
from mobilesam.core.strokes import points_along, stroke_to_mask
from mobilesam.segment import session as sessions
from mobilesam.segment.session import SESSION, Session
from tests.photos import cat

FACE = [210.0, 140.0]


@pytest.fixture(scope="module")
def model() -> mobilesam.Model:
    return mobilesam.load("pocket", threads=1)


@pytest.fixture(scope="module")
def embedding(model: mobilesam.Model) -> mobilesam.Embedding:
    return model.embed(cat())


@pytest.fixture(scope="module")
def begun(model: mobilesam.Model, embedding: mobilesam.Embedding) -> Session:
    return model.session(embedding)


@pytest.fixture(scope="module")
def clicked(begun: Session) -> Session:
    return begun.click(FACE)


def same(one: Session, other: Session) -> bool:
    return np.array_equal(one.mask, other.mask) and one.state.chosen == other.state.chosen


def test_a_click_is_what_segment_says(
    model: mobilesam.Model, embedding: mobilesam.Embedding, begun: Session, clicked: Session
) -> None:
    expected = model.segment(embedding, mobilesam.Prompt([FACE]))
    assert begun.mask is None and begun.masks == () and not begun.can_undo
    assert len(clicked.masks) == 3 and np.array_equal(clicked.mask, expected.mask)
    second = clicked.click([20, 20], label=0)
    prompt = mobilesam.Prompt([FACE, [20, 20]], [1, 0], mask=expected.low_res_masks[expected.choice])
    assert np.array_equal(second.mask, model.segment(embedding, prompt).mask)


def test_a_session_is_a_value(clicked: Session) -> None:
    before = clicked.mask.copy()
    other = clicked.click([20, 20], label=0).box([5, 0, 370, 295])
    assert np.array_equal(clicked.mask, before) and clicked.position == 1 and other.position == 3
    with pytest.raises(ValueError, match="read-only"):
        clicked.mask[0, 0] = True


def test_what_was_done_is_taken_back_and_done_again(clicked: Session) -> None:
    chosen = clicked.choose((clicked.state.chosen + 1) % 3)
    assert not same(chosen, clicked)
    further = chosen.click([20, 20], label=0)
    back = further.undo().undo()
    assert same(back, clicked) and back.can_redo
    assert same(back.redo(), chosen) and same(back.redo().redo(), further)
    assert back.redo().redo().redo().position == 3 and back.undo().undo().undo().position == 0
    assert not back.click([30, 30]).can_redo  # a new action replaces what was undone
    cleared = further.clear()
    assert cleared.mask is None and same(cleared.undo(), further)


def test_the_choice_is_what_the_next_click_corrects(
    model: mobilesam.Model, embedding: mobilesam.Embedding, clicked: Session
) -> None:
    number = (clicked.state.chosen + 1) % 3
    found = model.segment(embedding, mobilesam.Prompt([FACE]))
    prompt = mobilesam.Prompt([FACE, [20, 20]], [1, 0], mask=found.low_res_masks[number])
    expected = model.segment(embedding, prompt).mask
    assert np.array_equal(clicked.choose(number).click([20, 20], label=0).mask, expected)


def test_it_is_saved_and_loaded(
    model: mobilesam.Model, begun: Session, clicked: Session, tmp_path: Path
) -> None:
    mask = np.zeros((300, 451), bool)
    mask[50:200, 60:300] = True
    made = (
        clicked.choose(1)
        .stroke([[60, 60], [90, 70]], width=9, label=0)
        .from_mask(mask)
        .click([20, 20])
        .undo()
    )
    made.save(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    Draft202012Validator(document("", SESSION)).validate(json.loads(text))
    loaded = model.session(cat()).load(tmp_path / "a.json")
    assert same(loaded, made) and same(loaded.redo(), made.redo()) and loaded.position == 4
    assert loaded.to_dict() == json.loads(text)
    with pytest.raises(OutputError, match="exists"):
        made.save(tmp_path / "a.json")
    with pytest.raises(PromptError, match="another image"):
        model.session(cat()[:, ::-1]).load(tmp_path / "a.json")
    with pytest.raises(PromptError, match="was made with pocket-1"):
        begun.load(made.to_dict() | {"model": "pocket-1"})


def test_steps_that_are_forgotten_are_worked_out_again(
    begun: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_STATES", 1)
    fresh = Session(begun.predictor, begun.embedding)
    made = fresh.click(FACE).click([20, 20], label=0).click([400, 280], label=0)
    assert len(made._states) == 1
    assert same(made.undo().undo(), begun.click(FACE))


def test_mending_changes_only_what_is_connected_around_the_click(
    model: mobilesam.Model, embedding: mobilesam.Embedding, begun: Session
) -> None:
    whole = model.segment(embedding, mobilesam.Prompt(box=[5, 0, 370, 295])).mask
    island = np.zeros_like(whole)
    island[250:290, 420:445] = True  # what somebody painted, and no model would say
    damaged = (whole | island).copy()
    damaged[60:150, 60:200] = False
    made = begun.from_mask(damaged)
    assert np.array_equal(made.mask, damaged)
    mended = made.click([130, 105])
    assert mended.mask[105, 130] and mended.mask[island].all()
    assert mask_iou(mended.mask, whole | island) > mask_iou(damaged, whole | island)
    assert (mended.mask | ~damaged).all()  # a click that adds takes nothing away
    less = mended.click([432, 270], label=0)
    assert not less.mask[270, 432] and np.array_equal(less.mask & ~island, mended.mask & ~island)
    again = less.click([130, 105])
    assert np.array_equal(again.mask, less.mask) and "nothing changed" in again.remarks[0]


def test_a_click_while_mending_takes_a_part_away(
    model: mobilesam.Model, embedding: mobilesam.Embedding, begun: Session
) -> None:
    """Where no answer with the mask heeds the click, a part that is seen at the click alone goes.

    It is more than a pixel, and not the object itself, which may also be seen there.
    """
    whole = model.segment(embedding, mobilesam.Prompt(box=[5, 0, 370, 295])).mask
    for point in ([55, 45], [135, 45], [215, 45], [215, 105], [55, 225]):
        mended = begun.from_mask(whole).click(point, label=0)
        assert not mended.mask[point[1], point[0]]
        assert np.count_nonzero(mended.mask ^ whole) > 30
        assert np.count_nonzero(mended.mask) >= 0.5 * np.count_nonzero(whole)


def test_what_is_brushed_while_mending_is_in_the_mask(begun: Session) -> None:
    damaged = np.zeros((300, 451), bool)
    damaged[50:200, 60:300] = True
    line = [[330, 80], [350, 150], [330, 190]]
    band = stroke_to_mask(np.array(line, float), 14.0, damaged.shape)
    more = begun.from_mask(damaged).stroke(line, width=14)
    assert more.mask[band].all() and more.mask[damaged].all()
    less = more.stroke(line, width=14, label=0)
    assert not less.mask[band].any()


def test_a_stroke_moves_the_mask_towards_it(begun: Session) -> None:
    inside = begun.stroke([[150, 120], [210, 140], [270, 130]], width=20)
    assert inside.mask[140, 210] and len(inside.masks) == 1
    outside = inside.stroke([[20, 20], [60, 30]], width=20, label=0)
    assert not outside.mask[22, 25]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: s.click([451, 10]), r"action.point\[0\].x: is 451"),
        (lambda s: s.click([10]), "point: has shape"),
        (lambda s: s.click([10, 10], label=2), "label: is 2"),
        (lambda s: s.box([300, 10, 20, 90]), "action.box"),
        (lambda s: s.stroke([[1, 1], [5, 300]]), r"action.stroke\[1\].y"),
        (lambda s: s.stroke([[1, 1]], width=-1), "width"),
        (lambda s: s.stroke([[1, 1]], width=1e6), "width"),
        (lambda s: s.choose(0), "there are 0 masks"),
        (lambda s: s.choose(3), "choose"),
        (lambda s: s.from_mask(np.zeros((9, 9), bool)), "is 9 x 9, the image is 451 x 300"),
        (lambda s: s.from_mask(np.zeros((300, 451))), "boolean mask"),
        (lambda s: s.act({}), "has none of point"),
        (lambda s: s.act({"point": [1, 1], "width": 3}), "width: does not belong to point"),
        (lambda s: s.act({"points": [1, 1]}), "did you mean 'point'"),
        (lambda s: s.load({"version": 1}), "lacks"),
        (lambda s: s.load(s.to_dict() | {"position": 5}), "position: is 5"),
    ],
)
def test_what_cannot_be_meant_is_told(begun: Session, act, words: str) -> None:
    with pytest.raises((PromptError, ConfigError, LimitError), match=words):
        act(begun)


def test_there_is_an_end_to_actions(begun: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_ACTIONS", 2)
    with pytest.raises(LimitError, match="the limit"):
        begun.clear().clear().clear()


def test_a_stroke_covers_what_lies_within_half_its_width() -> None:
    line = np.array([[3.0, 4.0], [20.5, 9.0], [20.5, 25.0]])
    mask = stroke_to_mask(line, 5.0, (30, 40))
    rows, columns = np.mgrid[:30, :40] + 0.5
    steps = np.linspace(0, 1, 400)[:, None]
    on_line = np.concatenate([begin + steps * (end - begin) for begin, end in pairwise(line)])
    nearest = np.hypot(columns[..., None] - on_line[:, 0], rows[..., None] - on_line[:, 1]).min(-1)
    clear = abs(nearest - 2.5) > 0.1
    assert np.array_equal(mask[clear], nearest[clear] < 2.5) and clear.mean() > 0.9
    assert stroke_to_mask(np.array([[7.9, 2.1]]), 0.0, (30, 40)).nonzero() == (np.array([2]), np.array([7]))
    assert np.allclose(points_along(line, 3)[[0, 2]], line[[0, 2]])


def test_regions_that_are_touched() -> None:
    mask = np.zeros((6, 9), bool)
    mask[1:3, 1:3] = mask[4:6, 1] = mask[1, 5:8] = True
    places = np.zeros_like(mask)
    places[2, 2] = places[1, 7] = places[0, 0] = True
    expected = mask.copy()
    expected[4:6, 1] = False
    assert np.array_equal(regions_touching(mask, places), expected)
    assert not regions_touching(mask, np.zeros_like(mask)).any()
    assert not regions_touching(np.zeros_like(mask), places).any()
    assert mask_to_rle(expected).area == 7
