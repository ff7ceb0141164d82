"""Sets as people and programs write them: each is read, or refused with the place in its file."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mobilesam.cli.main import run
from mobilesam.core.errors import ConfigError, LimitError, MobileSamError, SetWarning
from mobilesam.core.rle import counts_to_string, mask_to_rle, polygons_to_rle, rle_to_mask, rle_union
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.image import image_to_png
from mobilesam.segment.model import Model
from tests.pace import within

HEIGHT, WIDTH = 48, 64
SOME = np.zeros((HEIGHT, WIDTH), bool)
SOME[10:30, 10:40] = True
RUNS = mask_to_rle(SOME).to_dict()


def image(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT} | fields


def annotation(**fields: Any) -> dict[str, Any]:
    plain = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0}
    return plain | {"bbox": [10, 10, 30, 20], "area": 600, "segmentation": RUNS} | fields


def content(*annotations: Any, images: Any = None) -> dict[str, Any]:
    return {"images": [image()] if images is None else images, "annotations": list(annotations)}


def runs(counts: Any, size: Any = (HEIGHT, WIDTH)) -> dict[str, Any]:
    return content(annotation(segmentation={"size": size, "counts": counts}))


def named(name: str) -> dict[str, Any]:
    return content(images=[image(file_name=name)])


# fmt: off
REFUSED = [
    ("overflow", runs([2**62, 2000, 2**62, 0, 2**62, 0, 2**62, 1072]), 2, r"annotations\[0\].segmentation.counts\[0\]: is 4611686018427387904"),
    ("overflow-as-text", runs(counts_to_string(np.array([2**57] * 8 + [3072]))), 2, r"annotations\[0\].segmentation.counts\[0\]: a run exceeds"),
    ("short", runs([5, 5]), 2, r"annotations\[0\].segmentation.counts: the runs add up to 10, not to 48 x 64"),
    ("negative", runs([3080, -8]), 2, r"annotations\[0\].segmentation.counts\[1\]: is -8"),
    ("float-runs", runs([3072.0]), 2, r"counts\[0\]: is 3072.0; must be a whole number"),
    ("text-runs", runs(["3072"]), 2, r"counts\[0\]: is '3072'"),
    ("true-runs", runs([True]), 2, r"counts\[0\]: is true"),
    ("null-runs", runs(None), 2, "counts: is null; must be a text or a list"),
    ("float-size", runs([3072], [48.0, 64]), 2, r"size\[0\]: is 48.0"),
    ("huge-size", runs([10**12], [10**6, 10**6]), 2, r"counts\[0\]: is 1000000000000; must be a whole number from 0 to 50,000,000"),
    ("no-size", content(annotation(segmentation={"counts": [3072]})), 2, r"annotations\[0\].segmentation: lacks size"),
    ("other-size", runs([12], [3, 4]), 2, r"annotations\[0\].segmentation: a mask of a.png is 4 x 3, the photo 64 x 48"),
    ("no-object", [1], 2, "is a list of 1; must be an object with images, annotations"),
    ("null", None, 2, "is null; must be an object"),
    ("no-images", {"annotations": []}, 2, "lacks images"),
    ("images-object", {"images": {}, "annotations": []}, 2, "images: is an object; must be a list"),
    ("image-text", content(images=["a.png"]), 2, r"images\[0\]: is 'a.png'; must be an object"),
    ("annotation-list", content([1]), 2, r"annotations\[0\]: is a list of 1; must be an object"),
    ("annotation-null", content(annotation(), None), 2, r"annotations\[1\]: is null"),
    ("no-bbox", content({"image_id": 1, "segmentation": RUNS}), 2, r"annotations\[0\]: lacks bbox"),
    ("bbox-object", content(annotation(bbox={"x": 1})), 2, r"annotations\[0\].bbox: is an object; must be a list"),
    ("bbox-of-3", content(annotation(bbox=[1, 2, 3])), 2, r"annotations\[0\].bbox: has 3 entries; must have 4"),
    ("bbox-text", content(annotation(bbox=[1, 2, 3, "4"])), 2, r"annotations\[0\].bbox\[3\]: is '4'"),
    ("bbox-null", content(annotation(bbox=[1, 2, 3, None])), 2, r"annotations\[0\].bbox\[3\]: is null"),
    ("bbox-nan", content(annotation(bbox=[1, 2, 3, float("nan")])), 2, r"holds NaN at annotations\[0\].bbox\[3\]"),
    ("bbox-inf", content(annotation(bbox=[1, float("-inf"), 3, 4])), 2, r"holds -Infinity at annotations\[0\].bbox\[1\]"),
    ("bbox-1e308", content(annotation(bbox=[1e308, 1, 3, 4])), 2, r"annotations\[0\].bbox\[0\]: is 1e\+308; must be a finite number from -2\^53 to 2\^53"),
    ("bbox-400-digits", content(annotation(bbox=[10**400, 1, 3, 4])), 2, r"annotations\[0\].bbox\[0\]: is about 2\^1328"),
    ("bbox-inverted", content(annotation(bbox=[30, 10, -20, 4])), 2, r"annotations\[0\].bbox: is 30, 10, -20, 4; must be x, y, width, height"),
    ("bbox-elsewhere", content(annotation(bbox=[1e9, 1, 3, 4])), 2, r"annotations\[0\].bbox: is 1e\+09, 1, 3, 4; must be .* in the image of 64 x 48"),
    ("area-nan", content(annotation(area=float("nan"))), 2, r"holds NaN at annotations\[0\].area"),
    ("area-below", content(annotation(area=-1)), 2, r"annotations\[0\].area: is -1"),
    ("area-huge", content(annotation(area=10**400)), 2, r"annotations\[0\].area: is about"),
    ("area-text", content(annotation(area="600")), 2, r"annotations\[0\].area: is '600'"),
    ("crowd-2", content(annotation(iscrowd=2)), 2, r"annotations\[0\].iscrowd: is 2; must be 0 or 1"),
    ("crowd-text", content(annotation(iscrowd="0")), 2, r"annotations\[0\].iscrowd: is '0'"),
    ("id-text", content(images=[image(id="1")]), 2, r"images\[0\].id: is '1'; must be a whole number"),
    ("id-list", content(images=[image(id=[1])]), 2, r"images\[0\].id: is a list of 1"),
    ("id-huge", content(images=[image(id=10**400)]), 2, r"images\[0\].id: is about"),
    ("id-of-5000-digits", '{"images": [{"id": ' + "9" * 5000 + "}]}", 2, r"holds a number of 5,000 digits at images\[0\].id"),
    ("image-id-unknown", content(annotation(image_id=2)), 2, r"annotations\[0\].image_id: is 2, and there is no such image"),
    ("image-id-list", content(annotation(image_id=[1])), 2, r"annotations\[0\].image_id: is a list"),
    ("twin-images", content(images=[image(), image(file_name="b.png")]), 2, r"images\[1\].id: 1 is there twice"),
    ("twin-annotations", content(annotation(), annotation()), 2, r"annotations\[1\].id: 1 is there twice"),
    ("twin-files", content(images=[image(), image(id=2)]), 2, r"images\[1\].file_name: 'a.png' is the file of image 1 too; give a file one id"),
    ("twin-files-written-apart", content(images=[image(), image(id=2, file_name="./a.png")]), 2, r"images\[1\].file_name: './a.png' is the file of image 1 too"),
    ("twin-keys", '{"images": [{"id": 1, "id": 2}], "annotations": []}', 2, r"images\[0\]: field 'id' is there twice"),
    ("width-0", content(images=[image(width=0)]), 2, r"images\[0\].width: is 0; must be a whole number from 1"),
    ("width-float", content(images=[image(width=64.0)]), 2, r"images\[0\].width: is 64.0"),
    ("width-huge", content(images=[image(width=10**30)]), 2, r"images\[0\].width: is 1000000000000000000000000000000"),
    ("area-over-the-limit", content(images=[image(width=10**5, height=10**5)]), 7, r"images\[0\]: has 10,000,000,000 pixels; at most 50,000,000"),
    ("deep", '{"images": ' + "[" * 5000 + "]" * 5000 + "}", 2, r"nested deeper than 64 lists and objects at images\[0\]\[0\]"),
    ("half", '{"images": [', 2, "not JSON"),
    ("polygon-of-2", content(annotation(segmentation=[[1, 2, 3, 4]])), 2, r"annotations\[0\].segmentation\[0\]: has 4 entries; give at least 6"),
    ("polygon-odd", content(annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]])), 2, r"annotations\[0\].segmentation\[0\]: has 7 numbers; must be x, y"),
    ("polygon-flat", content(annotation(segmentation=[1, 2, 3, 4, 5, 6])), 2, r"annotations\[0\].segmentation\[0\]: is 1; must be a list"),
    ("polygon-text", content(annotation(segmentation=[[1, 2, 3, 4, 5, "6"]])), 2, r"annotations\[0\].segmentation\[0\]\[5\]: is '6'"),
    ("polygon-nan", content(annotation(segmentation=[[1, 2, 3, 4, 5, float("nan")]])), 2, r"holds NaN at annotations\[0\].segmentation\[0\]\[5\]"),
    ("polygon-1e300", content(annotation(segmentation=[[1, 2, 3, 4, 5, 1e300]])), 2, r"annotations\[0\].segmentation\[0\]\[5\]: is 1e\+300"),
    ("polygon-elsewhere", content(annotation(segmentation=[[1, 2, 3, 4, 5, 1e9]])), 2, r"annotations\[0\].segmentation\[0\]: reaches more than an image beyond the image of 64 x 48"),
    ("polygon-endless", content(annotation(segmentation=[[0, 0, 120, 90] * 50_000])), 7, r"annotations\[0\].segmentation.polygon: its boundary is"),
    ("mask-text", content(annotation(segmentation="mask.png")), 2, r"annotations\[0\].segmentation: is 'mask.png'; must be an object or a list"),
    *((f"name-{i}", named(name), 2, rf"images\[0\].file_name: is .*{message}") for i, (name, message) in enumerate([
        ("/etc/passwd", "not an absolute path"), ("../a.png", r"without '\.\.'"), ("b/../../a.png", r"without '\.\.'"), ("..", r"without '\.\.'"), ("C:\\a.png", "not an absolute path"), ("C:/a.png", "not an absolute path"),
        ("c:a.png", "not an absolute path"), ("..\\a.png", "write / between folders"), ("\\\\host\\share\\a.png", "not an absolute path"), ("//host/share/a.png", "not an absolute path"), ("", "empty text"), (" ", "must be a file's name"),
        ("a\0.png", "must be a file's name"), ("\ud800.png", "must be a file's name"), ("n" * 5000, "too long"), ("b/" * 5000 + "a.png", "too long"), ("ü" * 200, "too long"),
        ("link.png", "a symbolic link leads out"), ("links/a.png", "a symbolic link leads out")])),
    ("name-number", named(5), 2, r"images\[0\].file_name: is 5; must be a text"),
    ("name-gone", named("gone.png"), 2, "1 of its photos are missing, the first is .*gone.png"),
]
# fmt: on


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a set with two photos, and links out of it."""

    def write_set(document: Any) -> Path:
        folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
        for place in (folder / "images" / "more", elsewhere):
            place.mkdir(parents=True)
        png = image_to_png(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        for path in (folder / "images/a.png", folder / "images/b.png", folder / "images/more/a.png", elsewhere / "a.png"):  # fmt: skip
            path.write_bytes(png)
        (folder / "images/link.png").symlink_to(elsewhere / "a.png")
        (folder / "images/links").symlink_to(elsewhere)
        (folder / "images/inside.png").symlink_to("more/a.png")
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / "instances.json").write_text(text)
        return folder

    return write_set


