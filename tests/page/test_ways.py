"""How photos come to the page, and how the picture moves under the pointer, in a real browser."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.page.browser import PATIENCE, Visit, hosted
from tests.photos import cat, jpeg
from tests.server.running import running

FILE = """async (data) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
    files.items.add(new File(["words"], "notes.txt", { type: "text/plain" }));
"""
PASTE = (
    FILE
    + "document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true })); }"
)
DROP = FILE + (
    "document.body.dispatchEvent("
    "new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true })); }"
)


@pytest.fixture(scope="module")
def photo() -> bytes:
    return jpeg(cat())


@pytest.fixture
def fresh(device: Visit) -> Visit:
    device.page.evaluate("() => { mobilesam.app.dirty = mobilesam.app.unsaved = false; }")
    return device


@pytest.fixture
def opened(fresh: Visit, photo: bytes, tmp_path: Path) -> Visit:
    (tmp_path / "cat.jpg").write_bytes(photo)
    fresh.open(tmp_path / "cat.jpg")
    fresh.objects(0)
    fresh.page.evaluate("() => mobilesam.tool('point')")
    fresh.page.click("#zoom-fit")
    return fresh


@pytest.mark.parametrize("way", [PASTE, DROP], ids=["pasted", "dropped"])
def test_a_photo_is_given(fresh: Visit, photo: bytes, way: str) -> None:
    fresh.page.evaluate(way, base64.b64encode(photo).decode())
    fresh.expect("#photo-name").to_have_text("given.jpg", timeout=PATIENCE)
    fresh.expect("#busy").to_be_hidden(timeout=PATIENCE)
    fresh.click(230, 150)
    fresh.objects(1)
    assert fresh.wrong == []


def test_a_photo_is_taken(fresh: Visit, photo: bytes, tmp_path: Path) -> None:
    """A phone's browser opens its camera for this field, and hands over a file."""
    (tmp_path / "taken.jpg").write_bytes(photo)
    assert fresh.page.get_attribute("#camera", "capture") == "environment"
    fresh.page.set_input_files("#camera", str(tmp_path / "taken.jpg"))
    fresh.expect("#photo-name").to_have_text("taken.jpg", timeout=PATIENCE)
    assert fresh.wrong == []


@pytest.mark.long
def test_the_cameras_picture_becomes_a_photo(chromium: Any, site: Path) -> None:
    context = chromium.new_context(permissions=["camera"])
    with hosted(site) as (url, _):
        visit = Visit(context.new_page())
        visit.page.goto(url)
        visit.expect("#model-state").to_contain_text("ready", timeout=PATIENCE)
        visit.page.click("#welcome [data-webcam-open]")
        visit.expect("#webcam").to_be_visible(timeout=PATIENCE)
        visit.page.wait_for_function("() => document.querySelector('#webcam-picture').videoWidth > 0")
        assert visit.violations() == []
        visit.page.click("#webcam-take")
        visit.expect("#workspace").to_be_visible(timeout=PATIENCE)
        visit.expect("#photo-name").to_have_text(re.compile(r"^camera-[\dT-]+\.jpg$"))
        assert visit.page.evaluate("() => document.querySelector('#webcam-picture').srcObject") is None
        visit.expect("#busy").to_be_hidden(timeout=PATIENCE)
        width, height = visit.page.evaluate(
            "() => [mobilesam.app.photo.image.width, mobilesam.app.photo.image.height]"
        )
        visit.click(width / 2, height / 2)
        visit.objects(1)
        assert visit.wrong == []
        visit.page.evaluate("() => { mobilesam.app.unsaved = false; }")
        context.clear_permissions()
        visit.page.click("header [data-webcam-open]")
        visit.expect("#failure").to_contain_text("camera was not allowed", timeout=PATIENCE)
    context.close()


