"""Edges from segmenting everything against those that people drew, as BSDS500 scores them: ODS, OIS and AP.

An edge is as strong as the surest mask that ends there. At each threshold the edges are thinned and matched with a
person's, one to one, within 0.75 % of the photo's diagonal. Recall counts every person's edges; an edge is right if any
person has it. (SAM and FastSAM take gradients of the masks' probabilities; here it is the masks' outlines.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Mask
from mobilesam.core.errors import ConfigError, missing_extra
from mobilesam.core.rle import rle_to_mask
from mobilesam.evaluate.record import Answer, PhotoRecord
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.datasets.files import photos_below
from mobilesam.formats.datasets.photos import read_photos
from mobilesam.formats.image import read_image
from mobilesam.formats.image_bytes import shown
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.model import Model

TOLERANCE = 0.0075  # of the photo's diagonal, as in BSDS500
LEVELS = tuple(round(i / 20, 2) for i in range(1, 20))  # strengths at which edges are taken
PARTS = ("test", "val", "train")
ROW = "edges of masks"


def read_edges(folder: Path, *, follow_symlinks: bool = False) -> list[SetPhoto]:
    """Return the photos whose edges are known: BSDS500's test photos, or a set with human masks.

    Raises:
        ConfigError: if there are none.
    """
    root = _bsds(folder)
    if root is None:
        photos = read_photos(folder, follow_symlinks=follow_symlinks)
    else:
        photos = []
        for path in photos_below(root[0], follow_symlinks=follow_symlinks).values():
            if (root[1] / f"{path.stem}.mat").is_file():
                height, width = read_image(path).shape[:2]
                photos.append(SetPhoto(path, width, height))
    if not photos:
        raise ConfigError(f"{shown(str(folder))}: holds no photo with edges")
    return photos


def _bsds(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of photos and of people's edges, if the layout is BSDS500's."""
    for root in (folder, folder / "data", folder / "BSDS500" / "data"):
        for part in PARTS:
            if (root / "images" / part).is_dir() and (root / "groundTruth" / part).is_dir():
                return root / "images" / part, root / "groundTruth" / part
    return None


def drawn_edges(photo: SetPhoto, folder: Path) -> tuple[Mask, ...]:
    """Return each person's edges (H, W) of a photo; otherwise those of a set's human masks together.

    Raises:
        ConfigError: if a file of them cannot be read.
        MissingExtraError: if SciPy is not installed.
    """
    root = _bsds(folder)
    if root is not None:
        return _read_mat(root[1] / f"{photo.path.stem}.mat")
    edges = np.zeros((photo.height, photo.width), bool)
    for instance in photo.instances:
        edges |= border_of(rle_to_mask(instance.segmentation))
    return (thinned(edges),)


def _read_mat(path: Path) -> tuple[Mask, ...]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise missing_extra("BSDS500's edges", "evaluate") from error
    try:
        people = loadmat(str(path))["groundTruth"].ravel()
        return tuple(np.asarray(one["Boundaries"][0, 0], bool) for one in people)
    except Exception as error:  # SciPy's own errors have no common class
        raise ConfigError(f"{shown(str(path))}: is not a file of BSDS500's edges") from error


def border_of(mask: Mask) -> Mask:
    """Return the pixels (H, W) of a mask that have a neighbour outside of it; the photo's own border is not an edge."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def thinned(edges: Mask) -> Mask:
    """Return edges (H, W) one pixel wide (Guo and Hall 1989), as BSDS500's own evaluation thins them."""
    out = np.pad(edges, 1)
    while True:
        before = int(out.sum())
        for first in (True, False):
            n, ne, e, se, s, sw, w, nw = _neighbours(out)
            crossings = sum(
                (~a & (b | c)).astype(np.int8) for a, b, c in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n))
            )
            pairs = [
                sum((a | b).astype(np.int8) for a, b in some)
                for some in (((nw, n), (ne, e), (se, s), (sw, w)), ((n, ne), (e, se), (s, sw), (w, nw)))
            ]
            count = np.minimum(*pairs)
            kept = ((n | ne | ~se) & e) if first else ((s | sw | ~nw) & w)
            out[1:-1, 1:-1] &= ~((crossings == 1) & (count >= 2) & (count <= 3) & ~kept)
        if int(out.sum()) == before:
            return out[1:-1, 1:-1].copy()


