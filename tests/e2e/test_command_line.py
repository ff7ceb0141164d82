"""The command as users run it: real processes, real files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import jsonschema
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import mobilesam as mobilesam_package
from mobilesam.cli.main import cli, run
from mobilesam.core.extras import install_line
from mobilesam.core.metrics import mask_iou
from mobilesam.core.regions import remove_small_regions
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.image import image_to_png, read_mask
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model
from mobilesam.weights import ALIASES
from tests.owl_networks import TinyOwl
from tests.photos import cat, jpeg, write_set
from tests.series import one_in

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def mobilesam(*arguments: str, cwd: Path, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mobilesam", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=120, **options)


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "cat.jpg").write_bytes(jpeg(cat()))
    return tmp_path / "cat.jpg"


def test_a_box_gives_mask_and_overlay(photo: Path) -> None:
    before = photo.read_bytes()
    done = mobilesam("segment", "cat.jpg", "--box", "5,0,370,295", cwd=photo.parent)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
    out = photo.parent / "mobilesam-out"
    assert sorted(p.name for p in out.iterdir()) == ["cat_1_mask.png", "cat_overlay.png"]
    mask = read_mask(out / "cat_1_mask.png")
    assert mask.shape == (300, 451)
    assert mask[150, 230]
    assert not mask[280, 440]
    assert picture(out / "cat_overlay.png").shape == (300, 451, 3)
    assert b"cat_1_mask.png" in done.stdout
    assert photo.read_bytes() == before


def test_a_terminal_is_told_once_which_model_was_taken(photo: Path) -> None:
    import pty

    command = [sys.executable, "-m", "mobilesam", "segment", "cat.jpg", "--box", "5,0,370,295"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=photo.parent, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 4096):
            told += part
    os.close(ours)
    assert process.wait(60) == 0
    assert told.decode().count(f"model: {ALIASES['pocket']}") == 1
    assert b"mobilesam info mobile_sam" in told


READS = """
import sys
reads, decodes = [], []
sys.addaudithook(lambda event, given: reads.append(1) if event == "open" and str(given[0]).endswith("cat.jpg") else None)
from mobilesam.cli.main import run
from mobilesam.formats import image
decode = image.open_picture
image.open_picture = lambda *given: decodes.append(1) or decode(*given)
assert run(sys.argv[1:]) == 0
print(len(reads), len(decodes), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    one_in(
        3,
        [
            "segment cat.jpg --point 50,50 --save mask,overlay,cutout,coco,npz",
            "segment . --point 50,50",
            "segment cat.jpg --point 50,50 --out mask.png",
            "everything cat.jpg --max-prompts 9 --save overlay,id-map,masks,coco",
            "segment cat.jpg --ruler",
            "cutout cat.jpg --box 5,0,370,295",
        ],
    ),
)
def test_a_photo_is_read_and_decoded_once(photo: Path, arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READS, *arguments.split()], cwd=photo.parent, capture_output=True, timeout=120
    )
    assert done.stderr.endswith(b"1 1\n"), done.stderr


def test_every_kind_of_output_says_the_same(photo: Path) -> None:
    out = photo.parent / "out"
    prompts = {"version": 1, "objects": [{"box": [5, 0, 370, 295]}, {"points": [[160, 95]]}]}
    (photo.parent / "prompts.json").write_text(json.dumps(prompts))
    arguments = [
        "--prompts",
        "prompts.json",
        "--out",
        "out",
        "--save",
        "mask,overlay,cutout,coco,polygons,npz",
        "--json",
    ]
    done = mobilesam("segment", "cat.jpg", *arguments, cwd=photo.parent)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((REFERENCE / "results.schema.json").read_text()))
    jsonschema.validate(prompts, json.loads((REFERENCE / "prompts.schema.json").read_text()))
    objects = document["images"][0]["objects"]
    assert [len(entry["masks"]) for entry in objects] == [1, 3]
    coco = json.loads((out / "cat_coco.json").read_text())["annotations"]
    shapes = json.loads((out / "cat_polygons.json").read_text())["features"]
    arrays = dict(np.load(out / "cat_masks.npz"))
    for i, entry in enumerate(objects):
        best = entry["masks"][entry["chosen"]]
        mask = read_mask(photo.parent / entry["files"]["mask"])
        assert best["area"] == mask.sum() == coco[i]["area"]
        np.testing.assert_array_equal(coco_mask.decode(best["segmentation"]), mask)
        np.testing.assert_array_equal(coco_mask.decode(coco[i]["segmentation"]), mask)
        np.testing.assert_array_equal(arrays["masks"][i], mask)
        x0, y0, x1, y1 = best["box"]
        assert coco[i]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert shapes[i]["geometry"]["type"] == "MultiPolygon"
        cutout = picture(out / f"cat_{i + 1}_cutout.png")
        assert cutout.shape[2] == 4
        opaque = cutout[..., 3] == 255
        shown, inside = cutout[..., 3] > 0, mask[y0:y1, x0:x1] > 0
        assert shown[inside].all()
        assert (shown & ~inside).sum() < 0.01 * mask.sum()  # small holes
        assert opaque.sum() > 0.85 * mask.sum()
        assert cutout.shape[:2] == (y1 - y0, x1 - x0)


