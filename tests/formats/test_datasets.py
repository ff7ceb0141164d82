"""Sets of labelled photos: every format read and written, what strangers' files may do, and referees."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from array import array
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mobilesam.cli.main import run
from mobilesam.core.errors import ConfigError, MobileSamError, OutputError
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from mobilesam.formats.datasets import webdataset, yolo
from mobilesam.formats.datasets.coco import dataset_to_coco
from mobilesam.formats.datasets.load import (
    FORMATS,
    READABLE,
    WRITABLE,
    read_dataset,
    recognise,
    write_dataset,
)
from mobilesam.formats.datasets.model import Dataset, LabelledPhoto, make_dataset, number_of, split_of
from mobilesam.formats.datasets.record import PLACE, RecordPhotos, photo_to_line, read_record_file
from mobilesam.formats.datasets.shapes import LEAST_IOU, fill_pixel_ring
from mobilesam.formats.datasets.yaml_lines import read_yaml
from mobilesam.formats.stored import look_into
from mobilesam.formats.yolo import mask_to_yolo_ring
from tests.labelled import SIZE, disc, iou, masked, ring, small_set

EXACT = ("record", "coco", "png", "sa1b")
ROUND_TRIPS = [name for name in READABLE if name in WRITABLE and name != "record"] + [
    "coco-polygons",
    "record",
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return small_set(tmp_path / "set" / "images")


def converted(dataset: Dataset, folder: Path, name: str) -> Dataset:
    write_dataset(dataset, folder, [name])
    if not (folder / "images").exists() and dataset.root:
        (folder / "images").symlink_to(dataset.root)
    return read_dataset(folder, follow_symlinks=True)


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_round_trip_keeps_what_the_format_can_hold(name: str, dataset: Dataset, tmp_path: Path) -> None:
    again = converted(dataset, tmp_path / "out", name)
    assert recognise(tmp_path / "out") == name.removesuffix("-polygons")
    photos = {photo.file_name: photo for photo in again.photos}
    assert photos.keys() == {"a.png", "below/b.png", "c.png"}
    for photo in dataset.photos:
        found = photos[photo.file_name]
        assert found.size == photo.size
        wanted = [one for one in photo.objects if name != "sa1b" or one.mask is not None]
        assert len(found.objects) == len(wanted)
        if name != "sa1b":
            assert found.split == photo.split
            assert [one.label for one in found.objects] == [one.label for one in wanted]
        for mine, theirs in zip(wanted, found.objects, strict=True):
            assert np.abs(np.subtract(mine.box, theirs.box)).max() <= (0.001 if mine.mask is None else 1.0)
            assert iou(mine.mask, theirs.mask) >= (1.0 if name in (*EXACT, "voc") else LEAST_IOU)


def test_a_record_is_the_set_itself(dataset: Dataset, tmp_path: Path) -> None:
    dataset = replace(dataset, provenance={"model": "pocket-7", "options": {"confidence": 0.25}})
    again = converted(dataset, tmp_path / "out", "record")
    assert again.photos == dataset.photos
    assert again.categories == dataset.categories
    assert again.provenance == dataset.provenance


@pytest.fixture
def kept(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A set whose photos are read from a record, one by one."""
    (file,) = write_dataset(dataset, tmp_path / "kept", ["record"])
    places = array(PLACE, read_record_file(file).photos.values())
    return replace(dataset, photos=RecordPhotos(file, places))


def test_photos_of_a_record_are_those_in_memory(dataset: Dataset, kept: Dataset) -> None:
    assert len(kept.photos) == 3
    assert tuple(kept.photos) == tuple(kept.photos) == dataset.photos
    assert kept.photos[1] == kept.photos[-2] == dataset.photos[1]
    assert tuple(kept.photos[1:]) == dataset.photos[1:]
    assert list(kept.heads) == [replace(photo, objects=()) for photo in dataset.photos]
    assert kept.splits == dataset.splits
    with pytest.raises(IndexError):
        kept.photos[3]