def _neighbours(padded: np.ndarray) -> list[np.ndarray]:
    """Return the eight neighbours of each pixel, clockwise from the one above."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    steps = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    return [padded[y : y + height, x : x + width] for y, x in steps]


def edge_strengths(model: Model, photo: SetPhoto, options: EverythingOptions) -> np.ndarray:
    """Segment everything; return how sure an edge is at each pixel (H, W), 0 to 1."""
    strengths = np.zeros((photo.height, photo.width), np.float32)
    for found in model.everything(read_photo(photo), options):
        border = border_of(found.mask)
        strengths[border] = np.maximum(strengths[border], min(1.0, found.score))
    return strengths


def edge_rows(model: Model, folder: Path, options: EverythingOptions, photo: SetPhoto) -> PhotoRecord:
    """Score a photo's edges at every threshold; the counts are facts."""
    strengths = edge_strengths(model, photo, options)
    drawn = drawn_edges(photo, folder)
    counts = [count_matches(thinned(strengths >= level), drawn) for level in LEVELS]
    best = max(f_measure(*_rates(np.array(one))) for one in counts)
    return PhotoRecord({ROW: (Answer({"best F": best}),)}, {"counts": counts})


def count_matches(found: Mask, drawn: Sequence[Mask]) -> list[int]:
    """Match edges with those of several people.

    Args:
        found: (H, W) edges, one pixel wide.
        drawn: (H, W) edges of each person.

    Returns:
        People's pixels that were found, people's pixels, found pixels that any person has, found pixels.
    """
    reach = TOLERANCE * float(np.hypot(*found.shape))
    right = np.zeros(int(found.sum()), bool)
    hits, total = 0, 0
    for person in drawn:
        matched = match_pixels(found, person, reach)
        right |= matched
        hits += int(matched.sum())
        total += int(person.sum())
    return [hits, total, int(right.sum()), len(right)]


def match_pixels(found: Mask, drawn: Mask, reach: float) -> np.ndarray:
    """Match as many pixels as possible, one to one within ``reach``; return which of the found ones match (N,).

    Raises:
        MissingExtraError: if SciPy is not installed.
    """
    try:
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import maximum_bipartite_matching
        from scipy.spatial import cKDTree
    except ModuleNotFoundError as error:
        raise missing_extra("matching edges", "evaluate") from error
    ours, theirs = np.argwhere(found), np.argwhere(drawn)
    if not len(ours) or not len(theirs):
        return np.zeros(len(ours), bool)
    near = cKDTree(ours).query_ball_tree(cKDTree(theirs), reach)
    starts = np.cumsum([0, *map(len, near)])
    columns = np.array([one for some in near for one in some], np.int32)
    pairs = csr_matrix((np.ones(len(columns), np.int8), columns, starts), shape=(len(ours), len(theirs)))
    return np.asarray(maximum_bipartite_matching(pairs, perm_type="column") >= 0)


def edge_figures(records: Sequence[PhotoRecord]) -> dict[str, float]:
    """Return ODS (one threshold for the set), OIS (the best of each photo) and AP from the counts of photos."""
    counts = np.array([record.facts["counts"] for record in records], np.float64)  # (photos, levels, 4)
    recall, precision = _rates(counts.sum(0).T)
    ods = max(f_measure(r, p) for r, p in zip(recall, precision, strict=True))
    each = [[f_measure(*_rates(level)) for level in photo] for photo in counts]
    best = np.array([photo[int(np.argmax(scores))] for photo, scores in zip(counts, each, strict=True)])
    return {"ODS": ods, "OIS": f_measure(*_rates(best.sum(0))), "AP": average_precision(recall, precision)}


def _rates(counts: np.ndarray) -> tuple[Any, Any]:
    """Return recall and precision of counts (4,) or (4, levels)."""
    hits, total, right, found = counts
    return hits / np.maximum(total, 1), right / np.maximum(found, 1)


def f_measure(recall: float, precision: float) -> float:
    """Return the harmonic mean of the two; 0 if both are 0."""
    return float(2 * recall * precision / (recall + precision)) if recall + precision else 0.0


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area below the curve, in steps of 0.01 of recall, as in BSDS500's own evaluation."""
    order = np.argsort(recall)
    recall, precision = np.asarray(recall)[order], np.asarray(precision)[order]
    recall, first = np.unique(recall, return_index=True)
    if recall.size < 2:
        return 0.0
    steps = np.arange(0, 1.005, 0.01)
    values = np.interp(steps, recall, precision[first], left=np.nan, right=np.nan)
    return float(np.nansum(values) * 0.01)
