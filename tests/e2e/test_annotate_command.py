"""``mobilesam annotate`` as users run it, with the model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from mobilesam.cli.annotate import describe, pair_boxes
from mobilesam.cli.main import run
from mobilesam.core.rle import rle_to_mask
from mobilesam.formats.datasets.load import read_dataset, write_dataset
from mobilesam.formats.datasets.model import Dataset, LabelledObject, LabelledPhoto, make_dataset
from tests.onnx_detectors import constant_detector, layout_outputs
from tests.photos import cat, jpeg
from tests.tars import write_tar

FACE = (90.0, 20.0, 330.0, 290.0)
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from mobilesam.cli.main import main; main()"
pytestmark = pytest.mark.filterwarnings("ignore::mobilesam.WeightsWarning")  # of the detectors that stand in


@pytest.fixture
def shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shots").mkdir()
    for i, name in enumerate(("a.jpg", "b.jpg")):
        (tmp_path / "shots" / name).write_bytes(jpeg(np.roll(cat(), 5 * i, axis=1)))
    return tmp_path / "shots"


def yolox(path: Path, number: int, names: str = "") -> Path:
    """A detector that sees class ``number`` in the cat's face, whatever it is shown."""
    scale = 416 / 451
    shape, outputs, kind = layout_outputs("yolox", np.array(FACE) * scale)
    outputs[0][0, 1234, 5 + number] = 0.8
    constant_detector(path, shape, outputs, kind)
    if names:
        model = onnx.load(path)
        model.metadata_props.add(key="names", value=names)
        onnx.save(model, path)
    return path


def test_a_detector_names_its_classes(shots: Path) -> None:
    yolox(shots.parent / "yolox.onnx", 2)
    names = ",".join(["dog", "bird", "cat", *(f"thing {i}" for i in range(77))])
    arguments = [
        "annotate",
        "shots",
        "--detector",
        "yolox.onnx",
        "--names",
        names,
        "--format",
        "coco,yolo",
    ]
    assert run([*arguments, "--out", "set"]) == 0
    found = read_dataset("set")
    assert [one.name for one in found.categories[:3]] == ["dog", "bird", "cat"]
    assert len(found.categories) == 80
    assert [[one.label for one in photo.objects] for photo in found.photos] == [["cat"], ["cat"]]
    (face,) = found.photos[0].objects
    assert face.score == pytest.approx(0.9, abs=1e-3)
    assert rle_to_mask(face.mask)[150, 230]
    assert (Path("set") / "labels" / "a.txt").read_text().startswith("2 ")
    assert found.provenance["weights"].startswith("831832a9")
    assert run([*arguments, "--out", "dogs", "--classes", "dog"]) == 0
    assert not any(photo.objects for photo in read_dataset("dogs").photos)


def test_names_may_be_in_the_detector_itself(shots: Path) -> None:
    yolox(shots.parent / "yolox.onnx", 1, "{0: 'dog', 1: 'a cat'}")
    assert run(["annotate", "shots/a.jpg", "--detector", "yolox.onnx", "--out", "set"]) == 0
    assert read_dataset("set").photos[0].objects[0].label == "a cat"


def test_boxes_that_exist(shots: Path) -> None:
    boxes = [LabelledObject("cat", FACE), LabelledObject("nothing", (0, 0, 0.5, 0.5))]
    write_dataset(make_dataset([LabelledPhoto("a.jpg", (300, 451), tuple(boxes))]), "boxes", ["coco"])
    assert (
        run(["annotate", "shots", "--detector", "boxes/instances.json", "--out", "set", "--photos", "none"])
        == 0
    )
    found = read_dataset("set", format="coco")
    assert [len(photo.objects) for photo in found.photos] == [1, 0]
    assert rle_to_mask(found.photos[0].objects[0].mask)[150, 230]
    assert not Path("set/images").exists()
    assert run(["annotate", "shots/b.jpg", "--detector", "boxes", "--out", "other"]) == 2


def test_everything_and_our_own_head(shots: Path, capsys: pytest.CaptureFixture) -> None:
    (shots / "a.jpg").write_bytes(jpeg(np.ascontiguousarray(cat()[::4, ::4])))
    assert (
        run(
            [
                "annotate",
                "shots/a.jpg",
                "--everything",
                "--max-prompts",
                "24",
                "--format",
                "sa1b",
                "--out",
                "all",
            ]
        )
        == 0
    )
    (document,) = [json.loads(path.read_text()) for path in Path("all/sa1b").iterdir()]
    assert len(document["annotations"]) > 3
    assert {"predicted_iou", "stability_score", "crop_box", "point_coords"} <= document["annotations"][
        0
    ].keys()
    capsys.readouterr()
    assert run(["annotate", "shots/a.jpg", "--out", "set"]) == 0
    assert "1 photo, 1 object, 1 category;" in capsys.readouterr().out


def test_the_number_of_workers_changes_nothing(shots: Path) -> None:
    for workers in ("1", "3"):
        assert run(["annotate", "shots", "--workers", workers, "--out", workers, "--format", "coco,png"]) == 0
    trees = [
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file()
        }
        for folder in ("1", "3")
    ]
    assert trees[0] == trees[1]


