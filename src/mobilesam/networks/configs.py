"""The networks as data: which parts, and how large. ``build.py`` turns an entry into modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mobilesam.core.views import Views


@dataclass(frozen=True)
class NetworkConfig:
    """One promptable network.

    Attributes:
        encoder: name of the image encoder's class in ``build.ENCODERS``.
        image_size: side of the square model input, in pixels.
        prompt_size: side of the square whose pixels prompts are given in; the input's where 0.
        padded_to: an input's shorter side is padded to a multiple of this; to the longer one where 0.
        view_size: side of what the decoder reads at once, in pixels of the input (see
            :mod:`mobilesam.core.views`); everything where 0.
        decoder: name of the prompt encoder and mask decoder in ``build.DECODERS``.
        proposal_head: name of the head for objects in ``build.PROPOSAL_HEADS``, or empty.
        encoder_options: keywords of the image encoder.
    """

    encoder: str
    image_size: int
    prompt_size: int = 0
    padded_to: int = 0
    view_size: int = 0
    decoder: str = "sam"
    proposal_head: str = ""
    encoder_options: dict[str, Any] = field(default_factory=dict)

    @property
    def views(self) -> Views | None:
        """What the decoder reads of an input, or None where that is everything."""
        return Views(self.image_size, self.view_size) if self.view_size else None


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
    "pocket": NetworkConfig(
        encoder="pocket",
        decoder="pocket",
        proposal_head="pocket",
        image_size=768,
        padded_to=96,
        view_size=512,
    ),
}


@dataclass(frozen=True)
class DetectorConfig:
    """One detector of objects.

    Attributes:
        image_size: side of the square input, in pixels.
        width: channels of the first layer.
        depth: bottlenecks of the shortest layers.
        head_width: channels of the head's two branches.
        head_depth: convolutions in each of them.
    """

    image_size: int
    width: int
    depth: int
    head_width: int
    head_depth: int = 2


DETECTORS = {
    "detector_nano": DetectorConfig(image_size=416, width=16, depth=1, head_width=64),
    "detector_tiny": DetectorConfig(image_size=416, width=24, depth=1, head_width=96),
    "detector_small": DetectorConfig(image_size=640, width=32, depth=1, head_width=128),
    "detector_medium": DetectorConfig(image_size=640, width=48, depth=2, head_width=192),
}
