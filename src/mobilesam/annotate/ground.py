"""Everything in a georeferenced picture, as outlines on the ground: what ``mobilesam map`` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mobilesam.core.errors import ImageError
from mobilesam.core.polygons import mask_to_polygons
from mobilesam.core.rle import rle_to_window
from mobilesam.core.types import FoundMask
from mobilesam.formats.features import Feature, features_to_geojson, features_to_geopackage, to_ground
from mobilesam.formats.raster import Raster

ENDINGS = (".gpkg", ".geojson")
TOLERANCE = 0.75  # pixels by which an outline may leave the mask's edge


def check_georeferenced(raster: Raster) -> None:
    """Refuse a picture that does not say where it lies.

    Raises:
        ImageError: says what to do.
    """
    if raster.crs is None:
        raise ImageError(
            f"{raster.name}: does not say where it lies on the ground (no reference system); for outlines in pixels "
            "use mobilesam everything --tile"
        )


def masks_to_features(masks: Sequence[FoundMask], raster: Raster) -> Iterator[Feature]:
    """Yield the outlines of masks on the ground, in the raster's reference system."""
    for mask in masks:
        x0, y0, x1, y1 = mask.box
        a, b, c, d, e, f = raster.transform
        corner = (a, b, a * x0 + b * y0 + c, d, e, d * x0 + e * y0 + f)
        polygons = mask_to_polygons(rle_to_window(mask.rle, (x0, y0, x1, y1)), tolerance=TOLERANCE)
        if polygons:
            yield Feature(to_ground(polygons, corner), mask.score, mask.predicted_iou, mask.stability_score)


def encode(features: Sequence[Feature], raster: Raster, ending: str) -> bytes:
    """Return the bytes of a file of features, in the format of its ending."""
    if ending == ".geojson":
        return features_to_geojson(features, raster.crs)
    return features_to_geopackage(features, raster.crs, raster.name)
