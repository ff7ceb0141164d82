"""Our models in the benchmark: with their weights if these are here, otherwise with random ones.

Random weights give size and speed, never quality; rows say which they are.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from mobilesam.core.errors import ConfigError
from mobilesam.core.text import printable
from mobilesam.runtimes.base import Weights
from mobilesam.weights import ENTRIES, entry_of, read_weights, weights_path
from mobilesam.weights.graph_index import graph_index

SPREAD = 0.02  # of random weights: activations stay finite through the deepest network
OURS = (
    "pocket",
    "mobile_sam",
    "efficientvit_sam_l0",
    "efficientvit_sam_l2",
    "sam_vit_b",
    "sam_vit_l",
    "sam_vit_h",
)
PUBLISHED, RANDOM = "published", "random"


@dataclass(frozen=True)
class System:
    """One of our models.

    Attributes:
        name: of its entry.
        network: its network.
        weights: its tensors.
        kind: ``published`` or ``random``.
        file_bytes: of the file of weights; what a file would have if there is none.
    """

    name: str
    network: str
    weights: Weights = field(repr=False)
    kind: str
    file_bytes: int

    @property
    def parameters(self) -> int:
        """Trained numbers, without buffers."""
        return sum(int(np.prod(shape)) for shape in graph_index(self.network).parameters.values())


def open_system(name: str) -> System:
    """Return one of our models.

    Raises:
        ConfigError: for a name that is not a promptable model.
    """
    entry = entry_of(name)
    if not entry.network:
        known = ", ".join(one.name for one in ENTRIES.values() if one.network)
        raise ConfigError(f"systems: {printable(name)!r} is not a promptable model; choose from {known}")
    path = weights_path(entry)
    if path.is_file():
        weights = read_weights(entry, None)
        return System(name, entry.network, weights, PUBLISHED, path.stat().st_size)
    weights = random_weights(entry.network)
    return System(name, entry.network, weights, RANDOM, sum(one.nbytes for one in weights.values()))


def random_weights(network: str) -> Weights:
    """Return random tensors of a network's shapes, the same each time."""
    index = graph_index(network)
    made: Weights = {}
    for name, shape in index.tensors.items():
        if name.endswith("num_batches_tracked"):
            made[name] = np.zeros(shape, np.int64)
            continue
        random = np.random.default_rng(zlib.crc32(name.encode()))
        values = random.standard_normal(shape, np.float32) * np.float32(SPREAD)
        one = name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight"))
        made[name] = np.abs(values + 1) if one else values
    return made
