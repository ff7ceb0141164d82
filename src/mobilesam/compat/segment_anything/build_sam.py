"""Builders of PyTorch networks by segment_anything's names, found without loading PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mobilesam.core.errors import missing_extra

if TYPE_CHECKING:
    from mobilesam.compat.segment_anything.modeling.sam import Sam


def build_sam_vit_h(checkpoint: str | Path | None = None) -> Sam:
    """Return SAM's ViT-H in eval mode, with random weights if no checkpoint is given."""
    return _build("vit_h", checkpoint)


def build_sam_vit_l(checkpoint: str | Path | None = None) -> Sam:
    """Return SAM's ViT-L in eval mode, with random weights if no checkpoint is given."""
    return _build("vit_l", checkpoint)


def build_sam_vit_b(checkpoint: str | Path | None = None) -> Sam:
    """Return SAM's ViT-B in eval mode, with random weights if no checkpoint is given."""
    return _build("vit_b", checkpoint)


def build_sam_vit_t(checkpoint: str | Path | None = None) -> Sam:
    """Return MobileSAM in eval mode, with random weights if no checkpoint is given."""
    return _build("vit_t", checkpoint)


def build_sam_pocket(checkpoint: str | Path | None = None) -> Sam:
    """Return this project's ``pocket`` in eval mode, with the package's weights if no checkpoint is given."""
    return _build("pocket", checkpoint)


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": build_sam_vit_t,
    "pocket": build_sam_pocket,
}


def _build_sam(
    encoder_embed_dim: int,
    encoder_depth: int,
    encoder_num_heads: int,
    encoder_global_attn_indexes: Sequence[int],
    checkpoint: str | Path | None = None,
) -> Sam:
    """Return SAM with a ViT of these sizes, in eval mode; for programs that call segment_anything's private builder."""
    sizes = (encoder_embed_dim, encoder_depth, encoder_num_heads, encoder_global_attn_indexes)
    return _torch_part().build_sam_of_size(sizes, checkpoint)


def _build(name: str, checkpoint: str | Path | None) -> Sam:
    return _torch_part().build_sam(name, checkpoint)


def _torch_part() -> ModuleType:
    try:
        return import_module("mobilesam.compat.segment_anything.torch_part")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra("sam_model_registry", "torch") from error
