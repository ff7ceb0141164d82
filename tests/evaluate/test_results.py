"""Results to keep: the same bytes each time, after any stop and from any number of parts; and what two runs differ by."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam.cli.main import run
from mobilesam.core.errors import ConfigError, OutputError
from mobilesam.core.intervals import mean_of_groups
from mobilesam.evaluate import journal
from mobilesam.evaluate.compare import compare, most_different
from mobilesam.evaluate.identity import as_dict, describe_data, describe_model
from mobilesam.evaluate.journal import Journal, Part, Score, read_part, score_photos
from mobilesam.evaluate.prompted import PromptedOptions, photo_rows
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.evaluate.results import Results, read_results
from mobilesam.evaluate.sets import read_countable
from mobilesam.formats.coco import SetPhoto
from mobilesam.segment.model import Model
from tests.photos import write_set

FILES = ("results.json", "results.md", "results.png", "photos.jsonl")
BOXES = PromptedOptions(("box",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "discs", 4)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that nothing disturbed leaves."""
    out = tmp_path_factory.mktemp("whole")
    assert evaluate(folder, out) == 0
    return out


def evaluate(folder: Path, out: Path, *more: str) -> int:
    return run(["evaluate", "masks", str(folder), "--kinds", "box,point", "--out", str(out), *more])


def test_a_second_run_gives_the_same_bytes_and_says_what_it_belongs_to(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    assert evaluate(folder, tmp_path) == 0
    for name in FILES:
        assert (whole / "discs" / name).read_bytes() == (tmp_path / "discs" / name).read_bytes(), name
    content = json.loads((whole / "discs/results.json").read_text())
    assert len(content["model"]["sha256"]) == len(content["data"]["sha256"]) == 64
    assert content["data"]["photos"] == 4
    assert {"mobilesam", "python", "numpy", "onnxruntime"} <= set(content["versions"])
    assert content["machine"]["cores"] >= 1
    assert list(content["rows"]) == ["box, single", "point, best-score"]
    ious = [v for one in content["photos"] for v in one["rows"]["box, single"]["values"]["iou"]]
    assert content["rows"]["box, single"]["iou"]["mean"] == pytest.approx(np.mean(ious), abs=1e-6)
    assert content["rows"]["box, single"]["iou"]["n"] == 8
    by_part = content["rows"]["box, single"]["by_part"]
    assert sum(one["n"] for one in by_part.values()) == 8
    assert "| box, single | 8 |" in (whole / "discs/results.md").read_text()
    with Image.open(whole / "discs/results.png") as picture:
        assert picture.width > 400


def test_a_run_goes_on_where_it_was_stopped(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / "cut")
    path = tmp_path / "cut/discs/photos.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(lines[:3]) + lines[3][: len(lines[3]) // 2]
    )  # killed while it wrote the third photo
    asked: list[str] = []
    plain = journal._scored

    def noted(score: Score, photo: SetPhoto, name: str) -> PhotoRecord:
        asked.append(name)
        return plain(score, photo, name)

    monkeypatch.setattr(journal, "_scored", noted)
    assert evaluate(folder, tmp_path / "cut") == 0
    assert asked == ["2.jpg", "3.jpg"]
    for name in FILES:
        assert (whole / "discs" / name).read_bytes() == (tmp_path / "cut/discs" / name).read_bytes()