def test_what_is_no_photo_is_told(fresh: Visit, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("words")
    fresh.page.set_input_files("#file", str(tmp_path / "notes.png"))
    fresh.expect("#failure").to_be_visible(timeout=PATIENCE)
    assert fresh.page.inner_text("#failure-text").strip()
    fresh.expect("#busy").to_be_hidden(timeout=PATIENCE)
    fresh.wrong.clear()  # the browser's console tells of it, too


def test_zoom_keeps_what_is_under_the_pointer(opened: Visit, tmp_path: Path) -> None:
    page = opened.page
    before = opened.place(230, 150)
    page.mouse.move(*before)
    page.mouse.wheel(0, -600)
    assert page.evaluate("() => parseFloat(document.querySelector('#zoom-value').textContent)") > 150
    np.testing.assert_allclose(opened.place(230, 150), before, atol=3)  # a wheel tells whole pixels
    page.mouse.move(*opened.place(230, 150))
    page.focus("#stage")
    page.keyboard.down(" ")
    page.mouse.down()
    page.mouse.move(before[0] + 60, before[1] - 40, steps=3)
    page.mouse.up()
    page.keyboard.up(" ")
    np.testing.assert_allclose(opened.place(230, 150), (before[0] + 60, before[1] - 40), atol=3)
    opened.objects(0)  # moving the picture asks nothing
    opened.click(230, 150)
    opened.objects(1)
    (one,) = json.loads(opened.save("prompts", tmp_path).read_text())["objects"]
    np.testing.assert_allclose(one["points"], [[230, 150]], atol=0.5)
    assert opened.wrong == []


def test_two_fingers_zoom_and_ask_nothing(opened: Visit) -> None:
    page, (x, y) = opened.page, opened.place(230, 150)
    session = page.context.new_cdp_session(page)

    def fingers(kind: str, *apart: float) -> None:
        points = [{"x": x + step, "y": y, "id": number} for number, step in enumerate(apart)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    left, right = opened.place(230, 150), opened.place(330, 150)
    fingers("touchStart", -40)
    fingers("touchStart", -40, 40)
    for apart in (50, 60, 80):
        fingers("touchMove", -apart, apart)
    fingers("touchEnd")
    session.detach()
    apart = opened.place(330, 150)[0] - opened.place(230, 150)[0]
    assert apart / (right[0] - left[0]) == pytest.approx(2, rel=0.05)
    np.testing.assert_allclose(opened.place(230, 150), (x, y), atol=2)
    opened.objects(0)
    assert opened.wrong == []


@pytest.fixture
def without_graphics_card(chromium: Any, site: Path) -> Iterator[Visit]:
    context = chromium.new_context()
    context.add_init_script("localStorage.setItem('mobilesam-webgpu', '1')")
    with hosted(site) as (url, _):
        visit = Visit(context.new_page())
        visit.page.goto(url)
        yield visit
        context.close()


@pytest.mark.long
def test_without_a_graphics_card_the_processor_computes(without_graphics_card: Visit) -> None:
    visit = without_graphics_card
    visit.expect("#model-state").to_contain_text("ready", timeout=PATIENCE)
    visit.expect("#webgpu-state").to_contain_text("the processor computes")
    visit.page.click("#sample")
    visit.expect("#workspace").to_be_visible(timeout=PATIENCE)
    visit.expect("#busy").to_be_hidden(timeout=PATIENCE)
    visit.click(270, 120)
    visit.objects(1)


def test_the_page_brings_its_token(chromium: Any, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a.jpg").write_bytes(photo)
    token = "a-token-of-enough-letters-1234567890"
    arguments = ["ui", "--no-browser", str(tmp_path / "shots")]
    with running(arguments, {"MOBILESAM_TOKEN": token}) as server:
        address = server.address.partition("#")[0]
        for fragment, works in (("", False), (f"#token={token}", True)):
            context = chromium.new_context()
            visit = Visit(context.new_page())
            visit.page.goto(address + fragment)
            if works:
                visit.expect("#photo-name").to_have_text("a.jpg", timeout=PATIENCE)
                assert visit.wrong == []
            else:
                visit.expect("#failure").to_be_visible(timeout=PATIENCE)
                assert "token" in visit.page.inner_text("#failure-text").lower()
            context.close()
