"""``Results``, ``Masks`` and ``Boxes`` on masks that are drawn by hand."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mobilesam.compat.ultralytics import Boxes, Masks, Results
from mobilesam.compat.ultralytics.options import DEFAULTS, read_options
from mobilesam.core.errors import ConfigError, MissingExtraError, OutputError
from mobilesam.core.extras import install_line
from mobilesam.core.metrics import mask_iou
from tests.photos import cat

SIZE = (60, 80)
BGR = np.zeros((*SIZE, 3), np.uint8)


def masks() -> np.ndarray:
    """A square with a hole, two islands, nothing, and a disc at the border."""
    drawn = np.zeros((4, *SIZE), bool)
    drawn[0, 10:30, 10:40] = True
    drawn[0, 15:25, 20:30] = False
    drawn[1, 5:15, 50:60] = drawn[1, 40:55, 5:20] = True
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    drawn[3] = (rows - 50) ** 2 + (columns - 70) ** 2 < 20**2
    return drawn


BOXES = np.array(
    [[10, 10, 40, 30, 0.9, 0], [5, 5, 60, 55, 0.8, 1], [0, 0, 0, 0, 0.7, 2], [51, 31, 80, 60, 0.6, 5]],
    np.float32,
)
NAMES = {0: "leaf", 1: "pair", 2: "none"}


@pytest.fixture
def result() -> Results:
    return Results(BGR.copy(), "photos/a.jpg", NAMES, BOXES, masks(), speed={"inference": 3.0})


def fill(ring: np.ndarray) -> np.ndarray:
    """Fill a ring as those do who read the files: by the even-odd rule, here at four times the size."""
    picture = Image.new("1", (SIZE[1] * 4, SIZE[0] * 4))
    ImageDraw.Draw(picture).polygon([(float(x) * 4, float(y) * 4) for x, y in ring], fill=1)
    return np.asarray(picture)[2::4, 2::4]


class TestMasks:
    def test_shapes(self, result: Results) -> None:
        assert result.masks is not None
        assert result.masks.shape == (4, *SIZE) == result.masks.data.shape
        assert result.masks.data.dtype == bool
        np.testing.assert_array_equal(result.masks.data, masks())
        assert [one.area for one in result.masks.rle] == masks().sum((1, 2)).tolist()

    def test_outlines_are_in_pixels_and_in_parts_of_the_sides(self, result: Results) -> None:
        assert result.masks is not None
        for ring, part in zip(result.masks.xy, result.masks.xyn, strict=True):
            assert ring.shape == part.shape == (len(ring), 2)
            assert ring.dtype == part.dtype == np.float32
            np.testing.assert_allclose(part * [SIZE[1], SIZE[0]], ring, atol=1e-4)
        assert len(result.masks.xy[2]) == 0

    @pytest.mark.parametrize("number", [0, 1, 3], ids=["hole", "islands", "disc"])
    def test_a_filled_outline_is_the_mask(self, result: Results, number: int) -> None:
        assert result.masks is not None
        assert mask_iou(fill(result.masks.xy[number]), masks()[number]) > 0.94
        assert len(result.masks.polygons()[number]) == (2 if number == 1 else 1)

    @pytest.mark.parametrize(
        ("index", "numbers"),
        [
            (1, [1]),
            (-1, [3]),
            (slice(1, 3), [1, 2]),
            ([2, 0], [2, 0]),
            (np.array([True, False, False, True]), [0, 3]),
        ],
        ids=str,
    )
    def test_indexing(self, result: Results, index: Any, numbers: list[int]) -> None:
        part = result[index]
        assert part.masks is not None
        assert result.masks is not None
        np.testing.assert_array_equal(part.masks.data, masks()[numbers])
        np.testing.assert_array_equal(result.masks[index].data, masks()[numbers])
        np.testing.assert_array_equal(part.boxes.data, BOXES[numbers])
        np.testing.assert_array_equal(result.boxes[index].data, BOXES[numbers])

    def test_beyond_the_last(self, result: Results) -> None:
        with pytest.raises(IndexError):
            result[4]

    def test_other_sizes_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"masks: have shape \(1, 5, 5\); must be \(N, 60, 80\)"):
            Masks(np.ones((1, 5, 5)), SIZE)


class TestBoxes:
    def test_forms(self) -> None:
        boxes = Boxes(BOXES, SIZE)
        assert len(boxes) == 4
        assert boxes.shape == (4, 6)
        assert boxes.xyxy[0].tolist() == [10, 10, 40, 30]
        assert boxes.xywh[0].tolist() == [25, 20, 30, 20]
        np.testing.assert_allclose(boxes.xyxyn[0], [10 / 80, 10 / 60, 40 / 80, 30 / 60], rtol=1e-6)
        np.testing.assert_allclose(boxes.xywhn[0], [25 / 80, 20 / 60, 30 / 80, 20 / 60], rtol=1e-6)
        np.testing.assert_array_equal(boxes.conf, BOXES[:, 4])
        np.testing.assert_array_equal(boxes.cls, [0, 1, 2, 5])
        assert boxes.id is None
        assert not boxes.is_track
        assert [len(one) for one in boxes] == [1] * 4

    def test_ids(self) -> None:
        boxes = Boxes([[0, 0, 5, 5, 17, 0.5, 2]], SIZE)
        assert boxes.is_track
        assert boxes.id is not None
        assert (boxes.id[0], boxes.conf[0], boxes.cls[0]) == (17, 0.5, 2)

    @pytest.mark.parametrize("none", [[], np.zeros((0, 6))], ids=str)
    def test_none(self, none: Any) -> None:
        assert Boxes(none, SIZE).xywhn.shape == (0, 4)

    def test_other_columns_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"boxes: have shape \(1, 4\); must be \(N, 6\)"):
            Boxes([[1, 2, 3, 4]], SIZE)


class TestResults:
    def test_attributes(self, result: Results) -> None:
        assert len(result) == 4
        assert result.orig_shape == SIZE
        assert result.path == "photos/a.jpg"
        assert result.speed == {"preprocess": None, "inference": 3.0, "postprocess": None}
        assert (result.probs, result.keypoints, result.obb, result.save_dir) == (None,) * 4
        assert [len(one) for one in result] == [1] * 4
        assert repr(result) == "Results('photos/a.jpg', 80 x 60, 4 masks)"
        assert result.verbose() == "1 leaf, 1 pair, 1 none, 1 5, "

    def test_nothing_found(self) -> None:
        nothing = Results(BGR, "a.jpg", {})
        assert len(nothing) == 0
        assert nothing.masks is None
        assert nothing.boxes.data.shape == (0, 6)
        assert nothing.verbose() == "(no detections), "
        assert nothing.summary() == []
        assert nothing.to_json() == "[]"
        assert nothing.to_csv() == ""
        assert list(nothing) == []
        np.testing.assert_array_equal(nothing.plot(), BGR)

    def test_they_stay_where_they_are(self, result: Results) -> None:
        assert result.masks is not None
        for value in (result, result.masks, result.boxes):
            assert value.cpu() is value.numpy() is value.to("cpu") is value
            with pytest.raises(ConfigError, match=r"torch\.as_tensor"):
                value.cuda()
            with pytest.raises(ConfigError, match="device 'cuda:0': results are NumPy arrays"):
                value.to("cuda:0")

    def test_update_and_new(self, result: Results) -> None:
        assert len(result.new()) == 0
        assert result.new().speed == result.speed
        result.update(boxes=BOXES[::-1])
        assert result.boxes.cls.tolist() == [5, 2, 1, 0]
        with pytest.raises(ConfigError, match="boxes, masks: 4 and 1"):
            result.update(masks=masks()[:1])
        result.update(masks=masks()[:1], boxes=BOXES[:1])
        assert len(result) == 1
        with pytest.raises(ConfigError, match="keypoints: is given"):
            result.update(keypoints=[1])  # type: ignore[arg-type]
        only_masks = Results(BGR, "a.jpg", NAMES, masks=masks())
        np.testing.assert_array_equal(only_masks.boxes.xyxy, BOXES[:, :4])

    def test_summary(self, result: Results) -> None:
        assert result.masks is not None
        record = result.summary(decimals=2)[0]
        assert record["name"] == "leaf"
        assert (record["class"], record["confidence"]) == (0, 0.9)
        assert record["box"] == {"x1": 10.0, "y1": 10.0, "x2": 40.0, "y2": 30.0}
        assert record["segments"]["x"] == result.masks.xy[0][:, 0].tolist()
        normalised = result.summary(normalize=True, decimals=4)[0]
        assert normalised["box"] == {"x1": 0.125, "y1": 0.1667, "x2": 0.5, "y2": 0.5}
        assert max(normalised["segments"]["x"]) == 0.5
        assert result.summary()[2]["segments"] == {"x": [], "y": []}

    def test_tables(self, result: Results) -> None:
        assert json.loads(result.to_json()) == result.summary() == json.loads(result.tojson())
        rows = list(csv.DictReader(io.StringIO(result.to_csv())))
        assert [row["name"] for row in rows] == ["leaf", "pair", "none", "5"]
        assert json.loads(rows[0]["box"])["x2"] == 40.0
        table = result.to_df()
        assert list(table["class"]) == [0, 1, 2, 5]
        assert len(table) == 4

    def test_a_table_without_pandas(self, result: Results, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingExtraError, match=re.escape(install_line("tables"))):
            result.to_df()

    def test_text(self, result: Results, tmp_path: Path) -> None:
        assert result.masks is not None
        path = tmp_path / "labels" / "a.txt"
        assert result.save_txt(path) == str(path)
        lines = path.read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["0", "1", "5"]  # the empty mask has no line
        for line, number in zip(lines, (0, 1, 3), strict=True):
            ring = np.array(line.split()[1:], np.float32).reshape(-1, 2) * [SIZE[1], SIZE[0]]
            filled = np.zeros(SIZE, np.uint8)
            cv2.fillPoly(filled, [ring.astype(np.int32)], 1)  # as training does
            # the second mask has two parts, and the bridge between them is drawn
            assert mask_iou(filled > 0, masks()[number]) >= (0.9 if number == 1 else 0.99)
        result[:1].save_txt(path, save_conf=True)
        (line,) = path.read_text().splitlines()  # replaced, not appended to
        assert line.endswith(" 0.9")

    def test_text_of_boxes_and_of_nothing(self, tmp_path: Path) -> None:
        Results(BGR, "a.jpg", NAMES, BOXES[:1]).save_txt(tmp_path / "a.txt")
        assert (tmp_path / "a.txt").read_text() == "0 0.3125 0.333333 0.375 0.333333\n"
        Results(BGR, "a.jpg", NAMES).save_txt(tmp_path / "a.txt")
        assert (tmp_path / "a.txt").read_text() == ""

    def test_crops(self, result: Results, tmp_path: Path) -> None:
        result.orig_img[10:30, 10:40] = (255, 0, 0)  # blue, in BGR
        result.names[1] = "a/b"
        written = result.save_crop(tmp_path, "photo.png")
        assert [str(Path(p).relative_to(tmp_path)) for p in written] == [
            "leaf/photo.jpg",
            "a_b/photo.jpg",
            "5/photo.jpg",
        ]
        crop = np.asarray(Image.open(written[0]))
        assert crop.shape == (20, 30, 3)
        assert crop[..., 2].mean() > 240 > 20 > crop[..., 0].mean()
        assert result[:1].save_crop(tmp_path, "photo.png") == [str(tmp_path / "leaf" / "photo2.jpg")]

    @pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".TIFF"])
    def test_save(self, result: Results, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"out{ending}"
        assert result.save(path) == str(path)
        with Image.open(path) as picture:
            assert picture.size == (80, 60)

    def test_save_elsewhere(self, result: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert result.save() == "results_a.jpg"
        with pytest.raises(ConfigError, match=r"out\.xyz: ends in '\.xyz'; choose one of \.jpg"):
            result.save("out.xyz")
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            result.save(tmp_path / "file" / "out.png")

    def test_plot(self, result: Results) -> None:
        assert result.plot().shape == (*SIZE, 3)
        assert np.asarray(result.plot(pil=True)).tolist() == result.plot()[..., ::-1].tolist()
        assert (result.orig_img == 0).all()
        bare = result.plot(masks=False, boxes=False)
        np.testing.assert_array_equal(bare, BGR)
        assert (result.plot(labels=False) != result.plot()).any()
        assert (result.plot(conf=False) != result.plot()).any()
        assert (result.plot(img=np.full_like(BGR, 200)) != result.plot()).any()
        with pytest.raises(ConfigError, match=r"img: has shape \(2, 2, 3\)"):
            result.plot(img=np.zeros((2, 2, 3), np.uint8))
        assert result._repr_png_().startswith(b"\x89PNG")

    def test_colours_stay(self) -> None:
        bgr = np.ascontiguousarray(cat()[..., ::-1])
        np.testing.assert_array_equal(Results(bgr, "a.jpg", {}).plot(), bgr)

    def test_show_without_a_display(self, result: Results, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(OutputError, match=r"no display here.*result\.save"):
            result.show()


class TestOptions:
    def test_unknown_names_are_told_with_those_that_are_known(self) -> None:
        with pytest.raises(ConfigError) as caught:
            read_options({"iou_thres": 0.5})
        assert str(caught.value).startswith("iou_thres: is not an argument of predict; there are conf, imgsz")
        for name in DEFAULTS:
            assert name in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value", "allowed"),
        [
            ("conf", 1.5, "in 0..1"),
            ("conf", "0.5", "in 0..1"),
            ("conf", float("nan"), "in 0..1"),
            ("conf", True, "in 0..1"),
            ("iou", -0.1, "in 0..1"),
            ("max_det", 0, "from 1"),
            ("max_det", 2.5, "from 1"),
            ("vid_stride", 0, "from 1"),
            ("points_stride", 0, "from 1"),
            ("crop_n_layers", -1, "from 0"),
            ("save", 1, "True or False"),
            ("verbose", "yes", "True or False"),
            ("multimask_output", 3, "True, False or None"),
            ("seconds", "1", "a number"),
            ("project", 3, "a path"),
            ("name", "a/b", "without a folder"),
        ],
    )
    def test_values(self, name: str, value: Any, allowed: str) -> None:
        with pytest.raises(ConfigError, match=rf"^{name}: is .*{allowed}"):
            read_options({name: value})

    def test_none_is_the_default_but_for_masks_of_an_object(self) -> None:
        assert read_options({"conf": None, "save": None}) == read_options({})
        assert read_options({"multimask_output": None}).multimask_output is None
        assert read_options({}).multimask_output is False
