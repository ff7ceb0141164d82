"""This project's own detectors of objects, on the light path: pixels in, boxes of the image out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilesam.core.errors import WeightsError
from mobilesam.core.frame import Frame
from mobilesam.core.preprocess import preprocess
from mobilesam.core.types import Embedding
from mobilesam.detectors.base import Boxes
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxDetector
from mobilesam.weights import WeightsEntry, read_detector, read_tensors, weights_path
from mobilesam.weights.graph_index import detector_names, graph_index


class OwnDetector:
    """See :class:`~mobilesam.detectors.base.Detector`.

    Args:
        runtime: its graph with its weights.
    """

    def __init__(self, runtime: OnnxDetector) -> None:
        self.runtime = runtime

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        """Return a box for each cell of the detector's maps; texts are not read."""
        boxes, objectness = self.runtime.propose(preprocess(embedding.image, self.runtime.spec))
        frame = Frame.fit(embedding.original_size, self.runtime.spec.image_size)
        return Boxes(frame.boxes_to_original(boxes), objectness)


def open_own_detector(weights: WeightsEntry | str | Path, *, threads: int | None = None) -> OwnDetector:
    """Open a detector of the package, or one that ``mobilesam train boxes`` made.

    Args:
        weights: an entry of the registry, or a file, whose tensors say which detector it is.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores if None.

    Raises:
        WeightsError: if the file is missing, damaged or not such a detector's.

    Example:
        >>> from mobilesam.weights import entry_of
        >>> detector = open_own_detector(entry_of("detector_nano"))
        >>> detector.runtime.spec.name
        'detector_nano'
    """
    if isinstance(weights, WeightsEntry):
        name, tensors, what = weights.detector, read_detector(weights), f"{weights_path(weights)}"
    else:
        tensors, what = read_tensors(weights), f"{weights}"
        name = detector_of(tensors, what)
    return OwnDetector(OnnxDetector(name, tensors, threads=threads, what=what))


def detector_of(tensors: Weights, what: str) -> str:
    """Return the detector that these tensors belong to; ``what`` is what messages call them.

    Raises:
        WeightsError: if they belong to none.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for name in detector_names():
        if graph_index(name).parameters == shapes:
            return name
    raise WeightsError(
        f"{what}: holds no weights of {', '.join(detector_names())}; give a file that mobilesam train boxes made"
    )