def test_all_masks_of_a_point_are_files(photo: Path) -> None:
    prompts = {"version": 1, "objects": [{"box": [5, 0, 370, 295]}, {"points": [[160, 95]]}]}
    (photo.parent / "prompts.json").write_text(json.dumps(prompts))
    arguments = [
        "segment",
        "cat.jpg",
        "--prompts",
        "prompts.json",
        "--save",
        "masks",
        "--out",
        "out",
        "--json",
    ]
    done = mobilesam(*arguments, cwd=photo.parent)
    assert done.returncode == 0, done.stderr.decode()
    by_box, by_point = json.loads(done.stdout)["images"][0]["objects"]
    assert sorted(by_box["files"]) == ["mask-1"]
    assert sorted(by_point["files"]) == ["mask-1", "mask-2", "mask-3"]
    assert len(list((photo.parent / "out").iterdir())) == 4
    for number, record in enumerate(by_point["masks"], start=1):
        mask = read_mask(photo.parent / "out" / f"cat_2_mask-{number}.png")
        np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), mask)
    to_stdout = ["segment", "cat.jpg", "--point", "160,95", "--save", "masks", "--out", "-"]
    done = mobilesam(*to_stdout, cwd=photo.parent)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"the result is 3 files; give a folder" in done.stderr


def test_texts_give_labelled_objects(photo: Path, owls: dict[str, TinyOwl]) -> None:
    prompts = {"version": 1, "texts": ["a cat", "a dog on a leash"]}
    (photo.parent / "prompts.json").write_text(json.dumps(prompts))
    jsonschema.validate(prompts, json.loads((REFERENCE / "prompts.schema.json").read_text()))
    given = ["--text-model", str(owls["owlv2"].folder), "--text-threshold", "0.5", "--json"]
    save = ["--save", "mask,overlay,cutout,coco,polygons,npz", "--out"]
    by_options = mobilesam(
        "segment",
        "cat.jpg",
        "--text",
        "a cat",
        "--text",
        "a dog on a leash",
        *given,
        *save,
        "a",
        cwd=photo.parent,
    )
    by_file = mobilesam(
        "segment", "cat.jpg", "--prompts", "prompts.json", *given, *save, "b", cwd=photo.parent
    )
    assert by_options.returncode == by_file.returncode == 0, by_options.stderr.decode()
    assert b"warning: " in by_options.stderr
    assert b"model.onnx: an ONNX file of unknown origin" in by_options.stderr
    document = json.loads(by_options.stdout)
    jsonschema.validate(document, json.loads((REFERENCE / "results.schema.json").read_text()))
    (image,) = document["images"]
    objects = image["objects"]
    labels, scores = [entry["label"] for entry in objects], [entry["text_score"] for entry in objects]
    assert len(objects) >= 2
    assert set(labels) <= set(prompts["texts"])
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.5
    coco = json.loads((photo.parent / "a/cat_coco.json").read_text())
    assert [category["name"] for category in coco["categories"]] == prompts["texts"]
    assert [prompts["texts"][one["category_id"] - 1] for one in coco["annotations"]] == labels
    assert [one["text_score"] for one in coco["annotations"]] == scores
    shapes = json.loads((photo.parent / "a/cat_polygons.json").read_text())["features"]
    assert [shape["properties"]["label"] for shape in shapes] == labels
    with np.load(photo.parent / "a/cat_masks.npz") as arrays:
        assert arrays["label"].tolist() == labels
        np.testing.assert_allclose(arrays["text_score"], scores, atol=1e-4)
        for entry, mask in zip(objects, arrays["masks"], strict=True):
            np.testing.assert_array_equal(read_mask(photo.parent / entry["files"]["mask"]), mask)
    for path in (photo.parent / "a").iterdir():
        if path.suffix != ".npz":  # a zip file holds the time
            assert path.read_bytes() == (photo.parent / "b" / path.name).read_bytes()