def test_bad_photos_are_told_and_the_rest_is_done(shots: Path, capsys: pytest.CaptureFixture) -> None:
    (shots / "c.jpg").write_bytes(b"no picture")
    assert run(["annotate", "shots", "--out", "set"]) == 5
    printed = capsys.readouterr()
    assert "error[I]: shots/c.jpg" in printed.err
    assert "1 photo failed; see set/errors.jsonl" in printed.err
    (line,) = Path("set/errors.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "shots/c.jpg"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "none"], "give --text or --everything"),
        (["--detector", "pocket", "--everything"], "leave out --text and --everything"),
        (["--names", "a,b"], "is for the classes of a detector's .onnx file"),
        (["--confidence", "2"], "--confidence: is 2"),
        (["--val", "-1"], "--val: is -1"),
        (["--detector", "boxes" * 99], "boxes"),
        (["--detector", "gone.json"], "--detector: gone.json: not found"),
        (["--format", "yolo9"], "format 'yolo9': is not written"),
        (["--photos", "move"], "choose one of copy, link, none"),
        (["--workers", "0"], "workers: is 0"),
        (["--engine", "spark"], "--engine: is 'spark'; choose one of local, ray"),
        (["--address", "auto"], "--address: is of a Ray cluster; give --engine ray as well"),
        (["--format", "webdataset", "--photos", "none"], "webdataset's shards hold the photos"),
        (["x-{9..1}.tar"], "{9..1} must go upwards"),
        (["gone://bucket/x"], "gone://bucket/x: cannot be read (Protocol not known"),
        (["--out", "-"], "must be a folder"),
        (["--detector", "pocket", "--classes", "cat"], "'cat' is not a class"),
    ],
)
def test_options_that_cannot_be_meant(
    arguments: list[str], message: str, shots: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(["annotate", "shots", *arguments]) in (2, 7)
    assert message in capsys.readouterr().err
    assert not Path("mobilesam-set").exists()


def test_an_interrupt_says_how_to_go_on(shots: Path) -> None:
    for i in range(60):
        (shots / f"more{i}.jpg").write_bytes(jpeg(np.roll(cat(), i, axis=0)))
    command = [sys.executable, "-m", "mobilesam", "annotate", "shots", "--out", "set"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
    )
    record = Path("set/record.jsonl")
    while process.poll() is None and not (record.is_file() and record.read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1].decode()
    assert process.returncode == 130, errors
    assert "of 62 photos are done; the same command goes on with the others" in errors


def test_boxes_are_paired_by_the_longest_name_that_is_clear() -> None:
    def named(*names: str) -> Dataset:
        photos = [LabelledPhoto(name, (9, 9), (LabelledObject(name, (0, 0, 5, 5)),)) for name in names]
        return make_dataset(photos)

    paired = pair_boxes(named("x/a.png", "y/a.png", "images/b.jpg"), ["x/a.jpg", "b.jpg", "a.jpg"])
    assert {name: own[0].label for name, own in paired.items()} == {
        "x/a.jpg": "x/a.png",
        "b.jpg": "images/b.jpg",
    }


def test_progress_tells_rate_and_time_left() -> None:
    assert describe(50, 1100, 25, 10.0) == "50 of 1,100 photos, 2.5 a second, 7 min 0 s left"
    assert describe(0, 3, 0, 1.0) == "0 of 3 photos"


def test_photos_come_from_tars(shots: Path) -> None:
    for i in range(2):
        write_tar(
            shots.parent / f"shots-{i:02}.tar", {"a.jpg": (shots / "a.jpg").read_bytes(), "a.cls": b"1"}
        )
    assert run(["annotate", "shots-{00..01}.tar", "--out", "set", "--format", "coco,webdataset"]) == 0
    found = read_dataset("set")
    assert [photo.file_name for photo in found.photos] == ["shots-00/a.jpg", "shots-01/a.jpg"]
    assert found.photos[0].objects[0].mask == found.photos[1].objects[0].mask
    assert Path("set/shards/all-000000.tar").is_file()


def test_pytorch_labels_too(shots: Path) -> None:
    assert run(["annotate", "shots/a.jpg", "--runtime", "torch", "--out", "set"]) == 0
    assert read_dataset("set").photos[0].objects


def test_without_ray_the_line_that_installs_it_is_told(shots: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_RAY, "annotate", "shots", "--out", "set", "--engine", "ray"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--engine ray: needs packages that are not installed; pip install" in done.stderr
    assert not Path("set").exists()


def test_a_finished_set_is_copied_to_an_address(shots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Photos that lie there are not copied again; the labels are, and the record comes last."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    boxes = [LabelledObject("cat", FACE)]
    write_dataset(make_dataset([LabelledPhoto("a.jpg", (300, 451), tuple(boxes))]), "boxes", ["coco"])
    arguments = ["annotate", "shots/a.jpg", "--detector", "boxes/instances.json", "--out", "set"]
    assert run([*arguments, "--upload", "memory://bucket/set"]) == 0
    assert "memory://bucket/set: 3 files copied" in capsys.readouterr().out
    there = fsspec.filesystem("memory")
    copied = {name.removeprefix("/bucket/set/"): there.cat_file(name) for name in there.find("/bucket/set")}
    here = {
        path.relative_to("set").as_posix(): path.read_bytes()
        for path in Path("set").rglob("*")
        if path.is_file()
    }
    here.pop(".mobilesam.lock", None)
    assert copied == here
    assert run([*arguments, "--upload", "memory://bucket/set"]) == 0
    assert "memory://bucket/set: 2 files copied" in capsys.readouterr().out


def test_an_address_that_takes_nothing_is_told_before_the_work(
    shots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    (shots.parent / "file").write_bytes(b"mine")
    for address, code, words in (
        (f"file://{shots.parent}/file/set", 6, "cannot be written"),
        ("nowhere://bucket/set", 6, "cannot be written"),
        ("bucket/set", 2, "must be an address such as s3://bucket/set/"),
    ):
        assert run(["annotate", "shots", "--out", "set", "--upload", address]) == code
        assert words in capsys.readouterr().err
        assert not Path("set").exists()
    assert run(["annotate", "shots", "--out", "s3://bucket/set"]) == 2
    assert "give --upload s3://bucket/set as well" in capsys.readouterr().err