@pytest.mark.parametrize(
    ("document", "status", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused(
    write: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    pocket: Model,
    document: Any,
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr("mobilesam.cli.evaluate.runs.load_model", lambda *_: pocket)
    folder = write(document)
    start = time.process_time()
    ended = run(["evaluate", "everything", str(folder)])
    assert within(time.process_time() - start, 2)
    error = capsys.readouterr().err
    assert ended == status, error
    assert error.startswith(f"error[{'L' if status == 7 else 'U'}]: {folder}/instances.json: ")
    assert re.search(message, error), error
    assert "Traceback" not in error and len(error) - len(str(folder)) < 600


def test_links_are_followed_where_they_may(write: Callable) -> None:
    folder = write(content(images=[image(file_name=n, id=i) for i, n in enumerate(["link.png", "links/a.png"])]))  # fmt: skip
    with pytest.raises(ConfigError, match="follow_symlinks=True to read it"):
        read_photos(folder)
    assert len(read_photos(folder, follow_symlinks=True)) == 2


def test_names_below_the_folder_are_read(write: Callable) -> None:
    names = ["a.png", "more/a.png", "inside.png"]
    folder = write(content(images=[image(file_name=name, id=i) for i, name in enumerate(names)]))
    assert [p.path.relative_to(folder / "images").as_posix() for p in read_photos(folder)] == names


def test_the_images_folder_may_be_a_link(write: Callable) -> None:
    folder = write(content(annotation()))
    (folder / "images").rename(folder.parent / "moved")
    (folder / "images").symlink_to(folder.parent / "moved")
    assert len(read_photos(folder)) == 1


def test_polygons_are_pycocotools(write: Callable) -> None:
    polygons = [[10.5, 10, 40, 12.25, 30, 40, 8, 31], [30, 5, 60, 5, 60, 44.5, 30, 5]]
    hole = [[1, 1, 20, 1, 20, 20, 1, 20, 1, 1]]
    document = content(annotation(segmentation=polygons), annotation(id=2, segmentation=hole))
    folder = write(document | {"categories": [{"id": 1, "name": "thing"}]})
    theirs = COCO(folder / "instances.json")
    (photo,) = read_photos(folder)
    for instance, record in zip(photo.instances, theirs.loadAnns([1, 2]), strict=True):
        np.testing.assert_array_equal(rle_to_mask(instance.segmentation), theirs.annToMask(record))
        assert instance.segmentation.to_dict()["counts"] == theirs.annToRLE(record)["counts"].decode()


coordinates = st.one_of(
    st.floats(-20, 90, allow_nan=False),
    st.integers(-20, 90).map(float),
    st.integers(-100, 450).map(lambda n: n / 5),
    st.integers(-100, 450).map(lambda n: n / 5 + 0.1),
)
points = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


@settings(max_examples=300)
@given(st.lists(points, min_size=1, max_size=3), st.integers(1, 70), st.integers(1, 70))
def test_any_polygons_are_pycocotools(polygons: list[list[tuple[float, float]]], h: int, w: int) -> None:
    flat = [[number for point in polygon for number in point] for polygon in polygons]
    theirs = coco_mask.merge(coco_mask.frPyObjects(flat, h, w))
    ours = polygons_to_rle([np.array(polygon) for polygon in polygons], (h, w))
    assert ours.to_dict() == {"size": theirs["size"], "counts": theirs["counts"].decode()}


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_unions_are_those_of_the_masks(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *rng.integers(1, 9, 2))) < rng.choice([0, 0.2, 0.8, 1])
    assert rle_union([mask_to_rle(mask) for mask in masks]) == mask_to_rle(masks.any(0))


def test_crowds_are_left_out_and_told(write: Callable) -> None:
    crowd = annotation(id=2, iscrowd=1, segmentation=mask_to_rle(SOME).to_dict(compressed=False))
    folder = write(content(annotation(), crowd, annotation(id=3, iscrowd=True)))
    with pytest.warns(
        SetWarning, match=r"instances.json: 2 crowds mark groups, not objects; they are left out"
    ):
        (photo,) = read_photos(folder)
    assert len(photo.instances) == 1


def test_objects_without_a_mask_are_left_out_and_told(write: Callable) -> None:
    folder = write(content(annotation(), annotation(id=2, segmentation=[])))
    with pytest.warns(SetWarning, match="1 objects have boxes, but no masks; they are left out"):
        (photo,) = read_photos(folder)
    assert len(photo.instances) == 1


@pytest.mark.filterwarnings("default::mobilesam.core.errors.SetWarning")
def test_the_command_tells_of_crowds(
    write: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, pocket: Model
) -> None:
    monkeypatch.setattr("mobilesam.cli.evaluate.runs.load_model", lambda *_: pocket)
    polygon = annotation(segmentation=[[10, 10, 40, 10, 40, 30, 10, 30]])
    folder = write(content(polygon, annotation(id=2, iscrowd=1)))
    assert run(["evaluate", "masks", str(folder), "--kinds", "box", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["sets"][0]["objects"] == 1
    assert told.err.startswith(f"warning: {folder}/instances.json: 1 crowds mark groups, not objects")


@pytest.mark.parametrize("name", ["s" * 300, "a\0b", "gone"])
def test_folders_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(MobileSamError, match=r"instances\.json: not found"):
        read_photos(tmp_path / name)


def test_a_file_that_is_too_large(write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilesam.formats.datasets.coco.MAX_SET_BYTES", 100)
    with pytest.raises(LimitError, match="the limit for such a file"):
        read_photos(write(content(annotation())))