def test_parts_meet_in_one_result(
    folder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert evaluate(folder, tmp_path / "parts", "--shard", "2/2") == 0
    assert not (tmp_path / "parts/discs/results.json").exists()
    assert "2 of 4 photos are done" in capsys.readouterr().err
    assert evaluate(folder, tmp_path / "parts", "--shard", "1/2") == 0
    for name in FILES[:3]:
        assert (whole / "discs" / name).read_bytes() == (tmp_path / "parts/discs" / name).read_bytes()


def test_a_folder_of_another_run_is_refused(
    folder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(whole / "discs", tmp_path / "discs")
    assert evaluate(folder, tmp_path, "--mask-choice", "oracle") == 6
    assert (
        "was begun with another protocol; choose another folder, or pass --overwrite"
        in capsys.readouterr().err
    )
    assert evaluate(folder, tmp_path, "--mask-choice", "oracle", "--overwrite") == 0
    (tmp_path / "discs/photos.jsonl").write_text("nonsense\n")
    assert evaluate(folder, tmp_path) == 6
    assert "line 1 does not come from an evaluation" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="give NUMBER/COUNT such as 2/4"):
        read_part(text)


def test_every_photo_belongs_to_one_part() -> None:
    for count in (1, 2, 3, 7):
        owners = [
            sum(Part(number, count).has(place) for number in range(1, count + 1)) for place in range(20)
        ]
        assert owners == [1] * 20


def test_a_part_needs_a_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["evaluate", "masks", str(folder), "--shard", "1/2"]) == 2
    assert "give --out as well" in capsys.readouterr().err


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        photos = [rng.normal(rng.normal(0.6, 0.1), 0.1, rng.integers(1, 6)).tolist() for _ in range(60)]
        mean = mean_of_groups(photos, draws=300)
        held += mean.low <= 0.6 <= mean.high
    assert 0.9 <= held / 200 <= 0.985
    assert mean_of_groups([[], [0.5]]).groups == 1
    assert mean_of_groups([[]]).n == 0


def results_with(shift: dict[str, float], sha256: str = "same") -> Results:
    base = {"a.jpg": [0.5, 0.7], "b.jpg": [0.9], "c.jpg": [0.4, 0.4, 0.4]}
    records = [
        PhotoRecord({"box": tuple(Answer({"iou": v + shift.get(name, 0)}, 9) for v in values)}, photo=name)
        for name, values in base.items()
    ]
    return Results(
        "masks", {"mask choice": "single"}, {"name": "m"}, {"name": "d", "sha256": sha256}, records
    )


def test_two_runs_are_compared_object_by_object() -> None:
    (row,) = compare(results_with({}), results_with({"a.jpg": 0.1, "c.jpg": -0.2}))
    assert row.difference.mean == pytest.approx((2 * 0.1 - 3 * 0.2) / 6)
    assert row.second - row.first == pytest.approx(row.difference.mean)
    assert most_different(row) == (["a.jpg"], ["c.jpg"])
    assert not row.sure
    (better,) = compare(results_with({}), results_with(dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), 0.05)))
    assert better.sure
    assert better.difference.low == pytest.approx(0.05)
    with pytest.raises(ConfigError, match="data: is same and other"):
        compare(results_with({}), results_with({}, "other"))


def test_the_command_compares_and_draws(
    folder: Path, tmp_path: Path, pocket: Model, capsys: pytest.CaptureFixture
) -> None:
    photos = read_countable(folder, 0.002)
    facts = as_dict(describe_model(pocket, None))
    data = as_dict(describe_data(folder, photos))
    for name, worse in (("a", False), ("b", True)):
        head = {"command": "masks", "protocol": {}, "model": facts, "data": data}
        kept = Journal(tmp_path / name, head)
        score = partial(photo_rows, pocket, options=BOXES)
        records = score_photos(
            lambda photo, w=worse, s=score: spoilt(s(photo)) if w else s(photo), photos, kept
        )
        Results("masks", {}, facts, data, records).write(tmp_path / name)
    picture = tmp_path / "apart.png"
    assert (
        run(["compare", str(tmp_path / "a"), str(tmp_path / "b/results.json"), "--draw", str(picture)]) == 0
    )
    told = capsys.readouterr().out
    assert "box, single" in told
    assert " *" in told
    with Image.open(picture) as sheet:
        orange = np.asarray(sheet)[18:].reshape(-1, 3).astype(int)
        assert len(np.unique(orange, axis=0)) > 1000
    assert read_results(tmp_path / "a").mean("box, single", "iou").n == 8
    assert run(["compare", str(tmp_path / "a"), str(folder / "instances.json")]) == 2
    assert "is not a file of results" in capsys.readouterr().err
    with pytest.raises(OutputError, match="another model"):
        Journal(tmp_path / "a", head | {"model": {}}).begin()


def spoilt(record: PhotoRecord) -> PhotoRecord:
    rows = {
        row: tuple(
            Answer({**one.values, "iou": (one.values["iou"] or 0) / 2}, one.area, one.mask) for one in answers
        )
        for row, answers in record.rows.items()
    }
    return PhotoRecord(rows)
