"""Segment everything scored against human masks: the library and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam import ConfigError, EverythingOptions
from mobilesam.cli.main import run
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.metrics import RECALL_LIMITS
from mobilesam.core.rle import dict_to_rle, mask_to_rle, rle_to_mask
from mobilesam.evaluate.everything import EverythingScores, mean_recall, pool, score_everything
from mobilesam.evaluate.everything_report import draw_recall, worst_misses, write_sheets
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.model import Model
from mobilesam.weights import ALIASES
from tests.coco_evaluation import coco_recall, our_recall
from tests.photos import write_set

OPTIONS = EverythingOptions(
    sampler="grid", points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=0.9
)
COARSE = EverythingOptions(sampler="grid", points_per_side=2, pred_iou_thresh=0.1, stability_score_thresh=0)
SEARCHES = {"grid 4x4": OPTIONS, "grid 2x2": COARSE}
ALL_MASKS = ("--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--box-nms-thresh", "0.9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, of which the last has no object."""
    folder = write_set(tmp_path_factory.mktemp("recall") / "set", 3)
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] != 3]
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def scores(pocket: Model, folder: Path) -> EverythingScores:
    return score_everything(pocket, folder, SEARCHES)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_models_recall_is_coco_evals(
    pocket: Model, folder: Path, scores: EverythingScores, name: str
) -> None:
    dataset = json.loads((folder / "instances.json").read_text())
    dataset["categories"] = [{"id": 1, "name": "object"}]
    for record in dataset["annotations"]:
        record["area"] = dict_to_rle(record["segmentation"]).area
    results: dict[str, list[dict]] = {"segm": [], "bbox": []}
    for image in dataset["images"]:
        for mask in pocket.everything(folder / "images" / image["file_name"], SEARCHES[name]):
            record = {"image_id": image["id"], "category_id": 1, "score": mask.predicted_iou}
            results["segm"].append(record | {"segmentation": mask.rle.to_dict()})
            results["bbox"].append(record | {"bbox": list(xyxy_to_xywh(mask.box))})
    each = scores.searches[name].each
    for kind, counts in (("segm", [s.masks for s in each]), ("bbox", [s.boxes for s in each])):
        theirs = coco_recall(dataset, results[kind], kind)
        np.testing.assert_allclose(our_recall(pool(counts)), theirs, rtol=0, atol=1e-12)
        assert theirs[:, 0].max() > 0


def test_scores_are_what_they_say(scores: EverythingScores) -> None:
    assert (scores.name, scores.images) == ("set", 2)
    assert scores.objects["all"] == 4
    fine, coarse = scores.searches.values()
    for search in (fine, coarse):
        assert search.masks["all"] == pool([s.masks for s in search.each]).average_recall()["all"]
        assert search.found == np.mean([s.found for s in search.each])
        assert 0 < search.seconds
        for recall in (search.masks, search.boxes):
            values = list(recall["all"].values())
            assert values == sorted(values)
            assert mean_recall(recall) == pytest.approx(np.mean(values))
            assert np.isnan(recall["large"][10])  # the discs are smaller
    assert fine.found > coarse.found > 0
    for score in fine.each:
        near = np.mean([iou >= np.linspace(0.5, 0.95, 10) for iou in score.ious])
        assert score.masks.average_recall()["all"][1000] <= near + 1e-9


def test_the_files_areas_and_boxes_count(pocket: Model, folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "instances.json").read_text())
    for record in content["annotations"]:
        record["area"], record["bbox"] = 10000.0, [0, 0, 1, 1]
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "instances.json").write_text(json.dumps(content))
    scores = score_everything(pocket, tmp_path, {"coarse": COARSE}, limit=1)
    assert (scores.images, scores.objects) == (1, {"all": 2, "small": 0, "medium": 0, "large": 2})
    assert scores.searches["coarse"].boxes["all"][1000] == 0


def test_masks_that_hit_are_found(pocket: Model, folder: Path, tmp_path: Path) -> None:
    """What the model finds, taken as the human masks, is found at every IoU."""
    content = json.loads((folder / "instances.json").read_text())
    content["images"] = content["images"][:1]
    found = pocket.everything(folder / "images" / content["images"][0]["file_name"], COARSE)
    content["annotations"] = [
        {"id": i, "image_id": 1, "bbox": xyxy_to_xywh(mask.box), "segmentation": mask.rle.to_dict()}
        for i, mask in enumerate(found)
    ]
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "instances.json").write_text(json.dumps(content))
    scores = score_everything(pocket, tmp_path, {"coarse": COARSE})
    assert scores.searches["coarse"].masks["all"][1000] == 1
    assert scores.searches["coarse"].boxes["all"][1000] == 1
    assert scores.objects["all"] == len(found) > 2


