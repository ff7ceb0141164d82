"""What the package's extras consist of, and the line that installs one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

DISTRIBUTION = "mobilesam"
CHECKOUT = Path(__file__).parents[3]
OF_EXTRA = re.compile(r"(?P<requirement>[^;]+?)\s*;\s*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"]")


def install_line(extra: str) -> str:
    """Return the line that installs what an extra needs, however the package was installed.

    It names the packages themselves, from the installed metadata, because ``mobilesam[extra]`` works only for a pip
    that sees the installed package; any other asks an index, where the name may be absent or somebody else's.
    A checkout that runs without being installed has no metadata; there the line installs the checkout.
    """
    wanted = requirements_of(extra)
    if not wanted and (CHECKOUT / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{CHECKOUT}[{extra}]')}"
    return f"pip install {' '.join(map(shlex.quote, wanted or (f'{DISTRIBUTION}[{extra}]',)))}"


def requirements_of(extra: str) -> tuple[str, ...]:
    """Return an extra's packages with their bounds from the installed metadata; none if there is no metadata."""
    from importlib import metadata  # only when something is missing: it takes longer than the rest of core

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return ()
    found = (OF_EXTRA.fullmatch(line) for line in lines)
    return tuple(match["requirement"] for match in found if match and match["extra"] == extra)
