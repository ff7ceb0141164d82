"""This project's own detectors of objects, on the light path: pixels in, boxes of the image out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import WeightsError
from mobilesam.core.frame import Frame
from mobilesam.core.preprocess import preprocess
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxDetector, detector_names, graph_index
from mobilesam.weights import WeightsEntry, read_detector, read_tensors, weights_path


class OwnDetector:
    """A detector that stands beside :class:`mobilesam.detectors.onnx_layouts.Detector`.

    Args:
        runtime: its graph with its weights.
    """

    def __init__(self, runtime: OnnxDetector) -> None:
        self.runtime = runtime

    def detect(self, image: Image) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4) xyxy in pixels of the image, and how likely each holds an object (N,)."""
        side = self.runtime.image_size
        boxes, objectness = self.runtime.propose(preprocess(image, side))
        return Frame.fit(image.shape[:2], side).boxes_to_original(boxes), objectness


def open_own_detector(weights: WeightsEntry | str | Path, *, threads: int | None = None) -> OwnDetector:
    """Open a detector of the package, or one that ``mobilesam train boxes`` made.

    Args:
        weights: an entry of the registry, or a file, whose tensors say which detector it is.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.

    Raises:
        WeightsError: if the file is missing, damaged or no such detector's.

    Example:
        >>> from mobilesam.weights import entry_of
        >>> detector = open_own_detector(entry_of("detector_nano"))
        >>> boxes, objectness = detector.detect(np.zeros((60, 80, 3), np.uint8))
        >>> boxes.shape, objectness.shape
        ((3549, 4), (3549,))
    """
    if isinstance(weights, WeightsEntry):
        name, tensors, what = weights.detector, read_detector(weights), f"{weights_path(weights)}"
    else:
        tensors, what = read_tensors(weights), f"{weights}"
        name = detector_of(tensors, what)
    return OwnDetector(OnnxDetector(name, tensors, threads=threads, what=what))


def detector_of(tensors: Weights, what: str) -> str:
    """Return the detector whose tensors these are; ``what`` is what messages call them.

    Raises:
        WeightsError: if they are none's.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for name in detector_names():
        if graph_index(name).parameters == shapes:
            return name
    raise WeightsError(
        f"{what}: holds no weights of {', '.join(detector_names())}; give a file that mobilesam train boxes made"
    )