@pytest.mark.parametrize("name", WRITABLE)
def test_files_do_not_depend_on_where_the_photos_are(name: str, kept: Dataset, tmp_path: Path) -> None:
    files = write_dataset(replace(kept, photos=tuple(kept.photos)), tmp_path / "one", [name])
    others = write_dataset(kept, tmp_path / "other", [name])
    assert [path.relative_to(tmp_path / "one") for path in files] == [
        path.relative_to(tmp_path / "other") for path in others
    ]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in others]


def test_a_record_that_is_damaged_later_is_told(kept: Dataset) -> None:
    path = kept.photos.path
    path.write_bytes(path.read_bytes().replace(b'"label":"cat"', b'"label":"cut"', 1))
    with pytest.raises(ConfigError, match=r"record.jsonl: at byte [\d,]+: is damaged"):
        list(kept.photos)
    path.unlink()
    with pytest.raises(ConfigError, match=r"record.jsonl: cannot be read \(No such file"):
        list(kept.heads)


@pytest.mark.parametrize("empty", [False, True])
def test_documents_of_many_records_are_json_as_python_writes_it(
    empty: bool, dataset: Dataset, tmp_path: Path
) -> None:
    dataset = replace(dataset, provenance={"model": "pocket-7"}, photos=() if empty else dataset.photos)
    write_dataset(dataset, tmp_path, ["coco", "png"])
    for name, layout in (
        ("instances.json", {"separators": (",", ":")}),
        ("masks/objects.json", {"indent": 1}),
    ):
        text = (tmp_path / name).read_text()
        assert text == json.dumps(json.loads(text), **layout) + "\n"
    assert json.loads((tmp_path / "instances.json").read_text()) == dataset_to_coco(dataset)


def test_numbers_stay_from_coco_to_coco_and_are_made_of_names_elsewhere(
    dataset: Dataset, tmp_path: Path
) -> None:
    again = converted(dataset, tmp_path / "out", "coco")
    assert [p.id for p in again.photos] == [p.id for p in dataset.photos]
    assert [[o.id for o in p.objects] for p in again.photos] == [
        [o.id for o in p.objects] for p in dataset.photos
    ]
    assert again.categories == dataset.categories
    assert dataset.photos[0].id == number_of("a.png")
    fewer = make_dataset([replace(photo, id=0) for photo in dataset.photos[1:]])
    assert [p.id for p in fewer.photos] == [p.id for p in dataset.photos[1:]]
    twins = make_dataset([LabelledPhoto("x.png", SIZE, id=5), LabelledPhoto("y.png", SIZE, id=5)])
    assert [photo.id for photo in twins.photos] == [5, 6]


@pytest.mark.parametrize("name", ["coco", "coco-polygons"])
def test_pycocotools_reads_the_same_masks(name: str, dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path / "out", [name])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "out" / "instances.json")
        parts = [COCO(tmp_path / "out" / f"instances_{part}.json") for part in ("train", "val")]
    assert sum(len(part.imgs) for part in parts) == len(coco.imgs) == 3
    for photo in dataset.photos:
        for one in photo.objects:
            if one.mask is not None:
                theirs = coco.annToMask(coco.anns[one.id]).astype(bool)
                mine = rle_to_mask(one.mask)
                assert (theirs & mine).sum() / (theirs | mine).sum() >= (1 if name == "coco" else LEAST_IOU)
    assert not coco.annToMask(coco.anns[dataset.photos[0].objects[0].id])[40, 40]  # the hole


@pytest.mark.parametrize("mask", [ring(), disc(60, 45, 30), disc(5, 5, 3), disc(100, 40, 1.5)])
def test_yolo_outlines_are_filled_as_opencv_fills_them(mask: np.ndarray) -> None:
    points = mask_to_yolo_ring(mask, tolerance=yolo.TOLERANCES[0]) * SIZE[::-1]
    theirs = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(theirs, [points.astype(np.int32)], 1)
    mine = rle_to_mask(fill_pixel_ring(points, SIZE))
    assert (mine & (theirs > 0)).sum() / (mine | (theirs > 0)).sum() >= 0.98


