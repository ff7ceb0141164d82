"""Systems of others, each kind in an environment of its own, which one command makes from a file ``NAME.toml``.

A file has ``packages`` (what pip installs), ``worker`` (a script beside it that speaks the benchmark's protocol)
and a table ``systems`` of labels. None of this is ever a dependency of this package.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilesam.benchmark import protocol
from mobilesam.benchmark.measure import Candidate
from mobilesam.core.errors import ConfigError
from mobilesam.core.schema import Array, Record, Text, check
from mobilesam.formats.image_bytes import shown
from mobilesam.storage.atomic import write_bytes

PROTOCOL_VARIABLE = "MOBILESAM_BENCH_PROTOCOL"
DONE = "packages.json"  # in an environment: what was installed
FORM = Record(
    {
        "packages": Array(Text(1), 1),
        "worker": Text(1),
        "licence": Text(1),
        "systems": Record({}, open=True),
    },
    required=("packages", "worker", "licence", "systems"),
)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class PeerKind:
    """One environment with its systems.

    Attributes:
        name: of the file.
        packages: what pip installs.
        worker: the script.
        licence: of the packages.
        systems: label of each, by the name that the worker knows.
    """

    name: str
    packages: tuple[str, ...]
    worker: Path
    licence: str
    systems: dict[str, str]

    def environment(self, home: Path) -> Path:
        """Return the folder of its environment; kinds with the same packages share one."""
        key = hashlib.sha256("\n".join(self.packages).encode()).hexdigest()[:12]
        return home / f"peers-{key}"

    def candidates(self, home: Path) -> list[Candidate]:
        """Return its systems in the form that the benchmark measures."""
        python = python_of(self.environment(home))
        variables = {PROTOCOL_VARIABLE: str(Path(protocol.__file__))}
        return [
            Candidate(name, label, (str(python), str(self.worker)), variables)
            for name, label in self.systems.items()
        ]


def read_peers(folder: Path) -> list[PeerKind]:
    """Read the files of a folder.

    Raises:
        ConfigError: if there is none, or one is not valid.
    """
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise ConfigError(
            f"{shown(str(folder))}: holds no .toml file of peers; give bench/peers of the repository"
        )
    return [_read(file) for file in files]


def _read(file: Path) -> PeerKind:
    name = shown(str(file))
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: is not TOML ({error})") from error
    check(content, FORM, f"{name}: not a file of peers")
    systems = content["systems"]
    if not systems or not all(isinstance(label, str) for label in systems.values()):
        raise ConfigError(f"{name}: systems: must have a label for each name")
    worker = file.parent / content["worker"]
    if not worker.is_file():
        raise ConfigError(f"{name}: worker: {shown(str(worker))} is not there")
    return PeerKind(
        file.stem, tuple(content["packages"]), worker.resolve(), content["licence"], dict(systems)
    )


def python_of(environment: Path) -> Path:
    """Return an environment's Python."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make_environment(kind: PeerKind, home: Path, *, tell: Tell = lambda text: None) -> str:
    """Make a kind's environment, unless it exists.

    Args:
        kind: of peers.
        home: folder of the environments.
        tell: called with what comes next.

    Returns:
        Why it could not be made; empty if it exists.
    """
    environment = kind.environment(home)
    if (environment / DONE).is_file():
        return ""
    tell(f"{kind.name}: pip installs {' '.join(kind.packages)} into {environment}")
    steps: Sequence[Sequence[str]] = (
        (sys.executable, "-m", "venv", str(environment)),
        (str(python_of(environment)), "-m", "pip", "install", "--quiet", *kind.packages),
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()
            return f"its environment could not be made: {words[-1] if words else step[0]}"
    write_bytes(environment / DONE, (json.dumps(list(kind.packages)) + "\n").encode())
    return ""
