"""From image files to files of masks: what ``mobilesam segment`` does with each image."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobilesam.core.arrays import Image, Size
from mobilesam.core.errors import ConfigError, ImageError, MobileSamError, OutputError
from mobilesam.core.prompts import LOW_RES_PER_GRID, names_with
from mobilesam.core.text import printable
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Detector
from mobilesam.formats.image import MAX_PIXELS, image_to_png, read_image
from mobilesam.formats.image_folder import FoundImage, SkippedFile, look_through, resolved, tell_skipped
from mobilesam.formats.prompt_file import prompt_to_record
from mobilesam.segment.model import Model
from mobilesam.segment.results import Segmentation, draw_results, results_to_coco
from mobilesam.segment.text import TextOptions, segment_text
from mobilesam.storage.atomic import write_bytes

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
POLYGON_TOLERANCE = 1.0  # pixels
MAX_STEM_BYTES = 200  # file systems allow 255 for a name, of which endings take a part
RESULTS_VERSION = 1


@dataclass(frozen=True)
class Source:
    """One image to segment.

    Attributes:
        name: what messages and results call it.
        stem: what the names of its outputs begin with.
        content: its path, or its bytes.
        problem: why it is not to be read.
        number: of the image in the run, from 1; its id in COCO's files, which may be joined then.
    """

    name: str
    stem: str
    content: Path | bytes = field(repr=False)
    problem: ImageError | None = None
    number: int = 1


class Prompting(Protocol):
    """Makes the prompts of an image from its size, because they may be in per cent."""

    def __call__(self, size: Size) -> tuple[Sequence[Prompt], Sequence[str]]:
        """Return prompts for an image of (height, width), and what messages call each of them."""
        ...


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in one image.

    Attributes:
        image: (H, W, 3).
        results: one for each object.
        texts: that were asked for, if any.
        remarks: on the image's prompts as a whole.
        low_res: side of the logits that results have, or would have.
    """

    image: Image
    results: tuple[Segmentation, ...]
    texts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    low_res: int = 0

    def cleaned(self, min_mask_region_area: int) -> Answer:
        """Return the same with tidy masks, see :meth:`Segmentation.cleaned`."""
        return replace(self, results=tuple(result.cleaned(min_mask_region_area) for result in self.results))


class Question(Protocol):
    """What is asked of each image."""

    def objects(self, size: Size) -> int:
        """Return how many objects an image of (height, width) will have, as far as that is known before the work."""
        ...

    def ask(self, model: Model, embedding: Embedding) -> Answer:
        """Segment what is asked for."""
        ...


@dataclass(frozen=True)
class ByPrompts:
    """The objects that prompts point at."""

    prompting: Prompting

    def objects(self, size: Size) -> int:
        """See :class:`Question`."""
        return len(self.prompting(size)[0])

    def ask(self, model: Model, embedding: Embedding) -> Answer:
        """See :class:`Question`."""
        prompts, prefixes = self.prompting(embedding.original_size)
        valid = model.predictor.validate(embedding, prompts, [names_with(one) for one in prefixes])
        results = model.predictor.segment(embedding, valid)
        return Answer(embedding.image, results, low_res=low_res_side(embedding))


@dataclass(frozen=True)
class ByText:
    """The objects that texts name."""

    text_model: Detector
    texts: tuple[str, ...]
    options: TextOptions

    def objects(self, size: Size) -> int:
        """See :class:`Question`; there may be any number, so the first one's outputs stand for all."""
        return 1

    def ask(self, model: Model, embedding: Embedding) -> Answer:
        """See :class:`Question`."""
        found = segment_text(model.predictor, embedding, self.texts, self.text_model, self.options)
        nothing = (
            f"nothing was found that fits a text with a score of {self.options.threshold:g} or more; "
            "lower the threshold, or use other words"
        )
        remarks = found.remarks + (() if len(found) else (nothing,))
        return Answer(found.image, found.segmentations, found.texts, remarks, low_res_side(embedding))


