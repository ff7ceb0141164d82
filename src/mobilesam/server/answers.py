"""The results of work on an image, as the bytes of an answer. Everything here is called in a lane's thread."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mobilesam.annotate.everything import Count, found_mask_to_record, remarks_on
from mobilesam.annotate.objects import (
    Clock,
    document_to_bytes,
    mask_to_record,
    results_to_geojson,
    segmentation_to_record,
)
from mobilesam.annotate.run import Outcome, outcomes_to_document
from mobilesam.annotate.sources import Source
from mobilesam.core.errors import ConfigError, LimitError, PromptError
from mobilesam.core.postprocess import enlarge_logits
from mobilesam.core.prompts import names_with
from mobilesam.core.rle import Rle, rle_to_mask
from mobilesam.core.types import Prompt
from mobilesam.draw.ground import BLUR, NONE, TRANSPARENT, is_colour
from mobilesam.formats.image import image_to_png
from mobilesam.formats.picture_file import encode_picture
from mobilesam.segment.cutout import CutoutOptions, cut_out_mask, make_cutout
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.segment.everything.search import search
from mobilesam.segment.results import Segmentation, results_to_coco
from mobilesam.segment.session import Session, State
from mobilesam.segment.subject import find_subject
from mobilesam.server.lanes import Stop, Stopped
from mobilesam.server.service import Service
from mobilesam.server.store import StoredImage

JSON, PNG, COCO, GEOJSON, LOGITS, LINES = (
    "application/json",
    "image/png",
    "application/vnd.coco+json",
    "application/geo+json",
    "application/vnd.mobilesam.logits",
    "application/x-ndjson",
)
SEGMENT_KINDS = (JSON, LOGITS, PNG, COCO, GEOJSON)
PICTURE_KINDS = {"png": PNG, "webp": "image/webp", "jpg": "image/jpeg", "tiff": "image/tiff"}
LOGIT_STEPS = 16  # steps of the quick form in one logit
LARGEST_STEP = 127


@dataclass(frozen=True)
class Answer:
    """The bytes of an answer.

    Attributes:
        content: the bytes.
        kind: its media type.
        headers: the headers that go with it.
    """

    content: bytes
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def segment(
    service: Service, stored: StoredImage, prompts: Sequence[Prompt], multimask: bool | None
) -> tuple[tuple[Segmentation, ...], dict[str, float]]:
    """Return the objects of prompts, and the milliseconds it took.

    Raises:
        LimitError: for more prompts than a request may have.
        PromptError: for a prompt that makes no sense in the image.
    """
    clock = Clock()
    most = service.options.max_objects
    if len(prompts) > most:
        raise LimitError(f"objects: {len(prompts):,} prompts; at most {most:,} are allowed in one request")
    names = [names_with(f"objects[{i}].") for i in range(len(prompts))]
    valid = service.predictor.validate(stored.embedding, prompts, names)
    found = service.predictor.segment(stored.embedding, valid, multimask=multimask)
    clock.lap("segment")
    return found, {"embed": 0.0, **clock.laps}


def segment_answer(
    service: Service, stored: StoredImage, prompts: Sequence[Prompt], multimask: bool | None, kind: str
) -> Answer:
    """Return the objects of prompts in one of ``SEGMENT_KINDS`` other than the quick form."""
    found, milliseconds = segment(service, stored, prompts, multimask)
    if kind == PNG:
        masks = np.zeros(stored.embedding.original_size, bool)
        for one in found:
            masks |= one.mask
        return Answer(image_to_png(masks), PNG)
    if kind == COCO:
        return Answer(document_to_bytes(results_to_coco(found, stored.embedding.original_size)), COCO)
    if kind == GEOJSON:
        return Answer(document_to_bytes(results_to_geojson(found)), GEOJSON)
    height, width = stored.embedding.original_size
    several = len(found) > 1
    remarks = [
        f"object {i}: {remark}" if several else remark
        for i, one in enumerate(found, start=1)
        for remark in one.remarks
    ]
    record = {
        "file": stored.id,
        "width": width,
        "height": height,
        "milliseconds": milliseconds,
        "objects": [segmentation_to_record(one, {}) for one in found],
        "files": {},
        "warnings": [*stored.embedding.remarks, *remarks],
    }
    outcome = Outcome(Source(stored.id, stored.id, b""), record)
    return Answer(document_to_bytes(outcomes_to_document(service.predictor, [outcome])))


def logits_answer(
    service: Service, stored: StoredImage, prompts: Sequence[Prompt], multimask: bool | None, side: int
) -> Answer:
    """Return one object's masks in the quick form: logits over the whole image, in sixteenths, as int8."""
    if len(prompts) != 1:
        raise PromptError(f"objects: has {len(prompts)}; the quick form takes one")
    (found,), _ = segment(service, stored, prompts, multimask)
    height, width = stored.embedding.original_size
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    logits = enlarge_logits(found.low_res_masks, replace(stored.embedding.frame, original_size=size))
    # Rounded up, so that a logit is above 0 exactly where it was before.
    steps = np.clip(np.ceil(logits * LOGIT_STEPS), -LARGEST_STEP, LARGEST_STEP).astype(np.int8)
    return Answer(
        steps.tobytes(),
        LOGITS,
        {
            "X-Mobilesam-Shape": ",".join(map(str, steps.shape)),
            "X-Mobilesam-Iou": ",".join(f"{iou:.4f}" for iou in found.predicted_iou),
            "X-Mobilesam-Chosen": str(found.choice),
        },
    )


