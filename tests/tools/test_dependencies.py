"""Each dependency has its line in the documents, with the extras that bring it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = {re.match(r"[\w.-]+", requirement)[0] for requirement in PROJECT["dependencies"]}
EXTRAS = re.compile(r"`[^`]*`")  # that a row names, some like their package
PAGE = ROOT / "docs/explanation/dependencies.md"


def test_each_dependency_has_its_line_with_its_extras() -> None:
    rows = [line.split("|")[1:4] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for extra, wanted in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items():
        for requirement in wanted:
            name = re.match(r"[\w.-]+", requirement)
            assert name, requirement
            if name[0] == PROJECT["name"] or (extra and name[0] in BASE):  # there only narrower
                continue
            (row,) = [
                row for row in rows if re.search(rf"(?<![\w-]){name[0]}(?![\w-])", EXTRAS.sub("", row[0]))
            ]
            assert all(cell.strip() for cell in row), row
            if extra not in ("", "dev"):  # what users need is among what developers need
                assert f"`{extra}`" in row[0], (extra, row)
            if extra == "":
                assert "`" not in row[0], row


def test_each_python_of_the_classifiers_has_its_line() -> None:
    said = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    told = {
        version
        for line in PAGE.read_text().splitlines()
        if line.startswith("| 3.") and "nothing yet" not in line
        for version in re.findall(r"3\.\d+", line.split("|")[1])
    }
    assert said == told
    assert PROJECT["requires-python"] == f">={min(said)}"
