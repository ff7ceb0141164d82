"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

    python -m tools.lowest > lowest.txt
    pip install -c lowest.txt -e '.[demo]'

PyTorch is left out: other versions than the one that the tests use are builds of several GB on Linux.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
LEFT_OUT = ("torch",)
FOR_DEVELOPERS = ("dev", "fuzz")  # extras whose packages no user needs
BOUNDED = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?\s*>=\s*(?P<version>[\w.]+)(,<[\w.]+)?")


def lowest_versions(project: dict[str, Any]) -> list[str]:
    """Return ``name==version`` for each package that users may need.

    Args:
        project: the table ``[project]`` of pyproject.toml.

    Raises:
        ValueError: if a requirement has no lower bound, or has another one elsewhere.
    """
    requirements = list(project["dependencies"])
    for extra, wanted in project["optional-dependencies"].items():
        requirements += wanted if extra not in FOR_DEVELOPERS else ()
    found: dict[str, str] = {}
    for requirement in requirements:
        match = BOUNDED.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} has no lower bound; write it as 'name>=version'")
        name, version = match["name"], match["version"]
        if found.setdefault(name, version) != version:
            raise ValueError(f"{name} has the lower bounds {found[name]} and {version}; write one")
    return [f"{name}=={version}" for name, version in found.items() if name not in LEFT_OUT]


if __name__ == "__main__":
    try:
        print(*lowest_versions(tomllib.loads(PROJECT.read_text())["project"]), sep="\n")
    except ValueError as error:
        sys.exit(f"lowest: pyproject.toml: {error}")
