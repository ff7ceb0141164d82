"""Routes for the photos that the page may open, and for what is saved beside them."""

from __future__ import annotations

import mimetypes

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobilesam.formats.image_bytes import read_file
from mobilesam.server import answers
from mobilesam.server.endpoints import Endpoint
from mobilesam.server.images import stored_response
from mobilesam.server.photos import read_labels, write_labels
from mobilesam.server.service import Service, file_reader, gone_from
from mobilesam.server.shapes import IMAGE, LABELS, LABELS_ANSWER, PHOTOS

UNKNOWN = "application/octet-stream"
SCRIPTABLE = ("image/svg+xml",)  # a browser would run scripts in it


async def list_photos(service: Service, request: Request) -> Response:
    """List the photos."""
    return JSONResponse({"photos": await run_in_threadpool(service.photos.records)})


async def show(service: Service, request: Request) -> Response:
    """Send a photo's file as it is."""
    photo = service.photos.at(request.path_params["index"])
    data = await run_in_threadpool(read_file, photo.path, name=photo.name)
    kind = mimetypes.guess_type(photo.name)[0] or UNKNOWN
    shown = kind.startswith("image/") and kind not in SCRIPTABLE
    return Response(data, media_type=kind if shown else UNKNOWN)


async def add(service: Service, request: Request) -> Response:
    """Take a photo as if it had been sent."""
    photo = service.photos.at(request.path_params["index"])
    await service.bodies.read(request)
    stored, new = await service.embed(file_reader(photo.path, photo.name), request)
    return stored_response(service, stored, new=new)


async def show_labels(service: Service, request: Request) -> Response:
    """Send what was saved for a photo."""
    photo = service.photos.at(request.path_params["index"])
    return JSONResponse(await run_in_threadpool(read_labels, photo.path))


async def save_labels(service: Service, request: Request) -> Response:
    """Save objects beside a photo."""
    photo = service.photos.at(request.path_params["index"])
    body = await service.bodies.read_json(request, LABELS)
    files = await service.encoding.run(  # outlines of many large masks take a while
        lambda stop: write_labels(photo.path, body["objects"], service.options.max_pixels), gone_from(request)
    )
    return JSONResponse({"files": files})


ONE = "/v1/photos/{index}"
ENDPOINTS = (
    Endpoint(
        *("GET", "/v1/photos", list_photos, "List the photos that the page may open."),
        answers={answers.JSON: PHOTOS},
    ),
    Endpoint(
        *("GET", ONE, show, "Send a photo's file as it is."),
        answers={"image/*": None},
        errors=(404,),
    ),
    Endpoint(
        *("POST", f"{ONE}/image", add, "Take a photo as if it had been sent."),
        answers={answers.JSON: IMAGE},
        status=201,
        errors=(404, 415),
    ),
    Endpoint(
        *("GET", f"{ONE}/labels", show_labels, "Send the objects that were saved for a photo."),
        answers={answers.JSON: LABELS},
        errors=(404,),
    ),
    Endpoint(
        *("PUT", f"{ONE}/labels", save_labels, "Save objects beside a photo."),
        body=LABELS,
        answers={answers.JSON: LABELS_ANSWER},
        errors=(404, 413, 507),
    ),
)
