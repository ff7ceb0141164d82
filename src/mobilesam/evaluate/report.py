"""Scores to look at: contact sheets of good, middling and bad masks, and the reliability of the predicted IoU."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from mobilesam.core.arrays import Image
from mobilesam.core.errors import missing_extra
from mobilesam.core.metrics import CALIBRATION_BINS, reliability
from mobilesam.core.rle import rle_to_mask
from mobilesam.draw.overlay import draw_overlay, line_width, outline
from mobilesam.evaluate.kinds import KINDS
from mobilesam.evaluate.prompted import ObjectScore, PromptedScores
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.image import image_to_png
from mobilesam.storage.atomic import check_folder, refuse_existing, write_bytes

COLUMNS = 8
TILE = 240  # pixels, the longer side of a photo
CAPTION = 18  # pixels
TRUTH_COLOUR = (255, 255, 255)
ROWS = ("best", "median", "worst")


def report_paths(folder: Path, name: str, kinds: Iterable[str]) -> dict[str, Path]:
    """Return the files of a set's report, by kinds of prompt and ``reliability``."""
    return {what: folder / f"{name}-{what}.png" for what in (*kinds, "reliability")}


def check_report(paths: Iterable[Path], *, overwrite: bool = False) -> None:
    """Before anything is scored, say what would keep a report from being written.

    Raises:
        OutputError: if a file exists and ``overwrite`` is false, or none can be written there.
        MissingExtraError: if Matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise missing_extra("a reliability diagram", "train")
    for path in paths:
        refuse_existing(path, overwrite=overwrite)
        check_folder(path.parent)


def write_report(scores: PromptedScores, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a set's contact sheets, one for each kind of prompt, and its reliability diagram.

    Returns:
        The files' paths: ``SET-KIND.png`` and ``SET-reliability.png``.

    Raises:
        OutputError: if a file cannot be written, or exists and ``overwrite`` is false.
        MissingExtraError: if Matplotlib is not installed.
    """
    paths = report_paths(folder, scores.name, scores.each)
    check_report(paths.values(), overwrite=overwrite)
    for kind, each in scores.each.items():
        write_bytes(paths[kind], image_to_png(draw_sheet(each, KINDS[kind].text)), overwrite=overwrite)
    write_bytes(paths["reliability"], draw_reliability(scores), overwrite=overwrite)
    return list(paths.values())


def draw_sheet(scores: Sequence[ObjectScore], title: str) -> Image:
    """Return a sheet of 24 photos: the best, the median and the worst masks, a row for each.

    Every photo appears once. The model's mask is tinted, the human one outlined in
    white, and the prompt drawn in; below stands the IoU, and what the model had predicted.
    """
    return draw_tiles(
        [
            ((draw_object(s), f"IoU {s.iou:.2f}, predicted {s.predicted:.2f}") for s in picked)
            for picked in pick(scores, COLUMNS, worth=lambda score: score.iou)
        ],
        f"{title}: {', '.join(ROWS)}",
    )


def draw_tiles(rows: Sequence[Iterable[tuple[Image, str]]], title: str, columns: int = COLUMNS) -> Image:
    """Return a sheet of pictures in rows of up to ``columns``, each with a caption.

    The pictures are asked for one at a time, so that large ones need not be kept.
    """
    height = TILE + CAPTION
    sheet = PillowImage.new("RGB", (columns * TILE, CAPTION + len(rows) * height), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    draw.text((4, 2), title, fill=(255, 255, 255), font=font)
    for row, pictures in enumerate(rows):
        for column, (picture, caption) in enumerate(pictures):
            tile = PillowImage.fromarray(picture)
            tile.thumbnail((TILE, TILE), PillowImage.Resampling.LANCZOS)
            left, top = column * TILE, CAPTION + row * height
            sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
            draw.text((left + 4, top + TILE + 2), caption, fill=(220, 220, 220), font=font)
    return np.asarray(sheet)


class Scored(Protocol):
    """Something that belongs to a photo."""

    @property
    def photo(self) -> SetPhoto:
        """The one it belongs to."""


AnyScore = TypeVar("AnyScore", bound=Scored)


def pick(scores: Sequence[AnyScore], n: int, *, worth: Callable[[AnyScore], float]) -> list[list[AnyScore]]:
    """Return the ``n`` best, median and worst scores, at most one from each photo."""
    order = sorted(scores, key=worth, reverse=True)
    outward = sorted(range(len(order)), key=lambda place: abs(place - len(order) // 2))
    middle = [order[place] for place in outward]
    rows: list[list[AnyScore]] = []
    seen: set[Path] = set()
    for candidates in (order, order[::-1], middle):
        row: list[AnyScore] = []
        for score in candidates:
            if len(row) < n and score.photo.path not in seen:
                seen.add(score.photo.path)
                row.append(score)
        rows.append(row)
    best, worst, median = rows
    return [best, median, worst]


def draw_object(score: ObjectScore) -> Image:
    """Return the photo with the model's mask, the human outline and the prompt."""
    image = read_photo(score.photo)
    out = draw_overlay(image, [rle_to_mask(score.mask)], prompts=[score.prompt]).copy()
    out[outline(rle_to_mask(score.truth), line_width(image) + 1)] = TRUTH_COLOUR
    return out


def draw_reliability(scores: PromptedScores) -> bytes:
    """Return a PNG: which IoU came out for each that the model predicted, and how often."""
    from matplotlib.figure import Figure

    each = [score for kind in scores.each.values() for score in kind]
    bins = reliability([s.predicted for s in each], [s.iou for s in each])
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as predicted")
    axes.plot(bins.predicted, bins.actual, marker="o", label=f"{scores.name}, ECE {scores.calibration:.3f}")
    axes.bar(
        bins.predicted, bins.share, width=0.5 / CALIBRATION_BINS, color="0.85", label="share of the prompts"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted IoU", ylabel="mean IoU")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