def low_res_side(embedding: Embedding) -> int:
    """Return the side of the logits that a model makes from an embedding."""
    return max(embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID


@dataclass(frozen=True)
class Settings:
    """What is written, and where.

    Attributes:
        out: folder for the outputs; nothing else is written to.
        save: some of ``KINDS``.
        overwrite: replace outputs that are there; otherwise nothing is computed if one is.
        max_pixels: limit on an image.
        min_mask_region_area: holes and islands below so many pixels are filled and dropped.
    """

    out: Path
    save: tuple[str, ...]
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    min_mask_region_area: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one image: its record, or the error."""

    source: Source
    record: dict[str, Any] | None = None
    error: MobileSamError | None = None


@dataclass(frozen=True)
class FoundSources:
    """What files and folders hold.

    Attributes:
        sources: the images.
        remarks: which other files are skipped, and why.
    """

    sources: list[Source]
    remarks: list[str]


def find_sources(
    paths: Iterable[Path], *, beside: Path | None = None, follow_symlinks: bool = False
) -> FoundSources:
    """Return the images among files and folders, in order, each with a stem of its own.

    A folder stands for the images below it; hidden ones and everything below ``beside``,
    where the outputs go, are left out. Images that would have outputs of the same name
    keep their suffix in it, and a number where that is taken too: ``a.jpg`` and ``a.png``
    become ``a_jpg`` and ``a_png``, ``x/a.jpg`` and ``y/a.jpg`` become ``a_jpg`` and
    ``a_jpg_2``. Very long stems are cut.

    Args:
        paths: files and folders.
        beside: the folder of the outputs.
        follow_symlinks: read what links in a folder show of the world outside it.

    Raises:
        ConfigError: if a folder holds no image.
    """
    files: dict[Path, tuple[FoundImage, Path]] = {}  # resolved -> (image, what of it names the output)
    skipped: list[SkippedFile] = []
    for path in paths:
        if not _is_folder(path):
            files.setdefault(resolved(path), (FoundImage(path), Path(path.name)))
            continue
        inside = look_through(path, leave_out=beside, follow_symlinks=follow_symlinks)
        if not inside.images:
            raise ConfigError(
                "; ".join([f"{printable(path)}: holds no images", *tell_skipped(inside.skipped)])
            )
        skipped += inside.skipped
        for image in inside.images:
            files.setdefault(resolved(image.path), (image, image.path.relative_to(path)))
    plain = Counter(_stem(name).casefold() for _, name in files.values())
    taken: set[str] = set()
    sources: list[Source] = []
    for image, name in files.values():
        stem = _stem(name)
        if plain[stem.casefold()] > 1:
            stem = f"{stem}_{name.suffix[1:]}"
        candidates = (stem if i == 1 else f"{stem}_{i}" for i in count(1))
        stem = next(c for c in candidates if c.casefold() not in taken)
        taken.add(stem.casefold())
        sources.append(Source(printable(image.path), stem, image.path, image.problem, len(sources) + 1))
    return FoundSources(sources, tell_skipped(skipped))


def _stem(name: Path) -> str:
    """Return a name without its suffix, short enough for an output's endings."""
    stem = os.fsencode(name.stem)
    if len(stem) > MAX_STEM_BYTES:
        stem = stem[: MAX_STEM_BYTES - 9] + b"_" + hashlib.sha256(stem).hexdigest()[:8].encode()
    return str(name.with_name(os.fsdecode(stem))) if stem else str(name)


def segment_each(
    model: Model, sources: Iterable[Source], question: Question, settings: Settings
) -> Iterator[Outcome]:
    """Segment image after image; see :func:`each_outcome`."""
    return each_outcome(sources, lambda source: segment_file(model, source, question, settings))


def each_outcome(sources: Iterable[Source], work: Callable[[Source], dict[str, Any]]) -> Iterator[Outcome]:
    """Do the work on image after image, which returns a record; one that fails does not stop the rest.

    Raises:
        OutputError: if nothing more can be written, as on a full disk.
    """
    for source in sources:
        if source.problem is not None:
            yield Outcome(source, error=source.problem)
            continue
        try:
            yield Outcome(source, record=work(source))
        except MobileSamError as error:
            if isinstance(error, OutputError) and error.__cause__ is not None:
                raise  # not one file's fault
            yield Outcome(source, error=error)


def segment_file(model: Model, source: Source, question: Question, settings: Settings) -> dict[str, Any]:
    """Segment one image, write what is asked for, and return the image's record.

    Raises:
        MobileSamError: as its parts do; no output is then half written.
    """
    remarks: list[str] = []
    image = read_image(source.content, max_pixels=settings.max_pixels, name=source.name, remarks=remarks)
    check_outputs(source, question.objects(image.shape[:2]), settings)
    start = time.perf_counter()
    embedding = model.embed(image, max_pixels=settings.max_pixels)
    embedded = time.perf_counter()
    answer = question.ask(model, embedding).cleaned(settings.min_mask_region_area)
    masks = [result.mask for result in answer.results]
    segmented = time.perf_counter()
    check_outputs(source, len(masks), settings)
    files = write_outputs(answer, source, settings)
    names = [f"object {i}: " if len(masks) > 1 else "" for i in range(1, len(masks) + 1)]
    return {
        "file": source.name,
        "width": image.shape[1],
        "height": image.shape[0],
        "milliseconds": {
            "embed": round((embedded - start) * 1000, 1),
            "segment": round((segmented - embedded) * 1000, 1),
        },
        "objects": [segmentation_to_record(r, files.pop(i, {})) for i, r in enumerate(answer.results)],
        "files": files.pop(None, {}),
        "warnings": remarks
        + list(answer.remarks)
        + [f"{n}{remark}" for n, r in zip(names, answer.results, strict=True) for remark in r.remarks],
    }


def outcomes_to_document(model: Model, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the results as docs/reference/results.schema.json has them."""
    outcomes = list(outcomes)
    return {
        "version": RESULTS_VERSION,
        "model": {"name": model.name, "runtime": model.runtime.name, "device": model.runtime.device},
        "images": [o.record for o in outcomes if o.record is not None],
        "errors": [
            {"file": o.source.name, "code": o.error.code, "message": printable(o.error)}
            for o in outcomes
            if o.error is not None
        ],
    }


def segmentation_to_record(result: Segmentation, files: dict[str, str]) -> dict[str, Any]:
    """Return one object's record: its prompt, every mask with its scores, and the chosen one's files."""
    return {
        **_named(result),
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
    """Return where an output lies: ``STEM_1_mask.png`` for object 1, ``STEM_overlay.png`` for the image."""
    middle = f"_{number + 1}" if number is not None else ""
    return out / f"{source.stem}{middle}_{ENDINGS[kind]}"


def outputs_of(source: Source, objects: int, settings: Settings) -> Iterator[tuple[str, int | None, Path]]:
    """Yield every output's kind, object number (None: the whole image) and path.

    Of ``masks`` these are as many as there can be; an object may have fewer.
    """
    single = [one for kind in settings.save for one in (EACH_MASK if kind == "masks" else (kind,))]
    for kind in single:
        for number in range(objects) if kind in PER_OBJECT else [None]:
            yield kind, number, output_path(source, kind, number, settings.out)


def check_outputs(source: Source, objects: int, settings: Settings) -> None:
    """Refuse what could not be written, see :func:`check_free`."""
    check_free([path for _, _, path in outputs_of(source, objects, settings)], overwrite=settings.overwrite)


def check_free(outputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse before any work what could not be written afterwards.

    Raises:
        OutputError: if an output is there and may not be replaced, or cannot be looked for.
    """
    for path in outputs:
        try:
            there = path.exists()
        except OSError as error:
            raise OutputError(f"{printable(path)}: cannot be written ({error.strerror})") from error
        if there and not overwrite:
            raise OutputError(f"{printable(path)}: exists already; pass --overwrite or another --out")


def write_outputs(answer: Answer, source: Source, settings: Settings) -> dict[int | None, dict[str, str]]:
    """Write the outputs; return their paths by object number, those of the whole image under None."""
    files: dict[int | None, dict[str, str]] = {}
    for kind, number, path in outputs_of(source, len(answer.results), settings):
        chosen = answer if number is None else replace(answer, results=answer.results[number : number + 1])
        if kind in EACH_MASK and EACH_MASK[kind] >= len(chosen.results[0]):
            continue
        write_bytes(path, encode(kind, chosen, source), overwrite=settings.overwrite)
        files.setdefault(number, {})[kind] = str(path)
    return files


def encode(kind: str, answer: Answer, source: Source) -> bytes:
    """Return the bytes of one output.

    Raises:
        ConfigError: for ``masks``, which are several.
    """
    results = answer.results
    if kind == "masks":
        raise ConfigError("--save: masks are several files; choose another kind, or a folder with --out")
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
        size, name = answer.image.shape[:2], Path(source.name).name
        return document_to_bytes(
            results_to_coco(results, size, file_name=name, texts=answer.texts, image_id=source.number)
        )
    return document_to_bytes(results_to_geojson(results))


def results_to_arrays(answer: Answer) -> dict[str, np.ndarray]:
    """Return the best masks and their scores as arrays by their names in a .npz file."""
    results = answer.results
    size = answer.image.shape[:2]
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
    """Return what an object is called, and how well the text fits that found it, as far as that is known."""
    named: dict[str, Any] = {} if result.label is None else {"label": result.label}
    return named if result.text_score is None else named | {"text_score": round(float(result.text_score), 4)}


def _ring(points: np.ndarray) -> list[list[float]]:
    """GeoJSON closes a ring by repeating its first point."""
    return [*points.tolist(), points[0].tolist()]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # reading it will say what is wrong
