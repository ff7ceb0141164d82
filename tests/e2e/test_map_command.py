"""``mobilesam map``: outlines lie where the things are, in files that GDAL reads."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio.features
from rasterio.transform import from_origin
from skimage import data

from mobilesam import EverythingOptions, Model
from mobilesam.cli.main import run
from mobilesam.core.polygons import Polygon
from mobilesam.core.rle import mask_to_rle, rle_to_window
from mobilesam.formats.features import Feature, features_to_geopackage
from tests.rasters import METRES, NORTH, WEST, write_raster

PICTURE = np.asarray(data.coffee())
TILE = ["--tile", "300", "--max-prompts", "10"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pocket: Model) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mobilesam.cli.map.load_model", lambda *_, **__: pocket)
    write_raster(tmp_path / "field.tif", PICTURE)
    return tmp_path


def test_outlines_lie_where_the_masks_are(here: Path, pocket: Model, capsys: pytest.CaptureFixture) -> None:
    assert run(["map", "field.tif", "-o", "field.gpkg", *TILE]) == 0
    told = capsys.readouterr().out
    found = pocket.everything(PICTURE, EverythingOptions(tile=300, max_prompts=10))
    assert told == f"field.tif: 600 x 400, {len(found)} outlines in field.gpkg\n"
    meta, _, shapes, fields = pyogrio.raw.read("field.gpkg", layer="masks")
    assert meta["crs"] == "EPSG:32633"
    assert meta["geometry_type"] == "MultiPolygon"
    scores = dict(zip(meta["fields"], fields, strict=True))
    assert scores["predicted_iou"] == pytest.approx([m.predicted_iou for m in found], abs=1e-4)
    ground = from_origin(WEST, NORTH, METRES, METRES)
    wkb = [rasterio_shape(shape) for shape in shapes]
    for mask, shape in zip(found, wkb, strict=True):
        drawn = rasterio.features.rasterize([shape], PICTURE.shape[:2], transform=ground).astype(bool)
        union = (drawn | mask.mask).sum()
        assert (drawn & mask.mask).sum() >= 0.88 * union


def rasterio_shape(blob: bytes) -> dict:
    import shapely
    from shapely.geometry import mapping

    shape = shapely.from_wkb(blob)
    assert shape.is_valid
    return mapping(shape)


def test_geojson_is_in_longitude_and_latitude(here: Path) -> None:
    assert run(["map", "field.tif", "-o", "field.geojson", *TILE, "--tidy", "-q"]) == 0
    document = json.loads(Path("field.geojson").read_text())
    assert "crs" not in document
    points = [
        p
        for f in document["features"]
        for part in f["geometry"]["coordinates"]
        for ring in part
        for p in ring
    ]
    (x0, y0), (x1, y1) = np.min(points, 0), np.max(points, 0)
    assert (
        14.9999 < x0 < x1 < 15.01
    )  # 500,000 m east is the meridian of zone 33, and the picture is 300 m wide
    assert 47.84 < y0 < y1 < 47.86
    assert pyogrio.read_info("field.geojson")["crs"] == "EPSG:4326"


def test_mistakes_are_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_raster(here / "nowhere.tif", PICTURE, crs=None)
    Path("there.gpkg").write_bytes(b"mine")
    for arguments, status, told in (
        (["field.tif", "-o", "x.shp"], 2, "x.shp ends in neither of .gpkg, .geojson"),
        (["field.tif", "-o", "x.gpkg", "--bands", "a"], 2, "--bands: is a"),
        (["field.tif", "-o", "x.gpkg", "--bands", "1,2,9"], 3, "from 1 to 3"),
        (["nowhere.tif", "-o", "x.gpkg"], 3, "use mobilesam everything --tile"),
        (["gone.tif", "-o", "x.gpkg"], 3, "gone.tif: is not a raster"),
        (["field.tif", "-o", "there.gpkg"], 6, "there.gpkg"),
    ):
        assert run(["map", *arguments]) == status
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert Path("there.gpkg").read_bytes() == b"mine"
    assert not Path("x.gpkg").exists()


def test_holes_and_parts_and_systems_without_a_number(tmp_path: Path) -> None:
    square = np.array([[0.0, 0], [9, 0], [9, 9], [0, 9]])
    hole = np.array([[3.0, 3], [6, 3], [6, 6], [3, 6]])
    feature = Feature((Polygon(square, (hole,)), Polygon(square + 20, ())), 0.5, 0.6, 0.7)
    own = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +units=m")
    (tmp_path / "a.gpkg").write_bytes(features_to_geopackage([feature], own, "a test"))
    meta, _, shapes, _ = pyogrio.raw.read(tmp_path / "a.gpkg")
    (shape,) = (rasterio_shape(one) for one in shapes)
    assert [len(part) for part in shape["coordinates"]] == [2, 1]
    assert rasterio.crs.CRS.from_user_input(meta["crs"]).to_dict()["proj"] == "laea"
    with sqlite3.connect(tmp_path / "a.gpkg") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert file.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
    (tmp_path / "none.gpkg").write_bytes(features_to_geopackage([], own, "nothing"))
    assert pyogrio.read_info(tmp_path / "none.gpkg")["features"] == 0


def test_windows_of_runs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 20, 2)) > rng.random()
        height, width = mask.shape
        x0, y0 = rng.integers(0, width), rng.integers(0, height)
        x1, y1 = rng.integers(x0 + 1, width + 1), rng.integers(y0 + 1, height + 1)
        box = int(x0), int(y0), int(x1), int(y1)
        assert (rle_to_window(mask_to_rle(mask), box) == mask[y0:y1, x0:x1]).all()
