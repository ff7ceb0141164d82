"""MobileSAM: point at a thing in a picture, get its outline.

    >>> import mobilesam
    >>> model = mobilesam.load("pocket")                              # doctest: +SKIP
    >>> embedding = model.embed("photo.jpg")                          # doctest: +SKIP
    >>> result = model.segment(embedding, mobilesam.Prompt(box=[120, 40, 380, 300]))  # doctest: +SKIP
    >>> result.mask.shape                                             # doctest: +SKIP
    (427, 640)

Public names are looked up when they are first used, so importing the package loads
nothing heavy, and using a model never loads PyTorch.
"""

from __future__ import annotations

from importlib import import_module

from mobilesam.core.version import __version__

TYPE_CHECKING = False  # importing it from typing would be three quarters of this import
_WHERE = {
    "load": "mobilesam.segment.model",
    "Model": "mobilesam.segment.model",
    "Prompt": "mobilesam.core.types",
    "Embedding": "mobilesam.core.types",
    "Segmentation": "mobilesam.segment.results",
    "SegmentedMask": "mobilesam.segment.results",
    "EverythingOptions": "mobilesam.segment.everything.options",
    "Everything": "mobilesam.segment.results",
    "Cutout": "mobilesam.segment.cutout",
    "Session": "mobilesam.segment.session",
    "CutoutOptions": "mobilesam.segment.cutout",
    "FoundMask": "mobilesam.core.types",
    "Rle": "mobilesam.core.rle",
    "Polygon": "mobilesam.core.polygons",
    "finetune": "mobilesam.train.finetune",
    "FinetuneOptions": "mobilesam.train.finetune",
    "Finetuned": "mobilesam.train.finetune",
    "load_text_model": "mobilesam.detectors.load",
    "Boxes": "mobilesam.detectors.base",
    "Detector": "mobilesam.detectors.base",
    "TextOptions": "mobilesam.segment.text",
    "TextMatches": "mobilesam.segment.results",
    "TrackPrompt": "mobilesam.segment.track.prompts",
    "TrackOptions": "mobilesam.segment.track.stream",
    "TrackedFrame": "mobilesam.segment.track.results",
    "TrackedObject": "mobilesam.segment.track.results",
    "read_image": "mobilesam.formats.image",
    "SamPredictor": "mobilesam.compat.segment_anything",
    "SamAutomaticMaskGenerator": "mobilesam.compat.segment_anything",
    "sam_model_registry": "mobilesam.compat.segment_anything",
    "MobileSamError": "mobilesam.core.errors",
    "ConfigError": "mobilesam.core.errors",
    "PromptError": "mobilesam.core.errors",
    "ImageError": "mobilesam.core.errors",
    "LimitError": "mobilesam.core.errors",
    "WeightsError": "mobilesam.core.errors",
    "DeadlineError": "mobilesam.core.errors",
    "OutputError": "mobilesam.core.errors",
    "MissingExtraError": "mobilesam.core.errors",
    "ImageWarning": "mobilesam.core.errors",
    "OptionWarning": "mobilesam.core.errors",
    "PromptWarning": "mobilesam.core.errors",
    "SetWarning": "mobilesam.core.errors",
    "TrainingWarning": "mobilesam.core.errors",
    "WorkerWarning": "mobilesam.core.errors",
    "WeightsWarning": "mobilesam.core.errors",
}

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from typing import Any

    from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator as SamAutomaticMaskGenerator
    from mobilesam.compat.segment_anything import SamPredictor as SamPredictor
    from mobilesam.compat.segment_anything import sam_model_registry as sam_model_registry
    from mobilesam.core.errors import ConfigError as ConfigError
    from mobilesam.core.errors import DeadlineError as DeadlineError
    from mobilesam.core.errors import ImageError as ImageError
    from mobilesam.core.errors import ImageWarning as ImageWarning
    from mobilesam.core.errors import LimitError as LimitError
    from mobilesam.core.errors import MissingExtraError as MissingExtraError
    from mobilesam.core.errors import MobileSamError as MobileSamError
    from mobilesam.core.errors import OptionWarning as OptionWarning
    from mobilesam.core.errors import OutputError as OutputError
    from mobilesam.core.errors import PromptError as PromptError
    from mobilesam.core.errors import PromptWarning as PromptWarning
    from mobilesam.core.errors import SetWarning as SetWarning
    from mobilesam.core.errors import TrainingWarning as TrainingWarning
    from mobilesam.core.errors import WeightsError as WeightsError
    from mobilesam.core.errors import WeightsWarning as WeightsWarning
    from mobilesam.core.errors import WorkerWarning as WorkerWarning
    from mobilesam.core.polygons import Polygon as Polygon
    from mobilesam.core.rle import Rle as Rle
    from mobilesam.core.types import Embedding as Embedding
    from mobilesam.core.types import FoundMask as FoundMask
    from mobilesam.core.types import Prompt as Prompt
    from mobilesam.detectors.base import Boxes as Boxes
    from mobilesam.detectors.base import Detector as Detector
    from mobilesam.detectors.load import load_text_model as load_text_model
    from mobilesam.formats.image import read_image as read_image
    from mobilesam.segment.cutout import Cutout as Cutout
    from mobilesam.segment.cutout import CutoutOptions as CutoutOptions
    from mobilesam.segment.everything.options import EverythingOptions as EverythingOptions
    from mobilesam.segment.model import Model as Model
    from mobilesam.segment.model import load as load
    from mobilesam.segment.results import Everything as Everything
    from mobilesam.segment.results import Segmentation as Segmentation
    from mobilesam.segment.results import SegmentedMask as SegmentedMask
    from mobilesam.segment.results import TextMatches as TextMatches
    from mobilesam.segment.session import Session as Session
    from mobilesam.segment.text import TextOptions as TextOptions
    from mobilesam.segment.track.prompts import TrackPrompt as TrackPrompt
    from mobilesam.segment.track.results import TrackedFrame as TrackedFrame
    from mobilesam.segment.track.results import TrackedObject as TrackedObject
    from mobilesam.segment.track.stream import TrackOptions as TrackOptions
    from mobilesam.train.finetune import Finetuned as Finetuned
    from mobilesam.train.finetune import FinetuneOptions as FinetuneOptions
    from mobilesam.train.finetune import finetune as finetune


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'mobilesam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
