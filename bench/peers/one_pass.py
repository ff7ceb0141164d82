"""Measures FastSAM and YOLO in ultralytics; see mobilesam.benchmark.protocol.

Random weights find no objects, which would leave post-processing untimed. So the network's output has the scores
of 100 boxes raised to what post-processing keeps, for all systems alike.
"""

from __future__ import annotations

import os
import tempfile

os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()  # it would write settings into the user's folder

import torch
from speak import facts_of, protocol, use_threads
from ultralytics import YOLO, settings

settings.update({"sync": False})  # nor send what is run

BOXES, SIDE = 100, 640


def load(asked: dict):
    """Load a model and make its phases."""
    use_threads(asked)
    model = YOLO(asked["system"], task="segment")
    image = told.image_at(asked["photo"])[..., ::-1].copy()  # ultralytics reads BGR
    network = model.model.eval()
    facts = facts_of(network, "ultralytics")
    facts["classes"] = len(model.names)
    network.model[-1].register_forward_hook(
        lambda module, given, output: with_boxes(output, len(model.names))
    )

    def once():
        return lambda: model.predict(image, imgsz=SIDE, device="cpu", conf=0.25, iou=0.7, verbose=False)

    def encoder():
        pixels = torch.rand(1, 3, SIDE, SIDE)

        @torch.inference_mode()
        def act():
            return network(pixels)

        return act

    return told.Loaded(facts, {"encoder": encoder, "one pass": once})


def with_boxes(output, classes: int):
    """Spread 100 sure boxes of one class over the output."""
    if isinstance(output, tuple) and isinstance(output[0], (tuple, list)):
        return (with_boxes(output[0], classes), *output[1:])
    if not isinstance(output, tuple) or output[0].ndim != 3:
        return output
    boxes = output[0]  # (1, 4 + classes + 32, N)
    chosen = torch.linspace(0, boxes.shape[2] - 1, BOXES).long()
    places = torch.arange(BOXES)
    boxes[:, 0, chosen] = (places % 10) * 60.0 + 40
    boxes[:, 1, chosen] = (places // 10) * 45.0 + 100
    boxes[:, 2:4, chosen] = 40.0
    boxes[:, 4, chosen] = 0.9
    return (boxes, *output[1:])


told = protocol()
told.serve(load)
