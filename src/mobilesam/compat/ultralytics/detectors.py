"""Names of ultralytics' other models: importing them works, and making one says what to use instead."""

from __future__ import annotations

from typing import Any

from mobilesam.core.errors import ConfigError

HOW_TO = "docs/how-to/detectors.md"


class Detecting:
    """A model that finds objects by itself.

    Raises:
        ConfigError: always; says what finds objects here.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ConfigError(
            f"{type(self).__name__}: is not here; {self.instead}, see {HOW_TO}. "
            "Boxes of any detector of yours go into SAM(...)(image, bboxes=boxes)"
        )

    instead = ""


class YOLO(Detecting):
    """ultralytics' detectors."""

    instead = "a YOLOv8 or YOLOX file in ONNX finds boxes by Model.everything(image, detector='yolov8n.onnx')"


class FastSAM(Detecting):
    """FastSAM, which is a detector with masks."""

    instead = "SAM('pocket')(image, sampler='objects') segments everything by boxes of objects"
