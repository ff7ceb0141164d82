"""From image files to files of masks: what ``mobilesam segment`` does with each image."""

from __future__ import annotations

import io
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.errors import ConfigError, OutputError, PromptWarning
from mobilesam.core.types import Prompt
from mobilesam.formats.image import image_to_png, printable, suffix_is_image
from mobilesam.formats.overlay import draw_overlay
from mobilesam.formats.prompt_file import prompt_to_record
from mobilesam.predictor import Model
from mobilesam.results import Segmentation
from mobilesam.storage.atomic import write_bytes

KINDS = ("mask", "overlay", "cutout", "coco", "polygons", "npz")
PER_OBJECT = ("mask", "cutout")
ENDINGS = {
    "mask": "mask.png",
    "overlay": "overlay.png",
    "cutout": "cutout.png",
    "coco": "coco.json",
    "polygons": "polygons.json",
    "npz": "masks.npz",
}
POLYGON_TOLERANCE = 1.0  # pixels
RESULTS_VERSION = 1

PromptsFor = Callable[[tuple[int, int]], Sequence[Prompt]]


@dataclass(frozen=True)
class Source:
    """One image to segment.

    Attributes:
        name: what messages and results call it.
        stem: what the names of its outputs begin with.
        content: its path, or its bytes.
    """

    name: str
    stem: str
    content: Path | bytes = field(repr=False)


def find_sources(paths: Iterable[Path]) -> list[Source]:
    """Return the images among files and folders, in order, each with a stem of its own.

    A folder stands for the images below it; hidden ones and links to folders are left out.
    Images that would have outputs of the same name keep their suffix in it, and a number
    where that is the same too: ``a.jpg`` and ``a.png`` become ``a_jpg`` and ``a_png``,
    ``x/a.jpg`` and ``y/a.jpg`` become ``a_jpg`` and ``a_jpg_2``.

    Raises:
        ConfigError: if a folder holds no image.
    """
    files: list[tuple[Path, Path]] = []  # (path, what of it names the output)
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if suffix_is_image(p) and p.is_file() and not _hidden(p.relative_to(path))
            )
            if not inside:
                raise ConfigError(f"{printable(path)}: holds no images")
            files += [(p, p.relative_to(path)) for p in inside]
        else:
            files.append((path, Path(path.name)))
    files = list(dict.fromkeys(files))
    stems = [str(name.with_suffix("")) for _, name in files]
    clashing = Counter(stem.casefold() for stem in stems)
    taken: Counter[str] = Counter()
    for i, (_, name) in enumerate(files):
        if clashing[stems[i].casefold()] > 1:
            stems[i] = f"{stems[i]}_{name.suffix[1:]}"
        key = stems[i].casefold()
        taken[key] += 1
        if taken[key] > 1:
            stems[i] = f"{stems[i]}_{taken[key]}"
    return [Source(printable(path), stem, path) for (path, _), stem in zip(files, stems, strict=True)]


def segment_file(
    model: Model,
    source: Source,
    prompts_for: PromptsFor,
    *,
    out: Path,
    save: Sequence[str],
    overwrite: bool = False,
    max_pixels: int | None = None,
) -> dict[str, Any]:
    """Segment one image, write what is asked for, and return the image's record.

    Args:
        model: what segments.
        source: the image.
        prompts_for: makes the prompts from the image's (height, width), because they may
            be in per cent.
        out: folder for the outputs; nothing else is written to.
        save: some of ``KINDS``.
        overwrite: replace outputs that are there; otherwise nothing is computed if one is.
        max_pixels: limit on the image, if not the usual one.

    Raises:
        MobileSamError: as its parts do; no output is then half written.
    """
    limits = {} if max_pixels is None else {"max_pixels": max_pixels}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PromptWarning)
        start = time.perf_counter()
        embedding = model.embed(source.content, **limits)
        embedded = time.perf_counter()
        prompts = list(prompts_for(embedding.original_size))
        check_free(source, len(prompts), out=out, save=save, overwrite=overwrite)
        results = model.segment(embedding, prompts)
        masks = [result.mask for result in results]
        segmented = time.perf_counter()
    files = write_outputs(results, source, out=out, save=save, overwrite=overwrite)
    return {
        "file": source.name,
        "width": embedding.original_size[1],
        "height": embedding.original_size[0],
        "milliseconds": {
            "embed": round((embedded - start) * 1000, 1),
            "segment": round((segmented - embedded) * 1000, 1),
        },
        "objects": [
            segmentation_to_record(result, mask, files.pop(i, {}))
            for i, (result, mask) in enumerate(zip(results, masks, strict=True))
        ],
        "files": files.pop(None, {}),
        "warnings": [str(w.message) for w in caught if issubclass(w.category, PromptWarning)],
    }


