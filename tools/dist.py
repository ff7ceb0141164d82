"""Build the wheel and the sdist, check both, and use the wheel alone with the lowest and the newest dependencies.

    make dist
    make dist PYTHONS="python3.12 python3.13"   # the newest dependencies on these too

It needs git and what pip installs: from an index, or from a folder of wheels that PIP_FIND_LINKS names.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tools.lowest import lowest_versions

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PACKAGE = "src/mobilesam"
BUILDERS = ("build>=1.2", "twine>=6.1")
# 12 MB of weights, 3 of graphs and the modules are 12 packed; what makes a file larger is to be noticed.
MAX_MEGABYTES = 15.0
ABOUT_THE_WHEEL = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
BESIDE_THE_PACKAGE = ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore")
ONE_OF_EACH = {
    "weights": ".safetensors",
    "a graph": ".onnx",
    "a graph's tensors": ".json",
    "types": "py.typed",
}
PHOTO = "import skimage; print(skimage.__path__[0] + '/data/chelsea.png')"
WHERE = "import mobilesam; print(mobilesam.__version__, mobilesam.__path__[0])"
DEPENDENCIES = ("numpy", "pillow", "onnxruntime", "safetensors", "click")


class DistError(Exception):
    """What is wrong, and what to do."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment outside the checkout.

    Attributes:
        folder: where it lies; commands run in it.
        constraints: of every install into it.
    """

    folder: Path
    constraints: list[str] = field(default_factory=list)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess:
        """Run one of the environment's commands."""
        program, *arguments = command
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )

    def must(self, what: str, *command: str | Path) -> str:
        """Run a command that has to end well, and return what it prints.

        Raises:
            DistError: if it does not.
        """
        done = self.run(*command)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise DistError(f"{what}: exit status {done.returncode}\n{said}")
        return done.stdout

    def install(self, *requirements: str | Path) -> None:
        """Install packages within the constraints.

        Raises:
            DistError: if pip cannot.
        """
        (self.folder / "constraints.txt").write_text("\n".join(self.constraints))
        pip = ["python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            self.must("pip", *pip, "-c", "constraints.txt", *requirements)
        except DistError as error:
            wanted = " ".join(map(str, requirements))
            raise DistError(
                f"installing {wanted}: {error}\npip needs an index, or a folder of wheels that PIP_FIND_LINKS names"
            ) from error


def new_environment(folder: Path, python: str, constraints: Iterable[str] = ()) -> Environment:
    """Make a virtual environment for an interpreter.

    Raises:
        DistError: if the interpreter cannot.
    """
    if python == sys.executable:
        venv.create(folder, with_pip=True)
        return Environment(folder, [*constraints])
    try:
        subprocess.run([python, "-m", "venv", folder], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DistError(f"{python}: there is no such interpreter; install it or leave it out") from error
    except subprocess.CalledProcessError as error:
        raise DistError(f"{python} -m venv: {error.stderr or error.stdout}") from error
    return Environment(folder, [*constraints])


def tracked_files() -> set[str]:
    """The package's files that git knows, by their paths in the repository.

    Raises:
        DistError: if this is no git checkout.
    """
    line = ["git", "ls-files", "-z", "--", PACKAGE]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        raise DistError(f"{ROOT}: is no git checkout of the package; run it in one ({done.stderr.strip()})")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def wanted_in_wheel(tracked: set[str], version: str) -> set[str]:
    """The names that a wheel must have."""
    about = {f"mobilesam-{version}.dist-info/{name}" for name in ABOUT_THE_WHEEL}
    return {name.removeprefix("src/") for name in tracked} | about


def wanted_in_sdist(tracked: set[str], version: str) -> set[str]:
    """The names that an sdist must have."""
    return {f"mobilesam-{version}/{name}" for name in (*tracked, *BESIDE_THE_PACKAGE)}


def check_names(file: str, names: Iterable[str], wanted: set[str]) -> None:
    """Check that a distribution holds what it must and nothing else.

    Raises:
        DistError: if not; with each name.
    """
    there = set(names)
    wrong = [
        f"{name} is in it, but is none of the package's files that git tracks; add it to git, or delete it"
        for name in sorted(there - wanted)
    ]
    wrong += [
        f"{name} is not in it; see [tool.hatch.build] in pyproject.toml" for name in sorted(wanted - there)
    ]
    for what, suffix in ONE_OF_EACH.items():
        if not any(name.endswith(suffix) for name in there):
            wrong.append(f"has not {what} (*{suffix})")
    if wrong:
        raise DistError("\n".join(f"{file}: {one}" for one in wrong))


def check_size(path: Path) -> str:
    """Check a distribution's size, and return it in words.

    Raises:
        DistError: if it is too large.
    """
    megabytes = path.stat().st_size / 1e6
    told = f"{path.name}: {megabytes:.1f} MB, at most {MAX_MEGABYTES:.1f} allowed"
    if megabytes > MAX_MEGABYTES:
        raise DistError(f"{told}; leave out what made it larger, or raise MAX_MEGABYTES in tools/dist.py")
    return told


def check_contents(wheel: Path, sdist: Path, version: str) -> None:
    """Check what both distributions hold, and their sizes.

    Raises:
        DistError: if something is wrong.
    """
    tracked = tracked_files()
    with zipfile.ZipFile(wheel) as archive:
        check_names(wheel.name, archive.namelist(), wanted_in_wheel(tracked, version))
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if not member.isdir()]
        check_names(sdist.name, files, wanted_in_sdist(tracked, version))
    for path in (wheel, sdist):
        print(check_size(path))


def build(tools: Environment, version: str) -> tuple[Path, Path]:
    """Build the sdist, from it the wheel, and check their metadata.

    Raises:
        DistError: if that fails.
    """
    for path in DIST.glob("mobilesam-*"):
        path.unlink()
    tools.install(*BUILDERS)
    tools.must("building", "python", "-m", "build", "--outdir", DIST, ROOT)
    wheel, sdist = DIST / f"mobilesam-{version}-py3-none-any.whl", DIST / f"mobilesam-{version}.tar.gz"
    for path in (wheel, sdist):
        if not path.exists():
            raise DistError(f"{path.name}: was not built; {DIST} has {[p.name for p in DIST.iterdir()]}")
    tools.must("metadata", "twine", "check", "--strict", wheel, sdist)
    return wheel, sdist


def use_alone(what: str, alone: Environment, version: str) -> None:
    """Do what the installed package's own messages say, and segment photos.

    Raises:
        DistError: if something does not work.
    """
    found = alone.must("importing", "python", "-c", WHERE).split(maxsplit=1)
    if found[0] != version or not found[1].startswith(str(alone.folder)):
        raise DistError(
            f"{what}: imported mobilesam {' of '.join(found)}; wanted {version} of {alone.folder}"
        )
    alone.must("weights verify", "mobilesam", "weights", "verify")
    asked = alone.run("mobilesam", "demo")
    line = re.search(r"^error\[U\]: demo: .*; pip install (.+)$", asked.stderr, re.MULTILINE)
    if asked.returncode != 2 or line is None:
        raise DistError(
            f"{what}: demo without its extra said\n{asked.stderr}; wanted the line that installs it"
        )
    alone.install(*shlex.split(line[1]))
    alone.must("pip check", "python", "-m", "pip", "check")
    alone.must("mobilesam demo", "mobilesam", "demo", "--out", "demo")
    photo = alone.must("photo", "python", "-c", PHOTO).strip()
    box = ["--box", "5,0,370,295", "--save", "mask,cutout", "--out", "segmented"]
    alone.must("mobilesam segment", "mobilesam", "segment", photo, *box)
    for folder, count in (("demo", 6), ("segmented", 2)):
        pictures = [path for path in (alone.folder / folder).glob("*.png") if path.stat().st_size > 100]
        if len(pictures) != count:
            raise DistError(f"{what}: {folder} has {len(pictures)} pictures; wanted {count}")
    listed = alone.must("pip list", "python", "-m", "pip", "list", "--format", "freeze").lower().splitlines()
    versions = [line.replace("==", " ") for line in listed if line.partition("==")[0] in DEPENDENCIES]
    print(f"{what}: {', '.join(versions)}: demo and segment work")


def main() -> None:
    """Do all of it.

    Raises:
        DistError: at the first thing that fails.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", default=[], help="another interpreter for the newest")
    pythons = parser.parse_args().python
    version = re.search(r'__version__ = "(.+)"', (ROOT / PACKAGE / "core/version.py").read_text())[1]
    lowest = lowest_versions(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        wheel, sdist = build(new_environment(place / "tools", sys.executable), version)
        check_contents(wheel, sdist, version)
        low = new_environment(place / "lowest", sys.executable, lowest)
        low.install(wheel)
        use_alone(f"lowest, Python {sys.version.split()[0]}", low, version)
        for number, python in enumerate((sys.executable, *pythons)):
            new = new_environment(place / f"newest-{number}", python)
            told = new.must("python", "python", "--version").strip()
            new.install(wheel)
            use_alone(f"newest, {told}", new, version)


if __name__ == "__main__":
    try:
        main()
    except DistError as error:
        sys.exit(f"dist: {error}")
