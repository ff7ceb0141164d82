"""What osam's server answers: an image and a prompt in, annotations with their masks out.

``POST /api/generate`` takes JSON. Labels of points are osam's: 0 and 1, and 2 and 3 for the corners of a box. A mask
is a PNG in base64, cut to its bounding box, whose maxima are inclusive.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from mobilesam.compat.osam import CORNER_0, CORNER_1, points_to_prompt
from mobilesam.core.errors import PromptError
from mobilesam.core.prompts import MAX_POINTS
from mobilesam.core.schema import Array, OneOf, OrNull, Real, Record, Text
from mobilesam.core.types import Prompt
from mobilesam.segment.results import SegmentedMask
from mobilesam.server import answers
from mobilesam.server.endpoints import Endpoint, to_response
from mobilesam.server.integrations.base64_images import base64_to_bytes, picture_to_base64
from mobilesam.server.service import Service, gone_from
from mobilesam.server.shapes import closed

LABELS = OneOf((0, 1, CORNER_0, CORNER_1))
REQUEST = Record(
    {
        "model": Text(1),
        "image": OrNull(Text(1)),
        "image_embedding": OrNull(Record({}, open=True)),
        "prompt": OrNull(
            Record(
                {
                    "points": OrNull(Array(Array(Real(), 2, 2), 0, MAX_POINTS)),
                    "point_labels": OrNull(Array(LABELS, 0, MAX_POINTS)),
                },
                open=True,
            )
        ),
    },
    required=("model",),
    open=True,
)
BOX = closed(xmin=Real(), ymin=Real(), xmax=Real(), ymax=Real())
ANSWER = closed(
    model=Text(),
    annotations=Array(closed(bounding_box=BOX, mask=Text(), text=OrNull(Text()), score=Real())),
)


async def generate(service: Service, request: Request) -> Response:
    """Segment what a prompt points at."""
    body = await service.bodies.read_json(request, REQUEST)
    image = body.get("image")
    if image is None:
        raise PromptError("image: is missing; embeddings stay on this server, so send the image", code="U")
    prompt = to_prompt(body.get("prompt") or {})
    stored, _ = await service.embed(lambda: base64_to_bytes(image, "image"), request)

    def work(stop: Any) -> answers.Answer:
        (found,), _ = answers.segment(service, stored, [prompt], None)
        annotations = [to_annotation(found.best)] if found.area else []
        document = {"model": body["model"], "annotations": annotations}
        return answers.Answer(json.dumps(document).encode())

    return to_response(await service.prompting.run(work, gone_from(request)))


def to_prompt(record: dict[str, Any]) -> Prompt:
    """Return a prompt of osam's points; without points, an empty one.

    Raises:
        PromptError: if a corner has no partner, or a label no point.
    """
    points, labels = record.get("points") or [], record.get("point_labels") or []
    if record.get("texts") and not points:
        raise PromptError("prompt.texts: this server has no text model; give points", code="U")
    return points_to_prompt(points, labels)


def to_annotation(mask: SegmentedMask) -> dict[str, Any]:
    """Return a mask in osam's form."""
    x0, y0, x1, y1 = mask.box
    window = np.ascontiguousarray(mask.mask[y0:y1, x0:x1])
    return {
        "bounding_box": {"xmin": x0, "ymin": y0, "xmax": x1 - 1, "ymax": y1 - 1},
        "mask": picture_to_base64(window),
        "text": None,
        "score": round(mask.predicted_iou, 4),
    }


ENDPOINTS = (
    Endpoint(
        *("POST", "/api/generate", generate, "osam: segment what a prompt points at."),
        body=REQUEST,
        answers={answers.JSON: ANSWER},
        errors=(413, 415),
    ),
)
