"""Texts as they are asked for, rows Q43 to Q49: the same code and words from the library, options and a prompt file."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilesam import MobileSamError, PromptWarning, TextOptions, WeightsError, load_text_model
from mobilesam.cli.main import run
from mobilesam.core.phrases import MAX_CHARACTERS, MAX_TEXTS
from mobilesam.core.types import Embedding
from mobilesam.detectors.owl import OwlDetector
from mobilesam.formats.image import image_to_png
from mobilesam.segment.model import Model
from mobilesam.weights.folders import HOME_VARIABLE, OFFLINE_FOLDER_VARIABLE, TEXT_MODEL
from tests.embeddings import unseen
from tests.owl_networks import TinyOwl
from tests.series import one_in

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
EXIT = {"U": 2, "S": 2, "L": 7, "W": 4}
ALL = TextOptions(threshold=0, max_boxes=3)
LONG = "a cat on a cup beside a dog on a leash " * 20
COMBINED = "a" + "\N{COMBINING ACUTE ACCENT}" * 10_000
PARTLY = r"is longer than the 16 tokens that the text model reads; what follows '.*' is left out"
ENGLISH = "holds letters that English does not have; OWL-ViT and OWLv2 know only English"

# fmt: off
REFUSED = [
    ("Q43-empty", ["a dog", ""], "S", r"texts\[1\]: is empty; give a text such as 'a dog'"),
    ("Q43-spaces", [" \t\n\N{NO-BREAK SPACE} "], "S", r"texts\[0\]: is empty"),
    ("Q43-only-zero-width", ["\u200b\u2060\ufeff"], "S", r"texts\[0\]: is empty"),
    ("Q43-no-texts", [], "S", r"texts: is empty; give at least one"),
    ("Q43-a-number", 3, "U", r"texts: is a int; must be a text or a list of texts"),
    ("Q43-numbers", ["a dog", 3], "U", r"texts\[1\]: is a int; must be text"),
    ("Q44-10-MB", ["cat " * 2_500_000], "L", r"texts\[0\]: has 10,000,000 characters; at most 32,768 are allowed"),
    ("Q44-100000-tokens", ["a dog", "cat " * 100_000], "L", r"texts\[1\]: has 400,000 characters; at most 32,768 are allowed"),
    ("Q44-101-texts", ["a dog"] * (MAX_TEXTS + 1), "L", r"texts: 101 texts; at most 100 are allowed"),
    ("Q45-nul", ["a\0dog"], "S", r"texts\[0\]: holds the control character \\x00 at 1"),
    ("Q45-terminal-codes", ["\x1b[31mred\x1b[0m"], "S", r"holds the control character \\x1b at 0"),
    ("Q45-bell-and-delete", ["a dog", "a\x7fb"], "S", r"texts\[1\]: holds the control character \\x7f"),
    ("Q45-line-break", ["a dog\na cat"], "S", r"holds the control character \\x0a at 5"),
    ("Q45-lone-surrogate", ["dog \ud83d"], "S", r"holds half a character \(\\ud83d\) at 4"),
]
TOLD = [
    ("Q44-thousands-of-tokens", ["cat " * (MAX_CHARACTERS // 4)], PARTLY),
    ("Q44-longest-word", ["d" * MAX_CHARACTERS], PARTLY),
    ("Q44-a-few-words-too-many", ["a dog", LONG], r"texts\[1\]: " + PARTLY),
    ("Q45-10000-combining", [COMBINED], PARTLY),
    ("Q45-right-to-left", ["\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}"], ENGLISH),
    ("Q49-chinese", ["\N{CJK UNIFIED IDEOGRAPH-732B}"], r"texts\[0\]: " + ENGLISH),
    ("Q49-german", ["a dog", "B\N{LATIN SMALL LETTER A WITH DIAERESIS}r"], r"texts\[1\]: " + ENGLISH),
]
LITERAL = [
    ("Q45-emoji", "\N{DOG FACE}\N{ZERO WIDTH JOINER}\N{CAT FACE}"),
    ("Q45-direction-marks", "\N{RIGHT-TO-LEFT OVERRIDE}a dog\N{POP DIRECTIONAL FORMATTING}"),
    ("Q45-zero-width", "a\N{ZERO WIDTH SPACE} dog"),
    ("Q47-braces", "{0} {p} %s %(x)s"),
    ("Q47-shell", "$(rm -r x); `ls` ~"),
    ("Q47-sql", "'; DROP x; --"),
    ("Q47-markup", "<b>&lt;<|x|> !"),
    ("Q47-path", "../../etc/pass"),
]
# fmt: on


@pytest.fixture(scope="module")
def folder(owls: dict[str, TinyOwl]) -> Path:
    return owls["owlv2"].folder


@pytest.fixture(scope="module")
def owl(folder: Path) -> OwlDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_text_model(folder)


@pytest.fixture(scope="module")
def embedding(pocket: Model) -> Embedding:
    return pocket.embed(IMAGE)


@pytest.fixture
def segment(
    keeping: Model,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> Callable[..., tuple[int, str, dict]]:
    """Run the command in this process with the model that is loaded already; return code, errors and results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.segment.load_model", lambda *_, **__: keeping)
    Path("i.png").write_bytes(image_to_png(IMAGE))

    def run_segment(*arguments: str, text_model: str | None = str(folder)) -> tuple[int, str, dict]:
        given = () if text_model is None else ("--text-model", text_model)
        code = run(["segment", "i.png", *arguments, *given, "--json", "--save", ""])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert all(line.isprintable() for line in err.splitlines())
        return code, err, json.loads(out) if out else {}

    return run_segment