def test_crowds_stay_in_coco_and_are_no_lines_of_yolo(tmp_path: Path) -> None:
    crowd = make_dataset([LabelledPhoto("a.png", SIZE, (masked(disc(50, 40, 20), iscrowd=True),))])
    write_dataset(crowd, tmp_path, ["coco-polygons", "yolo"])
    (record,) = json.loads((tmp_path / "instances.json").read_text())["annotations"]
    assert record["iscrowd"] == 1
    assert isinstance(record["segmentation"], dict)
    assert (tmp_path / "labels" / "a.txt").read_text() == ""


def test_where_voc_objects_overlap_the_smaller_is_seen(tmp_path: Path) -> None:
    large, small = disc(50, 40, 30), disc(50, 40, 10)
    photo = LabelledPhoto("a.png", SIZE, (masked(small), masked(large)))
    write_dataset(make_dataset([photo]), tmp_path, ["voc"])
    first, second = read_dataset(tmp_path).photos[0].objects
    assert (rle_to_mask(first.mask) == small).all()
    assert (rle_to_mask(second.mask) == (large & ~small)).all()
    with Image.open(tmp_path / "voc" / "SegmentationObject" / "a.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # VOC's own


def test_roboflow_folders_of_coco(tmp_path: Path) -> None:
    for folder, split in (("train", "train"), ("valid", "val")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / folder / f"{split}.jpg")
        document = {
            "images": [{"id": 0, "file_name": f"{split}.jpg", "width": 40, "height": 30}],
            "categories": [
                {"id": 0, "name": "animals", "supercategory": "none"},
                {"id": 1, "name": "cat", "supercategory": "animals"},
            ],
            "annotations": [
                {
                    "id": 0,
                    "image_id": 0,
                    "category_id": 1,
                    "bbox": [2, 3, 10, 10],
                    "segmentation": [],
                    "area": 100,
                }
            ],
        }
        (tmp_path / folder / "_annotations.coco.json").write_text(json.dumps(document))
    found = read_dataset(tmp_path)
    assert [(p.file_name, p.split) for p in found.photos] == [
        ("train/train.jpg", "train"),
        ("valid/val.jpg", "val"),
    ]
    assert [one.name for one in found.categories] == ["cat"]
    assert len({p.id for p in found.photos}) == 2
    assert found.path(found.photos[1]).is_file()


@pytest.mark.parametrize(
    "names",
    ["['cat', \"a dog\"]", "\n- cat\n- a dog", "\n  0: cat\n  1: 'a dog'  # two", "{0: cat, 1: a dog}"],
)
def test_roboflow_folders_of_yolo(names: str, tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        (tmp_path / folder / "images").mkdir(parents=True)
        (tmp_path / folder / "labels").mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / folder / "images" / "a.jpg")
        (tmp_path / folder / "labels" / "a.txt").write_text(
            "1 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.6 0.1 0.6 0.8 0.1 0.8\n"
        )
    (tmp_path / "data.yaml").write_text(
        f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: {names}\n\nroboflow:\n  workspace: w\n  version: 3\n"
    )
    found = read_dataset(tmp_path)
    assert [(p.file_name, p.split) for p in found.photos] == [
        ("train/images/a.jpg", "train"),
        ("valid/images/a.jpg", "val"),
    ]
    box, outline = found.photos[0].objects
    assert (box.label, box.box, box.mask) == ("a dog", (10, 7.5, 30, 22.5), None)
    assert outline.label == "cat"
    assert rle_to_mask(outline.mask)[10, 10]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>
<image id="0" name="a.jpg" width="40" height="30" subset="Train">
  <polygon label="cat" points="2,2;12,2;12,12;2,12" group_id="4"/>
  <polygon label="cat" points="20,2;30,2;30,12;20,12" group_id="4"/>
  <box label="dog" xtl="1.5" ytl="2" xbr="20" ybr="25" occluded="0"/>
  <mask label="dog" rle="1, 2, 1, 4" left="5" top="6" width="4" height="2"/>
  <points label="cat" points="3,3"/>
</image></annotations>"""


def test_cvat_for_images(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT)
    found = read_dataset(tmp_path)
    (photo,) = found.photos
    parts, box, mask = photo.objects
    assert photo.split == "train"
    assert (parts.label, parts.mask.area, parts.box) == ("cat", 200, (2, 2, 30, 12))
    assert (box.box, box.mask) == ((1.5, 2, 20, 25), None)
    assert np.argwhere(rle_to_mask(mask.mask)).tolist() == [[6, 6], [6, 7], [7, 5], [7, 6], [7, 7], [7, 8]]
    assert found.remarks == ("shapes without an area are left out: 1 of type points",)


def write_text(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


ENTITIES = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]>'
VOC = "<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>{}</annotation>"
VOC_OBJECT = "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
LABELME = '{{"imagePath": "a.jpg", "imageHeight": 30, "imageWidth": 40, "shapes": [{}]}}'
COCO_FILE = '{{"images": [{{"id": 1, "file_name": "{}", "width": 40, "height": 30}}], "categories": [], "annotations": [{}]}}'
BAD = {
    "cvat entities": (
        "annotations.xml",
        ENTITIES + CVAT.partition("?>")[2],
        "has a document type or entities",
    ),
    "voc entities": ("a.xml", ENTITIES + VOC.format(""), "has a document type or entities"),
    "voc cut": ("a.xml", VOC.format("")[:-5], "a.xml: not XML"),
    "voc text": (
        "a.xml",
        VOC.format(VOC_OBJECT.format("left")),
        r"object\[0\].bndbox.xmin: is 'left'; must be a number",
    ),
    "voc outside": ("a.xml", VOC.format(VOC_OBJECT.format(400)), r"object\[0\].bndbox: is 399"),
    "labelme points": (
        "a.json",
        LABELME.format('{"label": "x", "points": [[1, "2"]]}'),
        r"shapes\[0\].points\[0\]\[1\]: is '2'; must be a number",
    ),
    "labelme kind": (
        "a.json",
        LABELME.format('{"label": "x", "points": [[1, 2]], "shape_type": "point"}'),
        "shape_type: is 'point'; shapes that are read are",
    ),
    "coco name": (
        "instances.json",
        COCO_FILE.format("../a.jpg", ""),
        r"images\[0\].file_name: .* without '..'",
    ),
    "coco box": (
        "instances.json",
        COCO_FILE.format("a.jpg", '{"image_id": 1, "bbox": [1, 2, 3]}'),
        r"annotations\[0\].bbox: has 3 entries; must have 4",
    ),
    "coco image": (
        "instances.json",
        COCO_FILE.format("a.jpg", '{"image_id": 2, "bbox": [1, 2, 3, 4]}'),
        "there is no such image",
    ),
    "cvat name": ("annotations.xml", CVAT.replace("a.jpg", "/etc/a.jpg"), "not an absolute path"),
    "cvat runs": (
        "annotations.xml",
        CVAT.replace("1, 2, 1, 4", "1, 2, 1, 5"),
        r"rle: the runs must add up to 4 x 2",
    ),
    "record line": ("record.jsonl", '{"checksum":"0123456789abcdef","line":{}}\n', "line 1: is damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_told_with_their_place(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    with pytest.raises(ConfigError, match=message) as caught:
        read_dataset(write_text(tmp_path, name, text))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.2 0.3", "line 1: has 4 numbers"),
        ("cat 0.1 0.2 0.3 0.4", "must be a class from 0 and numbers"),
        ("0 0.5 0.5 nan 0.5", "must be finite numbers"),
        ("0 9 9 9 8 8 8", "some beyond the photo"),
        ("5 0.5 0.5 0.1 0.1", "names: has 1, but labels have class 5"),
    ],
)
def test_bad_lines_of_yolo(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.jpg")
    write_text(tmp_path, "labels/a.txt", line)
    write_text(tmp_path, "data.yaml", "train: images\nval: images\nnames: [cat]")
    with pytest.raises(ConfigError, match=message):
        read_dataset(tmp_path)


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("images/a.jpg")
    folder = tmp_path / "set"
    write_text(folder, "data.yaml", "train: ../outside.txt\nnames: [cat]")
    with pytest.raises(ConfigError, match="holds no photos"):
        read_dataset(folder)
    Image.new("RGB", (40, 30)).save(write_text(folder, "images/x.txt", "") / "images" / "a.jpg")
    (folder / "data.yaml").write_text("names: [cat]")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (folder / "labels").symlink_to(tmp_path / "labels")
    assert not read_dataset(folder).photos[0].objects
    assert read_dataset(folder, follow_symlinks=True).photos[0].objects
    evil = make_dataset([LabelledPhoto("../../up.png", SIZE)])
    for name in ("yolo", "labelme", "voc", "sa1b", "geojson"):
        with pytest.raises(ConfigError, match=r"without '\.\.'"):
            write_dataset(evil, tmp_path / "deep" / "out", [name])
    with pytest.raises(ConfigError, match=r"without '\.\.'"):
        write_dataset(replace(evil, root=tmp_path), tmp_path / "deep" / "out", ["webdataset"])
    assert not list(tmp_path.rglob("up.*"))


def test_shards_are_photos_followed_by_their_labels(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_dataset(dataset, tmp_path / "out", ["webdataset"])
    assert [path.name for path in files] == ["train-000000.tar", "val-000000.tar"]
    with tarfile.open(files[0]) as tar:
        names = tar.getnames()
        photo, labels = (tar.extractfile(name).read() for name in names[:2])
    ids = [photo.id for photo in dataset.photos if photo.split == "train"]
    assert names == [f"{number:016}.{ending}" for number in ids for ending in ("png", "json")]
    assert photo == (dataset.root / "a.png").read_bytes()
    found = json.loads(labels)
    assert found["image"]["file_name"] == "a.png"
    assert [one["category"] for one in found["annotations"]] == ["cat", "dog & bone"]
    assert dict_to_rle(found["annotations"][0]["segmentation"]) == dataset.photos[0].objects[0].mask
    assert [str(one.path) for one in look_into(files[1]).photos] == [
        f"val-000000/{dataset.photos[1].id:016}.png"
    ]
    before = [path.read_bytes() for path in files]
    monkeypatch.setattr(webdataset, "MAX_PHOTOS", 1)
    whole = replace(dataset, photos=tuple(replace(one, split="") for one in dataset.photos))
    more = write_dataset(whole, tmp_path / "more", ["webdataset"])
    assert [path.name for path in more] == [f"all-00000{i}.tar" for i in range(3)]
    monkeypatch.undo()
    assert [
        path.read_bytes() for path in write_dataset(dataset, tmp_path / "again", ["webdataset"])
    ] == before
    (dataset.root / "c.png").unlink()
    with pytest.raises(ConfigError, match=r"c\.png: is not there; a shard holds the photos"):
        write_dataset(dataset, tmp_path / "less", ["webdataset"])


def pack(tar: Path, **members: bytes) -> Path:
    """Write a tar; a member's name has ``_`` for its dot."""
    with tarfile.open(tar, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return tar


def test_shards_are_read_where_they_lie(dataset: Dataset, tmp_path: Path, capsys) -> None:
    write_dataset(dataset, tmp_path / "out", ["webdataset"])
    again = read_dataset(tmp_path / "out")
    assert [photo.split for photo in again.photos] == ["train", "train", "val"]
    assert all(photo.stored for photo in again.photos)
    assert write_dataset(again, tmp_path / "again", ["webdataset"])
    for one, other in zip(
        *(sorted((tmp_path / out).rglob("*.tar")) for out in ("out", "again")), strict=True
    ):
        with tarfile.open(one) as a, tarfile.open(other) as b:
            assert a.getnames() == b.getnames()
    assert (
        run(["convert", str(tmp_path / "out"), str(tmp_path / "set"), "--to", "coco", "--photos", "copy"])
        == 0
    )
    assert (tmp_path / "set/images/below/b.png").read_bytes() == (dataset.root / "below/b.png").read_bytes()
    assert (
        run(["convert", str(tmp_path / "out"), str(tmp_path / "no"), "--to", "coco", "--photos", "link"]) == 2
    )
    assert "lies in a tar; write --photos copy" in capsys.readouterr().err

    png = (dataset.root / "c.png").read_bytes()
    good = b'{"image": {"width": 120, "height": 90}, "annotations": []}'
    assert [photo.file_name for photo in read_dataset(pack(tmp_path / "x.tar", a_png=png)).photos] == [
        "x/a.png"
    ]
    for members, message in (
        ({}, "hold no photos named KEY.jpg"),
        ({"a_png": png, "a_jpg": png}, r"holds a\.png and a\.jpg; rename one"),
        ({"a_png": b"no photo"}, r"x\.tar/a\.png: "),
        ({"a_png": png, "a_json": b"{}"}, r"a\.png: its labels.*lacks image"),
        ({"a_png": png, "a_json": b"\xff"}, "its labels are not JSON in UTF-8"),
        (
            {"a_png": png, "a_json": good.replace(b'"width"', b'"file_name": "../a.png", "width"')},
            r"without '\.\.'",
        ),
        ({"../a_png": png}, r"without '\.\.'"),
        (
            {"a_png": png, "a_json": good.replace(b"[]", b'[{"bbox": [900, 0, 1, 1]}]')},
            r"its labels: annotations\[0\]\.bbox",
        ),
        (
            {
                n: png if "png" in n else good.replace(b'"width"', b'"file_name": "a.png", "width"')
                for n in ("a_png", "a_json", "b_png", "b_json")
            },
            r"two photos are called a\.png",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            read_dataset(pack(tmp_path / "x.tar", **members))
    whole = (tmp_path / "out/shards/train-000000.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:512] + b"?" * 512 + whole[1024:])
    assert recognise(tmp_path / "x.tar") == "webdataset"
    (tmp_path / "x.tar").write_bytes(b"?" * 2048)
    with pytest.raises(ConfigError, match="is no tar file"):
        read_dataset(tmp_path / "x.tar")


def test_labels_of_one_name_are_refused(tmp_path: Path) -> None:
    twins = make_dataset([LabelledPhoto("a.png", SIZE), LabelledPhoto("a.jpg", SIZE)])
    with pytest.raises(ConfigError, match="labels of the same name"):
        write_dataset(twins, tmp_path, ["yolo"])
    assert write_dataset(twins, tmp_path, ["coco"])


def test_a_cut_last_line_is_left_out_and_a_changed_one_is_told(dataset: Dataset, tmp_path: Path) -> None:
    (file,) = write_dataset(dataset, tmp_path, ["record"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    found = read_record_file(file)
    assert list(found.photos) == ["a.png", "below/b.png"]
    assert whole[: found.whole_bytes].endswith(photo_to_line(dataset.photos[1]))
    file.write_bytes(whole.replace(b'"label":"cat"', b'"label":"cut"', 1))
    with pytest.raises(ConfigError, match="line 2: is damaged"):
        read_record_file(file)


def test_yaml_of_other_shapes() -> None:
    text = "# head\npath: .  # here\nnames:\n  0: \"a # b\"\n  1: it's\nother:\n  deep:\n    deeper: 1\ntrain: [a.txt, 'b, c.txt']\n"
    found = read_yaml(text, "data.yaml")
    assert found["names"] == {"0": "a # b", "1": "it's"}
    assert found["train"] == ["a.txt", "b, c.txt"]
    with pytest.raises(ConfigError, match=r"data.yaml: line 1: is 'no colon'; must be 'key: value'"):
        read_yaml("no colon", "data.yaml")


def test_a_split_is_of_the_content(dataset: Dataset) -> None:
    digests = [f"{number_of(i):064x}"[::-1] for i in range(2000)]
    parts = [split_of(digest, 0.2) for digest in digests]
    assert 0.15 < parts.count("val") / len(parts) < 0.25
    assert all(split_of(d, 0.3) == "val" for d, part in zip(digests, parts, strict=True) if part == "val")


def test_the_command_converts_tells_losses_and_replaces_nothing(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_dataset(dataset, tmp_path / "set", ["coco"])
    arguments = [
        "convert",
        str(tmp_path / "set"),
        str(tmp_path / "out"),
        "--to",
        "yolo,sa1b,geojson",
        "--photos",
        "copy",
    ]
    assert run(arguments) == 0
    printed = capsys.readouterr()
    assert "coco: 3 photos, 4 objects, 2 categories" in printed.out
    assert "sa1b: 1 objects have no mask; they are left out" in printed.err
    for photo in dataset.photos:
        assert (tmp_path / "out" / "images" / photo.file_name).read_bytes() == dataset.path(
            photo
        ).read_bytes()
    features = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())["features"]
    assert len(features[0]["geometry"]["coordinates"][0]) == 2  # an outline and its hole
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert run(arguments) == 0  # the same again is no change
    assert (
        run(["convert", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "yolo-detect"])
        == OutputError.exit_code
    )
    assert "pass --overwrite" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("yolo9", "format 'yolo9': is not written"),
        ("coco,coco-polygons", "have files of the same names"),
        ("cvat", "format 'cvat': is not written"),
        (",", "formats: is empty"),
    ],
)
def test_formats_that_cannot_be_written(
    to: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(["convert", str(tmp_path), str(tmp_path / "out"), "--to", to]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="formats that are read are record, coco"):
        read_dataset(tmp_path)
    with pytest.raises(ConfigError, match="not found"):
        read_dataset(tmp_path / "gone")
    with pytest.raises(ConfigError, match="format 'geojson': is not read"):
        read_dataset(tmp_path, format="geojson")
    assert all(one.read or one.write for one in FORMATS.values())


def test_photos_that_are_not_there_cannot_be_measured(tmp_path: Path) -> None:
    write_text(tmp_path, "a.xml", VOC.format("").replace("40", "0"))
    with pytest.raises(MobileSamError, match="there is no photo to measure"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["coco-polygons", "yolo", "labelme"])
def test_outlines_of_real_objects(name: str, shared: Path, tmp_path: Path) -> None:
    """All five sets are measured in docs/reference/datasets.md."""
    whole = read_dataset(shared / "data" / "eval" / "coco_val")
    part = replace(whole, photos=whole.photos[::30])
    again = {photo.file_name: photo for photo in converted(part, tmp_path, name).photos}
    pairs = [
        (mine, theirs)
        for photo in part.photos
        for mine, theirs in zip(photo.objects, again[photo.file_name].objects, strict=True)
    ]
    assert len(pairs) > 15
    assert min(iou(mine.mask, theirs.mask) for mine, theirs in pairs) >= LEAST_IOU


def mutations(data: bytes, rng: np.random.Generator, count: int) -> list[bytes]:
    """A file that is cut, or of which bytes, numbers or words are changed."""
    words = [
        b"-1",
        b"1e999",
        b"NaN",
        b"null",
        b"[]",
        b"{}",
        b'""',
        b"0",
        b"99999999999",
        b"\xff",
        b"<",
        b"../x",
    ]
    made = []
    for _ in range(count):
        at, length = int(rng.integers(len(data))), int(rng.integers(0, 12))
        kind = rng.integers(3)
        if kind == 0:
            made.append(data[:at])
        elif kind == 1:
            made.append(data[:at] + words[int(rng.integers(len(words)))] + data[at + length :])
        else:
            made.append(data[:at] + rng.bytes(length) + data[at + length :])
    return made


@pytest.mark.parametrize("name", [*ROUND_TRIPS, "cvat"])
def test_damaged_files_are_read_or_told(name: str, dataset: Dataset, tmp_path: Path) -> None:
    """Nothing but this package's errors, whatever becomes of a file."""
    folder = tmp_path / "set"
    if name == "cvat":
        write_text(folder, "annotations.xml", CVAT)
    else:
        write_dataset(dataset, folder, [name])
    rng = np.random.default_rng(len(name))
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".jpg",)]
    files = [path for path in files if "images" not in path.parts]
    for path in files[:4]:
        whole = path.read_bytes() or b"0 0.5 0.5 0.1 0.1\n"
        for data in mutations(whole, rng, 12):
            path.write_bytes(data)
            with contextlib.suppress(MobileSamError):
                read_dataset(folder, format=name.removesuffix("-polygons"))
        path.write_bytes(whole)
    assert read_dataset(folder, format=name.removesuffix("-polygons")).photos
