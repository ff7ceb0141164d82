"""From a network's name to its modules. A new network is a file with ``NETWORKS``, and its name in the line below."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mobilesam.core.errors import ConfigError
from mobilesam.networks import detector, efficientvit, image_encoder_vit, pocket, pocket_nano, tiny_vit
from mobilesam.networks.detector import ObjectDetector
from mobilesam.networks.mask_decoder import MaskDecoder
from mobilesam.networks.pocket_decoder import PocketDecoder, PromptMaps
from mobilesam.networks.prompt_encoder import PromptEncoder
from mobilesam.networks.sam import Decoder, Sam
from mobilesam.networks.two_way_transformer import TwoWayTransformer

FILES = (pocket, pocket_nano, tiny_vit, image_encoder_vit, efficientvit)
NETWORKS = {config.spec.name: config for file in FILES for config in file.NETWORKS}
DETECTORS = {config.spec.name: config for config in detector.DETECTORS}


def build_network(name: str) -> Sam:
    """Return the network ``name`` of ``NETWORKS`` with untrained weights, in eval mode.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network {name!r}: unknown; choose one of {', '.join(sorted(NETWORKS))}")
    config = NETWORKS[name]
    prompt_encoder, mask_decoder = DECODERS[config.spec.decoder]()
    encoder = config.encoder()  # the order of the parts decides which random weights a seed gives each
    head = config.proposal_head() if config.proposal_head else None
    return Sam(encoder, prompt_encoder, mask_decoder, head, spec=config.spec).eval()


def build_detector(name: str) -> ObjectDetector:
    """Return the detector ``name`` of ``DETECTORS`` with untrained weights, in eval mode.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in DETECTORS:
        raise ConfigError(f"detector {name!r}: unknown; choose one of {', '.join(sorted(DETECTORS))}")
    return ObjectDetector(DETECTORS[name]).eval()


def sam_decoder() -> tuple[PromptEncoder, MaskDecoder]:
    """SAM's prompt encoder and mask decoder, as all its published checkpoints have them."""
    return PromptEncoder(), MaskDecoder(transformer=TwoWayTransformer())


def pocket_decoder() -> tuple[PromptEncoder, PocketDecoder]:
    """``pocket``'s prompt encoder and decoder: narrower, and with the prompts drawn on the grid."""
    decoder = PocketDecoder()
    sparse, dense = decoder.mask_tokens.embedding_dim, decoder.dense_dim
    maps = PromptMaps(out_channels=dense)
    return PromptEncoder(embed_dim=sparse, dense_dim=dense, prompt_maps=maps), decoder


DECODERS: dict[str, Callable[[], tuple[PromptEncoder, Decoder]]] = {
    "sam": sam_decoder,
    "pocket": pocket_decoder,
}


def build_meta(name: str) -> Sam:
    """Return the network ``name`` without memory for its weights: for counting and for checking names."""
    with torch.device("meta"):
        return build_network(name)
