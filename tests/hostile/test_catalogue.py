"""No row of the catalogue of hostile input is without a test; each test's name begins with its row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = [f"I{number:02}" for number in range(1, 73)]
PROMPTS = [f"Q{number:02}" for number in range(1, 67)]
HTTP_ONLY = {
    "Q66": "sessions and embedding ids are a server's; in the library an embedding is a value",
}


def test_no_row_is_missing() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/hostile",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    rows = set(re.findall(r"(?:\[|_)([IQ]\d\d)(?=\W|_)", done.stdout))
    assert sorted(rows) == sorted({*IMAGES, *PROMPTS} - set(HTTP_ONLY))
