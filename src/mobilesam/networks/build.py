"""From a network's configuration to its modules."""

from __future__ import annotations

import torch

from mobilesam.core.errors import ConfigError
from mobilesam.networks.configs import NETWORKS
from mobilesam.networks.mask_decoder import MaskDecoder, TransposedUpscaling
from mobilesam.networks.pocket import PocketEncoder, PromptMaps, SkipUpscaling
from mobilesam.networks.prompt_encoder import PromptEncoder
from mobilesam.networks.sam import Sam
from mobilesam.networks.tiny_vit import TinyViT
from mobilesam.networks.two_way_transformer import TwoWayTransformer

ENCODERS = {"tiny_vit": TinyViT, "pocket": PocketEncoder}
UPSCALINGS = {"transposed": TransposedUpscaling, "skip": SkipUpscaling}


def build_network(name: str) -> Sam:
    """Return the network ``name`` of ``configs.NETWORKS`` with untrained weights, in eval mode.

    Raises:
        ConfigError: for a name that is not there.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network {name!r}: unknown; choose one of {', '.join(sorted(NETWORKS))}")
    config = NETWORKS[name]
    dim = config.embed_dim
    return Sam(
        ENCODERS[config.encoder](out_channels=dim, **config.encoder_options),
        PromptEncoder(embed_dim=dim, prompt_maps=PromptMaps(embed_dim=dim) if config.prompt_maps else None),
        MaskDecoder(
            transformer=TwoWayTransformer(embed_dim=dim, heads=config.heads, mlp_dim=config.mlp_dim),
            output_upscaling=UPSCALINGS[config.upscaling](dim),
            embed_dim=dim,
            iou_head_hidden=dim,
        ),
        image_size=config.image_size,
    ).eval()


def encoder_stride(name: str) -> int:
    """Return how many pixels of the input's side make one cell of the image embedding."""
    return ENCODERS[NETWORKS[name].encoder].stride


def build_meta(name: str) -> Sam:
    """Return the network ``name`` without memory for its weights: for counting and for checking names."""
    with torch.device("meta"):
        return build_network(name)
