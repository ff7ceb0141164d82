"""Objects that prompts point at or that texts name: what ``mobilesam segment`` asks and writes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from mobilesam.annotate.outputs import Name, Place
from mobilesam.annotate.run import shown_path
from mobilesam.annotate.sources import Photo
from mobilesam.core.arrays import Image, Size
from mobilesam.core.prompts import LOW_RES_PER_GRID, names_with
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Detector
from mobilesam.formats.image import image_to_png
from mobilesam.formats.prompt_file import prompt_to_record
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation, SegmentedMask, draw_results, results_to_coco
from mobilesam.segment.text import TextOptions, segment_text

KINDS = ("mask", "masks", "overlay", "cutout", "coco", "polygons", "npz")
# ``masks`` is a file for each mask of an object, numbered as in its record: three of a single point.
EACH_MASK = {"mask-1": 0, "mask-2": 1, "mask-3": 2}
PER_OBJECT = ("mask", "cutout", "masks", *EACH_MASK)
ENDINGS = {
    **{kind: f"{kind}.png" for kind in EACH_MASK},
    "mask": "mask.png",
    "overlay": "overlay.png",
    "cutout": "cutout.png",
    "coco": "coco.json",
    "polygons": "polygons.json",
    "npz": "masks.npz",
}
KIND_ENDINGS = {kind: ENDINGS.get(kind, "") for kind in KINDS}
POLYGON_TOLERANCE = 1.0  # pixels


class Prompting(Protocol):
    """Makes the prompts of an image from its size, because they may be given in per cent."""

    def __call__(self, size: Size) -> tuple[Sequence[Prompt], Sequence[str]]:
        """Return prompts for an image of (height, width), and what messages call them."""
        ...


@dataclass(frozen=True)
class ByPrompts:
    """The question of which objects prompts point at.

    Attributes:
        predictor: segments the objects.
        prompting: makes the prompts.
        min_mask_region_area: holes and islands below this many pixels are filled and dropped.
    """

    needs_file: ClassVar[bool] = False

    predictor: Predictor
    prompting: Prompting
    min_mask_region_area: int = 0

    def names(self, kinds: Sequence[str], size: Size) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Question`."""
        return [output.name for output in outputs(kinds, len(self.prompting(size)[0]))]

    def ask(self, photo: Photo) -> Objects:
        """See :class:`mobilesam.annotate.run.Question`."""
        clock = Clock()
        embedding = self.predictor.embed(photo.image, photo.remarks)
        clock.lap("embed")
        prompts, prefixes = self.prompting(photo.size)
        valid = self.predictor.validate(embedding, prompts, [names_with(one) for one in prefixes])
        found = self.predictor.segment(embedding, valid)
        results = tuple(result.cleaned(self.min_mask_region_area) for result in found)
        clock.lap("segment")
        return Objects(photo, results, low_res=low_res_side(embedding), milliseconds=clock.laps)


