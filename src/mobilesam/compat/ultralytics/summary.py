"""What ``SAM.info`` says about a network: layers, parameters and operations."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mobilesam.weights.graph_index import graph_index

# Operations of one image's encoding in units of 10^9, a multiplication and an addition counted as two; as
# torch.utils.flop_counter counts them, which a test repeats.
GFLOPS = {
    "vit_t": 77.537,
    "vit_b": 972.077,
    "vit_l": 2985.680,
    "vit_h": 5961.083,
    "slimsam_50": 306.921,
    "slimsam_77": 93.114,
    "efficientvit_sam_l0": 69.550,
    "efficientvit_sam_l1": 97.961,
    "efficientvit_sam_l2": 137.109,
    "pocket": 17.043,
    "pocket_nano": 3.472,
}


@dataclass(frozen=True)
class NetworkSummary:
    """A network in numbers.

    Attributes:
        layers: modules that have parameters of their own.
        parameters: numbers in the checkpoint that are trained.
        gflops: of encoding one image, in 10^9 operations.
        shapes: of each parameter, by its name.
    """

    layers: int
    parameters: int
    gflops: float
    shapes: dict[str, tuple[int, ...]]


def summarise_network(network: str) -> NetworkSummary:
    """Count a network's layers, parameters and operations.

    Example:
        >>> summarise_network("vit_t").parameters
        10130092
    """
    shapes = graph_index(network).parameters
    layers = {name.rpartition(".")[0] for name in shapes}
    return NetworkSummary(len(layers), sum(map(prod, shapes.values())), GFLOPS.get(network, 0.0), shapes)
