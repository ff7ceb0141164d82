"""Networks in PyTorch with the seeded weights."""

from __future__ import annotations

from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.sam import Sam
from tests.seeded import seeded_weights


def network_with(name: str, seed: int) -> Sam:
    network = build_network(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    return load_tensors(network, seeded_weights(shapes, seed), name)
