"""The networks as data: which parts, and how large. ``build.py`` turns an entry into modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NetworkConfig:
    """One promptable network.

    Attributes:
        encoder: name of the image encoder's class in ``build.ENCODERS``.
        image_size: side of the square model input, in pixels.
        prompt_size: side of the square whose pixels prompts are given in; the input's where 0.
        decoder: name of the prompt encoder and mask decoder in ``build.DECODERS``.
        proposal_head: name of the head for objects in ``build.PROPOSAL_HEADS``, or empty.
        encoder_options: keywords of the image encoder.
    """

    encoder: str
    image_size: int
    prompt_size: int = 0
    decoder: str = "sam"
    proposal_head: str = ""
    encoder_options: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "vit_t": NetworkConfig(encoder="tiny_vit", image_size=1024),
    "vit_b": NetworkConfig(
        encoder="vit",
        image_size=1024,
        encoder_options={
            "embed_dim": 768,
            "depth": 12,
            "num_heads": 12,
            "global_attn_indexes": (2, 5, 8, 11),
        },
    ),
    "vit_l": NetworkConfig(
        encoder="vit",
        image_size=1024,
        encoder_options={
            "embed_dim": 1024,
            "depth": 24,
            "num_heads": 16,
            "global_attn_indexes": (5, 11, 17, 23),
        },
    ),
    "vit_h": NetworkConfig(
        encoder="vit",
        image_size=1024,
        encoder_options={
            "embed_dim": 1280,
            "depth": 32,
            "num_heads": 16,
            "global_attn_indexes": (7, 15, 23, 31),
        },
    ),
    "efficientvit_sam_l0": NetworkConfig(
        encoder="efficientvit",
        image_size=512,
        prompt_size=1024,
        encoder_options={"depth_list": (1, 1, 1, 4, 4), "head_depth": 4},
    ),
    "efficientvit_sam_l1": NetworkConfig(
        encoder="efficientvit",
        image_size=512,
        prompt_size=1024,
        encoder_options={"depth_list": (1, 1, 1, 6, 6), "head_depth": 8},
    ),
    "efficientvit_sam_l2": NetworkConfig(
        encoder="efficientvit",
        image_size=512,
        prompt_size=1024,
        encoder_options={"depth_list": (1, 2, 2, 8, 8), "head_depth": 12},
    ),
    "pocket": NetworkConfig(encoder="pocket", decoder="pocket", proposal_head="pocket", image_size=512),
}
