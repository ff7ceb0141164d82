"""Georeferenced pictures for tests."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM_33N = "EPSG:32633"
WEST, NORTH, METRES = 500_000.0, 5_300_000.0, 0.5  # of a picture's corner, and of its pixels


def write_raster(path: Path, bands: np.ndarray, *, crs: str | None = UTM_33N, **more: Any) -> Path:
    """Write a GeoTIFF of an array (H, W, C), half a metre a pixel."""
    height, width, count = bands.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": bands.dtype.name}
    profile |= {"crs": crs, "transform": from_origin(WEST, NORTH, METRES, METRES)} if crs else {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", rasterio.errors.NotGeoreferencedWarning
        )  # where that is what is wanted
        with rasterio.open(path, "w", **profile | more) as file:
            file.write(np.moveaxis(bands, -1, 0))
    return path
