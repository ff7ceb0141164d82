"""segment_anything's names and import paths over ours: only the top name of an import changes.

Signatures, shapes and the order of results are segment_anything's. What it computed
silently from a NaN, a wrong label or an inverted box is an error here that names the
argument. Importing this loads no PyTorch, and neither does using it with a model of
:func:`mobilesam.load`.
"""

from __future__ import annotations

from mobilesam.compat.errors import NoImageError
from mobilesam.compat.segment_anything import modeling as modeling
from mobilesam.compat.segment_anything import utils as utils
from mobilesam.compat.segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator
from mobilesam.compat.segment_anything.build_sam import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    build_sam_vit_t,
    sam_model_registry,
)
from mobilesam.compat.segment_anything.predictor import SamPredictor

__all__ = [
    "NoImageError",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "sam_model_registry",
]