def test_progress_and_limit(pocket: Model, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    searches = {"one": COARSE, "two": COARSE}
    scores = score_everything(pocket, folder, searches, limit=1, progress=lambda *now: seen.append(now))
    assert seen == [(1, 1)]
    assert scores.images == 1
    for recalls in zip(*(search.masks.values() for search in scores.searches.values()), strict=True):
        assert recalls[0] == pytest.approx(recalls[1], nan_ok=True)


def test_what_cannot_be_scored(pocket: Model, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="searches: is empty"):
        score_everything(pocket, folder, {})
    with pytest.raises(ConfigError, match="limit: is 0; must be 1 or more"):
        score_everything(pocket, folder, SEARCHES, limit=0)
    content = json.loads((folder / "instances.json").read_text())
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "instances.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(ConfigError, match="no photo has an object"):
        score_everything(pocket, tmp_path, SEARCHES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"not a COCO instance file: annotations\[0\].bbox: has 3 entries; must have 4"),
        ({"bbox": [1, 2, 3, "wide"]}, r"annotations\[0\].bbox\[3\]: is 'wide'; must be a number"),
        ({"area": None}, r"annotations\[0\].area: is null; must be a number"),
        (
            {"segmentation": mask_to_rle(np.ones((2, 3), bool)).to_dict()},
            r"annotations\[0\].segmentation: a mask of 0.jpg is 3 x 2, the photo",
        ),
    ],
)
def test_broken_records_are_told(folder: Path, tmp_path: Path, change: dict, message: str) -> None:
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"][0] |= change
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        read_photos(tmp_path)


def test_sheets_show_what_was_missed(scores: EverythingScores, tmp_path: Path) -> None:
    paths = write_sheets(scores, tmp_path / "report")
    assert [path.name for path in paths] == [
        "set-everything-grid-4x4.png",
        "set-everything-grid-2x2.png",
    ]
    coarse = scores.searches["grid 2x2"].each
    misses = worst_misses(coarse, 8)
    assert misses
    assert all(iou < 0.5 for _, _, iou in misses)
    assert [m[1].area for m in misses] == sorted((m[1].area for m in misses), reverse=True)
    with Image.open(paths[1]) as sheet:
        assert sheet.width == 8 * 240
        red, green, blue = np.moveaxis(np.asarray(sheet).astype(int), -1, 0)
    assert ((red - green > 60) & (red - blue > 60)).sum() > 50  # a missed object is tinted red
    assert draw_recall(scores.searches["grid 4x4"].each, "grid").shape[1] == 8 * 240
    truth = misses[0][1].segmentation
    assert rle_to_mask(truth).sum() == misses[0][1].area


def test_the_command_prints_a_table(folder: Path, tmp_path: Path, capsys) -> None:
    command = [
        "evaluate",
        "everything",
        str(folder),
        "--sampler",
        "grid",
        "--points-per-side",
        "2,1",
        *ALL_MASKS,
    ]
    assert run([*command, "--report", str(tmp_path / "report")]) == 0
    told = capsys.readouterr()
    first, head, *rows = told.out.splitlines()
    assert first.startswith("set: 2 photos, 4 objects (")
    assert head.split()[:5] == ["search", "of", "AR@10", "AR@100", "AR@1000"]
    assert [row.split()[:3] for row in rows] == [
        ["grid", side, kind] for side in ("2x2", "1x1") for kind in ("masks", "boxes")
    ]
    assert all(len(row.split()) == 13 and "nan" not in row for row in rows)
    assert "set-everything-grid-1x1.png: written" in told.err
    assert len(list((tmp_path / "report").iterdir())) == 2
    assert run([*command, "--report", str(tmp_path / "report")]) == 6
    told = capsys.readouterr()
    assert "--overwrite" in told.err
    assert not told.out  # it is told before the work


def test_the_command_prints_json(folder: Path, capsys) -> None:
    arguments = ["--sampler", "grid", "--points-per-side", "2", "--limit", "1", "--json", *ALL_MASKS]
    assert run(["evaluate", "everything", str(folder), *arguments]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN
    assert document["model"] == ALIASES["pocket"]
    (one,) = document["sets"]
    assert (one["name"], one["images"], one["objects"]["all"]) == ("set", 1, 2)
    search = one["searches"]["grid 2x2"]
    assert list(search["masks"]["all"]) == [str(limit) for limit in RECALL_LIMITS]
    assert search["boxes"]["large"] == {"10": None, "100": None, "1000": None}
    assert search["found"] > 0


@pytest.mark.parametrize("value", ["", "0", "8,", "8;16", "129", "-4", "²", "9" * 5000])
def test_grids_that_are_none(folder: Path, capsys, value: str) -> None:
    assert run(["evaluate", "everything", str(folder), f"--points-per-side={value}"]) == 2
    assert "error[U]: --points-per-side: " in capsys.readouterr().err


def test_some_photos_of_coco(shared: Path, pocket: Model) -> None:
    scores = score_everything(pocket, shared / "data" / "eval" / "coco_val", {"grid": OPTIONS}, limit=2)
    assert scores.objects["all"] > 2
    assert scores.searches["grid"].boxes["all"][1000] > 0
