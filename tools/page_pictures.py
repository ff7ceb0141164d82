"""The pictures of the page in the documents: what a browser shows of it, and a click that becomes a cut-out.

    python -m tools.page_pictures docs/pictures

It needs what the page's tests need: Chromium, Playwright, and ``npm ci`` in web/.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from tests.page.browser import PATIENCE, RUNTIME, Visit, hosted, start_browser

from mobilesam.export.page import export_page
from mobilesam.weights import entry_of, read_weights

SIZE = {"width": 1120, "height": 700}
SHRINK = 0.72  # of the animation
HAND = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))  # an arrow's corners
CUP, SPOON = (270, 120), ((322, 222), (412, 334))  # of the sample photo


class Film:
    """Frames of an animation, with the pointer that screenshots leave out."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.at = (700.0, 560.0)
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        """Take a picture that stays for a while."""
        picture = Image.open(io.BytesIO(self.visit.page.screenshot())).convert("RGB")
        x, y = self.at
        ImageDraw.Draw(picture).polygon([(x + u, y + v) for u, v in HAND], fill="black", outline="white")
        size = round(picture.width * SHRINK), round(picture.height * SHRINK)
        self.frames.append(picture.resize(size, Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def go(self, x: float, y: float, steps: int = 4) -> None:
        """Move the pointer over the page."""
        x0, y0 = self.at
        for i in range(1, steps + 1):
            self.at = (x0 + (x - x0) * i / steps, y0 + (y - y0) * i / steps)
            self.visit.page.mouse.move(*self.at)
            self.shoot(70)

    def over(self, selector: str) -> None:
        """Move the pointer onto something, and press it."""
        box = self.visit.page.locator(selector).bounding_box()
        self.go(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self.visit.page.mouse.click(*self.at)

    def save(self, path: Path) -> None:
        """Write an animation that goes on for ever."""
        first, *rest = self.frames
        first.save(path, save_all=True, append_images=rest, duration=self.times, loop=0, quality=72, method=6)


def open_page(browser: Any, url: str, **options: Any) -> Visit:
    """Open the sample photo."""
    visit = Visit(browser.new_context(**options).new_page())
    visit.page.goto(url)
    visit.expect("#model-state").to_contain_text("ready", timeout=PATIENCE)
    visit.page.click("#sample")
    visit.expect("#workspace").to_be_visible(timeout=PATIENCE)
    visit.settled()
    return visit


def film(browser: Any, url: str, path: Path) -> None:
    """A click, its mask, a box, and the cut-out of both."""
    visit = open_page(browser, url, viewport=SIZE)
    shot = Film(visit)
    shot.shoot(700)
    shot.go(*visit.place(*CUP))
    visit.page.wait_for_timeout(900)
    shot.shoot(900)
    visit.page.mouse.click(*shot.at)
    visit.objects(1)
    visit.page.mouse.move(2, 2)
    visit.page.wait_for_timeout(300)
    shot.shoot(1300)
    shot.over("#new")
    shot.over("[data-tool=box]")
    shot.go(*visit.place(*SPOON[0]))
    visit.page.mouse.down()
    shot.go(*visit.place(*SPOON[1]))
    visit.page.mouse.up()
    visit.objects(2)
    visit.page.wait_for_timeout(300)
    shot.shoot(1200)
    shot.over("#cut")
    visit.expect("#busy").to_be_hidden(timeout=PATIENCE)
    visit.page.wait_for_timeout(2500)
    visit.settled()
    shot.shoot(1300)
    shot.over("#grounds [aria-label=Sand]")
    visit.page.wait_for_timeout(300)
    shot.shoot(2200)
    shot.save(path)


def still(browser: Any, url: str, path: Path, **options: Any) -> None:
    """Two objects, as they look while one works."""
    visit = open_page(browser, url, **options)
    visit.click(*CUP)
    visit.objects(1)
    visit.page.mouse.move(2, 2)
    visit.page.wait_for_timeout(400)
    picture = Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")
    picture.save(path, quality=84, method=6)


def main() -> None:
    """Write the pictures into a folder."""
    from playwright.sync_api import sync_playwright

    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        export_page(read_weights(entry_of("pocket")), Path(folder), runtime=RUNTIME, overwrite=True)
        with sync_playwright() as playwright, hosted(Path(folder)) as (url, _):
            browser = start_browser(playwright)
            film(browser, url, out / "page.webp")
            still(browser, url, out / "page-dark.webp", viewport=SIZE, color_scheme="dark")
            browser.close()


if __name__ == "__main__":
    main()
