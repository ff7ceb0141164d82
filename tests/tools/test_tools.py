"""What maintainers run: what makes a release's files wrong is told, and the lowest versions are read rightly."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling import build
from tools.lowest import PROJECT, lowest_versions

from mobilesam import __version__
from tools import dist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel and an sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(dist.ROOT)  # where a build backend is called
        names = build.build_wheel(str(folder)), build.build_sdist(str(folder))
    return folder / names[0], folder / names[1]


def with_file(file: Path, name: str, folder: Path) -> Path:
    """A copy of a wheel or an sdist that holds one more file."""
    copy = folder / file.name
    if file.suffix == ".whl":
        shutil.copy(file, copy)
        with zipfile.ZipFile(copy, "a") as archive:
            archive.writestr(name, b"stray")
        return copy
    with tarfile.open(file) as old, tarfile.open(copy, "w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        new.addfile(tarfile.TarInfo(f"mobilesam-{__version__}/{name}"))
    return copy


def without_files(wheel: Path, suffix: str, folder: Path) -> Path:
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if not name.endswith(suffix):
                new.writestr(name, old.read(name))
    return copy


def test_what_is_built_holds_what_git_tracks(
    built: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dist.check_contents(*built, __version__)
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in told] == [path.name for path in built]
    assert all(line.endswith(" MB, at most 15.0 allowed") for line in told)


@pytest.mark.parametrize("name", ["mobilesam/notes.txt", "tests/golden/vit_t_seed0.npz", "mobilesam/.env"])
@pytest.mark.parametrize("which", [0, 1], ids=["wheel", "sdist"])
def test_a_stray_file_is_named(which: int, name: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    files = list(built)
    files[which] = with_file(built[which], name, tmp_path)
    with pytest.raises(dist.DistError, match=f"{files[which].name}: .*{name} is in it, but is none"):
        dist.check_contents(*files, __version__)


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        (".safetensors", r"pocket-7\.safetensors is not in it.*has not weights"),
        (".onnx", r"pocket-encoder\.onnx is not in it.*has not a graph "),
        ("pocket.json", r"graphs/pocket\.json is not in it; see \[tool\.hatch\.build\]"),
        ("py.typed", "py.typed is not in it.*has not types"),
        ("METADATA", "METADATA is not in it"),
        ("licenses/LICENSE", "licenses/LICENSE is not in it"),
    ],
)
def test_a_missing_file_is_named(suffix: str, said: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = without_files(built[0], suffix, tmp_path)
    with pytest.raises(dist.DistError, match=f"(?s){said}"):
        dist.check_contents(wheel, built[1], __version__)


def test_a_file_that_is_too_large_is_told(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "MAX_MEGABYTES", 1.0)
    with pytest.raises(dist.DistError, match=r"whl: 1\d\.\d MB, at most 1\.0 allowed; leave out"):
        dist.check_contents(*built, __version__)


def test_a_folder_without_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "ROOT", tmp_path)
    with pytest.raises(dist.DistError, match="is no git checkout of the package; run it in one"):
        dist.tracked_files()


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        dist.DistError, match=r"python9\.9: there is no such interpreter; install it or leave"
    ):
        dist.new_environment(tmp_path / "env", "python9.9")


@pytest.mark.long
def test_what_pip_cannot_find_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    alone = dist.new_environment(tmp_path / "env", dist.sys.executable, ["numpy==2.0"])
    with pytest.raises(
        dist.DistError, match=r"(?s)installing numpy: pip: exit status 1.*PIP_FIND_LINKS names"
    ):
        alone.install("numpy")


@pytest.mark.long
def test_a_wheel_that_does_not_work_is_told(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Without its dependencies the package cannot do anything."""
    alone = dist.new_environment(tmp_path / "env", dist.sys.executable)
    pip = [dist.sys.executable, "-m", "pip", "--python", alone.folder / "bin" / "python", "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", built[0]], check=True)
    with pytest.raises(dist.DistError, match=r"(?s)weights verify: exit status 1.*ModuleNotFoundError"):
        dist.use_alone("here", alone, __version__)


def test_the_lowest_versions_are_those_of_the_project() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    found = lowest_versions(project)
    names = [line.partition("==")[0] for line in found]
    assert len(set(names)) == len(names)
    assert {"numpy", "pillow", "onnxruntime", "safetensors", "click", "tokenizers", "av"} <= {*names}
    assert not {"torch", "pytest"} & {*names}
    for line in found:
        name, _, version = line.partition("==")
        assert any(f"{name}>={version}" in one for one in project["dependencies"]) or any(
            f"{name}>={version}" in one
            for wanted in project["optional-dependencies"].values()
            for one in wanted
        )


@pytest.mark.parametrize(
    ("dependencies", "said"),
    [
        (["numpy"], "'numpy' has no lower bound; write it as 'name>=version'"),
        (["numpy<3"], "'numpy<3' has no lower bound"),
        (["numpy==2.0"], "'numpy==2.0' has no lower bound"),
        (["numpy>2.0"], "'numpy>2.0' has no lower bound"),
        (["numpy>=2.0", "numpy>=2.1"], r"numpy has the lower bounds 2\.0 and 2\.1; write one"),
    ],
)
def test_requirements_without_one_lower_bound(dependencies: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lowest_versions({"dependencies": dependencies, "optional-dependencies": {"dev": ["pytest"]}})
