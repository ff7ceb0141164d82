"""The page with the model on the device, in a real browser: what it does, and that its masks are Python's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam.formats.prompt_file import read_prompts
from tests.page.browser import PATIENCE, Visit, hosted
from tests.photos import cat


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "cat.png"
    Image.fromarray(cat()).save(path)
    return path


@pytest.fixture(scope="module")
def model() -> mobilesam.Model:
    return mobilesam.load("pocket")


@pytest.fixture(scope="module")
def embedding(model: mobilesam.Model, photo: Path) -> Any:
    return model.embed(photo)


@pytest.fixture
def opened(device: Visit, photo: Path) -> Visit:
    device.page.evaluate(
        "() => { mobilesam.app.dirty = mobilesam.app.unsaved = false; mobilesam.tool('point'); }"
    )
    device.open(photo)
    device.objects(0)
    return device


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.asarray(picture) > 127


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def test_a_click_a_box_undo_and_saved_masks(
    opened: Visit, model: mobilesam.Model, embedding: Any, tmp_path: Path
) -> None:
    opened.click(230, 150)
    opened.objects(1)
    opened.expect("#choices .choice").to_have_count(3)
    wanted = model.segment(embedding, mobilesam.Prompt(points=[[230, 150]]))
    path = opened.save("mask", tmp_path)
    assert path.name == "cat-mask.png"
    assert iou(read(path), wanted.mask) > 0.999
    opened.click(40, 30, button="right")
    opened.settled()
    prompts = json.loads(opened.save("prompts", tmp_path).read_text())
    (one,) = prompts["objects"]
    assert one["labels"] == [1, 0]
    assert np.allclose(one["points"], [[230, 150], [40, 30]], atol=0.01)
    opened.page.keyboard.press("Control+z")
    assert iou(read(opened.save("mask", tmp_path)), wanted.mask) > 0.999
    opened.page.keyboard.press("Control+z")
    opened.objects(0)
    opened.page.keyboard.press("Control+Shift+z")
    opened.objects(1)

    opened.page.keyboard.press("n")
    opened.page.keyboard.press("b")
    opened.drag((20, 20), (390, 280))
    opened.objects(2)
    saved = read_prompts(opened.save("prompts", tmp_path)).prompts
    again = model.segment(embedding, saved)
    opened.page.keyboard.press(",")
    opened.page.keyboard.press("Delete")
    opened.objects(1)
    assert iou(read(opened.save("mask", tmp_path)), again[1].mask) > 0.999
    assert opened.wrong == []


def test_nobody_is_kept_out(opened: Visit) -> None:
    opened.click(230, 150)
    opened.objects(1)
    assert opened.violations() == []
    opened.page.keyboard.press("c")
    opened.expect("#grounds").to_be_visible()
    opened.settled()
    assert opened.violations() == []
    opened.page.keyboard.press("Escape")
    opened.page.keyboard.press("?")
    assert opened.violations() == []
    opened.page.keyboard.press("Escape")


@pytest.mark.long
def test_without_a_network_after_the_first_visit(chromium: Any, site: Path) -> None:
    context = chromium.new_context()
    with hosted(site) as (url, server):
        visit = Visit(context.new_page())
        visit.page.goto(url)
        visit.expect("#model-state").to_contain_text("ready", timeout=PATIENCE)
        assert visit.page.evaluate("crossOriginIsolated")  # though the host sends no headers
        assert visit.violations() == []  # the first screen
        server.shutdown()
        server.server_close()
        visit.page.reload()
        visit.expect("#model-state").to_contain_text("ready", timeout=PATIENCE)
        visit.page.click("#sample")
        visit.expect("#workspace").to_be_visible(timeout=PATIENCE)
        visit.click(270, 120)
        visit.objects(1)
        assert visit.wrong == []
    context.close()
