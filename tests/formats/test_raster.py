"""Georeferenced pictures: windows, bands, stretched values, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from mobilesam import ImageError
from mobilesam.formats.raster import Raster
from tests.photos import cat
from tests.rasters import METRES, NORTH, WEST, write_raster

PHOTO = np.asarray(cat())


def test_windows_are_the_files_pixels(tmp_path: Path) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", PHOTO, tiled=True, blockxsize=64, blockysize=64))
    assert raster.shape == PHOTO.shape
    assert (raster[10:200, 33:120] == PHOTO[10:200, 33:120]).all()
    assert (raster[:, 400:900] == PHOTO[:, 400:]).all()
    assert raster.transform == (METRES, 0, WEST, 0, -METRES, NORTH)
    assert raster.crs.to_epsg() == 32633


def test_bands_are_chosen(tmp_path: Path) -> None:
    four = np.dstack([PHOTO, 255 - PHOTO[..., :1]])
    path = write_raster(tmp_path / "a.tif", four)
    assert (Raster(path)[:20, :20] == PHOTO[:20, :20]).all()
    assert (Raster(path, bands=(4, 2, 1))[:20, :20] == four[:20, :20, [3, 1, 0]]).all()
    assert (Raster(path, bands=(4,))[:20, :20] == four[:20, :20, 3:]).all()
    for bands in ((1, 2), (0, 1, 2), (3, 4, 5)):
        with pytest.raises(ImageError, match="give one or three, from 1 to 4"):
            Raster(path, bands=bands)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_other_numbers_are_stretched_alike_everywhere(tmp_path: Path, dtype: type) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", (PHOTO.astype(np.float64) * 9 + 200).astype(dtype)))
    whole = raster[:, :].astype(int)
    assert (raster[50:90, 60:80] == whole[50:90, 60:80]).all()
    low, high = np.percentile(PHOTO.reshape(-1, 3), [2, 98], axis=0)
    expected = np.clip((PHOTO - low) / (high - low), 0, 1) * 255
    assert np.abs(whole - expected).max() <= 1


def test_what_is_missing_counts_for_nothing(tmp_path: Path) -> None:
    values = PHOTO.astype(np.float32)
    values[:100] = np.nan
    values[100:120] = -9999
    raster = Raster(write_raster(tmp_path / "a.tif", values, nodata=-9999))
    assert (raster[:90, :] == 0).all()
    assert raster[150:, :].std() > 40


def test_what_is_not_a_raster_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"no picture")
    for name in ("a.tif", "gone.tif"):
        with pytest.raises(ImageError, match=rf"{name}: is not a raster that GDAL reads"):
            Raster(tmp_path / name)
    whole = write_raster(tmp_path / "b.tif", PHOTO).read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings(), pytest.raises(ImageError, match=r"b\.tif: is "):
        warnings.simplefilter("ignore")
        Raster(tmp_path / "b.tif")[:, :]
