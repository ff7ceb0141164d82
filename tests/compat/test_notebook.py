"""The widget for notebooks: what messages do, and in a real Jupyter with a real browser."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam import Model, Prompt
from mobilesam.compat.notebook import Clicker
from mobilesam.compat.notebook.clicker import HINT
from tests.page.browser import PATIENCE, needs_browser, start_browser
from tests.photos import cat

FACE = [230.0, 150.0]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
CELLS = (
    "import mobilesam\n"
    "from mobilesam.compat.notebook import Clicker\n"
    "clicker = Clicker(mobilesam.load('pocket'), 'photo.png')\n"
    "clicker",
    "print('area', clicker.mask.sum(), 'objects', len(clicker.masks), *(session.actions for session in clicker.sessions))",
)


def act(clicker: Clicker, **action: Any) -> None:
    clicker._handle_custom_msg({"do": "act", "action": action}, [])


def do(clicker: Clicker, what: str) -> None:
    clicker._handle_custom_msg({"do": what}, [])


@pytest.fixture
def clicker(pocket: Model) -> Clicker:
    return Clicker(pocket, cat())


def test_clicks_give_the_models_masks(clicker: Clicker, pocket: Model) -> None:
    assert clicker.mask is None and clicker.segmentation is None and clicker.masks == ()
    assert clicker.size == [451, 300]
    assert clicker.told == HINT
    act(clicker, point=FACE, label=1)
    wanted = pocket.segment(pocket.embed(cat()), Prompt(points=[FACE]))
    np.testing.assert_array_equal(clicker.mask, wanted.mask)
    assert clicker.segmentation is not None
    np.testing.assert_array_equal(clicker.segmentation.predicted_iou, wanted.predicted_iou)
    assert clicker.asked == {"points": ((230.0, 150.0),), "labels": (1,), "box": None}
    assert clicker.can == {"undo": True, "redo": False, "next": True, "choose": True}
    overlay = np.asarray(Image.open(io.BytesIO(clicker.overlay)))
    np.testing.assert_array_equal(overlay[..., 3] > 0, wanted.mask)
    do(clicker, "choose")
    assert not np.array_equal(clicker.mask, wanted.mask)
    do(clicker, "undo")
    np.testing.assert_array_equal(clicker.mask, wanted.mask)


def test_several_objects_and_back(clicker: Clicker) -> None:
    act(clicker, box=[20, 20, 390, 280])
    first = clicker.mask
    do(clicker, "next")
    do(clicker, "next")  # there is nothing yet to keep
    assert clicker.mask is None and len(clicker.masks) == 1
    act(clicker, point=[20, 20], label=1)
    assert len(clicker.masks) == 2 == len(clicker.sessions)
    do(clicker, "undo")
    do(clicker, "undo")  # back in the first object
    assert clicker.mask is not None and first is not None
    np.testing.assert_array_equal(clicker.mask, first)
    do(clicker, "undo")
    assert clicker.masks == () and clicker.can["undo"] is False and clicker.can["redo"] is True
    do(clicker, "undo")
    do(clicker, "redo")
    np.testing.assert_array_equal(clicker.mask, first)


def test_what_cannot_be_done_is_told(clicker: Clicker) -> None:
    act(clicker, point=[9999, 3], label=1)
    assert "9999" in clicker.told and clicker.mask is None
    clicker._handle_custom_msg({"do": "act", "action": {"paint": 1}}, [])
    assert "paint" in clicker.told
    act(clicker, point=FACE, label=1)
    assert clicker.mask is not None


def test_a_large_image_is_shown_smaller(pocket: Model) -> None:
    clicker = Clicker(pocket, np.zeros((600, 2400, 3), np.uint8))
    assert clicker.size == [2400, 600]
    with Image.open(io.BytesIO(clicker.picture)) as picture:
        assert picture.size == (1024, 256)


def needs_jupyter() -> str:
    """Why no notebook can be opened here, or an empty text."""
    return needs_browser() or ("" if find_spec("jupyterlab") else "needs JupyterLab: pip install jupyterlab")


@contextmanager
def jupyter(folder: Path) -> Iterator[str]:
    """Run JupyterLab on this machine; yield its address with the token."""
    source = Path(mobilesam.__file__).parents[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        "--allow-root",
    ]
    command += [
        "--ServerApp.root_dir",
        str(folder),
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source), "HOME": str(folder), "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    try:
        found = None
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", line)
            if found:
                break
        assert found
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


@pytest.mark.long
@pytest.mark.skipif(bool(needs_jupyter()), reason=needs_jupyter() or "-")
def test_in_jupyter(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    Image.fromarray(cat()).save(tmp_path / "photo.png")
    cells = [
        {
            "cell_type": "code",
            "source": text,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "id": f"c{i}",
        }
        for i, text in enumerate(CELLS)
    ]
    (tmp_path / "click.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5})
    )
    with jupyter(tmp_path) as address, sync_playwright() as playwright:
        browser = start_browser(playwright)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(address.replace("/lab?", "/lab/tree/click.ipynb?"))
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.keyboard.press("Shift+Enter")
        canvas = page.locator(".mobilesam-clicker canvas")
        expect(canvas).to_be_visible(timeout=PATIENCE)
        status = page.locator(".mobilesam-clicker [role=status]")
        box = canvas.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 230 * box["width"] / 451, box["y"] + 150 * box["height"] / 300)
        expect(status).to_contain_text("object 1", timeout=PATIENCE)
        page.keyboard.press("n")
        page.mouse.move(box["x"] + 20 * box["width"] / 451, box["y"] + 20 * box["height"] / 300)
        page.mouse.down()
        page.mouse.move(box["x"] + 390 * box["width"] / 451, box["y"] + 280 * box["height"] / 300, steps=4)
        page.mouse.up()
        expect(status).to_contain_text("object 2", timeout=PATIENCE)
        if folder := os.environ.get("MOBILESAM_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "jupyter.png")
        page.locator(".jp-Notebook .jp-Cell").nth(1).click()
        page.keyboard.press("Shift+Enter")
        output = page.locator(".jp-OutputArea-output", has_text="area ")
        expect(output).to_contain_text("objects 2", timeout=PATIENCE)
        told = output.inner_text()
        browser.close()
    model = mobilesam.load("pocket")
    (x0, y0, x1, y1) = json.loads(re.search(r"'box': (\[.*?\])", told)[1])  # type: ignore[index]
    np.testing.assert_allclose([x0, y0, x1, y1], [20, 20, 390, 280], atol=2)
    wanted = model.segment(model.embed(cat()), Prompt(box=[x0, y0, x1, y1])).mask.sum()
    assert int(re.search(r"area (\d+)", told)[1]) == wanted  # type: ignore[index]
