"""MobileSAM's import name: the same objects as :mod:`mobilesam.compat.segment_anything`, module by module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator as SamAutomaticMaskGenerator
from mobilesam.compat.segment_anything import SamPredictor as SamPredictor
from mobilesam.compat.segment_anything import automatic_mask_generator as automatic_mask_generator
from mobilesam.compat.segment_anything import build_sam as build_sam
from mobilesam.compat.segment_anything import build_sam_vit_b as build_sam_vit_b
from mobilesam.compat.segment_anything import build_sam_vit_h as build_sam_vit_h
from mobilesam.compat.segment_anything import build_sam_vit_l as build_sam_vit_l
from mobilesam.compat.segment_anything import build_sam_vit_t as build_sam_vit_t
from mobilesam.compat.segment_anything import modeling as modeling
from mobilesam.compat.segment_anything import predictor as predictor
from mobilesam.compat.segment_anything import sam_model_registry as sam_model_registry
from mobilesam.compat.segment_anything import utils as utils

HERE, THERE = f"{__name__}.", "mobilesam.compat.segment_anything."


class SameModule(MetaPathFinder, Loader):
    """Imports a module below this name as the one of segment_anything's name, when it is asked for.

    A second copy would have classes of its own, which ``isinstance`` would tell apart.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import what lies below ``mobile_sam``."""
        return ModuleSpec(fullname, self) if fullname.startswith(HERE) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of the other name."""
        module = import_module(THERE + spec.name.removeprefix(HERE))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is; importing has given it this name's spec."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


__path__: list[str] = []  # a package, whose modules the finder has
sys.meta_path.insert(0, SameModule())
