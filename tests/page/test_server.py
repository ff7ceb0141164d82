"""The page with a server behind it, in a real browser: the same page, and photos that lie in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

import mobilesam
from tests.page.browser import PATIENCE, Visit
from tests.photos import cat
from tests.server.running import running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    Image.fromarray(cat()).save(folder / "a.png")
    Image.fromarray(data.coffee()).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def visit(chromium: Any, folder: Path) -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    with running(["ui", "--no-browser", str(folder)]) as server:
        visit = Visit(context.new_page())
        visit.page.goto(server.address)
        visit.expect("#workspace").to_be_visible(timeout=PATIENCE)
        yield visit
        context.close()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture) > 127


def test_a_folder_photo_by_photo(visit: Visit, folder: Path, tmp_path: Path) -> None:
    page = visit.page
    visit.expect("#photo-name").to_have_text("a.png")
    visit.click(230, 150)
    visit.objects(1)
    page.fill("#items input", "cat")
    page.keyboard.press("Enter")
    mask = read(visit.save("mask", tmp_path))
    model = mobilesam.load("pocket")
    wanted = model.segment(model.embed(folder / "a.png"), mobilesam.Prompt(points=[[230, 150]])).mask
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.999
    page.click("#next")
    visit.expect("#photo-name").to_have_text("b.png", timeout=PATIENCE)
    visit.objects(0)
    saved = json.loads((folder / "a.json").read_text())
    assert {shape["label"] for shape in saved["shapes"]} == {"cat"}
    assert json.loads((folder / "a.prompts.json").read_text())["objects"][0]["label"] == "cat"
    page.keyboard.press("b")
    visit.drag((325, 228), (408, 330))
    visit.objects(1)
    page.click("#previous")
    visit.expect("#photo-name").to_have_text("a.png", timeout=PATIENCE)
    visit.objects(1)
    assert page.input_value("#items input") == "cat"
    assert visit.wrong == []


@pytest.mark.long
def test_the_mask_follows_the_pointer_and_everything_can_be_picked(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("n")
    page.keyboard.press("p")
    page.mouse.move(*visit.place(300, 200))
    page.wait_for_timeout(1500)
    assert page.evaluate("() => mobilesam.app.preview.w") > 0
    before = page.locator("#items li").count()
    page.keyboard.press("e")
    visit.expect("#found").to_be_visible(timeout=PATIENCE)
    x, y = page.evaluate(
        """() => {
            const { mask } = mobilesam.app.found[0];
            const at = mask.bits.indexOf(1);
            return [mask.x + (at % mask.w) + 0.5, mask.y + Math.floor(at / mask.w) + 0.5];
        }"""
    )
    visit.click(x, y)
    visit.objects(before + 1)
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    visit.expect("#grounds").to_be_visible()
    visit.expect("#busy").to_be_hidden(timeout=PATIENCE)
    visit.settled()
    assert page.evaluate("() => mobilesam.app.cut.picture.width") == 451
    assert visit.violations() == []
    assert visit.wrong == []
