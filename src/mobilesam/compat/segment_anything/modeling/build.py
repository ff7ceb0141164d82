"""The networks of ``sam_model_registry``, built from this package's parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from mobilesam.compat.segment_anything.modeling.image_encoder import ImageEncoderViT
from mobilesam.compat.segment_anything.modeling.mask_decoder import MaskDecoder
from mobilesam.compat.segment_anything.modeling.pocket import (
    PocketImageEncoder,
    PocketMaskDecoder,
    PocketPromptEncoder,
)
from mobilesam.compat.segment_anything.modeling.prompt_encoder import PromptEncoder
from mobilesam.compat.segment_anything.modeling.sam import Sam
from mobilesam.compat.segment_anything.modeling.tiny_vit_sam import TinyViT
from mobilesam.compat.segment_anything.modeling.transformer import TwoWayTransformer
from mobilesam.networks.build import NETWORKS
from mobilesam.networks.image_encoder_vit import EPS

SIDE, PATCH, CHANNELS = 1024, 16, 256


def build_named(name: str) -> Sam:
    """Return a network of the registry with random weights, in eval mode."""
    return BUILDERS[name]()


def build_vit(embed_dim: int, depth: int, num_heads: int, global_attn_indexes: Sequence[int]) -> Sam:
    """Return SAM with a plain vision transformer, with random weights, in eval mode."""
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        out_chans=CHANNELS,
        norm_layer=partial(nn.LayerNorm, eps=EPS),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=global_attn_indexes,
    )
    return with_sams_decoder(encoder)


def build_vit_t() -> Sam:
    """Return MobileSAM."""
    encoder = TinyViT(
        img_size=SIDE,
        embed_dims=(64, 128, 160, 320),
        num_heads=(2, 4, 5, 10),
        drop_path_rate=0.0,
    )
    return with_sams_decoder(encoder)


def with_sams_decoder(encoder: nn.Module) -> Sam:
    """Return an image encoder with SAM's prompt encoder and mask decoder."""
    grid = SIDE // PATCH
    prompt_encoder = PromptEncoder(
        embed_dim=CHANNELS, image_embedding_size=(grid, grid), input_image_size=(SIDE, SIDE), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(transformer_dim=CHANNELS, transformer=transformer)
    return Sam(encoder, prompt_encoder, decoder).eval()


def build_pocket() -> Sam:
    """Return this project's ``pocket``."""
    build_head = NETWORKS["pocket"].proposal_head
    head = build_head() if build_head else None
    return Sam(PocketImageEncoder(), PocketPromptEncoder(), PocketMaskDecoder(), proposal_head=head).eval()


BUILDERS: dict[str, Callable[[], Sam]] = {
    "vit_t": build_vit_t,
    "vit_b": partial(build_vit, 768, 12, 12, (2, 5, 8, 11)),
    "vit_l": partial(build_vit, 1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": partial(build_vit, 1280, 32, 16, (7, 15, 23, 31)),
    "pocket": build_pocket,
}
