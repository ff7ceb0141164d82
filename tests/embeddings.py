"""Embeddings of images that no network has seen, for detectors that look at the image alone."""

from __future__ import annotations

import numpy as np

from mobilesam.core.frame import Frame
from mobilesam.core.types import Embedding


def unseen(image: np.ndarray) -> Embedding:
    """Return an embedding without arrays."""
    return Embedding({}, "none", Frame.fit(image.shape[:2], 1024), image)
