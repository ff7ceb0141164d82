"""From a network's configuration to its modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from mobilesam.core.errors import ConfigError
from mobilesam.core.views import Views
from mobilesam.networks.configs import DETECTORS, NETWORKS
from mobilesam.networks.detector import ObjectDetector
from mobilesam.networks.efficientvit import EfficientViTSamImageEncoder
from mobilesam.networks.image_encoder_vit import ImageEncoderViT
from mobilesam.networks.mask_decoder import MaskDecoder
from mobilesam.networks.objectness import ObjectnessHead
from mobilesam.networks.pocket import OBJECT_MAPS, PocketEncoder
from mobilesam.networks.pocket_decoder import PocketDecoder, PromptMaps
from mobilesam.networks.prompt_encoder import PromptEncoder
from mobilesam.networks.sam import Decoder, ImageEncoder, Sam
from mobilesam.networks.tiny_vit import TinyViT
from mobilesam.networks.two_way_transformer import TwoWayTransformer

ENCODERS: dict[str, type[ImageEncoder]] = {
    "tiny_vit": TinyViT,
    "vit": ImageEncoderViT,
    "efficientvit": EfficientViTSamImageEncoder,
    "pocket": PocketEncoder,
}


def build_network(name: str) -> Sam:
    """Return the network ``name`` of ``configs.NETWORKS`` with untrained weights, in eval mode.

    Raises:
        ConfigError: for a name that is not there.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network {name!r}: unknown; choose one of {', '.join(sorted(NETWORKS))}")
    config = NETWORKS[name]
    prompt_encoder, mask_decoder = DECODERS[config.decoder]()
    return Sam(
        ENCODERS[config.encoder](**config.encoder_options),
        prompt_encoder,
        mask_decoder,
        PROPOSAL_HEADS[config.proposal_head]() if config.proposal_head else None,
        name=name,
        image_size=config.image_size,
        prompt_size=config.prompt_size or config.image_size,
        padded_to=config.padded_to,
        views=config.views,
    ).eval()


def build_detector(name: str) -> ObjectDetector:
    """Return the detector ``name`` of ``configs.DETECTORS`` with untrained weights, in eval mode.

    Raises:
        ConfigError: for a name that is not there.
    """
    if name not in DETECTORS:
        raise ConfigError(f"detector {name!r}: unknown; choose one of {', '.join(sorted(DETECTORS))}")
    return ObjectDetector(name=name, **dataclasses.asdict(DETECTORS[name])).eval()


def sam_decoder() -> tuple[PromptEncoder, MaskDecoder]:
    """SAM's prompt encoder and mask decoder, as all its published checkpoints have them."""
    return PromptEncoder(), MaskDecoder(transformer=TwoWayTransformer())


def pocket_decoder() -> tuple[PromptEncoder, PocketDecoder]:
    """``pocket``'s: narrower, and with the prompts drawn on the grid."""
    decoder = PocketDecoder()
    sparse, dense = decoder.mask_tokens.embedding_dim, decoder.dense_dim
    maps = PromptMaps(out_channels=dense)
    return PromptEncoder(embed_dim=sparse, dense_dim=dense, prompt_maps=maps), decoder


DECODERS: dict[str, Callable[[], tuple[PromptEncoder, Decoder]]] = {
    "sam": sam_decoder,
    "pocket": pocket_decoder,
}
PROPOSAL_HEADS = {"pocket": lambda: ObjectnessHead(OBJECT_MAPS)}


def encoder_stride(name: str) -> int:
    """Return how many pixels of the input's side make one cell of the image embedding."""
    return ENCODERS[NETWORKS[name].encoder].stride


def views_at(name: str, image_size: int) -> Views | None:
    """Return the views of the network's inputs of that size; None where its decoder reads all of them."""
    config = NETWORKS.get(name)  # a detector has none
    return config.views if config is not None and image_size == config.image_size else None


def build_meta(name: str) -> Sam:
    """Return the network ``name`` without memory for its weights: for counting and for checking names."""
    with torch.device("meta"):
        return build_network(name)
