"""What an object is called goes from its prompt into every result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from mobilesam import LimitError, Prompt, PromptError
from mobilesam.cli.main import run
from mobilesam.compat.ultralytics import SAM
from mobilesam.core.types import Embedding
from mobilesam.formats.image import image_to_png
from mobilesam.formats.prompt_file import read_prompts
from mobilesam.segment.model import Model
from mobilesam.segment.results import results_to_coco
from tests.schemas import REFERENCE

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
BOXES = [[5, 5, 30, 30], [20, 10, 60, 40], [1, 1, 20, 20]]
DOG, CAT, NONE = (
    Prompt(box=box, label=label) for box, label in zip(BOXES, ("dog", "cat", None), strict=True)
)


@pytest.fixture(scope="module")
def embedding(pocket: Model) -> Embedding:
    return pocket.embed(IMAGE)


def test_results_carry_the_label(pocket: Model, embedding: Embedding) -> None:
    results = pocket.segment(embedding, [DOG, CAT, NONE])
    assert [r.label for r in results] == ["dog", "cat", None]
    assert [r.caption for r in results] == ["dog", "cat", ""]
    assert [r.text_score for r in results] == [None] * 3
    assert [r.cleaned(4).label for r in results] == ["dog", "cat", None]
    assert results[0].overlay().shape == IMAGE.shape
    plain = pocket.segment(embedding, [Prompt(box=box) for box in BOXES])
    for one, other in zip(results, plain, strict=True):
        np.testing.assert_array_equal(one.low_res_masks, other.low_res_masks)
    assert pocket.segment(embedding, {"box": BOXES[0], "label": " guide dog "}).label == "guide dog"


def test_labels_are_cocos_categories(pocket: Model, embedding: Embedding) -> None:
    results = pocket.segment(embedding, [CAT, DOG, NONE, CAT])
    coco = results_to_coco(results, (48, 64), file_name="a.png", image_id=7)
    assert coco["categories"] == [
        {"id": 1, "name": "cat"},
        {"id": 2, "name": "dog"},
        {"id": 3, "name": "object"},
    ]
    assert [record["category_id"] for record in coco["annotations"]] == [1, 2, 3, 1]
    assert {record["image_id"] for record in coco["annotations"]} == {coco["images"][0]["id"]} == {7}
    assert not any("text_score" in record for record in coco["annotations"])
    plain = results_to_coco(pocket.segment(embedding, [NONE]), (48, 64))
    assert plain["categories"] == [{"id": 1, "name": "object"}]


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (5, PromptError, r"label: is a int; must be text"),
        (["dog"], PromptError, r"label: is a list; must be text"),
        ("", PromptError, "label: is empty"),
        (" \u200b", PromptError, "label: is empty"),
        ("a\nb", PromptError, r"label: holds the control character \\x0a at 1"),
        ("\ud800", PromptError, "label: holds half a character"),
        ("d" * 257, LimitError, "label: has 257 characters; at most 256 are allowed"),
    ],
)
def test_labels_that_are_none(
    pocket: Model, embedding: Embedding, label: Any, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        pocket.segment(embedding, Prompt(box=BOXES[0], label=label))
    with pytest.raises(kind, match=rf"^prompts\[1\]\.{message}"):
        pocket.segment(embedding, [DOG, Prompt(box=BOXES[0], label=label)])


def test_files_of_all_kinds_carry_the_label(
    pocket: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.segment.load_model", lambda *_, **__: pocket)
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(image_to_png(IMAGE))
    prompts = {"version": 1, "objects": [{"box": BOXES[0], "label": "dog"}, {"box": BOXES[1]}]}
    jsonschema.validate(prompts, json.loads((REFERENCE / "prompts.schema.json").read_text()))
    Path("p.json").write_text(json.dumps(prompts))
    assert [prompt.label for prompt in read_prompts("p.json").prompts] == ["dog", None]
    arguments = ["--prompts", "p.json", "--save", "coco,polygons,npz,overlay"]
    assert run(["segment", "a.png", "b.png", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json.loads((REFERENCE / "results.schema.json").read_text()))
    assert [[o.get("label") for o in image["objects"]] for image in document["images"]] == [["dog", None]] * 2
    assert "text_score" not in document["images"][0]["objects"][0]
    out = Path("mobilesam-out")
    coco = [json.loads((out / f"{stem}_coco.json").read_text()) for stem in "ab"]
    assert [c["images"][0]["id"] for c in coco] == [1, 2]
    assert [c["name"] for c in coco[0]["categories"]] == ["dog", "object"]
    features = json.loads((out / "a_polygons.json").read_text())["features"]
    assert [feature["properties"].get("label") for feature in features] == ["dog", None]
    assert np.load(out / "a_masks.npz")["label"].tolist() == ["dog", ""]
    assert run(["segment", "a.png", *arguments, "--overwrite"]) == 0
    assert "object 1: dog, " in capsys.readouterr().out


def test_a_files_label_that_is_none_is_told_with_its_place(
    pocket: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.segment.load_model", lambda *_, **__: pocket)
    Path("a.png").write_bytes(image_to_png(IMAGE))
    Path("p.json").write_text(json.dumps({"objects": [{"box": BOXES[0], "label": 5}]}))
    assert run(["segment", "a.png", "--prompts", "p.json"]) == 2
    assert "p.json: objects[0].label: is a int; must be text" in capsys.readouterr().err


def test_ultralytics_classes_are_the_names(tmp_path: Path) -> None:
    model = SAM("pocket")
    (result,) = model(IMAGE, bboxes=BOXES, names=["cat", "dog", "cat"], verbose=False)
    assert result.names == {0: "cat", 1: "dog"}
    assert result.boxes.cls.tolist() == [0, 1, 0]
    lines = Path(result.save_txt(tmp_path / "a.txt")).read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "0"]
    assert {record["name"] for record in result.summary()} == {"cat", "dog"}
    (one,) = model(IMAGE, bboxes=BOXES, names="cat", verbose=False)
    assert (one.names, one.boxes.cls.tolist()) == ({0: "cat"}, [0, 0, 0])
    (plain,) = model(IMAGE, bboxes=BOXES, verbose=False)
    assert (plain.names, plain.boxes.cls.tolist()) == ({0: "0", 1: "1", 2: "2"}, [0, 1, 2])
    for names, message in (
        (["cat"], "names: 1 for 3 objects"),
        (5, "names: is a int"),
        (["a", 5, "b"], r"names\[1\]: is a int"),
    ):
        with pytest.raises(PromptError, match=message):
            model(IMAGE, bboxes=BOXES, names=names)
    with pytest.raises(PromptError, match="names: given without prompts"):
        model(IMAGE, names=["cat"])
