"""The exported page, hosted, and a browser on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobilesam.weights import entry_of, read_weights
from tests.page.browser import RUNTIME, Visit, hosted, needs_browser, needs_runtime, start_browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if reason := needs_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = start_browser(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := needs_runtime():
        pytest.skip(reason)
    from mobilesam.export import page

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "LEVEL", 1)  # the files are not small, but soon there
        page.export_page(read_weights(entry_of("pocket")), folder, runtime=RUNTIME, overwrite=True)
    return folder


@pytest.fixture(scope="module")
def device(chromium: Any, site: Path) -> Iterator[Visit]:
    """The page on the device, with the model loaded; one for all tests of a file."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    with hosted(site) as (url, _):
        visit = Visit(context.new_page())
        visit.page.goto(url)
        visit.expect("#model-state").to_contain_text("ready", timeout=90_000)
        yield visit
        context.close()