def everything_options(service: Service, body: dict[str, Any]) -> EverythingOptions:
    """Return how an image is to be searched; it never takes longer than a request may.

    Raises:
        PromptError, ConfigError, LimitError: for options that are not allowed.
    """
    given = {key: value for key, value in body.get("options", {}).items() if value is not None}
    most = 0.8 * service.options.seconds
    preset = EverythingOptions if body.get("preset") == "recall" else EverythingOptions.tidy
    options = preset(**given)
    return replace(options, seconds=min(options.seconds or most, most))


def everything_lines(
    service: Service, stored: StoredImage, options: EverythingOptions, stop: Stop
) -> Iterator[bytes]:
    """Yield lines of JSON: masks as they are found, the progress of the search, and its end."""
    start = time.perf_counter()
    lines: list[dict[str, Any]] = []

    def tell(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped
        lines.append({"progress": [done, total]})

    count = Count(tell)
    predictor = service.predictor
    kept = []
    for mask in search(predictor, stored.embedding, options, service.detector, count):
        kept.append(mask)
        yield from map(document_to_bytes, lines)
        lines.clear()
        yield document_to_bytes({"mask": found_mask_to_record(mask)})
    yield from map(document_to_bytes, lines)
    milliseconds = round((time.perf_counter() - start) * 1000, 1)
    warnings = remarks_on(kept, count, options)
    yield document_to_bytes(
        {"done": {"masks": len(kept), "milliseconds": milliseconds, "warnings": warnings}}
    )


def cutout_options(body: dict[str, Any]) -> CutoutOptions:
    """Return how something is to be cut out.

    Raises:
        ConfigError: for a background that is a file, which a server does not open.
        PromptError: for a number outside its range.
    """
    given = {key: value for key, value in body.get("options", {}).items() if value is not None}
    background = given.get("background", NONE)
    if background not in (NONE, TRANSPARENT, BLUR) and not is_colour(background):
        raise ConfigError("options.background: must be a colour such as white or #ff8800, blur, or none")
    return CutoutOptions(**given)


def cutout_answer(
    service: Service,
    stored: StoredImage,
    wanted: tuple[Sequence[Prompt], Sequence[Prompt], Sequence[Rle]],
    options: CutoutOptions,
    suffix: str,
) -> Answer:
    """Return a picture of what prompts and masks together point at, or of the subject if there are none.

    Args:
        service: does the work.
        stored: the image.
        wanted: prompts for what is kept, prompts for what is taken away, and masks that are kept as they are.
        options: how it is cut out.
        suffix: the suffix of the picture's format, such as ``png``.
    """
    prompts, subtract, masks = wanted
    embedding = stored.embedding
    if masks and not prompts and not subtract:
        made = cut_out_mask(embedding, joined(masks, embedding.original_size), options)
    else:
        if masks:
            raise PromptError(
                "masks: cannot be joined with objects or subtract; give one or the other", code="U"
            )
        kept: tuple[Segmentation, ...] = segment(service, stored, prompts, None)[0]
        if not prompts:
            kept = (find_subject(service.predictor, embedding, service.detector),)
        made = make_cutout(embedding, kept, segment(service, stored, subtract, None)[0], options)
    told = json.dumps(list(made.remarks))
    picture = encode_picture(made.picture(), f".{suffix}")
    return Answer(picture, PICTURE_KINDS[suffix], {"X-Mobilesam-Warnings": told})


def joined(masks: Sequence[Rle], size: tuple[int, ...]) -> np.ndarray:
    """Return the union (H, W) of masks.

    Raises:
        PromptError: for a mask of another size.
    """
    union = np.zeros(size, bool)
    for i, rle in enumerate(masks):
        if rle.size != tuple(size):
            raise PromptError(
                f"masks[{i}]: is {rle.size[1]} x {rle.size[0]}, the image is {size[1]} x {size[0]}"
            )
        union |= rle_to_mask(rle)
    return union


def session_answer(service: Service, stored: StoredImage, body: dict[str, Any]) -> Answer:
    """Return a session after one more action."""
    session = Session(service.predictor, stored.embedding, _states=stored.states)
    if body.get("session") is not None:
        session = session.load(body["session"])
    action = body["action"]
    if "undo" in action:
        session = session.undo()
    elif "redo" in action:
        session = session.redo()
    else:
        session = session.act(action)
    document = {
        "session": session.to_dict(),
        "object": state_to_record(session.state),
        "undo": session.can_undo,
        "redo": session.can_redo,
        "warnings": list(session.remarks),
    }
    return Answer(document_to_bytes(document))


def state_to_record(state: State) -> dict[str, Any] | None:
    """Return what a session's state found, as a record of results."""
    if not state.masks:
        return None
    prompt: dict[str, Any] = {}
    if state.points:
        prompt |= {"points": [list(point) for point in state.points], "labels": list(state.labels)}
    if state.box is not None:
        prompt["box"] = list(state.box)
    if state.mended is not None:
        prompt["mask"] = True
    masks = [mask_to_record(one) for one in state.masks]
    return {"prompt": prompt, "chosen": state.chosen, "masks": masks, "files": {}}


def picture_answer(stored: StoredImage, side: int | None) -> Answer:
    """Return the upright image as JPEG, its longer side at most ``side`` pixels."""
    from PIL import Image

    image = Image.fromarray(stored.embedding.image)
    if side is not None:
        image.thumbnail((side, side))
    return Answer(encode_picture(np.asarray(image), ".jpg"), "image/jpeg")
