"""Georeferenced pictures of any size, read window by window (with GDAL through rasterio, an extra)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ImageError, MissingExtraError
from mobilesam.core.extras import install_line
from mobilesam.formats.file_names import is_file, is_there
from mobilesam.formats.image_bytes import shown

LOOK_SIDE = 1024  # of the reduced picture that the stretch of values is taken from
DARKEST, BRIGHTEST = 2.0, 98.0  # percentiles of values; what lies beyond is black or white
RGB = 3


class Raster:
    """A georeferenced picture as an array (H, W, 3) uint8 whose windows are read when they are asked for.

    A single band is grey; of three and more the first three are red, green and blue, unless ``bands`` says which.
    Bytes stay as they are. Any other numbers are stretched between the 2nd and the 98th percentile of their values,
    the same for all windows.

    Args:
        path: anything that GDAL reads: a GeoTIFF, a JPEG 2000, a VRT.
        bands: three bands, from 1, or one.

    Raises:
        ImageError: if it cannot be read, or has no such bands.
        MissingExtraError: if ``mobilesam[geo]`` is not installed.
    """

    def __init__(self, path: str | os.PathLike, *, bands: tuple[int, ...] | None = None) -> None:
        try:
            import rasterio
        except ImportError as error:
            raise MissingExtraError(
                f"raster: needs packages that are not installed; {install_line('geo')}"
            ) from error
        self.name = shown(os.fsdecode(path))
        there = Path(os.fsdecode(path))
        if is_there(there) and not (is_file(there) or there.is_dir()):  # GDAL would wait for a pipe
            raise ImageError(f"{self.name}: is not a regular file; give a raster's file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # that it has no georeference, which is reported when it is needed
                self._file: Any = rasterio.open(os.fsdecode(path))
        except rasterio.errors.RasterioError as error:
            raise ImageError(f"{self.name}: is not a raster that GDAL reads ({error})") from error
        self._bands = self._check_bands(bands)
        self.dtype = np.dtype(np.uint8)
        self.shape = (int(self._file.height), int(self._file.width), RGB)
        self._limits = None if self._file.dtypes[0] == "uint8" else self._look()

    def _check_bands(self, bands: tuple[int, ...] | None) -> tuple[int, ...]:
        there = int(self._file.count)
        if bands is None:
            return (1, 2, 3) if there >= RGB else (1,)
        if len(bands) not in (1, RGB) or not all(1 <= band <= there for band in bands):
            raise ImageError(
                f"bands: are {','.join(map(str, bands))}; give one or three, from 1 to {there}, of {self.name}"
            )
        return bands

    @property
    def ndim(self) -> int:
        """Three: rows, columns, colours."""
        return len(self.shape)

    @property
    def crs(self) -> Any:
        """The coordinate reference system, as rasterio gives it; None if the file states none."""
        return self._file.crs

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers (a, b, c, d, e, f) that make x = a column + b row + c, y = d column + e row + f."""
        return tuple(self._file.transform)[:6]

    def __getitem__(self, window: tuple[slice, slice]) -> Image:
        """Read rows and columns, as from an array."""
        rows, columns = (slice(*part.indices(n)) for part, n in zip(window, self.shape, strict=False))
        return self._to_rgb(self._read(((rows.start, rows.stop), (columns.start, columns.stop))))

    def _read(self, window: Any, shape: tuple[int, int] | None = None) -> np.ndarray:
        import rasterio

        try:
            size = None if shape is None else (len(self._bands), *shape)
            return self._file.read(list(self._bands), window=window, out_shape=size)
        except rasterio.errors.RasterioError as error:
            raise ImageError(f"{self.name}: is damaged ({error}); save or copy it again") from error

    def _look(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each band's values (bands, 1, 1) for black and white."""
        height, width = self.shape[:2]
        scale = min(1.0, LOOK_SIDE / max(height, width))
        small = self._read(None, (max(1, round(height * scale)), max(1, round(width * scale))))
        if small.dtype.kind not in "uif":
            raise ImageError(f"{self.name}: holds {small.dtype}, which are not brightnesses")
        nothing = self._file.nodata
        limits = []
        for band in small.astype(np.float64):
            values = band[np.isfinite(band) & (band != nothing if nothing is not None else True)]
            limits.append(np.percentile(values, [DARKEST, BRIGHTEST]) if values.size else (0.0, 1.0))
        low, high = np.array(limits).T[:, :, None, None]
        return low, np.maximum(high, low + 1e-9)

    def _to_rgb(self, bands: np.ndarray) -> Image:
        if self._limits is not None:
            low, high = self._limits
            stretched = (np.nan_to_num(bands.astype(np.float32)) - low) / (high - low)
            bands = np.rint(np.clip(stretched, 0, 1) * 255).astype(np.uint8)
        picture = np.moveaxis(bands, 0, -1)
        return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], RGB)))
