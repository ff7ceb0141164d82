"""What Label Studio expects of a machine learning backend: ``/health``, ``/setup`` and ``/predict``.

A click or a rectangle comes as the context of ``/predict``, in per cent; the answer is a brushed mask. Label Studio
sends not the image but its address. This server fetches nothing: it reads the file in the folder that
``--label-studio-media`` names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree.ElementTree import Element

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobilesam.core.arrays import Size
from mobilesam.core.errors import PromptError
from mobilesam.core.schema import Array, OrNull, Real, Record, Text
from mobilesam.core.text import shortened
from mobilesam.core.types import Prompt
from mobilesam.formats.datasets.files import parse_xml
from mobilesam.formats.file_names import file_below
from mobilesam.formats.image_bytes import read_file
from mobilesam.segment.results import Segmentation
from mobilesam.server import answers
from mobilesam.server.endpoints import Endpoint, to_response
from mobilesam.server.integrations.base64_images import base64_to_bytes
from mobilesam.server.integrations.brush_rle import mask_to_brush
from mobilesam.server.service import Service, gone_from
from mobilesam.server.shapes import closed
from mobilesam.server.store import StoredImage

MEDIA, LOCAL_FILES = "/data/", "/data/local-files/"
KEYPOINT, RECTANGLE = "keypointlabels", "rectanglelabels"
CLICK = Record({"x": Real(), "y": Real(), "width": Real(), "height": Real()}, required=("x", "y"), open=True)
CONTEXT = Record(
    {"result": Array(Record({"type": Text(), "value": CLICK}, required=("type", "value"), open=True))},
    open=True,
)
REQUEST = Record(
    {
        "tasks": Array(Record({"data": Record({}, open=True)}, required=("data",), open=True), 1, 100),
        "label_config": Text(1),
        "params": OrNull(Record({"context": OrNull(CONTEXT)}, open=True)),
    },
    required=("tasks", "label_config"),
    open=True,
)
SETUP = Record({}, open=True)
VERSION = closed(model_version=Text())
ANSWER = closed(
    results=Array(closed(result=Array(Record({}, open=True)), score=Real(), model_version=Text()))
)


async def setup(service: Service, request: Request) -> Response:
    """Say which model it is; nothing about a project is kept."""
    await service.bodies.read_json(request, SETUP)
    return JSONResponse({"model_version": service.predictor.name})


async def predict(service: Service, request: Request) -> Response:
    """Segment what was clicked in a task; without a click, nothing is predicted."""
    body = await service.bodies.read_json(request, REQUEST)
    clicks = ((body.get("params") or {}).get("context") or {}).get("result") or []
    model = service.predictor.name
    if not clicks:
        nothing = [{"result": [], "score": 0.0, "model_version": model} for _ in body["tasks"]]
        return JSONResponse({"results": nothing})
    if len(body["tasks"]) > 1:
        raise PromptError("tasks: a click belongs to one task; send one", code="U")
    names = names_in(body["label_config"])
    address = body["tasks"][0]["data"].get(names["value"])
    if not isinstance(address, str):
        raise PromptError(f"tasks[0].data.{names['value']}: is missing; give the image's address", code="U")
    stored, _ = await service.embed(
        lambda: read_image_at(address, service.options.label_studio_media), request
    )

    def work(stop: Any) -> answers.Answer:
        prompt = to_prompt(clicks, stored.embedding.original_size)
        (found,), _ = answers.segment(service, stored, [prompt], None)
        result = to_result(found, clicks[-1], names, stored) if found.area else []
        answer = {"result": result, "score": round(found.best.predicted_iou, 4), "model_version": model}
        return answers.Answer(json.dumps({"results": [answer]}).encode())

    return to_response(await service.prompting.run(work, gone_from(request)))


def names_in(label_config: str) -> dict[str, str]:
    """Return what a project's configuration calls its brush (``from_name``), its image (``to_name``) and its field.

    Raises:
        PromptError: if it has no brush for an image.
    """
    try:
        root = parse_xml(label_config.encode(), "label_config")
    except Exception as error:
        raise PromptError(f"label_config: {shortened(str(error), 200)}", code="U") from error
    images = {one.get("name"): one for one in _tags(root, "Image")}
    for brush in _tags(root, "BrushLabels"):
        image = images.get(brush.get("toName"))
        if image is not None:
            value = image.get("value", "$image").removeprefix("$")
            return {
                "from_name": brush.get("name", "tag"),
                "to_name": image.get("name", "image"),
                "value": value,
            }
    raise PromptError("label_config: has no BrushLabels for an Image; add one for the masks", code="U")


def _tags(root: Element, name: str) -> list[Element]:
    return [one for one in root.iter() if one.tag.lower() == name.lower()]


def read_image_at(address: str, media: Path | None) -> bytes:
    """Return the bytes of the image that a task names.

    Raises:
        PromptError: for an address that is not a file of Label Studio's, or if its folder is not set.
        ImageError: if the file cannot be read.
    """
    if address.startswith("data:image/"):
        return base64_to_bytes(address, "data")
    parts = urlsplit(address)
    if media is None:
        raise PromptError(
            "data: is an address, which this server does not fetch; start it with --label-studio-media FOLDER, "
            "where Label Studio keeps its files",
            code="U",
        )
    if parts.path.startswith(LOCAL_FILES):
        name = parse_qs(parts.query).get("d", [""])[0]
    elif MEDIA in parts.path:
        name = unquote(parts.path.partition(MEDIA)[2])
    else:
        raise PromptError(f"data: {shortened(address)} is not a file of Label Studio's", code="U")
    path = file_below(
        media, name, follow_symlinks=False, place="data", fail=lambda text: PromptError(text, code="U")
    )
    return read_file(path, name=path.name)


def to_prompt(clicks: list[dict[str, Any]], size: Size) -> Prompt:
    """Return the prompt that clicks make: the key points, and the last rectangle.

    Raises:
        PromptError: for any other kind of label.
    """
    points, labels, box = [], [], None
    height, width = size
    for i, one in enumerate(clicks):
        value, kind = one["value"], one["type"].lower()
        x, y = value["x"] * width / 100, value["y"] * height / 100
        if kind == KEYPOINT:
            # The far edge is 100 per cent, beyond the last pixel.
            points.append([min(x, width - 0.01), min(y, height - 0.01)])
            labels.append(1 if one.get("is_positive", True) in (True, 1) else 0)
        elif kind == RECTANGLE:
            right, lower = value.get("width", 0) * width / 100, value.get("height", 0) * height / 100
            box = [x, y, x + right, y + lower]
        else:
            raise PromptError(
                f"params.context.result[{i}].type: is {shortened(one['type'])}; draw points or boxes"
            )
    return Prompt(points or None, labels or None, box)


def to_result(
    found: Segmentation, click: dict[str, Any], names: dict[str, str], stored: StoredImage
) -> list[dict[str, Any]]:
    """Return a mask as Label Studio's brush, with the label of the click."""
    height, width = stored.embedding.original_size
    labels = click["value"].get(click["type"].lower())
    named = labels if isinstance(labels, list) and all(isinstance(one, str) for one in labels) else []
    return [
        {
            "id": stored.id[:10],
            "from_name": names["from_name"],
            "to_name": names["to_name"],
            "type": "brushlabels",
            "origin": "manual",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": mask_to_brush(found.mask), "brushlabels": named},
            "score": round(found.best.predicted_iou, 4),
        }
    ]


ENDPOINTS = (
    Endpoint(
        *("POST", "/setup", setup, "Label Studio: say which model it is."),
        body=SETUP,
        answers={answers.JSON: VERSION},
    ),
    Endpoint(
        *("POST", "/predict", predict, "Label Studio: segment what was clicked in a task."),
        body=REQUEST,
        answers={answers.JSON: ANSWER},
        errors=(413, 415),
    ),
)
