"""Which part of a network learns: all of it, its mask decoder, or low-rank additions to its weights.

The additions are LoRA's (Hu et al. 2021): a matrix W becomes W + B A, where B starts as zeros and only A and B
learn. At the end they are merged into W, so that the result is a network like any other.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobilesam.networks.build import build_network
from mobilesam.networks.sam import Sam
from mobilesam.train.recipe import Recipe
from mobilesam.train.start import start_network

DECODER = "mask_decoder."
ADAPTED = ("image_encoder.", "mask_decoder.")  # parts whose matrices get additions
LEAST_SIDE = 32  # of a matrix that gets one; in a smaller one it would be as large as the matrix


class LowRank(nn.Module):
    """A matrix with an addition of low rank; it may also be that of a 1 x 1 convolution.

    Args:
        weight: (out, in) or (out, in, 1, 1).
        rank: of the addition.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out_features, in_features = weight.shape[:2]
        self.down = nn.Parameter(torch.empty(rank, in_features))
        self.up = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its addition."""
        return weight + (self.up @ self.down).view_as(weight)


def adapt(network: Sam, recipe: Recipe) -> Sam:
    """Let only the part of a network learn that the recipe's ``tuned`` names; return the network."""
    if recipe.tuned == "all":
        return network
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(recipe.tuned == "decoder" and name.startswith(DECODER))
    if recipe.tuned == "lora":
        for name, module in list(network.named_modules()):
            if name.startswith(ADAPTED) and _is_matrix(module):
                addition = LowRank(module.weight, recipe.lora_rank)
                parametrize.register_parametrization(module, "weight", addition)
    return network


def _is_matrix(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return (
            module.kernel_size == (1, 1) and module.groups == 1 and min(module.weight.shape[:2]) >= LEAST_SIDE
        )
    return isinstance(module, nn.Linear) and min(module.weight.shape) >= LEAST_SIDE


def merge(network: Sam) -> Sam:
    """Merge the additions into the weights, in place; return the network, which is then a plain one."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return network


def learns(part: object) -> bool:
    """Whether a part of a network has anything that learns."""
    return isinstance(part, nn.Module) and any(p.requires_grad for p in part.parameters())


def build_adapted(recipe: Recipe) -> Sam:
    """Build the recipe's network, untrained."""
    return adapt(build_network(recipe.network), recipe)


def start_adapted(recipe: Recipe, data: Path) -> Sam:
    """Build the recipe's network with the weights that it starts from; see :func:`start_network`."""
    return adapt(start_network(recipe, data), recipe)


def plain_weights(recipe: Recipe, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapted network's weights as those of a plain one."""
    if recipe.tuned != "lora":
        return weights
    network = build_adapted(recipe)
    network.load_state_dict(weights)
    return merge(network).state_dict()
