"""The built page that the package carries is that of the sources in ``web/``."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
WEB, STATIC = ROOT / "web", ROOT / "src/mobilesam/server/static"
MAX_BYTES = 1_000_000  # that the page adds to the wheel


def test_the_page_was_built_from_its_sources() -> None:
    paths = [WEB / "build.mjs", WEB / "package-lock.json"]
    paths += [path for room in ("src", "static") for path in (WEB / room).rglob("*") if path.is_file()]
    total = hashlib.sha256()
    for name, path in sorted((path.relative_to(WEB).as_posix(), path) for path in paths):
        total.update(f"{name}\0".encode() + path.read_bytes())
    assert (STATIC / "SOURCE").read_text().strip() == total.hexdigest(), (
        "run make page, and commit what it builds"
    )


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < MAX_BYTES
