"""segment_anything's ``modeling.common``, and how to tell whether a part is as it was built."""

from __future__ import annotations

import torch
from torch import nn

from mobilesam.networks import layer_norm, two_way_transformer

OWN = ("mobilesam.", "torch.nn.modules.")  # packages of the layers that networks are built from here
CALLS = ("forward", "predict_masks")  # what programs replace with their own


class LayerNorm2d(layer_norm.LayerNorm2d):
    """Normalises every pixel of a (B, C, H, W) map over its channels."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps)


class MLPBlock(two_way_transformer.MLPBlock):
    """Two linear layers with an activation between them."""

    def __init__(self, embedding_dim: int, mlp_dim: int, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__(embedding_dim, mlp_dim, act())


def folding() -> bool | None:
    """Whether attention may take the shorter of its two forms, in the sense of ``fold``: None for the cheaper one.

    A graph cannot choose by the number of points it will get; and the folded form leaves out parameters that
    change nothing, but which optimisers and distributed training would miss.
    """
    plain = torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_exporting()
    return False if plain else None


def as_built(module: nn.Module) -> bool:
    """Whether a program has left a module's layers as they are, so that shortcuts around their calls change nothing.

    A subclass, a wrapped layer, a hook or another ``forward`` in a layer's place must be called.
    """
    return all(
        type(part).__module__.startswith(OWN)
        and not part._forward_hooks
        and not part._forward_pre_hooks
        and not any(call in vars(part) for call in CALLS)
        for part in module.modules()
    )
