"""segment_anything's ``utils``: ``amg`` and ``transforms``, and ``onnx``, which needs PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mobilesam.compat.segment_anything.utils import amg as amg
from mobilesam.compat.segment_anything.utils import transforms as transforms
from mobilesam.core.errors import missing_extra


def __getattr__(name: str) -> Any:
    if name != "onnx":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return import_module(f"{__name__}.onnx")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing_extra("utils.onnx", "torch") from error
