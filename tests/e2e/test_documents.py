"""What the documents say is what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import mobilesam
from mobilesam.cli.main import run
from mobilesam.weights import ALIASES, entry_of, weights_path
from mobilesam.weights.folders import HOME_VARIABLE, TEXT_MODEL
from tests.moving import moving_face
from tests.onnx_detectors import constant_detector, layout_outputs
from tests.owl_networks import TinyOwl
from tests.photos import cat, jpeg
from tests.rasters import write_raster
from tests.tars import write_tar
from tests.videos import write_video

EXAMPLES = (
    "tutorial/first-steps.md",
    "how-to/many-images.md",
    "how-to/everything.md",
    "how-to/cutout.md",
    "how-to/detectors.md",
    "how-to/correct.md",
    "how-to/video.md",
    "how-to/map.md",
)
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
WORDS_OF_A_DECISION, WORDS_OF_THE_README = 200, 600
FOR_USERS = [
    *(page for room in ("tutorial", "how-to") for page in sorted((ROOT / "docs" / room).glob("*.md"))),
    *(
        ROOT / "docs/reference" / f"{name}.md"
        for name in ("prompts", "weights", "json", "python", "onnx", "images", "datasets", "server")
    ),
    ROOT / "docs/reference/command-line.md",
]
WITHOUT_EFFECT_HERE = (
    "mobilesam finetune",
    "mobilesam train",
    "mobilesam evaluate",
    "mobilesam export",
    "mobilesam demo",
    "mobilesam bench",
    "mobilesam compare",
)
GOES_ON = ("mobilesam serve", "mobilesam ui")
NEEDS_NETWORK = ("mobilesam weights pull", "mobilesam weights import")
NEEDS_CLUSTER_OR_STORE = ("--engine ray", "s3://")  # tests/annotate/test_ray.py runs a cluster
NEEDS_TRAINING = ("--model own",)  # tests/train runs these
NEEDS_DOWNLOAD = ("--model mobile_sam", "--model sam_vit", "--model slimsam")


def console_commands(page: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.S)
    lines = [
        line[2:].partition(" #")[0].strip()
        for block in blocks
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    return [line for line in lines if line.startswith("mobilesam ") and "|" not in line]


def documented() -> list[tuple[str, str]]:
    found = [(page.name, command) for page in PAGES for command in console_commands(page)]
    return [
        pair
        for pair in dict.fromkeys(found)
        if not pair[1].startswith(WITHOUT_EFFECT_HERE + NEEDS_NETWORK + GOES_ON)
        and not any(model in pair[1] for model in NEEDS_DOWNLOAD + NEEDS_TRAINING + NEEDS_CLUSTER_OR_STORE)
    ]


def rows_of(page: Path) -> list[tuple[int, list[str]]]:
    """Lines of a page's tables: number and cells."""
    found, fenced = [], False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            found.append((number, re.split(r"(?<!\\)\|", line.strip())[1:-1]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_have_as_many_cells_in_each_row(page: Path) -> None:
    wanted: dict[int, int] = {}  # of the table that a line goes on with
    for number, cells in rows_of(page):
        width = wanted.get(number - 1, len(cells))
        assert len(cells) == width, f"{page.name}:{number}: {len(cells)} cells under a head of {width}"
        wanted[number] = width


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owls: dict[str, TinyOwl]) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    shutil.copytree(owls["owlv2"].folder, tmp_path / "home" / TEXT_MODEL)
    (tmp_path / "runs" / "own").mkdir(parents=True)
    shutil.copy(weights_path(entry_of("pocket")), tmp_path / "runs" / "own" / "weights.safetensors")
    (tmp_path / "shots").mkdir()
    for name in ("photo.jpg", "shots/a.jpg"):
        (tmp_path / name).write_bytes(jpeg(cat()))
    for i in range(2):
        write_tar(tmp_path / "shards" / f"shots-00{i}.tar", {"1.jpg": jpeg(cat()), "1.json": b"{}"})
    write_video(tmp_path / "clip.mp4", moving_face(5)[0])
    write_raster(tmp_path / "field.tif", np.asarray(cat()))
    shape, outputs, kind = layout_outputs("yolox", np.array([90.0, 20, 330, 290]))
    constant_detector(tmp_path / "yolox_nano.onnx", shape, outputs, kind)
    return tmp_path


def test_there_are_commands_to_try() -> None:
    assert len(documented()) >= 6


@pytest.mark.parametrize(("page", "command"), documented(), ids=lambda v: v)
def test_documented_commands_run(here: Path, page: str, command: str) -> None:
    assert run(shlex.split(command)[1:]) == 0


@pytest.mark.filterwarnings("ignore::mobilesam.WeightsWarning")  # of the detector that stands in for a user's
@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *(ROOT / "docs" / page for page in EXAMPLES)],
    ids=lambda p: p.name,
)
def test_python_examples_run(here: Path, page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), namespace)
    assert namespace["model"].name == ALIASES["pocket"]


