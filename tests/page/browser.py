"""A real browser that looks at the page: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "web" / "node_modules"
RUNTIME, AXE = MODULES / "onnxruntime-web", MODULES / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CAMERA = "--use-fake-device-for-media-stream"  # a camera that shows a moving picture, whatever is plugged in
PATIENCE = 90_000  # milliseconds; a machine may be busy


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A host as simple as they come: no headers for isolation, nothing packed."""

    extensions_map: ClassVar[dict[str, str]] = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
    }

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def hosted(folder: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """Serve a folder on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def needs_browser() -> str:
    """Why no browser can be used here, or an empty text."""
    try:
        import playwright.sync_api  # noqa: F401
    except ModuleNotFoundError:
        return "needs Playwright: pip install playwright"
    return "" if CHROMIUM else "needs Chromium: apt-get install chromium"


def needs_runtime() -> str:
    """Why the model cannot run in a browser here, or an empty text."""
    return needs_browser() or ("" if RUNTIME.is_dir() else "needs onnxruntime-web: npm ci in web/")


def start_browser(playwright: Any) -> Any:
    """Start Chromium; without its sandbox, which a container does not allow."""
    return playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--disable-dev-shm-usage", CAMERA],
        env=dict(os.environ),
    )


class Visit:
    """A page that is open, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self._told(message))

    def _told(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the photo is on the screen."""
        x, y = self.page.evaluate("([x, y]) => mobilesam.stage.toPage([x, y])", [x, y])
        return x, y

    def click(self, x: float, y: float, **options: Any) -> None:
        """Click on a pixel of the photo."""
        self.page.mouse.click(*self.place(x, y), **options)

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        """Drag over pixels of the photo."""
        self.page.mouse.move(*self.place(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.place(*point), steps=4)
        self.page.mouse.up(button=button)

    def open(self, *paths: Path) -> None:
        """Open photos as if the user had chosen them."""
        self.page.set_input_files("#file", [str(path) for path in paths])
        self.expect("#workspace").to_be_visible(timeout=PATIENCE)
        self.expect("#busy").to_be_hidden(timeout=PATIENCE)

    def expect(self, selector: str) -> Any:
        """What must become true of an element."""
        from playwright.sync_api import expect

        return expect(self.page.locator(selector))

    def objects(self, count: int) -> None:
        """Wait until there are so many objects, and nothing is being asked."""
        self.expect("#items li").to_have_count(count, timeout=PATIENCE)
        self.settled()

    def settled(self) -> None:
        """Wait until everything that was asked has been answered."""
        self.page.evaluate("() => mobilesam.app.turn")

    def save(self, kind: str, folder: Path) -> Path:
        """Save the objects as a kind of file."""
        self.page.select_option("#format", kind)
        with self.page.expect_download() as download:
            self.page.click("#save")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def violations(self) -> list[str]:
        """What axe-core finds wrong on the page as it is."""
        if not AXE.is_file():
            pytest.skip("needs axe-core: npm ci in web/")
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("() => axe.run()")["violations"]
        return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]
