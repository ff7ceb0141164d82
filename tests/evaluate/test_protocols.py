"""What is asked, and which mask counts, is what the names say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.io import savemat
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from skimage.morphology import thin

from mobilesam import Prompt
from mobilesam.cli.main import run
from mobilesam.core.errors import ConfigError
from mobilesam.core.metrics import RECALL_LIMITS, count_found, mask_iou, recall_of_objects
from mobilesam.core.rle import rle_to_mask
from mobilesam.evaluate.agreement import (
    AgreementOptions,
    agreement_rows,
    draw_points,
    point_at,
    read_any_photos,
)
from mobilesam.evaluate.choices import FIRST_CLICKS, centroid_pixel
from mobilesam.evaluate.clicks import ClickOptions, click_object, click_rows
from mobilesam.evaluate.detections import average_precision, detection_rows, read_detections
from mobilesam.evaluate.edges import (
    border_of,
    count_matches,
    drawn_edges,
    edge_figures,
    match_pixels,
    thinned,
)
from mobilesam.evaluate.prompted import score_photo
from mobilesam.evaluate.record import PhotoRecord
from mobilesam.evaluate.robustness import CONDITIONS, RobustnessOptions, robustness_rows
from mobilesam.evaluate.sets import decided
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.segment.model import Model
from tests.photos import write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "discs", 3)


@pytest.fixture(scope="module")
def photo(folder: Path) -> SetPhoto:
    return read_photos(folder)[0]


def test_the_choice_of_the_mask_is_the_one_asked_for(photo: SetPhoto, pocket: Model) -> None:
    by_choice = {
        choice: score_photo(pocket, photo, kinds=("box", "point"), mask_choice=choice)
        for choice in ("model", "single", "best-score", "oracle")
    }
    embedding = pocket.embed(read_photo(photo))
    for i, instance in enumerate(photo.instances):
        truth = rle_to_mask(instance.segmentation)
        prompt = Prompt(box=by_choice["model"]["box"][i].prompt.box)
        three = pocket.segment(embedding, prompt, multimask=True)
        ious = [mask_iou(one.mask, truth) for one in three]
        assert by_choice["oracle"]["box"][i].iou == max(ious)
        assert by_choice["best-score"]["box"][i].iou == ious[int(np.argmax([m.predicted_iou for m in three]))]
        assert by_choice["single"]["box"][i].iou == mask_iou(pocket.segment(embedding, prompt).mask, truth)
    ious = {
        name: {kind: [s.iou for s in each] for kind, each in found.items()}
        for name, found in by_choice.items()
    }
    assert ious["model"]["point"] == ious["best-score"]["point"]
    assert ious["model"]["box"] == ious["single"]["box"]


def test_first_clicks_lie_where_they_say() -> None:
    ring = np.zeros((40, 60), bool)
    ring[5:35, 10:50] = True
    ring[10:30, 15:45] = False
    ring[33:35, 10:50] = False
    for first in FIRST_CLICKS.values():
        x, y = first(ring, np.random.default_rng(0))
        assert ring[y, x]
    disc = np.zeros_like(ring)
    disc[10:21, 20:31] = True
    assert centroid_pixel(disc) == (25, 15)
    drawn = {FIRST_CLICKS["random"](disc, np.random.default_rng(i)) for i in range(30)}
    assert len(drawn) > 20


def test_clicks_are_named_and_begin_where_they_are_told(photo: SetPhoto, pocket: Model) -> None:
    options = ClickOptions(clicks=3, first_click="random", mask_choice="oracle")
    rows = click_rows(pocket, photo, options).rows
    assert list(rows) == ["clicks, first random, oracle"]
    (first, _) = rows["clicks, first random, oracle"]
    assert {"iou 1", "iou 2", "iou 3", "NoC@80", "NoC@85", "NoC@90"} == set(first.values)
    with pytest.raises(ConfigError, match="choose one of deepest, centroid, random"):
        ClickOptions(first_click="middle")


def test_undecided_pixels_count_neither_way(photo: SetPhoto, pocket: Model) -> None:
    truth = rle_to_mask(photo.instances[0].segmentation)
    embedding = pocket.embed(read_photo(photo))
    options = ClickOptions(clicks=1)
    plain, mask = click_object(pocket, embedding, truth, options)
    wrong = mask ^ truth
    assert wrong.any()
    forgiven, _ = click_object(pocket, embedding, truth, options, counts=~wrong)
    assert plain[0] < 1.0 == forgiven[0]


@pytest.mark.parametrize(
    ("photos", "masks", "border"),
    [
        ("data_GT", "boundary_GT", 40),
        ("images", "masks", 0),
        ("im", "gt", 0),
        ("JPEGImages/480p", "Annotations/480p", 0),
    ],
)
def test_interactive_sets_are_read_as_they_are_shipped(
    folder: Path, tmp_path: Path, pocket: Model, photos: str, masks: str, border: int
) -> None:
    below = "bear/" if "480p" in masks else ""
    for place in (photos, masks):
        (tmp_path / place / below).mkdir(parents=True)
    wanted = read_photos(folder)
    for one in wanted:
        Image.open(one.path).save(tmp_path / photos / below / one.path.name)
        first, second = (rle_to_mask(instance.segmentation) for instance in one.instances)
        if below:  # a palette's numbers
            picture = Image.fromarray(np.where(second, 2, first).astype(np.uint8))
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        else:
            values = np.where(first, 255, 0).astype(np.uint8)
            values[:, :border] = 128
            picture = Image.fromarray(values)
        picture.save(tmp_path / masks / below / f"{one.path.stem}.{'png' if below else 'bmp'}")
    found = read_photos(tmp_path)
    assert [one.path.name for one in found] == [one.path.name for one in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        first, second = (rle_to_mask(instance.segmentation) for instance in theirs.instances)
        expected = [first & ~second, second] if below else [first]
        if border:
            expected[0][:, :border] = False
            assert mine.ignored is not None
            assert rle_to_mask(mine.ignored)[:, :border].all()
            assert decided(mine).sum() == mine.width * mine.height - border * mine.height
        for instance, mask in zip(mine.instances, [one for one in expected if one.any()], strict=True):
            np.testing.assert_array_equal(rle_to_mask(instance.segmentation), mask)
    if border:
        assert run(["evaluate", "clicks", str(tmp_path), "--clicks", "1", "--limit", "1"]) == 0


def test_sbd_is_read_as_it_is_shipped(folder: Path, tmp_path: Path) -> None:
    for place in ("img", "inst"):
        (tmp_path / "dataset" / place).mkdir(parents=True)
    (photo, *_) = read_photos(folder)
    Image.open(photo.path).save(tmp_path / "dataset/img/2008_000001.jpg")
    first, second = (rle_to_mask(instance.segmentation) for instance in photo.instances)
    numbers = np.where(second, 2, first).astype(np.uint8)
    path = tmp_path / "dataset/inst/2008_000001.mat"
    savemat(path, {"GTinst": {"Segmentation": numbers, "Categories": [[1], [1]]}})
    (found,) = read_photos(tmp_path)
    assert [one.segmentation.area for one in found.instances] == [(first & ~second).sum(), second.sum()]
    path.write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="is not a file of SBD's objects"):
        read_photos(tmp_path)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    for place, size in (("im", (40, 30)), ("gt", (41, 30))):
        (tmp_path / place).mkdir()
        Image.new("L", size, 255).save(tmp_path / place / "a.png")
    with pytest.raises(ConfigError, match=r"gt/a.png: is 41 x 30, its photo 40 x 30"):
        read_photos(tmp_path)
    (tmp_path / "gt" / "a.png").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"gt/a.png: cannot be read as a mask"):
        read_photos(tmp_path)
    (tmp_path / "gt" / "a.png").rename(tmp_path / "gt" / "b.png")
    with pytest.raises(ConfigError, match="no photo of im has a mask of its name in gt"):
        read_photos(tmp_path)


def test_a_model_agrees_with_itself_and_less_with_another(
    folder: Path, photo: SetPhoto, pocket: Model, onnx_vit_t: Model, tmp_path: Path
) -> None:
    options = AgreementOptions(points=3, distances=(20, 40, 4000))
    rows = agreement_rows(pocket, pocket, photo, options).rows
    assert list(rows) == list(options.rows)
    assert rows["point and background at 4000 px, single"] == ()
    assert all(one.values["iou"] == 1 for answers in rows.values() for one in answers)
    assert len(rows["point, best-score"]) == 3
    assert len(rows["point and background at 20 px, single"]) == 3
    others = agreement_rows(pocket, onnx_vit_t, photo, AgreementOptions(points=1, distances=(20,))).rows
    assert others["point, best-score"][0].values["iou"] < 1
    again = agreement_rows(pocket, pocket, photo, AgreementOptions(points=1, distances=(20,))).rows
    asked = [found["point, best-score"][0].prompt["points"] for found in (others, again)]
    assert asked[0] == asked[1]  # whatever the models, the points are the photo's
    assert len(read_any_photos(folder / "images")) == 3
    with pytest.raises(ConfigError, match="holds no photo"):
        read_any_photos(tmp_path)


def test_background_points_are_as_far_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for point in draw_points((300, 400), 50, rng):
        other = point_at(point, 120, (300, 400), rng)
        assert other is not None
        assert 0 <= other[0] < 400
        assert 0 <= other[1] < 300
        assert np.hypot(other[0] - point[0], other[1] - point[1]) == pytest.approx(120, abs=1)


def test_what_is_made_worse_is_worse_and_moves_its_masks(photo: SetPhoto, pocket: Model) -> None:
    rows = robustness_rows(pocket, photo, RobustnessOptions()).rows
    assert len(rows) == 2 * len(CONDITIONS) + 3
    image, truths = read_photo(photo), [rle_to_mask(i.segmentation) for i in photo.instances]
    for name, change in CONDITIONS.items():
        changed, masks = change((image, truths), np.random.default_rng(0))
        assert changed.shape[:2] == masks[0].shape, name
        assert changed.dtype == np.uint8
        assert (changed is image) == (name == "as it is")
    turned = CONDITIONS["turned 15 degrees"]((image, truths), np.random.default_rng(0))[1]
    assert [mask.sum() for mask in turned] == pytest.approx([mask.sum() for mask in truths], rel=0.05)
    with pytest.raises(ConfigError, match="conditions: 'fog' is unknown"):
        RobustnessOptions(conditions=("fog",))


def test_recall_of_objects_is_the_sets_recall() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, m = rng.integers(0, 30), rng.integers(1, 8)
        ious = rng.random((n, m)) ** 0.5
        counts = count_found(ious, rng.uniform(1, 20_000, m))
        each = recall_of_objects(ious)
        for k, limit in enumerate(RECALL_LIMITS):
            assert each[:, k].mean() == pytest.approx(counts.average_recall()["all"][limit])


@pytest.fixture
def boxes(folder: Path, tmp_path: Path) -> Path:
    """Boxes of a set's objects, some off, some of nothing, one object without."""
    rng = np.random.default_rng(1)
    content = json.loads((folder / "instances.json").read_text())
    found = []
    for record in content["annotations"][1:]:
        x, y, w, h = record["bbox"]
        off = rng.uniform(-0.1, 0.1, 4) * [w, h, w, h]
        found.append(
            {
                "image_id": record["image_id"],
                "category_id": 1,
                "bbox": (np.array([x, y, w, h]) + off).tolist(),
                "score": float(rng.uniform(0.3, 1)),
            }
        )
    found += [{"image_id": 1, "category_id": 1, "bbox": [-9, 0, 500, 20], "score": 0.6}]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(found))
    return path


