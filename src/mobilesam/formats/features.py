"""Outlines on the ground as files for maps: GeoJSON (RFC 7946) and GeoPackage (OGC 12-128)."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mobilesam.core.polygons import Polygon

WGS84 = "EPSG:4326"  # GeoJSON knows no other
UNKNOWN_SRS = 100_000  # GeoPackage's number of a reference system without an EPSG code
APPLICATION, VERSION = 0x47504B47, 10_300  # "GPKG", 1.3
MULTIPOLYGON, POLYGON = 6, 3  # of well-known binary
LITTLE_ENDIAN = 1
TABLE = "masks"
Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Feature:
    """A thing on the ground.

    Attributes:
        polygons: its outlines, in a reference system's units.
        score: see :attr:`mobilesam.FoundMask.score`.
        predicted_iou: the model's own estimate of the mask's IoU.
        stability_score: how little the mask changes with its threshold.
    """

    polygons: tuple[Polygon, ...] = field(repr=False)
    score: float
    predicted_iou: float
    stability_score: float


def to_ground(polygons: Sequence[Polygon], transform: Transform) -> tuple[Polygon, ...]:
    """Return outlines in pixels (x, y) as outlines on the ground."""
    a, b, c, d, e, f = transform
    matrix, origin = np.array([[a, d], [b, e]]), np.array([c, f])
    return tuple(
        Polygon(one.exterior @ matrix + origin, tuple(hole @ matrix + origin for hole in one.holes))
        for one in polygons
    )


def features_to_geojson(features: Sequence[Feature], crs: Any) -> bytes:
    """Return a feature collection in longitude and latitude (WGS 84), as RFC 7946 defines it.

    Args:
        features: what is on the ground.
        crs: the reference system of their coordinates, as rasterio gives it.
    """
    from rasterio.warp import transform_geom

    shapes = [{"type": "MultiPolygon", "coordinates": _rings(one.polygons)} for one in features]
    shapes = transform_geom(crs, WGS84, shapes) if shapes else []
    document = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "id": number, "geometry": shape, "properties": _properties(one)}
            for number, (one, shape) in enumerate(zip(features, shapes, strict=True), start=1)
        ],
    }
    return (json.dumps(document) + "\n").encode()


def features_to_geopackage(features: Sequence[Feature], crs: Any, name: str) -> bytes:
    """Return a GeoPackage with one layer ``masks``, in the reference system itself.

    Args:
        features: what is on the ground.
        crs: the reference system, as rasterio gives it.
        name: what the layer is about.
    """
    code = crs.to_epsg()
    srs = UNKNOWN_SRS if code is None else int(code)
    with sqlite3.connect(":memory:") as file:
        file.executescript(SCHEMA)
        systems = [
            ("Undefined Cartesian SRS", -1, "NONE", -1, "undefined", None),
            ("Undefined geographic SRS", 0, "NONE", 0, "undefined", None),
            ("WGS 84 geodetic", 4326, "EPSG", 4326, WGS84_TEXT, None),
        ]
        if srs not in (0, -1, 4326):
            kind = ("NONE", UNKNOWN_SRS) if code is None else ("EPSG", srs)
            systems.append((f"{kind[0]}:{srs}", srs, *kind, crs.to_wkt(), None))
        file.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", systems)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        file.execute(
            "INSERT INTO gpkg_contents VALUES (?, 'features', ?, ?, ?, ?, ?, ?, ?, ?)",
            (TABLE, TABLE, name, now, *_bounds(features), srs),
        )
        file.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', ?, 0, 0)", (TABLE, srs)
        )
        rows = ((_to_blob(one.polygons, srs), *_properties(one).values()) for one in features)
        file.executemany(
            f"INSERT INTO {TABLE} (geom, score, predicted_iou, stability_score) VALUES (?, ?, ?, ?)", rows
        )
        file.commit()
        return file.serialize()


def _properties(one: Feature) -> dict[str, float]:
    return {
        "score": round(one.score, 4),
        "predicted_iou": round(one.predicted_iou, 4),
        "stability_score": round(one.stability_score, 4),
    }


def _bounds(features: Sequence[Feature]) -> tuple[float, float, float, float] | tuple[None, ...]:
    corners = [part.exterior for one in features for part in one.polygons]
    if not corners:
        return (None,) * 4
    points = np.concatenate(corners)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return x0, y0, x1, y1


def _closed(ring: np.ndarray) -> np.ndarray:
    return np.concatenate([ring, ring[:1]]).astype("<f8")


def _counter_clockwise(one: Polygon) -> list[np.ndarray]:
    """Return a polygon's rings closed, the outer one counter-clockwise and its holes clockwise."""
    return [
        ring if (_turns_left(ring) == (number == 0)) else ring[::-1]
        for number, ring in enumerate(map(_closed, (one.exterior, *one.holes)))
    ]


def _turns_left(ring: np.ndarray) -> bool:
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) > 0


def _rings(polygons: Sequence[Polygon]) -> list[list[list[list[float]]]]:
    return [[ring.tolist() for ring in _counter_clockwise(one)] for one in polygons]


def _to_blob(polygons: Sequence[Polygon], srs: int) -> bytes:
    """Return GeoPackage's header, without an envelope, and well-known binary."""
    parts = [
        struct.pack("<2sBBi", b"GP", 0, LITTLE_ENDIAN, srs),
        struct.pack("<BII", LITTLE_ENDIAN, MULTIPOLYGON, len(polygons)),
    ]
    for one in polygons:
        rings = _counter_clockwise(one)
        parts.append(struct.pack("<BII", LITTLE_ENDIAN, POLYGON, len(rings)))
        for ring in rings:
            parts += [struct.pack("<I", len(ring)), np.ascontiguousarray(ring).tobytes()]
    return b"".join(parts)


WGS84_TEXT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]'
)
SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
    organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
    description TEXT DEFAULT '', last_change DATETIME NOT NULL, min_x DOUBLE, min_y DOUBLE, max_x DOUBLE,
    max_y DOUBLE, srs_id INTEGER REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL REFERENCES gpkg_contents (table_name),
    column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL,
    srs_id INTEGER NOT NULL REFERENCES gpkg_spatial_ref_sys (srs_id), z TINYINT NOT NULL, m TINYINT NOT NULL,
    PRIMARY KEY (table_name, column_name));
CREATE TABLE {TABLE} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom MULTIPOLYGON, score REAL,
    predicted_iou REAL, stability_score REAL);
"""
