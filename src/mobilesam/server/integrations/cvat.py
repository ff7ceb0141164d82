"""CVAT's interactor: a function for nuclio, which CVAT calls with an image and clicks.

``mobilesam export cvat`` writes its folder. The function runs the model itself, in CVAT's own container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilesam.core.errors import PromptError
from mobilesam.core.polygons import mask_to_polygons, signed_area
from mobilesam.core.schema import Array, OrNull, Real, Record, Text, check
from mobilesam.core.types import Prompt
from mobilesam.core.version import __version__
from mobilesam.segment.model import Model
from mobilesam.server.integrations.base64_images import base64_to_bytes

TOLERANCE = 1.0  # pixels of the outline
PLACES = OrNull(Array(Array(Real(), 2, 2)))
REQUEST = Record(
    {
        "image": Text(1),
        "pos_points": PLACES,
        "neg_points": PLACES,
        "obj_bbox": OrNull(Array(Array(Real(), 2, 2))),
    },
    required=("image",),
    open=True,
)
FUNCTION = """\
# CVAT deploys this folder with: nuctl deploy --project-name cvat --path .
metadata:
  name: mobilesam-pocket
  namespace: cvat
  annotations:
    name: MobileSAM pocket
    version: 2
    type: interactor
    spec:
    framework: onnx
    min_pos_points: 1
    min_neg_points: 0
    startswith_box_optional: true
    help_message: Click on the object; the right button says what does not belong to it
spec:
  description: Interactive segmentation on any processor
  runtime: python:3.11
  handler: main:handler
  eventTimeout: 30s
  build:
    image: cvat.mobilesam.pocket
    baseImage: python:3.11-slim
    directives:
      preCopy:
        - kind: RUN
          value: pip install --no-cache-dir "mobilesam=={version}"
  triggers:
    http:
      maxWorkers: 1
      kind: http
      workerAvailabilityTimeoutMilliseconds: 10000
      attributes:
        maxRequestBodySize: 33554432
  platform:
    attributes:
      restartPolicy:
        name: always
        maximumRetryCount: 3
      mountMode: volume
"""
MAIN = '''\
"""CVAT's interactor by MobileSAM: nuclio calls these two."""

import json

import mobilesam
from mobilesam.server.integrations.cvat import answer


def init_context(context):
    """Load the model once."""
    context.user_data.model = mobilesam.load("pocket")


def handler(context, event):
    """Answer one call."""
    status, body = answer(context.user_data.model, event.body)
    return context.Response(
        body=json.dumps(body), headers={}, content_type="application/json", status_code=status
    )
'''


def function_files() -> dict[str, str]:
    """Return the files of the function's folder by their names."""
    return {"function.yaml": FUNCTION.replace("{version}", __version__), "main.py": MAIN}


def answer(model: Model, body: Mapping[str, Any] | bytes | str) -> tuple[int, dict[str, Any]]:
    """Return the status and the content of a call's answer.

    Args:
        model: does the work.
        body: ``image`` in base64, ``pos_points`` and ``neg_points`` [[x, y], ...], perhaps ``obj_bbox``, as JSON or as
            nuclio has read it.
    """
    try:
        content = json.loads(body) if isinstance(body, bytes | str) else dict(body)
        return 200, interact(model, content)
    except ValueError as error:  # includes errors of prompts and images
        return 400, {"error": str(error)}


def interact(model: Model, content: dict[str, Any]) -> dict[str, Any]:
    """Return the mask (H, W) of zeros and ones, and the outline of its largest part.

    Raises:
        PromptError: for a call that is malformed, or makes no sense in the image.
        ImageError: if the image cannot be read.
    """
    check(content, REQUEST, "body", lambda message: PromptError(message, code="U"))
    embedding = model.embed(base64_to_bytes(content["image"], "image"))
    on, off = content.get("pos_points") or [], content.get("neg_points") or []
    corners = content.get("obj_bbox") or []
    box = [*corners[0], *corners[1]] if len(corners) == 2 else None
    prompt = Prompt([*on, *off] or None, [1] * len(on) + [0] * len(off) or None, box)
    mask = model.segment(embedding, prompt).mask
    polygons = mask_to_polygons(mask, tolerance=TOLERANCE)
    largest = max(polygons, key=lambda one: abs(signed_area(one.exterior)), default=None)
    points = [] if largest is None else largest.exterior.tolist()
    return {"points": points, "mask": mask.astype(np.uint8).tolist()}