def test_texts_to_standard_output(photo: Path, owls: dict[str, TinyOwl]) -> None:
    given = ["--text", "a cat", "--text-model", str(owls["owlv2"].folder), "--out", "-"]
    done = mobilesam("segment", "cat.jpg", *given, "--save", "coco", cwd=photo.parent)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["annotations"]
    done = mobilesam(
        "segment", "cat.jpg", *given, "--save", "mask", "--text-threshold", "0.3", cwd=photo.parent
    )
    assert done.returncode == 2
    assert b"the result is 9 files of 9 objects; give a folder" in done.stderr
    assert not done.stdout


def test_text_outputs_that_are_there_are_not_replaced(photo: Path, owls: dict[str, TinyOwl]) -> None:
    out = photo.parent / "mobilesam-out"
    out.mkdir()
    given = ["--text", "a cat", "--text-model", str(owls["owlv2"].folder), "--text-threshold", "0.3"]
    for name in ("cat_1_mask.png", "cat_2_mask.png"):  # one is looked for before the work, one after
        (out / name).write_bytes(b"mine")
        done = mobilesam("segment", "cat.jpg", *given, cwd=photo.parent)
        assert done.returncode == 0, done.stderr.decode()
        assert (out / name).read_bytes() == b"mine"
        assert len(list(out.glob("cat_*_mask.png"))) == 1 + 9
        for path in out.iterdir():
            path.unlink()


