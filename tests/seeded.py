"""Weights and images that anyone can rebuild, so that two implementations can be compared.

The draws come from NumPy's frozen MT19937 stream and depend only on a tensor's name,
its shape and the seed. The scales keep a deep network's activations near unit size.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Scale = Callable[[np.ndarray], np.ndarray]

# The first rule whose test holds for (name, shape) makes the values from standard normals.
LEARNED = ("_embed.weight", "_token.weight", "_tokens.weight")
POSITIONAL = ("attention_biases", "rel_pos_h", "rel_pos_w", "pos_embed")


def seeded_tensor(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Return the float32 tensor (int64 zeros for counters) that belongs to ``name`` and ``seed``."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    key = zlib.crc32(f"{seed}:{name}".encode()) & 0x7FFFFFFF
    normal = np.random.RandomState(key).standard_normal(tuple(shape))
    return _scale(name, shape)(normal).astype(np.float32)


def _scale(name: str, shape: Sequence[int]) -> Scale:
    if name.endswith("running_mean"):
        return lambda x: 0.1 * x
    if name.endswith("running_var"):
        return lambda x: 1.0 + 0.2 * np.abs(x)
    if name.endswith("positional_encoding_gaussian_matrix"):
        return lambda x: x
    if name.endswith(POSITIONAL):
        return lambda x: 0.3 * x
    if len(shape) < 2:
        return (lambda x: 1.0 + 0.1 * x) if name.endswith("weight") else (lambda x: 0.1 * x)
    if name.endswith(LEARNED) or ".point_embeddings." in name:
        return lambda x: 0.5 * x
    transposed = "output_upscaling" in name  # stored (in, out, kh, kw)
    fan_in = shape[0] if transposed else math.prod(shape[1:])
    return lambda x: 1.3 * x / math.sqrt(fan_in)


def seeded_weights(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """Return a tensor for every name in ``shapes``."""
    return {name: seeded_tensor(name, shape, seed) for name, shape in shapes.items()}


def seeded_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an (H, W, 3) uint8 image of waves, ellipses and grain."""
    random = np.random.RandomState(1000 + seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = []
    for _ in range(3):
        u, v, phase = random.uniform(1, 7), random.uniform(1, 7), random.uniform(0, 2 * np.pi)
        channels.append(110 + 50 * np.sin(2 * np.pi * (u * columns / width + v * rows / height) + phase))
    image = np.stack(channels, axis=-1)
    for _ in range(12):
        x, y = random.uniform(0, width), random.uniform(0, height)
        a, b = random.uniform(0.04, 0.25) * width, random.uniform(0.04, 0.25) * height
        ellipse = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1
        image[ellipse] = 0.35 * image[ellipse] + 0.65 * random.uniform(0, 255, 3)
    image += random.standard_normal((height, width, 1)) * 6
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
