"""Routes of images: sending one, and everything that can be asked about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mobilesam.core.errors import PromptError
from mobilesam.core.rle import Rle
from mobilesam.core.schema import Flag, Whole
from mobilesam.core.types import Prompt
from mobilesam.formats.prompt_file import PROMPTS, content_to_prompts, runs_to_rle
from mobilesam.formats.result_shapes import RESULTS
from mobilesam.server import answers
from mobilesam.server.bodies import NAME, body_to_json
from mobilesam.server.endpoints import Endpoint, choose_kind, flag_of, to_response, whole_of
from mobilesam.server.refusals import refusal_of, to_body
from mobilesam.server.service import Service, gone_from
from mobilesam.server.shapes import (
    CUTOUT_REQUEST,
    EVERYTHING_LINE,
    EVERYTHING_REQUEST,
    IMAGE,
    SESSION_ANSWER,
    SESSION_REQUEST,
)
from mobilesam.server.store import StoredImage

FORM = "multipart/form-data"
SIDES = Whole(64, 1024)  # of the quick form
PICTURE_SIDES = Whole(16, 16384)
USUAL_SIDE = 512


async def add(service: Service, request: Request) -> Response:
    """Take an image."""
    data = await file_in(service, request, await service.bodies.read(request))
    stored, new = await service.embed(lambda: data, request)
    return stored_response(service, stored, new=new)


async def file_in(service: Service, request: Request, body: bytes) -> bytes:
    """Return the file that a body is, or that a form has.

    Raises:
        PromptError: for a form with none, or several.
    """
    if not request.headers.get("content-type", "").startswith(FORM):
        return body
    form = await service.bodies.parse_form(request, body)
    files = [value for value in form.values() if isinstance(value, bytes)]
    if len(files) != 1:
        raise PromptError(f"body: the form has {len(files)} files; send one image", code="U")
    return files[0]


def stored_response(service: Service, stored: StoredImage, *, new: bool) -> Response:
    """Return what the client learns about an image."""
    height, width = stored.embedding.original_size
    record = {
        "id": stored.id,
        "width": width,
        "height": height,
        "expires": datetime.fromtimestamp(stored.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "model": service.predictor.name,
        "warnings": list(stored.embedding.remarks),
    }
    return JSONResponse(record, 201 if new else 200)


async def remove(service: Service, request: Request) -> Response:
    """Forget an image."""
    service.store.remove(request.path_params["id"])
    return Response(status_code=204)


async def segment(service: Service, request: Request) -> Response:
    """Segment what prompts point at."""
    kind = choose_kind(request, answers.SEGMENT_KINDS)
    multimask = flag_of(request, "multimask")
    side = whole_of(request, "side", SIDES.low, SIDES.high) or USUAL_SIDE
    data = await service.bodies.read(request)
    stored = service.store.get(request.path_params["id"])

    def work(stop: Any) -> answers.Answer:
        content = body_to_json(data, PROMPTS)
        if "texts" in content:
            raise PromptError("texts: this server has no text model; give objects", code="U")
        prompts = to_prompts(content["objects"] if "objects" in content else None, "objects")
        if kind == answers.LOGITS:
            return answers.logits_answer(service, stored, prompts, multimask, side)
        return answers.segment_answer(service, stored, prompts, multimask, kind)

    return to_response(await service.prompting.run(work, gone_from(request)))


def to_prompts(records: Any, name: str) -> Sequence[Prompt]:
    """Return prompts from JSON; a mask must be a run-length code, as the server opens no file.

    Raises:
        PromptError: for anything else.
    """
    if isinstance(records, list):
        for i, one in enumerate(records):
            if isinstance(one, dict) and isinstance(one.get("mask"), str):
                raise PromptError(f"{name}[{i}].mask: is a string; give a run-length code", code="U")
    content = {} if records is None else {"objects": records}
    try:
        return content_to_prompts(content, name=NAME, folder=Path(), follow_symlinks=False).prompts
    except PromptError as error:
        text = error.message.removeprefix(f"{NAME}: ")
        raise PromptError(name + text.removeprefix("objects"), code=error.code) from error


async def everything(service: Service, request: Request) -> Response:
    """Find everything, and send each mask when it is found."""
    body = await service.bodies.read_json(request, EVERYTHING_REQUEST)
    stored = service.store.get(request.path_params["id"])
    options = answers.everything_options(service, body)
    lines = service.encoding.stream(
        lambda stop: answers.everything_lines(service, stored, options, stop), gone_from(request)
    )
    first = await anext(lines)  # so that a refusal still gets its status

    async def all_lines() -> AsyncIterator[bytes]:
        try:
            yield first
            async for line in lines:
                yield line
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status != 499:
                yield answers.document_to_bytes(to_body(refusal, request.state.request_id))
        finally:
            await lines.aclose()

    return StreamingResponse(all_lines(), media_type=answers.LINES)


async def cutout(service: Service, request: Request) -> Response:
    """Cut something out."""
    body = await service.bodies.read_json(request, CUTOUT_REQUEST)
    stored = service.store.get(request.path_params["id"])
    options = answers.cutout_options(body)
    wanted = (
        to_prompts(body.get("objects", []), "objects"),
        to_prompts(body.get("subtract", []), "subtract"),
        to_masks(body.get("masks", [])),
    )
    suffix = body.get("format", "png")
    # The subject needs more than this one embedding; everything else is quick.
    lane = service.prompting if wanted[0] or wanted[2] else service.encoding
    answer = await lane.run(
        lambda stop: answers.cutout_answer(service, stored, wanted, options, suffix), gone_from(request)
    )
    return to_response(answer)


def to_masks(records: Sequence[dict[str, Any]]) -> list[Rle]:
    """Return masks from JSON."""
    return [runs_to_rle(one, f"masks[{i}]") for i, one in enumerate(records)]


async def session(service: Service, request: Request) -> Response:
    """Take one step of correcting by hand."""
    body = await service.bodies.read_json(request, SESSION_REQUEST)
    stored = service.store.get(request.path_params["id"])
    answer = await service.prompting.run(
        lambda stop: answers.session_answer(service, stored, body), gone_from(request)
    )
    return to_response(answer)


async def picture(service: Service, request: Request) -> Response:
    """Show the image as the server sees it."""
    side = whole_of(request, "side", PICTURE_SIDES.low, PICTURE_SIDES.high)
    stored = service.store.get(request.path_params["id"])
    answer = await service.prompting.run(
        lambda stop: answers.picture_answer(stored, side), gone_from(request)
    )
    return to_response(answer)


ONE = "/v1/images/{id}"
KNOWN = (404, 410)
ENDPOINTS = (
    Endpoint(
        *("POST", "/v1/images", add, "Send an image once; its embedding stays on the server."),
        bodies=("application/octet-stream", "image/*", FORM),
        answers={answers.JSON: IMAGE},
        status=201,
        errors=(413, 415),
    ),
    Endpoint("DELETE", ONE, remove, "Forget an image.", status=204, errors=KNOWN),
    Endpoint(
        *("POST", f"{ONE}/segment", segment, "Segment what prompts point at."),
        body=PROMPTS,
        answers={answers.JSON: RESULTS, **dict.fromkeys(answers.SEGMENT_KINDS[1:])},
        query={"multimask": Flag(), "side": SIDES},
        errors=(*KNOWN, 406, 413),
    ),
    Endpoint(
        *("POST", f"{ONE}/everything", everything, "Find everything; a line of JSON for each mask."),
        body=EVERYTHING_REQUEST,
        answers={answers.LINES: EVERYTHING_LINE},
        errors=(*KNOWN, 413),
    ),
    Endpoint(
        *("POST", f"{ONE}/cutout", cutout, "Cut something out, with a soft edge."),
        body=CUTOUT_REQUEST,
        answers=dict.fromkeys(answers.PICTURE_KINDS.values()),
        errors=(*KNOWN, 413),
    ),
    Endpoint(
        *("POST", f"{ONE}/session", session, "Take one step of correcting by hand."),
        body=SESSION_REQUEST,
        answers={answers.JSON: SESSION_ANSWER},
        errors=(*KNOWN, 413),
    ),
    Endpoint(
        *("GET", f"{ONE}/picture", picture, "Show the image as the server sees it."),
        answers={"image/jpeg": None},
        query={"side": PICTURE_SIDES},
        errors=KNOWN,
    ),
)