def test_per_cent_is_the_same_as_pixels(photo: Path) -> None:
    for name, box in (("a", "45.1,30,451,300"), ("b", "10%,10%,100%,100%")):
        assert mobilesam("segment", "cat.jpg", "--box", box, "--out", name, cwd=photo.parent).returncode == 0
    a, b = (photo.parent / name / "cat_1_mask.png" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_small_regions_are_removed_from_every_output(photo: Path, pocket: Model) -> None:
    prompt = mobilesam_package.Prompt(points=[230, 150])
    rough = pocket.segment(pocket.embed(photo), prompt)
    wanted = [rle_to_mask(remove_small_regions(one.rle, 200)[0]) for one in rough]
    tidy = rough.cleaned(200)
    assert any((one.mask != mask).any() for one, mask in zip(rough, wanted, strict=True))
    np.testing.assert_array_equal(tidy.masks, wanted)
    assert tidy.choice == rough.choice and rough.min_mask_region_area == 0
    command = ["segment", "cat.jpg", "--point", "230,150", "--min-mask-region-area", "200"]
    done = mobilesam(*command, "--json", cwd=photo.parent)
    assert done.returncode == 0, done.stderr.decode()
    (record,) = json.loads(done.stdout)["images"][0]["objects"]
    assert [one["area"] for one in record["masks"]] == [int(mask.sum()) for mask in wanted]
    written = read_mask(photo.parent / "mobilesam-out" / "cat_1_mask.png")
    np.testing.assert_array_equal(written, tidy.mask)
    streamed = mobilesam(*command, "--out", "-", "--save", "mask", cwd=photo.parent)
    assert streamed.stdout == (photo.parent / "mobilesam-out" / "cat_1_mask.png").read_bytes()


def test_standard_streams(photo: Path) -> None:
    done = mobilesam(
        "segment",
        "-",
        "--box",
        "5,0,370,295",
        "--out",
        "-",
        "--save",
        "mask",
        cwd=photo.parent,
        input=photo.read_bytes(),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"\x89PNG")
    mobilesam("segment", "cat.jpg", "--box", "5,0,370,295", "--save", "mask", cwd=photo.parent)
    assert (photo.parent / "mobilesam-out" / "cat_1_mask.png").read_bytes() == done.stdout


def test_a_mask_prompt_from_a_file(photo: Path) -> None:
    rough = np.zeros((300, 451), bool)
    rough[20:280, 30:350] = True
    (photo.parent / "rough.png").write_bytes(image_to_png(rough))
    done = mobilesam("segment", "cat.jpg", "--mask", "rough.png", "--box", "5,0,370,295", cwd=photo.parent)
    assert done.returncode == 0, done.stderr.decode()
    mask = read_mask(photo.parent / "mobilesam-out" / "cat_1_mask.png")
    assert mask_iou(mask, rough) > 0.5


def test_ruler_needs_no_prompt(photo: Path) -> None:
    done = mobilesam("segment", "cat.jpg", "--ruler", "--out", "r", cwd=photo.parent)
    assert done.returncode == 0
    plain = picture(photo.parent / "r" / "cat_ruler.png")
    assert plain.shape == (600, 902, 3)  # a small picture is enlarged


def test_ruler_shows_the_prompts(photo: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(photo.parent)
    ruler = ["segment", "cat.jpg", "--ruler", "--out"]
    assert run([*ruler, "plain"]) == 0
    assert run([*ruler, "both", "--point", "200,100", "--box", "100,50,50%,250"]) == 0
    plain, both = (picture(Path(name) / "cat_ruler.png").astype(int) for name in ("plain", "both"))
    y, x = np.nonzero((plain != both).any(2))
    assert (x.min() // 2, y.min() // 2, x.max() // 2, y.max() // 2) == (100, 50, 225, 250)
    assert both[200, 400].tolist() == [40, 220, 60]
    assert "warning" not in capsys.readouterr().err
    assert run([*ruler, "clipped", "--box", "-9,50,200,250"]) == 0
    assert "warning: cat.jpg: box: " in capsys.readouterr().err
    assert run([*ruler, "x", "--point", "500,100"]) == 2
    assert "outside the image of 451 x 300" in capsys.readouterr().err
    assert run([*ruler, "x", "--mask", "cat.jpg"]) == 2
    assert "--ruler: draws --point and --box" in capsys.readouterr().err
    assert not Path("x").exists()


def test_files_that_a_folder_run_skips_are_named(photo: Path) -> None:
    folder = photo.parent
    for name in ("a.CR2", "clip.mp4", "notes"):
        (folder / name).write_bytes(b"anything")
    done = mobilesam("segment", ".", "--box", "5,0,370,295", "--save", "mask", cwd=folder)
    assert done.returncode == 0
    told = done.stderr.decode()
    assert "warning: 1 file skipped (a.CR2): it is a camera's raw file" in told
    assert "1 file skipped (clip.mp4): it is a video" in told
    assert "notes" in told
    photo.unlink()
    done = mobilesam("segment", ".", "--box", "5,0,370,295", cwd=folder)
    assert done.returncode == 2
    assert b"holds no images; 1 file skipped (a.CR2)" in done.stderr


def test_folder_with_a_bad_file_goes_on(photo: Path) -> None:
    folder = photo.parent / "shots"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg", ".hidden.jpg"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "a.png").write_bytes(image_to_png(cat()))
    (folder / "bad.jpg").write_bytes(photo.read_bytes()[:3000])
    (folder / "note.txt").write_text("not an image")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = mobilesam(
        "segment", "shots", "--box", "5%,5%,90%,90%", "--save", "mask", "--json", cwd=photo.parent
    )
    assert done.returncode == 5, done.stderr.decode()
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((REFERENCE / "results.schema.json").read_text()))
    assert len(document["images"]) == 3
    assert [(e["file"], e["code"]) for e in document["errors"]] == [(str(Path("shots") / "bad.jpg"), "I")]
    out = photo.parent / "mobilesam-out"
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*.png"))
    assert names == ["a_jpg_1_mask.png", "a_png_1_mask.png", "sub/b_1_mask.png"]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not list(out.rglob("*.tmp"))


def test_nothing_is_overwritten_unasked(photo: Path) -> None:
    arguments = ("segment", "cat.jpg", "--box", "5,0,370,295")
    assert mobilesam(*arguments, cwd=photo.parent).returncode == 0
    mask = photo.parent / "mobilesam-out" / "cat_1_mask.png"
    mask.write_bytes(b"mine")
    assert mobilesam(*arguments, cwd=photo.parent).returncode == 0
    assert mask.read_bytes() == b"mine"
    assert sorted(path.name for path in mask.parent.iterdir()) == [
        "cat_1_mask.png",
        "cat_2_mask.png",
        "cat_2_overlay.png",
        "cat_overlay.png",
    ]
    assert mobilesam(*arguments, "--overwrite", cwd=photo.parent).returncode == 0
    assert mask.read_bytes() != b"mine"


def test_one_file_by_its_name(photo: Path) -> None:
    arguments = ("segment", "cat.jpg", "--box", "5,0,370,295", "-q")
    assert mobilesam(*arguments, "-o", "new/mask.png", cwd=photo.parent).returncode == 0
    assert mobilesam(*arguments, "-o", "cut.png", "--save", "cutout", cwd=photo.parent).returncode == 0
    assert mobilesam(*arguments, "-o", "set.json", cwd=photo.parent).returncode == 0
    with Image.open(photo.parent / "new/mask.png") as mask, Image.open(photo.parent / "cut.png") as cut:
        assert (mask.mode, cut.mode) == ("L", "RGBA")
    assert json.loads((photo.parent / "set.json").read_text())["annotations"]
    done = mobilesam(*arguments, "-o", "cut.png", cwd=photo.parent)
    assert done.returncode == 6
    assert done.stderr == (
        b"error[O]: cut.png: exists already; choose another place, or pass --overwrite to replace it\n"
    )
    assert mobilesam(*arguments, "-o", "cut.png", "--overwrite", cwd=photo.parent).returncode == 0
    assert not (photo.parent / "mobilesam-out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--box", "5,0,370,295", "-o", "m.jpg"),
            "--out: m.jpg ends in .jpg, and results end in .json, .npz, .png",
        ),
        (("--box", "5,0,370,295", "-o", "cat.jpg"), "--out: cat.jpg ends in .jpg"),
        (
            ("--box", "5,0,99,99", "--box", "5,0,370,295", "-o", "m.png"),
            "is 2 files of 2 objects; give a folder",
        ),
        (("--point", "50,50", "-o", "m.png", "--save", "masks"), "--save masks in a folder"),
        (
            ("--point", "50,50", "-o", "m.png", "--save", "coco"),
            "m.png ends in .png, and --save coco in .json",
        ),
        (("--point", "50,50", "-o", "m.png", "--save", "mask,overlay"), "takes one kind of result"),
        (("--point", "50,50", "other.jpg", "-o", "m.png"), "takes one photo, and there are 2"),
        (("--point", "50,50", "--out", ""), "--out: is empty"),
        (("--point", "50,50", "--out", "-", "--json"), "cannot be joined with --json"),
        (("--point", "50,50", ""), "IMAGE: is empty"),
    ],
)
def test_what_one_file_cannot_be(photo: Path, arguments: tuple[str, ...], says: str) -> None:
    before = photo.read_bytes()
    done = mobilesam("segment", "cat.jpg", *arguments, cwd=photo.parent)
    assert done.returncode == 2
    assert says in done.stderr.decode()
    assert [path.name for path in photo.parent.iterdir()] == ["cat.jpg"]
    assert photo.read_bytes() == before


