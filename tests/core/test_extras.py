"""The line that installs an extra, in environments that got the package from an index, a wheel and a checkout."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from hatchling import build

from tests.series import one_in

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "dev"}
ASK = """
import sys
from mobilesam.core.errors import missing_extra
for extra in sys.argv[1:]:
    print(missing_extra("what was asked", extra))
"""
START = "what was asked: needs packages that are not installed; "


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package as a wheel, and as what pip builds of a checkout that is to be edited."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("wheel", "editable")}
    here = os.getcwd()
    os.chdir(ROOT)  # where a build backend is called
    try:
        names = {
            "wheel": build.build_wheel(str(folders["wheel"])),
            "editable": build.build_editable(str(folders["editable"])),
        }
    finally:
        os.chdir(here)
    return {kind: folder / names[kind] for kind, folder in folders.items()}


def installed(folder: Path, *arguments: str | Path) -> Path:
    """Make an environment, install something without its dependencies, and return its interpreter."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    done = subprocess.run(
        [*pip, "install", "--no-deps", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PIP_CONFIG_FILE": os.devnull},
    )
    assert done.returncode == 0, done.stderr
    return python


def lines(python: Path, extras: list[str], **environment: str) -> dict[str, str]:
    """What missing extras are told with, without the words before the line."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", ASK, *extras],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env=kept | environment,
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert all(line.startswith(START) for line in told)
    return {extra: line.removeprefix(START) for extra, line in zip(extras, told, strict=True)}


def parts(requirement: str) -> tuple[str, frozenset[str]]:
    """The name and the bounds of a requirement, which metadata may have in another order."""
    match = re.fullmatch(r"([\w.\[\]-]+)([<>=!~].+)", requirement)
    assert match, requirement
    return match[1], frozenset(match[2].split(","))


@pytest.mark.parametrize("kind", one_in(3, ["index", "wheel", "checkout"]))
def test_an_installed_package_names_what_the_extra_needs(
    kind: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    if kind == "index":
        wheel = wheels["wheel"]
        page = tmp_path / "simple" / "mobilesam" / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>')
        what = ["--index-url", page.parents[1].as_uri(), "mobilesam"]
    else:
        what = ["--no-index", wheels["wheel" if kind == "wheel" else "editable"]]
    told = lines(installed(tmp_path / "env", *what), [*EXTRAS])
    for extra, wanted in EXTRAS.items():
        pip, install, *found = shlex.split(told[extra])
        assert (pip, install) == ("pip", "install")
        assert {parts(one) for one in found} == {parts(one) for one in wanted}


def test_a_checkout_that_is_not_installed_is_installed_by_the_line(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    told = lines(tmp_path / "env" / "bin" / "python", ["torch"], PYTHONPATH=str(ROOT / "src"))
    assert shlex.split(told["torch"]) == ["pip", "install", "-e", f"{ROOT}[torch]"]


def test_modules_without_metadata_and_without_checkout_have_only_the_name(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    target = tmp_path / "unpacked"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheels["wheel"], target], check=True)
    (metadata,) = target.glob("*.dist-info")
    metadata.rename(tmp_path / metadata.name)
    venv.create(tmp_path / "env", with_pip=False)
    told = lines(tmp_path / "env" / "bin" / "python", ["torch"], PYTHONPATH=str(target))
    assert shlex.split(told["torch"]) == ["pip", "install", "mobilesam[torch]"]
