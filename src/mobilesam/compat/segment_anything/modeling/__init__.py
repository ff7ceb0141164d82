"""segment_anything's ``modeling``: the network's classes, with its constructors and its calls.

The arithmetic and the names of all parameters are those of :mod:`mobilesam.networks`; here are the
forms in which segment_anything's users build, call and train them. What needs PyTorch is imported
when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mobilesam.core.errors import missing_extra

if TYPE_CHECKING:
    from mobilesam.compat.segment_anything.modeling.image_encoder import ImageEncoderViT as ImageEncoderViT
    from mobilesam.compat.segment_anything.modeling.mask_decoder import MaskDecoder as MaskDecoder
    from mobilesam.compat.segment_anything.modeling.prompt_encoder import PromptEncoder as PromptEncoder
    from mobilesam.compat.segment_anything.modeling.sam import Sam as Sam
    from mobilesam.compat.segment_anything.modeling.tiny_vit_sam import TinyViT as TinyViT
    from mobilesam.compat.segment_anything.modeling.transformer import TwoWayTransformer as TwoWayTransformer

PLACES = {
    "Sam": "sam",
    "ImageEncoderViT": "image_encoder",
    "TinyViT": "tiny_vit_sam",
    "PromptEncoder": "prompt_encoder",
    "MaskDecoder": "mask_decoder",
    "TwoWayTransformer": "transformer",
}
SUBMODULES = (*PLACES.values(), "common")


def __getattr__(name: str) -> Any:
    if name not in PLACES and name not in SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{PLACES.get(name, name)}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra(f"modeling.{name}", "torch") from error
    return getattr(module, name) if name in PLACES else module


def __dir__() -> list[str]:
    return sorted([*globals(), *PLACES, *SUBMODULES])
