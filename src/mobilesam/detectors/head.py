"""The head for objects on a promptable network's own features.

It costs a few per cent of the encoder. If another model segments, the network encodes the image as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from mobilesam.core.errors import ConfigError
from mobilesam.core.frame import Frame
from mobilesam.core.preprocess import preprocess
from mobilesam.core.types import Embedding
from mobilesam.detectors.base import Boxes
from mobilesam.runtimes.base import Runtime


class HeadDetector:
    """See :class:`~mobilesam.detectors.base.Detector`.

    Args:
        runtime: of a network with such a head, such as ``pocket``.
        name: of the model, whose embeddings are not made again.

    Raises:
        ConfigError: if the network has no such head.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        if not runtime.spec.proposes:
            raise ConfigError(f"detector: {name} has no head for objects; give pocket or an .onnx file")
        self.runtime = runtime
        self.name = name

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        """Return a box for each cell of the network's maps; texts are not read."""
        arrays, frame = embedding.arrays, embedding.frame
        if embedding.model != self.name:
            arrays = self.runtime.encode(preprocess(embedding.image, self.runtime.spec))
            frame = Frame.fit(embedding.original_size, self.runtime.spec.prompt_size)
        boxes, objectness = self.runtime.propose(arrays)
        return Boxes(frame.boxes_to_original(boxes), objectness)