def segmentation_to_record(result: Segmentation, mask: np.ndarray, files: dict[str, str]) -> dict[str, Any]:
    """Return one object's record: its prompt, every mask with its scores, and the chosen one's files."""
    return {
        "prompt": prompt_to_record(result.prompt),
        "chosen": result.choice,
        "masks": [
            {
                "predicted_iou": round(one.predicted_iou, 4),
                "stability_score": round(one.stability_score, 4),
                "area": one.area,
                "box": list(one.box),
                "segmentation": one.rle.to_dict(),
            }
            for one in result
        ],
        "files": files,
    }


def output_path(source: Source, kind: str, number: int | None, out: Path) -> Path:
    """Return where an output lies: ``STEM_mask``-like, with the object's number where each has its own."""
    middle = f"_{number + 1}" if number is not None else ""
    return out / f"{source.stem}{middle}_{ENDINGS[kind]}"


def check_free(source: Source, objects: int, *, out: Path, save: Sequence[str], overwrite: bool) -> None:
    """Refuse before any work what could not be written afterwards."""
    for kind in save:
        for number in range(objects) if kind in PER_OBJECT else [None]:
            path = output_path(source, kind, number, out)
            if path.exists() and not overwrite:
                raise OutputError(f"{printable(path)}: exists already; pass --overwrite or another --out")


def write_outputs(
    results: Sequence[Segmentation],
    source: Source,
    *,
    out: Path,
    save: Sequence[str],
    overwrite: bool,
) -> dict[int | None, dict[str, str]]:
    """Write the outputs; return their paths by object number, those of the whole image under None."""
    files: dict[int | None, dict[str, str]] = {}
    for kind in save:
        for number in range(len(results)) if kind in PER_OBJECT else [None]:
            path = output_path(source, kind, number, out)
            chosen = results if number is None else results[number : number + 1]
            write_bytes(path, encode(kind, chosen, source), overwrite=overwrite)
            files.setdefault(number, {})[kind] = str(path)
    return files


def encode(kind: str, results: Sequence[Segmentation], source: Source) -> bytes:
    """Return the bytes of one output."""
    if kind == "mask":
        return image_to_png(results[0].mask)
    if kind == "cutout":
        return image_to_png(results[0].cutout())
    if kind == "overlay":
        image = results[0].embedding.image
        masks, prompts = [r.mask for r in results], [r.prompt for r in results]
        return image_to_png(draw_overlay(image, masks, prompts=prompts))
    if kind == "npz":
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            masks=np.stack([r.mask for r in results]),
            predicted_iou=np.array([r.best.predicted_iou for r in results], np.float32),
            stability_score=np.array([r.best.stability_score for r in results], np.float32),
            low_res_masks=np.stack([r.low_res_masks[r.choice] for r in results]),
        )
        return buffer.getvalue()
    record = results_to_coco(results, source) if kind == "coco" else results_to_geojson(results)
    return (json.dumps(record) + "\n").encode()


def results_to_coco(results: Sequence[Segmentation], source: Source) -> dict[str, Any]:
    """Return a COCO instance document of one image."""
    height, width = results[0].embedding.original_size
    return {
        "images": [{"id": 1, "file_name": Path(source.name).name, "width": width, "height": height}],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": 1,
                "segmentation": result.rle.to_dict(),
                "bbox": list(xyxy_to_xywh(result.box)),
                "area": result.area,
                "iscrowd": 0,
                "predicted_iou": round(result.best.predicted_iou, 4),
                "stability_score": round(result.best.stability_score, 4),
            }
            for i, result in enumerate(results, start=1)
        ],
        "categories": [{"id": 1, "name": "object"}],
    }


def results_to_geojson(results: Sequence[Segmentation]) -> dict[str, Any]:
    """Return a GeoJSON feature collection in pixels (x right, y down), holes included."""
    features = []
    for number, result in enumerate(results, start=1):
        polygons = result.polygons(tolerance=POLYGON_TOLERANCE)
        rings = [[_ring(p.exterior), *(_ring(hole) for hole in p.holes)] for p in polygons]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "MultiPolygon", "coordinates": rings},
                "properties": {"object": number, "predicted_iou": round(result.best.predicted_iou, 4)},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _ring(points: np.ndarray) -> list[list[float]]:
    """GeoJSON closes a ring by repeating its first point."""
    return [*points.tolist(), points[0].tolist()]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