def test_the_ruler_goes_on_after_a_bad_file(photo: Path) -> None:
    (photo.parent / "bad.jpg").write_bytes(b"no photo")
    point = ("--point", "999,10")
    done = mobilesam("segment", "bad.jpg", "cat.jpg", "--ruler", cwd=photo.parent)
    assert done.returncode == 5
    assert done.stderr.startswith(b"error[I]: bad.jpg: ")
    assert (photo.parent / "mobilesam-out" / "cat_ruler.png").is_file()
    assert mobilesam("segment", "cat.jpg", "--ruler", *point, cwd=photo.parent).returncode == 2


def test_quiet_prints_errors_only(photo: Path) -> None:
    done = mobilesam("segment", "cat.jpg", "--box", "0.1,0.2,0.5,0.6", "--quiet", cwd=photo.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = mobilesam("segment", "none.jpg", "--box", "1,2,5,6", "-q", cwd=photo.parent)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"error[I]: none.jpg: not found")


# fmt: off
FAILURES = [
    (["segment", "none.jpg", "--point", "1,2"], 3, r"error\[I\]: none.jpg: not found"),
    (["segment", "cat.jpg"], 2, r"error\[S\]: no prompt: give --point"),
    (["segment", "cat.jpg", "--point", "1;2"], 2, r"error\[U\]: .*'1;2' is not a point; write X,Y"),
    (["segment", "cat.jpg", "--point", "1,2,3,4"], 2, r"error\[U\]"),
    (["segment", "cat.jpg", "--box", "1,2,3"], 2, r"error\[U\]: .*is not a box"),
    (["segment", "cat.jpg", "--point", "nan,2"], 2, r"error\[S\]: points\[0\].x: is nan"),
    (["segment", "cat.jpg", "--point", "1,2,7"], 2, r"error\[S\]: labels\[0\]: is 7"),
    (["segment", "cat.jpg", "--point", "9999,2"], 2, r"error\[S\]: points\[0\].x: is 9999, outside the image of 451 x 300"),
    (["segment", "cat.jpg", "--box", "300,10,20,30"], 2, r"error\[S\]: box: .* x0 > x1"),
    (["segment", "cat.jpg", "--box", "1,2,30,40", "--box", "5,6,70,80", "--point", "3,3"], 2, r"error\[U\]: --box: 2 boxes together"),
    (["segment", "cat.jpg", "--point", "1,2", "--save", "gif"], 2, r"error\[U\]: --save: 'gif' is unknown"),
    (["segment", "cat.jpg", "--point", "1,2", "--model", "sam9"], 2, r"error\[U\]: model 'sam9': unknown; choose"),
    (["segment", "cat.jpg", "--point", "1,2", "--model", "mobile_sam"], 4, r"error\[W\]: .*run: mobilesam weights pull mobile_sam"),
    (["segment", "cat.jpg", "--point", "1,2", "--max-pixels", "100"], 7, r"error\[L\]: cat.jpg: 451 x 300 is 135,300 pixels"),
    (["segment", "cat.jpg", "--point", "1,2", "--out", "cat.jpg/x"], 6, r"error\[O\]"),
    (["segment", "*.gif", "--point", "1,2"], 2, r"error\[U\]: \*.gif: matches no file"),
    (["segment", "cat.jpg", "--prompts", "none.json"], 2, r"error\[U\]: none.json: not found; check the path"),
    (["segment", "cat.jpg", "--prompts", "p.json", "--point", "1,2"], 2, r"error\[U\]: --prompts: cannot be joined"),
    (["segment", "cat.jpg", "--pint", "1,2"], 2, r"error\[U\]: No such option"),
    (["segment"], 2, r"error\[U\]: Missing argument"),
    (["segment", "n" * 300 + ".jpg", "--point", "1,2"], 3, r"error\[I\]: n+\.\.\.n+.jpg: cannot be opened"),
    (["segment", "cat.jpg", "--point", "1,2", "--save", ""], 2, r"error\[U\]: --save: is empty"),
    (["segment", "cat.jpg", "--point", "1,2", "--out", "-", "--json"], 2, r"error\[U\]: --out -"),
    (["segment", "cat.jpg", "--mask", "cat.jpg"], 3, r"error\[I\]: cat.jpg: is a photo, not a mask"),
    (["segment", "cat.jpg", "--mask", "none.png"], 3, r"error\[I\]: none.png: not found"),
    (["segment", "cat.jpg", "--point", "1", "2"], 2, r"'1' is not a point; .* without spaces"),
    (["segment", "https://example.com/cat.jpg", "--point", "1,2"], 2, r"error\[U\]: https://example.com/cat.jpg: is an address, and nothing is fetched"),
    (["segment", "cat.jpg", "--point", "1,2", "--out", "cat.jpg"], 2, r"error\[U\]: --out: cat.jpg ends in .jpg"),
    (["segment", "cat.jpg", "--point", "1,2", "--checkpoint", "mobile_sam.pt"], 4, r"error\[W\]: mobile_sam.pt: not found; .* mobilesam weights pull mobile_sam"),
    (["segment", "cat.jpg", "--point", "1,2", "--min-mask-region-area", "1.5"], 2, r"--min-mask-region-area: is 1.5; must be a whole number from 0"),
    (["sgement"], 2, r"error\[U\]: 'sgement' is not a command; did you mean segment\?; see mobilesam --help"),
    (["cat.jpg"], 2, r"error\[U\]: 'cat.jpg' is not a command; for a photo write mobilesam segment cat.jpg --point X,Y"),
    (["n" * 300], 2, r"error\[U\]: 'n+' is not a command; choose one of"),
    (["segment", "cat.jpg", "--point", "1,2", "--out", "n" * 300], 6, r"error\[O\]: n+"),
    (["xyz"], 2, r"error\[U\]: 'xyz' is not a command; choose one of segment, cutout, everything"),
    (["info", "nothing"], 2, r"error\[U\]: model 'nothing': unknown"),
    (["evaluate", "masks", ".", "--kinds", "box,circle"], 2, r"error\[U\]: --kinds: 'circle' is unknown"),
    (["evaluate", "masks", "."], 2, r"error\[U\]: .*instances.json: not found"),
    (["train", "masks", "none.toml", "--out", "x"], 2, r"error\[U\]: none.toml: cannot be read"),
]
# fmt: on


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    FAILURES,
    ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else None,
)
def test_failures(
    photo: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(photo.parent)
    monkeypatch.setenv("MOBILESAM_HOME", str(tmp_path_factory.mktemp("home")))
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert sorted(p.name for p in photo.parent.iterdir()) == ["cat.jpg"]


PROMPT_FILES = [
    ("nonsense", "not JSON"),
    ("[1]", "must be an object"),
    ('{"objects": [{}]}', r"objects\[0\]: is empty; give points, a box or a mask"),
    ('{"objects": [{"lables": [1]}]}', "unknown field 'lables', did you mean 'labels'"),
    ('{"objects": [{"points": [[NaN, 1]]}]}', "holds NaN"),
    ('{"objects": [{"box": [1,2,3,4], "box": [1,2,3,4]}]}', "is there twice"),
    ('{"version": 2, "objects": [{"box": [1,2,3,4]}]}', "reads version 1"),
    ('{"objects": [{"mask": "none.png"}]}', "not found"),
    ('{"objects": [{"mask": {"size": [2, 2], "counts": [1]}}]}', "add up to 1"),
    ('{"objects": [{"mask": {"size": [1000000, 1000000], "counts": [1000000000000]}}]}', "50,000,000 pixels"),
    (
        '{"objects": [{"box": [1' + "0" * 5000 + ", 1, 2, 3]}]}",
        r"holds a number of 5,001 digits at objects\[0\]",
    ),
    ('{"version": true, "objects": [{"box": [1,2,3,4]}]}', "version true"),
    ('{"objects": [{"box": ["a",2,3,4]}]}', r"p.json: objects\[0\]\.box: is a list"),
    ('{"objects": [{"points": [[1, 2]]}, {"box": [30, 2, 3, 4]}]}', r"p.json: objects\[1\]\.box"),
    ("[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("text", "message"), PROMPT_FILES, ids=range(len(PROMPT_FILES)))
def test_bad_prompt_files(photo: Path, monkeypatch, capsys, text: str, message: str) -> None:
    monkeypatch.chdir(photo.parent)
    Path("p.json").write_text(text)
    assert run(["segment", "cat.jpg", "--prompts", "p.json"]) in (2, 3, 7)
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error


def test_json_is_printed_also_when_the_only_image_fails(photo: Path) -> None:
    done = mobilesam("segment", "none.jpg", "--point", "1,2", "--json", cwd=photo.parent)
    assert done.returncode == 3
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((REFERENCE / "results.schema.json").read_text()))
    assert [e["code"] for e in document["errors"]] == ["I"]


def test_a_folder_run_leaves_its_own_results_out(photo: Path) -> None:
    arguments = ("segment", ".", "--box", "5%,5%,90%,90%", "--overwrite")
    for _ in range(2):
        assert mobilesam(*arguments, cwd=photo.parent).returncode == 0
    assert len(list(photo.parent.rglob("*.png"))) == 2


def test_the_same_file_twice_is_one_image(photo: Path) -> None:
    done = mobilesam("segment", "cat.jpg", str(photo), "--box", "5,0,370,295", "--json", cwd=photo.parent)
    assert len(json.loads(done.stdout)["images"]) == 1


def test_without_arguments_the_help_is_shown(tmp_path: Path) -> None:
    for arguments in ((), ("train",), ("export",)):
        done = mobilesam(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert b"Commands:\n" in done.stderr + done.stdout


def test_warnings_are_told(photo: Path) -> None:
    done = mobilesam("segment", "cat.jpg", "--box", "0.1,0.2,0.5,0.6", "--json", cwd=photo.parent)
    assert done.returncode == 0
    assert b"warning: cat.jpg: box: all coordinates lie in 0..1" in done.stderr
    assert b".py" not in done.stderr
    assert len(json.loads(done.stdout)["images"][0]["warnings"]) >= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_standard_output_is_an_output_error(photo: Path) -> None:
    command = [sys.executable, "-m", "mobilesam", "segment", "cat.jpg", "--ruler", "--out", "-"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=photo.parent, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 6
    assert b"error[O]" in done.stderr


def test_nothing_is_sent_or_left_in_the_home(photo: Path) -> None:
    home = photo.parent / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")} | {"HOME": str(home)}
    done = mobilesam("segment", "cat.jpg", "--box", "5,0,370,295", cwd=photo.parent, env=environment)
    assert done.returncode == 0
    assert not list(home.rglob("*"))


def test_sets_that_cannot_be_scored(tmp_path: Path, capsys) -> None:
    folder = write_set(tmp_path / "set", 2)
    assert run(["evaluate", "masks", str(folder), "--smallest", "0.9"]) == 2
    assert "pass --smallest 0.0 to score every object" in capsys.readouterr().err
    with Image.open(folder / "images" / "0.jpg") as image:
        image.resize((40, 30)).save(folder / "images" / "0.jpg")
    assert run(["evaluate", "masks", str(folder)]) == 2
    assert "its masks are" in capsys.readouterr().err
    (folder / "images" / "1.jpg").unlink()
    assert run(["evaluate", "masks", str(folder)]) == 2
    assert "1 of its photos are missing" in capsys.readouterr().err
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"][2]["segmentation"] = [[1, 1, 20, 1, 20]]
    (folder / "instances.json").write_text(json.dumps(content))
    assert run(["evaluate", "masks", str(folder)]) == 2
    assert "annotations[2].segmentation[0]: has 5 entries; give at least 6" in capsys.readouterr().err


def test_what_would_keep_a_report_from_being_written_is_told_before_anything_is_scored(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    folder, report = write_set(tmp_path / "set", 2), tmp_path / "report"
    arguments = ["evaluate", "masks", str(folder), "--kinds", "box", "--report", str(report)]
    report.mkdir()
    (report / "set-reliability.png").write_bytes(b"mine")
    assert run(arguments) == 6
    told = capsys.readouterr()
    assert "set-reliability.png" in told.err and not told.out
    assert [path.read_bytes() for path in report.iterdir()] == [b"mine"]
    for questions in ("masks", "everything"):
        assert run(["evaluate", questions, str(folder), "--report", str(report / "set-reliability.png")]) == 6
        told = capsys.readouterr()
        assert "cannot be written" in told.err and not told.out
    assert run([*arguments, "--overwrite"]) == 0
    assert sorted(path.name for path in report.iterdir()) == ["set-box.png", "set-reliability.png"]
    monkeypatch.setattr("mobilesam.evaluate.report.find_spec", lambda name: None)
    capsys.readouterr()
    assert run([*arguments, "--overwrite"]) == 2
    told = capsys.readouterr()
    assert install_line("train") in told.err and not told.out


def test_a_mask_that_strays_from_its_box_is_told(pocket: Model) -> None:
    result = pocket.segment(pocket.embed(cat()), mobilesam_package.Prompt(box=[5, 0, 370, 295]))
    assert result.remarks == ()
    for moved, part in (
        (30, None),
        (200, r"\d\d% of the mask lies outside its box; a box is x0, y0, x1, y1"),
    ):
        prompt = replace(result.prompt, box=np.add(result.prompt.box, [moved, 0, 0, 0]))
        remarks = replace(result, prompt=prompt).remarks
        assert re.match(part, *remarks) if part else not remarks
    assert replace(result, low_res_masks=0 * result.low_res_masks - 1).remarks == ("the mask is empty",)


def test_what_a_prompt_line_shows_is_short(pocket: Model) -> None:
    embedding = pocket.embed(cat())
    everything = pocket.everything(cat(), EverythingOptions(max_prompts=4))
    for shown in (embedding, everything, everything[0].rle):
        assert len(repr(shown)) < 200
    assert repr(everything) == f"Everything({len(everything)} masks of 451 x 300)"


def test_names_that_are_hard_to_print(photo: Path) -> None:
    names = ["-dash.jpg", "new\nline.jpg", "emoji \N{CAT FACE}.jpg"]
    for name in names:
        (photo.parent / "odd").mkdir(exist_ok=True)
        (photo.parent / "odd" / name).write_bytes(photo.read_bytes())
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:backslashreplace"}
    done = mobilesam(
        "segment", "odd", "--box", "5%,5%,90%,90%", "--save", "mask", cwd=photo.parent, env=environment
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(list((photo.parent / "mobilesam-out").iterdir())) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_files(photo: Path, number: int, code: int) -> None:
    folder = photo.parent / "many"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}.jpg").write_bytes(photo.read_bytes())
    command = [sys.executable, "-m", "mobilesam", "segment", "many", "--box", "5%,5%,90%,90%"]
    process = subprocess.Popen(
        command,
        cwd=photo.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a run in the background ignores Ctrl-C
    )
    out = photo.parent / "mobilesam-out"
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert b"Traceback" not in error
    assert all(picture(path).size for path in out.glob("*.png"))
    assert not list(out.glob("*.tmp"))


def test_info_tells_the_counts(capsys) -> None:
    assert run(["info", "mobile_sam"]) == 0
    text = capsys.readouterr().out
    for figure in ("10,130,092", "9.661 x 2^20", "5.785", "3.876", "321,640", "9,808,452"):
        assert figure in text
    assert run(["info", "pocket"]) == 0
    text = capsys.readouterr().out
    assert "CC BY 4.0" in text
    assert "COCO 2017" in text


def commands(group: click.Group, path: str = "mobilesam") -> list[tuple[str, click.Command]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found += commands(command, f"{path} {name}")
        else:
            found.append((f"{path} {name}", command))
    return found


@pytest.mark.parametrize(("name", "command"), commands(cli), ids=[c[0] for c in commands(cli)])
def test_every_command_and_option_is_documented(name: str, command: click.Command, capsys) -> None:
    page = (REFERENCE / "command-line.md").read_text()
    assert f"`{name}" in page
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[0]}" in page, parameter.opts
    assert run([*name.split()[1:], "--help"]) == 0
    assert "mobilesam" in capsys.readouterr().out
