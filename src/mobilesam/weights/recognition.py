"""Whose weights are these? Networks told apart by the names and shapes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mobilesam.weights.registry import ENTRIES

PATCH_EMBEDDING = "image_encoder.patch_embed.proj.weight"
VIT_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h", 384: "slimsam_50", 168: "slimsam_77"}
# The first of these whose prefix starts a tensor's name says what the file holds.
FAMILIES = (
    ("image_encoder.patch_embed.seq.", "vit_t"),
    ("image_encoder.backbone.", "efficientvit_sam"),
    ("image_encoder.trunk.stages.", "pocket"),
    ("memory_attention.", "sam2"),
    ("PromtEncoder.", "prompt_guided_decoder"),  # the published file writes it so
    ("model.22.", "detector"),  # the head of YOLOv8 and what is built on it
    ("features.backbone.", "detector"),  # this project's own
)
WORDS = {
    "vit_t": "MobileSAM's vit_t",
    "efficientvit_sam": "EfficientViT-SAM",
    "sam2": "SAM 2, another architecture",
    "prompt_guided_decoder": "MobileSAMv2's decoder alone",
    "detector": "an object detector",
    "": "something unknown",
} | {network: f"SAM {network}" for network in VIT_WIDTHS.values()}
WORDS |= {"slimsam_50": "SlimSAM-50", "slimsam_77": "SlimSAM-77"}


def recognise_network(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return the network, or family of networks, that tensors of these names and shapes belong to.

    Args:
        shapes: shape of each tensor by its name in the checkpoint.

    Returns:
        A network's name, ``efficientvit_sam`` for any of these, ``sam2``,
        ``prompt_guided_decoder``, ``detector``, or an empty text.
    """
    width = shapes[PATCH_EMBEDDING][0] if shapes.get(PATCH_EMBEDDING) else 0
    if width in VIT_WIDTHS:
        return VIT_WIDTHS[width]
    for prefix, family in FAMILIES:
        if any(name.startswith(prefix) for name in shapes):
            return family
    return ""


def describe_mismatch(found: str, wanted: str) -> str:
    """Return what to say of weights of one network that were given for another."""
    holds = WORDS.get(found, found)
    names = [entry.name for entry in ENTRIES.values() if entry.network == found]
    advice = f"load it as {names[0]}" if names else f"give a file of {WORDS.get(wanted, wanted)}"
    return f"holds {holds}, not {wanted}; {advice}"
