"""MobileSAM's import name: the same objects as :mod:`mobilesam.compat.segment_anything`, module by module."""

from __future__ import annotations

import sys
from importlib import import_module

from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator as SamAutomaticMaskGenerator
from mobilesam.compat.segment_anything import SamPredictor as SamPredictor
from mobilesam.compat.segment_anything import build_sam as build_sam
from mobilesam.compat.segment_anything import build_sam_vit_b as build_sam_vit_b
from mobilesam.compat.segment_anything import build_sam_vit_h as build_sam_vit_h
from mobilesam.compat.segment_anything import build_sam_vit_l as build_sam_vit_l
from mobilesam.compat.segment_anything import build_sam_vit_t as build_sam_vit_t
from mobilesam.compat.segment_anything import modeling as modeling
from mobilesam.compat.segment_anything import sam_model_registry as sam_model_registry
from mobilesam.compat.segment_anything import utils as utils

SUBMODULES = (
    "automatic_mask_generator",
    "build_sam",
    "modeling",
    "predictor",
    "utils",
    "utils.amg",
    "utils.transforms",
)

for _path in SUBMODULES:  # as os registers os.path: importing either name gives one module
    sys.modules[f"{__name__}.{_path}"] = import_module(f"mobilesam.compat.segment_anything.{_path}")
