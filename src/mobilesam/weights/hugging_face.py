"""SAM as Hugging Face's transformers names it: ``SamModel``'s tensors under the names of SAM's own checkpoints.

The tensors are the same and only their names differ, one to one: a ``SamModel`` of ViT-B has 314 parameters, and so
does ``sam_vit_b_01ec64.pth``. docs/explanation/parity.md says how its arithmetic differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from mobilesam.core.errors import WeightsError

MARK = "vision_encoder.patch_embed.projection.weight"  # in SAM 2 and others it is elsewhere
FREQUENCIES = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
# They are applied in turn, so a name may go through several.
RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # The image and the prompts share a position embedding; a file may name it once or twice.
        (r"^(shared_image_embedding|prompt_encoder\.shared_embedding)\.positional_embedding$", FREQUENCIES),
        (r"^vision_encoder\.", "image_encoder."),
        (r"^(image_encoder\.patch_embed)\.projection\.", r"\1.proj."),
        (r"^(image_encoder)\.layers\.", r"\1.blocks."),
        (r"^(image_encoder\.neck)\.conv1\.", r"\1.0."),
        (r"^(image_encoder\.neck)\.layer_norm1\.", r"\1.1."),
        (r"^(image_encoder\.neck)\.conv2\.", r"\1.2."),
        (r"^(image_encoder\.neck)\.layer_norm2\.", r"\1.3."),
        (r"^(prompt_encoder)\.point_embed\.", r"\1.point_embeddings."),
        (r"^(prompt_encoder)\.mask_embed\.conv1\.", r"\1.mask_downscaling.0."),
        (r"^(prompt_encoder)\.mask_embed\.layer_norm1\.", r"\1.mask_downscaling.1."),
        (r"^(prompt_encoder)\.mask_embed\.conv2\.", r"\1.mask_downscaling.3."),
        (r"^(prompt_encoder)\.mask_embed\.layer_norm2\.", r"\1.mask_downscaling.4."),
        (r"^(prompt_encoder)\.mask_embed\.conv3\.", r"\1.mask_downscaling.6."),
        (r"^(mask_decoder)\.upscale_conv1\.", r"\1.output_upscaling.0."),
        (r"^(mask_decoder)\.upscale_layer_norm\.", r"\1.output_upscaling.1."),
        (r"^(mask_decoder)\.upscale_conv2\.", r"\1.output_upscaling.3."),
        # Perceptrons of three layers, of which the first and last have names of their own.
        (
            r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.",
            r"\1.layers.1.",
        ),
        (r"^(mask_decoder\..+)\.proj_in\.", r"\1.layers.0."),
        (r"^(mask_decoder\..+)\.proj_out\.", r"\1.layers.2."),
        (r"\.layer_norm(\d|_final_attn)\.", r".norm\1."),
    )
)


def sam_model_prefix(names: Iterable[str]) -> str | None:
    """Return the prefix of all tensors' names in a ``SamModel``, usually an empty one; None for other names."""
    names = list(names)
    found = (name.removesuffix(MARK) for name in names if name.endswith(MARK))
    prefix = next(found, None)
    return prefix if prefix is not None and all(name.startswith(prefix) for name in names) else None


def sam_model_to_sam(tensors: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Return ``SamModel``'s tensors under SAM's names, and anything else's as they are.

    Args:
        tensors: by their names in the file.
        what: what messages call the file.

    Raises:
        WeightsError: if two tensors would get the same name but differ.
    """
    prefix = sam_model_prefix(tensors)
    if prefix is None:
        return dict(tensors)
    renamed: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        own = sam_name(name.removeprefix(prefix))
        if own in renamed and not np.array_equal(renamed[own], tensor):
            raise WeightsError(
                f"{what}: {name[:80]} differs from the other tensor that stands for {own}; "
                "save the model again with save_pretrained"
            )
        renamed[own] = tensor
    return renamed


def sam_name(name: str) -> str:
    """Return the name that SAM's checkpoints use for one of ``SamModel``'s tensors.

    Example:
        >>> sam_name("mask_decoder.iou_prediction_head.proj_out.bias")
        'mask_decoder.iou_prediction_head.layers.2.bias'
    """
    for pattern, replacement in RENAMED:
        name = pattern.sub(replacement, name)
    return name