def as_options(texts: list[str]) -> list[str]:
    return [part for text in texts for part in ("--text", text)]


def as_file(texts: object) -> list[str]:
    Path("p.json").write_text(json.dumps({"version": 1, "texts": texts}))
    return ["--prompts", "p.json"]


def last_line(error: str) -> str:
    return error.splitlines()[-1]


@pytest.mark.parametrize(("texts", "code", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(
    pocket: Model,
    embedding: Embedding,
    owl: OwlDetector,
    segment: Callable,
    texts: object,
    code: str,
    message: str,
) -> None:
    with pytest.raises(MobileSamError, match=message) as caught:
        pocket.segment_text(embedding, texts, text_model=owl)
    said = str(caught.value)
    assert caught.value.code == code
    assert len(said) <= 200
    assert said.isprintable()
    status, error, _ = segment(*as_file(texts))
    assert (status, last_line(error)) == (EXIT[code], f"error[{code}]: p.json: {said}")
    if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
        status, error, _ = segment(*as_options(texts))
        assert (status, last_line(error)) == (EXIT[code], f"error[{code}]: {said}")


@pytest.mark.parametrize(("texts", "message"), [t[1:] for t in TOLD], ids=[t[0] for t in TOLD])
def test_told(
    pocket: Model, embedding: Embedding, owl: OwlDetector, segment: Callable, texts: list[str], message: str
) -> None:
    with pytest.warns(PromptWarning, match=message):
        found = pocket.segment_text(embedding, texts, text_model=owl, options=ALL)
    assert all(len(remark) <= 300 for remark in found.remarks)
    for arguments in (as_options(texts), as_file(texts)):
        status, error, document = segment(*arguments, "--text-threshold", "0.99")
        assert status == 0, error
        told = document["images"][0]["warnings"]
        assert all(remark in told for remark in found.remarks)
        assert f"warning: i.png: {found.remarks[0]}\n" in error


def test_Q44_what_is_read_is_what_is_told(owl: OwlDetector, embedding: Embedding) -> None:
    (remark,) = owl.remarks([LONG])
    read = remark.split("'")[1]
    assert LONG.startswith(read)
    one, same = (owl.find(unseen(IMAGE), [text]) for text in (LONG, read))
    for name in ("xyxy", "scores", "texts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert owl.remarks([read]) == []
    assert owl.remarks([f"{read} dog"])


@pytest.mark.parametrize("text", one_in(2, [t[1] for t in LITERAL]), ids=[t[0] for t in LITERAL])
def test_literal(pocket: Model, embedding: Embedding, owl: OwlDetector, segment: Callable, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pocket.segment_text(embedding, [text], text_model=owl, options=ALL)
    assert {one.label for one in found} == {text}
    assert found.texts == (text,)
    assert found.overlay().shape == IMAGE.shape
    assert not np.array_equal(owl.tokenizer(text).ids, owl.tokenizer("a dog").ids)
    for arguments in (as_options([text]), as_file([text])):
        status, error, document = segment(*arguments, "--text-threshold", str(found[-1].text_score))
        assert status == 0, error
        objects = document["images"][0]["objects"]
        assert objects
        assert {entry["label"] for entry in objects} == {text}


def test_labels_are_printed_without_terminal_codes(segment: Callable, folder: Path, capsys) -> None:
    text = "\N{RIGHT-TO-LEFT OVERRIDE}a dog"
    status = run(["segment", "i.png", "--text", text, "--text-model", str(folder), "--text-threshold", "0"])
    out = capsys.readouterr().out
    assert status == 0
    assert "\\x202ea dog 0." in out
    assert all(line.isprintable() for line in out.splitlines())


def test_Q46_no_such_object(pocket: Model, embedding: Embedding, owl: OwlDetector, segment: Callable) -> None:
    found = pocket.segment_text(embedding, "a unicorn", text_model=owl, options=TextOptions(threshold=1))
    assert len(found) == 0
    for arguments in (["--text", "a unicorn"], as_file(["a unicorn"])):
        status, error, document = segment(*arguments, "--text-threshold", "1")
        assert status == 0
        (image,) = document["images"]
        assert image["objects"] == []
        assert image["warnings"] == [
            "nothing was found that fits a text with a score of 1 or more; lower the threshold, or use other words"
        ]
        assert "warning: i.png: nothing was found" in error


def test_Q46_outputs_of_nothing(segment: Callable, folder: Path, capsys) -> None:
    nothing = ["--text", "a unicorn", "--text-model", str(folder), "--text-threshold", "1"]
    kinds = "mask,overlay,cutout,coco,polygons,npz"
    assert run(["segment", "i.png", *nothing, "--save", kinds]) == 0
    assert "0 segmented" in capsys.readouterr().out
    written = sorted(path.name for path in Path("mobilesam-out").iterdir())
    assert written == ["i_coco.json", "i_masks.npz", "i_overlay.png", "i_polygons.json"]
    coco = json.loads(Path("mobilesam-out/i_coco.json").read_text())
    assert coco["annotations"] == []
    assert coco["categories"] == [{"id": 1, "name": "a unicorn"}]
    assert json.loads(Path("mobilesam-out/i_polygons.json").read_text())["features"] == []
    with np.load("mobilesam-out/i_masks.npz") as arrays:
        assert arrays["masks"].shape == (0, 48, 64)
        assert arrays["label"].shape == (0,)
    assert run(["segment", "i.png", *nothing, "--save", "mask", "--out", "-"]) == 2
    assert "the result is 0 files" in capsys.readouterr().err


@pytest.mark.parametrize("at_home", [True, False], ids=["Q48-default", "Q48-named"])
def test_text_models_that_are_not_installed(
    segment: Callable,
    pocket: Model,
    embedding: Embedding,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_home: bool,
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "my home"))
    monkeypatch.delenv(OFFLINE_FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(socket, "socket", refuse)
    wanted = tmp_path / "my home" / TEXT_MODEL if at_home else tmp_path / "elsewhere"
    given = None if at_home else str(wanted)
    with pytest.raises(
        WeightsError, match="text_model: not installed; run: hf download Xenova/owlv2"
    ) as caught:
        pocket.segment_text(embedding, "a dog", text_model=given)
    status, error, _ = segment("--text", "a dog", text_model=given)
    assert (status, error) == (4, f"error[W]: {caught.value}\n")
    command = shlex.split(str(caught.value).partition("run: ")[2])
    assert command[:3] == ["hf", "download", "Xenova/owlv2-base-patch16-ensemble"]
    assert command[-2:] == ["--local-dir", str(wanted)]
    for name in command[3:-2]:  # what the command would do
        (wanted / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, wanted / name)
    status, error, document = segment("--text", "a dog", "--text-threshold", "0", text_model=given)
    assert status == 0, error
    assert document["images"][0]["objects"]


def test_Q48_texts_are_checked_before_the_text_model(segment: Callable, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    status, error, _ = segment("--text", " ", text_model=None)
    assert (status, error) == (2, "error[S]: texts[0]: is empty; give a text such as 'a dog'\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--text", "a dog", "--box", "1,2,3,4"], "U", "--text: cannot be joined with --point"),
        (["--text", "a dog", "--prompts", "p.json"], "U", "--text: cannot be joined"),
        (["--box", "1,2,3,4", "--text-threshold", "0.3"], "U", "are for texts; give --text as well"),
        (["--text", "a dog", "--text-threshold", "2"], "S", "threshold: is 2; must be a number from 0 to 1"),
        (["--text", "a dog", "--text-threshold", "nan"], "S", "threshold: is nan"),
        (["--text", "a dog", "--text-threshold", "some"], "S", "threshold: is 'some'"),
    ],
)
def test_options_that_cannot_be_meant(
    segment: Callable, arguments: list[str], code: str, message: str
) -> None:
    status, error, _ = segment(*arguments, text_model=None)
    assert status == 2
    assert last_line(error).startswith(f"error[{code}]: ")
    assert message in error


def test_objects_and_texts_in_one_file(segment: Callable) -> None:
    Path("p.json").write_text(json.dumps({"texts": ["a dog"], "objects": [{"box": [1, 2, 3, 4]}]}))
    status, error, _ = segment("--prompts", "p.json")
    assert (status, last_line(error)) == (
        2,
        "error[U]: p.json: has objects and texts; write them into two files",
    )