@pytest.mark.filterwarnings("ignore::mobilesam.WeightsWarning")  # of the network that stands in for OWLv2
def test_text_page_runs(here: Path) -> None:
    page = ROOT / "docs/how-to/text.md"
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        exec(compile(block, page.name, "exec"), namespace)
    found = namespace["found"]  # of the example's own detector
    assert {result.label for result in found} == {"orange", "grey"}


@pytest.mark.long
def test_segment_anything_page_runs(here: Path, vit_t_weights: dict) -> None:
    torch.save(
        {name: torch.as_tensor(array) for name, array in vit_t_weights.items()}, here / "mobile_sam.pt"
    )
    page = ROOT / "docs/how-to/segment-anything.md"
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        exec(compile(block, page.name, "exec"), namespace)
    assert namespace["outputs"][1]["masks"].shape == (2, 1, *namespace["image"].shape[:2])
    same = namespace["outputs"][1]["masks"] == namespace["masks"]
    assert same.float().mean() > 0.999
    assert namespace["losses"][-1] < namespace["losses"][0]
    tuned = namespace["sam_model_registry"]["pocket"](here / "tuned.pth")
    learned = namespace["network"].mask_decoder.iou_token.weight
    assert torch.equal(tuned.mask_decoder.iou_token.weight, learned)


def prose_of(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.S)


def anchors_of(page: Path) -> set[str]:
    """What a page's headings are called in links, by GitHub's rule."""
    headings = re.findall(r"^#+ +(.+?) *$", prose_of(page), re.M)
    named = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {
        name if n == 0 else f"{name}-{n}" for i, name in enumerate(named) for n in [named[:i].count(name)]
    }


def broken_links(page: Path) -> list[str]:
    """Links of a page whose file, or whose heading in that file, is not there."""
    prose = re.sub(r"`[^`\n]*`", "code", prose_of(page))
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        target, _, anchor = link.partition("#")
        if target.startswith(("http:", "https:")):
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", LINKED, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text(
        "# `pocket`'s views: a look\n\n```\n# no heading\n```\n\n# Twice\n\n# Twice\n"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[1](other.md#pockets-views-a-look) [2](#here) [3](other.md) [4](https://a.b/c#d) "
        "[`5`](other.md#twice-1) ![6](gone.png) [7](#there) [8](other.md#no-heading) [9](gone.md#here)"
    )
    assert broken_links(page) == ["gone.png", "#there", "other.md#no-heading", "gone.md#here"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").glob("*.md")), ids=lambda p: p.name)
def test_decisions_are_short_and_come_first(page: Path) -> None:
    text = page.read_text()
    assert len(text.split()) <= WORDS_OF_A_DECISION
    assert re.findall(r"^\*\*(Decision|Why|Rejected|What follows)\.\*\*", text, re.M)[:2] == [
        "Decision",
        "Why",
    ]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= WORDS_OF_THE_README


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda p: p.name)
def test_pages_for_users_name_no_tests(page: Path) -> None:
    assert re.findall(r"\b[A-Z]\d{2}\b|\btest_\w+", page.read_text()) == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/how-to").glob("*.md")), ids=lambda p: p.name)
def test_how_tos_say_what_comes_next(page: Path) -> None:
    _, _, after = page.read_text().rpartition("## Next\n")
    assert re.search(r"\]\([^)]+\)", after), "a section 'Next' with a link"


def test_docstring_examples_run() -> None:
    tried = 0
    for info in pkgutil.walk_packages(mobilesam.__path__, "mobilesam."):
        if info.name.split(".")[1] in (
            "core",
            "storage",
            "formats",
            "batches",
            "predictor",
            "results",
            "compat",
        ):
            try:
                module = importlib.import_module(info.name)
            except mobilesam.MissingExtraError:
                assert info.name == "mobilesam.compat.napari.widget"  # napari is not among what tests need
                continue
            result = doctest.testmod(module)
            assert result.failed == 0, info.name
            tried += result.attempted
    assert tried >= 10


def test_every_public_name_is_documented() -> None:
    page = (ROOT / "docs/reference/python.md").read_text()
    for name in mobilesam.__all__:
        if name == "__version__":
            continue
        assert f"`{name}" in page, name
        assert getattr(mobilesam, name).__doc__, name


def test_every_long_series_has_its_result() -> None:
    page = (ROOT / "docs/explanation/long-series.md").read_text()
    told = set(re.findall(r"^[|-] `(test_\w+)`", page, re.M))
    # A whole test, or some of its parameters.
    marked = r"(?:pytest\.mark\.long\b|one_in\()[\s\S]*?\n *def (test_\w+)"
    assert told == {
        n for path in (ROOT / "tests").rglob("*.py") for n in re.findall(marked, path.read_text())
    }


def test_version_is_in_the_changelog() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{mobilesam.__version__}]" in changes


def test_no_paths_of_a_machine() -> None:
    for page in [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "recipes").iterdir()]:
        assert not re.search(r"/(root|work|farm)/[a-z]", page.read_text()), page
