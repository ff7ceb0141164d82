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
        embed_dim: channels of the image embedding and of the decoder.
        heads: attention heads of the decoder.
        mlp_dim: hidden width of the decoder's perceptrons.
        upscaling: name of the mask upscaling in ``build.UPSCALINGS``.
        prompt_maps: whether prompts are also drawn on the grid.
        encoder_options: keywords of the image encoder.
    """

    encoder: str
    image_size: int
    embed_dim: int = 256
    heads: int = 8
    mlp_dim: int = 2048
    upscaling: str = "transposed"
    prompt_maps: bool = False
    encoder_options: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "vit_t": NetworkConfig(encoder="tiny_vit", image_size=1024),
    "pocket": NetworkConfig(
        encoder="pocket",
        image_size=512,
        embed_dim=128,
        heads=4,
        mlp_dim=512,
        upscaling="skip",
        prompt_maps=True,
    ),
}
