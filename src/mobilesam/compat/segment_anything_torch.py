"""The part of segment_anything's names that needs PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.networks.sam import Sam
from mobilesam.predictor import Model
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.weights import read_tensors


def build_sam(name: str, checkpoint: str | Path | None) -> Sam:
    """Build a network in eval mode and load a checkpoint strictly, if one is given.

    Warns:
        UserWarning: where none is given, because the masks then mean nothing.
    """
    network = build_network(name)
    if checkpoint is None:
        warnings.warn(f"{name}: no checkpoint given, the weights are random", UserWarning, stacklevel=3)
        return network
    return load_tensors(network, read_tensors(checkpoint), str(checkpoint))


def network_to_model(network: Sam) -> Model:
    """Wrap a network; it stays the caller's, on its device."""
    return Model(TorchRuntime(network), name=f"PyTorch network {id(network):x}")


def array_to_tensor(array: np.ndarray, network: Sam) -> torch.Tensor:
    """Return an array as a tensor where the network lies."""
    return torch.from_numpy(array).to(network.device)
