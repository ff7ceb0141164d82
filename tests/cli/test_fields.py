"""Options come from the fields of dataclasses: names, defaults, help, and the documents' tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mobilesam.cli.fields import described, option_field, options_from
from mobilesam.cli.main import run
from tests.option_tables import CLASSES, DOCUMENT, with_tables


@dataclass(frozen=True)
class Soup:
    """A soup.

    Attributes:
        salt: grams of it, which
            nobody counts.
        hot: whether it is.
        name: what it is called.
        spoons: their lengths; of ``steel``.
        bowl: where it is.
        guests: not an option, for a list has no one form.
    """

    salt: float = 0.12345
    hot: bool = False
    name: str | None = option_field(None, "--name", "-n", shown_default="soup")
    spoons: tuple[int, ...] = option_field((), multiple=True, type=int, metavar="CM")
    bowl: Path | None = None
    guests: list[str] | None = None


def called(*arguments: str, make: type | None = None) -> object:
    """Return what a command with these options gets."""
    got = []

    @click.command()
    @options_from(Soup, "soup", make=make)
    def eat(soup: object) -> None:
        got.append(soup)

    result = CliRunner().invoke(eat, arguments, catch_exceptions=False)
    return got[0] if got else result.output


def test_a_command_gets_what_was_given_and_otherwise_the_defaults() -> None:
    assert called() == Soup()
    assert called("--salt", "0", "--hot", "-n", "Borscht", "--spoons", "3", "--spoons", "4") == Soup(
        salt=0, hot=True, name="Borscht", spoons=(3, 4)
    )
    assert called("--bowl", "a/b") == Soup(bowl=Path("a/b"))
    assert called("--salt", "much") == Soup(salt="much")  # type: ignore[arg-type]  # the class refuses it, or not
    assert called("--salt", "2", make=dict) == {"salt": 2, "hot": False, "spoons": ()}


def test_help_says_what_the_docstring_says() -> None:
    told = " ".join(str(called("--help")).split())
    assert "--salt N Grams of it, which nobody counts. [default: 0.123]" in told
    assert "-n, --name NAME What it is called. [default: soup]" in told
    assert "--spoons CM Their lengths; of steel." in told
    assert "--bowl FILE Where it is." in told
    assert "guests" not in told


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_says_what_it_means(cls: type) -> None:
    assert all(one.about for one in described(cls))


def test_the_documents_tables_are_those_of_the_fields() -> None:
    text = DOCUMENT.read_text()
    assert all(f"<!-- options of {cls.__name__} -->" in text for cls in CLASSES)
    assert text == with_tables(text), "run python -m tests.option_tables"


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "a.jpg", "--point", "1,1", "--embeddings", ""],
        ["cutout", "a.jpg", "--out", ""],
        ["export", "onnx", "--out", ""],
        ["export", "litert", "--out", ""],
        ["convert", "set", "", "--to", "yolo"],
        ["convert", "", "set", "--to", "yolo"],
        ["evaluate", "masks", ""],
        ["map", "a.tif", "--out", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert "is empty; give a path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