def with_categories(folder: Path, named: Path, **more: float) -> Path:
    """The set once more, with what COCO's evaluation wants."""
    named.mkdir()
    (named / "images").symlink_to(folder / "images")
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"] = [record | more for record in content["annotations"]]
    content["categories"] = [{"id": 1, "name": "disc"}]
    (named / "instances.json").write_text(json.dumps(content))
    return named


def test_average_precision_is_pycocotools(folder: Path, boxes: Path, tmp_path: Path, pocket: Model) -> None:
    named = with_categories(folder, tmp_path / "named", area=900)
    found = read_detections(named, boxes)
    records = [detection_rows(pocket, found, "single", one) for one in found.photos]
    figures = average_precision(found, records)
    masks = [mask for record in records for mask in record.facts["masks"]]
    assert len(masks) == 6
    truth = COCO(str(named / "instances.json"))
    theirs = COCOeval(truth, truth.loadRes(masks), "segm")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    assert list(figures.values()) == pytest.approx(theirs.stats[:6].tolist())
    assert 0 < figures["AP"] < 1


def test_the_command_scores_detections(
    folder: Path, boxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    named = with_categories(folder, tmp_path / "own")
    out = tmp_path / "out"
    assert run(["evaluate", "detections", str(named), str(boxes), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    row = told["sets"][0]["figures"]["box of the detector, single"]
    assert set(row) == {"AP", "AP50", "AP75", "AP small", "AP medium", "AP large"}
    kept = json.loads((out / "own/results.json").read_text())["rows"]["box of the detector, single"]
    assert kept["AP"] == pytest.approx(row["AP"], abs=1e-6)
    boxes.write_text(json.dumps([{"image_id": 77, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1}]))
    assert run(["evaluate", "detections", str(named), str(boxes)]) == 2
    assert "[0].image_id: is 77, which the set does not have" in capsys.readouterr().err


def test_edges_are_matched_one_to_one_and_no_farther_than_allowed() -> None:
    rng = np.random.default_rng(0)
    for reach in (1.5, 3.0):
        found, drawn = rng.random((2, 24, 30)) < 0.06
        apart = np.linalg.norm(np.argwhere(found)[:, None] - np.argwhere(drawn)[None], axis=-1)
        rows, columns = linear_sum_assignment(np.where(apart <= reach, -1.0, 0.0))
        most = int((apart[rows, columns] <= reach).sum())
        assert match_pixels(found, drawn, reach).sum() == most > 5
    square = np.zeros((100, 120), bool)
    square[20:80, 30:90] = True
    edge = thinned(border_of(square))
    assert count_matches(edge, [edge, edge]) == [2 * edge.sum(), 2 * edge.sum(), edge.sum(), edge.sum()]
    near, far = np.roll(edge, 1, axis=1), np.roll(edge, 9, axis=(0, 1))
    assert count_matches(edge, [near])[0] == edge.sum()
    assert count_matches(edge, [far])[0] < 0.1 * edge.sum()
    whole = np.ones_like(square)
    assert not border_of(whole).any()  # the photo's own border is no edge


def test_thin_edges_are_skimages() -> None:
    rng = np.random.default_rng(1)
    for _ in range(8):
        thick = gaussian_filter(rng.standard_normal((60, 70)), 3) > 0.05
        np.testing.assert_array_equal(thinned(thick), thin(thick))


def test_edge_figures_are_those_of_their_counts() -> None:
    # recall and precision: 1/2 and 1 at the first level, 1 and 1/2 at the second
    records = [PhotoRecord({}, {"counts": [[5, 10, 5, 5], [10, 10, 10, 20]]}) for _ in range(3)]
    figures = edge_figures(records)
    assert figures["ODS"] == figures["OIS"] == pytest.approx(2 / 3)
    assert figures["AP"] == pytest.approx(0.51 * 0.75, abs=0.01)


def test_the_command_scores_edges_of_masks_and_of_bsds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["evaluate", "edges", "--sampler", "grid", "--points-per-side", "6", "--limit", "1", "--json"]
    assert run([*command, str(folder)]) == 0
    own = json.loads(capsys.readouterr().out)["sets"][0]["figures"]["edges of masks"]
    assert 0 < own["ODS"] <= own["OIS"] <= 1
    (tmp_path / "images/test").mkdir(parents=True)
    (tmp_path / "groundTruth/test").mkdir(parents=True)
    (first, *_) = read_photos(folder)
    Image.open(first.path).save(tmp_path / "images/test/0.jpg", quality=95)
    (edges,) = drawn_edges(first, folder)
    people = np.empty((1, 2), object)
    for i in range(2):
        people[0, i] = np.array([[(edges.astype(np.uint8),)]], [("Boundaries", object)])
    savemat(tmp_path / "groundTruth/test/0.mat", {"groundTruth": people})
    assert run([*command, str(tmp_path)]) == 0
    theirs = json.loads(capsys.readouterr().out)["sets"][0]["figures"]["edges of masks"]
    assert theirs["ODS"] == pytest.approx(own["ODS"], abs=0.05)  # the photo was compressed once more
    (tmp_path / "groundTruth/test/0.mat").write_bytes(b"nonsense")
    assert run([*command, str(tmp_path)]) == 2
    assert "is not a file of BSDS500's edges" in capsys.readouterr().err
