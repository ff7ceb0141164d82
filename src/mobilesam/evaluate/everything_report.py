"""What segment everything found and missed, to look at."""

from __future__ import annotations

from pathlib import Path

from mobilesam.core.arrays import Image
from mobilesam.core.metrics import RECALL_LIMITS, RECALL_THRESHOLDS
from mobilesam.core.rle import rle_to_mask
from mobilesam.draw.overlay import BACKGROUND_COLOUR, FOREGROUND_COLOUR, draw_overlay
from mobilesam.evaluate.everything import EverythingScores, PhotoScore
from mobilesam.evaluate.report import COLUMNS, ROWS, draw_tiles, pick
from mobilesam.formats.coco import Instance, SetPhoto, read_photo
from mobilesam.formats.image import image_to_png
from mobilesam.storage.atomic import write_bytes

FOUND, MISSED = FOREGROUND_COLOUR, BACKGROUND_COLOUR
LEAST_IOU = float(RECALL_THRESHOLDS[0])


def write_sheets(scores: EverythingScores, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a contact sheet for each search of a set.

    Returns:
        The files' paths: ``SET-everything-SEARCH.png``, with hyphens for a search's spaces.

    Raises:
        OutputError: if a file cannot be written, or exists and ``overwrite`` is false.
    """
    paths = []
    for name, search in scores.searches.items():
        path = sheet_path(folder, scores.name, name)
        write_bytes(path, image_to_png(draw_recall(search.each, name)), overwrite=overwrite)
        paths.append(path)
    return paths


def sheet_path(folder: Path, name: str, search: str) -> Path:
    """Return where the contact sheet of a set's search goes."""
    return folder / f"{name}-everything-{search.replace(' ', '-')}.png"


def draw_recall(each: list[PhotoScore], title: str) -> Image:
    """Return a sheet of the photos with the best, median and worst recall, and of the worst misses.

    Human masks that a mask was found for at an IoU of 0.5 are green, the others red. The
    last row has the largest objects that were missed, at most one from each photo.
    """
    per_row = min(COLUMNS, max(1, len(each) // len(ROWS)))
    rows = [
        [(score.photo, score.ious, caption(score)) for score in picked]
        for picked in pick(each, per_row, worth=recall_of)
    ]
    rows.append(
        [
            (SetPhoto(p.path, p.width, p.height, (truth,)), (iou,), f"IoU {iou:.2f}")
            for p, truth, iou in worst_misses(each, COLUMNS)
        ]
    )
    pictures = [((draw_objects(photo, ious), text) for photo, ious, text in row) for row in rows]
    return draw_tiles(pictures, f"{title}: {', '.join(ROWS)} photos, worst misses")


def recall_of(score: PhotoScore) -> float:
    """Return a photo's average recall of masks."""
    return score.masks.average_recall()["all"][RECALL_LIMITS[-1]]


def caption(score: PhotoScore) -> str:
    """Return the text below a photo."""
    near = sum(iou >= LEAST_IOU for iou in score.ious)
    return f"AR {recall_of(score):.2f}, {near} of {len(score.ious)} found"


def worst_misses(each: list[PhotoScore], n: int) -> list[tuple[SetPhoto, Instance, float]]:
    """Return the ``n`` largest objects that were missed, at most one from each photo, with their IoU."""
    largest = []
    for score in each:
        pairs = zip(score.photo.instances, score.ious, strict=True)
        missed = [(truth, iou) for truth, iou in pairs if iou < LEAST_IOU]
        if missed:
            truth, iou = max(missed, key=lambda pair: pair[0].area)
            largest.append((score.photo, truth, iou))
    return sorted(largest, key=lambda miss: miss[1].area, reverse=True)[:n]


def draw_objects(photo: SetPhoto, ious: tuple[float, ...]) -> Image:
    """Return the photo with its objects, green where they were found and red where not."""
    masks = [rle_to_mask(truth.segmentation) for truth in photo.instances]
    colours = [FOUND if iou >= LEAST_IOU else MISSED for iou in ious]
    return draw_overlay(read_photo(photo), masks, colours=colours)
