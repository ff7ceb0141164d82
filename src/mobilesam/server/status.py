"""Routes for those who watch the server or want to know what it can do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobilesam.core.schema import OneOf, Text
from mobilesam.server import answers
from mobilesam.server.endpoints import Endpoint
from mobilesam.server.metrics import KIND
from mobilesam.server.refusals import Refusal
from mobilesam.server.service import Service
from mobilesam.server.shapes import MODELS, closed

UP = {"status": "UP"}
HEALTH = closed(status=OneOf(("UP",)))


async def health(service: Service, request: Request) -> Response:
    """Say that the server is alive."""
    return JSONResponse(UP)


async def ready(service: Service, request: Request) -> Response:
    """Say whether the server would take an image now."""
    if not service.ready:
        raise Refusal(503, "B", "the server takes no images now", {"Retry-After": "1"})
    return JSONResponse(UP)


async def models(service: Service, request: Request) -> Response:
    """Return the model and the limits."""
    runtime, options = service.predictor.runtime, service.options
    limits = {
        "bytes": options.max_bytes,
        "pixels": options.max_pixels,
        "objects": options.max_objects,
        "seconds": options.seconds,
    }
    model = {
        "name": service.predictor.name,
        "runtime": runtime.name,
        "device": runtime.device,
        "limits": limits,
    }
    return JSONResponse({"models": [model]})


async def metrics(service: Service, request: Request) -> Response:
    """Return the counts."""
    gauges = {
        "images": ("Images whose embedding is kept.", float(len(service.store))),
        "image_bytes": ("Bytes that these embeddings take.", float(service.store.bytes)),
        "encoder_jobs": ("Jobs of the encoder that wait or run.", float(service.encoding.taken)),
        "decoder_jobs": ("Jobs of the decoder that wait or run.", float(service.prompting.taken)),
    }
    return Response(service.metrics.text(gauges), media_type=KIND)


ENDPOINTS = (
    Endpoint("GET", "/health", health, "Say that the server is alive.", answers={answers.JSON: HEALTH}),
    Endpoint(
        *("GET", "/ready", ready, "Say whether the server would take an image now."),
        answers={answers.JSON: HEALTH},
    ),
    Endpoint("GET", "/v1/models", models, "Return the model and the limits.", answers={answers.JSON: MODELS}),
    Endpoint(
        *("GET", "/metrics", metrics, "Return the counts, as Prometheus reads them."),
        answers={"text/plain": Text()},
    ),
)
