"""Give a network the tensors of a checkpoint, strictly, and lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from mobilesam.weights import check_tensors

Network = TypeVar("Network", bound=nn.Module)


def load_tensors(network: Network, tensors: Mapping[str, np.ndarray], what: str) -> Network:
    """Load ``tensors`` into ``network`` and return it; names and shapes must all agree.

    Args:
        network: its values are replaced.
        tensors: by name in the checkpoint.
        what: what messages call the tensors.

    Raises:
        WeightsError: if a tensor is missing, unexpected or of another shape.
    """
    state = network.state_dict()
    check_tensors(tensors, {name: tuple(value.shape) for name, value in state.items()}, what)
    network.load_state_dict({name: torch.from_numpy(np.array(tensors[name])) for name in state})
    return network


def weights_channels_last(network: Network) -> Network:
    """Lay a network's weights out so that convolutions are fast, and return it."""
    # PyTorch documents this form of Module.to; its overloads for type checkers lack it.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