@dataclass(frozen=True)
class ByText:
    """The question of which objects texts name.

    Attributes:
        predictor: segments the objects.
        text_model: what finds their boxes.
        texts: what they are called.
        options: which boxes are accepted.
        min_mask_region_area: holes and islands below this many pixels are filled and dropped.
    """

    needs_file: ClassVar[bool] = False

    predictor: Predictor
    text_model: Detector
    texts: tuple[str, ...]
    options: TextOptions
    min_mask_region_area: int = 0

    def names(self, kinds: Sequence[str], size: Size) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Question`; the first object stands for all, however many there are."""
        return [output.name for output in outputs(kinds, 1)]

    def ask(self, photo: Photo) -> Objects:
        """See :class:`mobilesam.annotate.run.Question`."""
        clock = Clock()
        embedding = self.predictor.embed(photo.image, photo.remarks)
        clock.lap("embed")
        found = segment_text(self.predictor, embedding, self.texts, self.text_model, self.options)
        results = tuple(result.cleaned(self.min_mask_region_area) for result in found)
        clock.lap("segment")
        nothing = (
            f"nothing was found that fits a text with a score of {self.options.threshold:g} or more; "
            "lower the threshold, or use other words"
        )
        told = found.remarks + (() if results else (nothing,))
        return Objects(photo, results, found.texts, told, low_res_side(embedding), clock.laps)


class Clock:
    """Measures the parts of the work."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a part; remember its milliseconds."""
        now = time.perf_counter()
        self.laps[name] = round((now - self.start) * 1000, 1)
        self.start = now


def low_res_side(embedding: Embedding) -> int:
    """Return the side of the logits that a model makes from an embedding."""
    return max(embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID


@dataclass(frozen=True, eq=False)
class Objects:
    """The answer: objects of a photo.

    Attributes:
        photo: the photo they are in.
        results: one for each object.
        texts: those that were asked for, if any.
        told: remarks on the prompts as a whole.
        low_res: side of the logits that results have, or would have.
        milliseconds: how long each part of the work took.
    """

    photo: Photo
    results: tuple[Segmentation, ...]
    texts: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    low_res: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)

    @property
    def image(self) -> Image:
        """The photo's image (H, W, 3)."""
        return self.photo.image

    @property
    def remarks(self) -> list[str]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        several = len(self.results) > 1
        return [
            *self.told,
            *(
                f"object {i}: {remark}" if several else remark
                for i, result in enumerate(self.results, start=1)
                for remark in result.remarks
            ),
        ]

    def names(self, kinds: Sequence[str]) -> list[Name]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        return [output.name for output in outputs(kinds, len(self.results))]

    def write(self, kinds: Sequence[str], place: Place) -> dict[str, Any]:
        """See :class:`mobilesam.annotate.run.Answer`."""
        files: dict[int | None, dict[str, str]] = {}
        for kind, name in outputs(kinds, len(self.results)):
            chosen = self.of(name.number)
            if kind in EACH_MASK and EACH_MASK[kind] >= len(chosen.results[0]):
                continue  # an object of one mask
            place.write(name, encode(kind, chosen))
            files.setdefault(name.number, {})[kind] = shown_path(place.path(name))
        return {
            "milliseconds": self.milliseconds,
            "objects": [segmentation_to_record(r, files.get(i, {})) for i, r in enumerate(self.results)],
            "files": files.get(None, {}),
        }

    def of(self, number: int | None) -> Objects:
        """Return one object alone, or all for None."""
        return self if number is None else replace(self, results=self.results[number : number + 1])


class Output(NamedTuple):
    """One file.

    Attributes:
        kind: one of ``KINDS``; for ``masks`` one of ``EACH_MASK``.
        name: what it is called.
    """

    kind: str
    name: Name


def outputs(kinds: Sequence[str], objects: int) -> Iterator[Output]:
    """Yield the files of this many objects; for ``masks`` as many as there can be, an object may have fewer."""
    single = [one for kind in kinds for one in (EACH_MASK if kind == "masks" else (kind,))]
    for kind in single:
        for number in range(objects) if kind in PER_OBJECT else [None]:
            yield Output(kind, Name(ENDINGS[kind], number))


def segmentation_to_record(result: Segmentation, files: dict[str, str]) -> dict[str, Any]:
    """Return one object's record: its prompt, every mask with its scores, and the chosen one's files."""
    return {
        **_named(result),
        "prompt": prompt_to_record(result.prompt),
        "chosen": result.choice,
        "masks": [mask_to_record(one) for one in result],
        "files": files,
    }


def mask_to_record(mask: SegmentedMask) -> dict[str, Any]:
    """Return one mask with its scores."""
    return {
        "predicted_iou": round(mask.predicted_iou, 4),
        "stability_score": round(mask.stability_score, 4),
        "area": mask.area,
        "box": list(mask.box),
        "segmentation": mask.rle.to_dict(),
    }


def encode(kind: str, answer: Objects) -> bytes:
    """Return the bytes of one output."""
    results = answer.results
    if kind in EACH_MASK:
        return image_to_png(results[0][EACH_MASK[kind]].mask)
    if kind == "mask":
        return image_to_png(results[0].mask)
    if kind == "cutout":
        return image_to_png(results[0].cutout())
    if kind == "overlay":
        return image_to_png(draw_results(answer.image, results))
    if kind == "npz":
        buffer = io.BytesIO()
        arrays: dict[str, Any] = results_to_arrays(answer)
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()
    if kind == "coco":
        source = answer.photo.source
        document = results_to_coco(
            results,
            answer.photo.size,
            file_name=source.file_name,
            texts=answer.texts,
            image_id=source.number,
        )
        return document_to_bytes(document)
    return document_to_bytes(results_to_geojson(results))


def results_to_arrays(answer: Objects) -> dict[str, np.ndarray]:
    """Return the best masks and their scores as arrays by their names in a .npz file."""
    results = answer.results
    size = answer.photo.size
    low_res = [r.low_res_masks[r.choice] for r in results]
    named: dict[str, np.ndarray] = {}
    if answer.texts or any(r.label for r in results):
        named["label"] = np.array([r.label or "" for r in results], np.str_)
    if answer.texts:
        named["text_score"] = np.array([r.text_score for r in results], np.float32)
    return {
        "masks": np.stack([r.mask for r in results]) if results else np.zeros((0, *size), bool),
        "predicted_iou": np.array([r.best.predicted_iou for r in results], np.float32),
        "stability_score": np.array([r.best.stability_score for r in results], np.float32),
        "low_res_masks": np.stack(low_res)
        if results
        else np.zeros((0, answer.low_res, answer.low_res), np.float32),
        **named,
    }


def document_to_bytes(document: dict[str, Any]) -> bytes:
    """Return a JSON document as a file's bytes."""
    return (json.dumps(document) + "\n").encode()


def results_to_geojson(results: Sequence[Segmentation]) -> dict[str, Any]:
    """Return a GeoJSON feature collection in pixels (x right, y down), holes included."""
    features = []
    for number, result in enumerate(results, start=1):
        polygons = result.polygons(tolerance=POLYGON_TOLERANCE)
        rings = [[_ring(p.exterior), *(_ring(hole) for hole in p.holes)] for p in polygons]
        properties: dict[str, Any] = {"object": number, "predicted_iou": round(result.best.predicted_iou, 4)}
        properties |= _named(result)
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "MultiPolygon", "coordinates": rings},
                "properties": properties,
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _named(result: Segmentation) -> dict[str, Any]:
    """Return an object's name, and how well the text that found it fits, as far as they are known."""
    named: dict[str, Any] = {} if result.label is None else {"label": result.label}
    return named if result.text_score is None else named | {"text_score": round(float(result.text_score), 4)}


def _ring(points: np.ndarray) -> list[list[float]]:
    """GeoJSON closes a ring by repeating its first point."""
    return [*points.tolist(), points[0].tolist()]
