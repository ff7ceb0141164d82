"""GeoJSON for each photo: a feature for each object, in pixels (x right, y down), holes and parts included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from mobilesam.formats.datasets.model import Dataset, File, LabelledObject, LabelledPhoto
from mobilesam.formats.datasets.shapes import fitting_polygons

FOLDER = "geojson"


def write(dataset: Dataset) -> Iterator[File]:
    """Yield a feature collection for each photo, in ``geojson/``."""
    for photo in dataset.photos:
        features = [_object_to_feature(one, photo) for one in photo.objects]
        document = {"type": "FeatureCollection", "features": features}
        yield f"{FOLDER}/{photo.stem}.geojson", (json.dumps(document) + "\n").encode()


def _object_to_feature(one: LabelledObject, photo: LabelledPhoto) -> dict[str, Any]:
    if one.mask is None or not one.mask.area:
        x0, y0, x1, y1 = one.box
        rings = [[_ring(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))]]
    else:
        polygons = fitting_polygons(one.mask)
        rings = [[_ring(p.exterior), *(_ring(hole) for hole in p.holes)] for p in polygons]
    properties: dict[str, Any] = {"photo": photo.file_name, "label": one.label}
    properties |= {} if one.score is None else {"score": one.score}
    properties |= {"iscrowd": True} if one.iscrowd else {}
    return {
        "type": "Feature",
        "id": one.id,
        "geometry": {"type": "MultiPolygon", "coordinates": rings},
        "properties": properties,
    }


def _ring(points: np.ndarray) -> list[list[float]]:
    """GeoJSON closes a ring by repeating its first point."""
    return [*points.tolist(), points[0].tolist()]
