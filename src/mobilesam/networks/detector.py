"""A stand-alone detector of objects: what MobileSAMv2 runs beside its model.

Anchor-free, decoupled and class-agnostic: YOLOX's pyramid (:mod:`~mobilesam.networks.yolox`) at any
width and depth, and the head that ``pocket`` carries on its own features
(:mod:`~mobilesam.networks.objectness`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD
from mobilesam.core.spec import NetworkSpec
from mobilesam.networks.config import DetectorConfig
from mobilesam.networks.objectness import ObjectnessHead
from mobilesam.networks.yolox import YoloxFeatures, channels_of


class ObjectDetector(nn.Module):
    """Normalised pixels (B, 3, S, S) -> boxes of objects; ``S`` must be divisible by 32.

    Args:
        config: which one; its maps have 4, 8 and 16 times the first layer's channels.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.spec = config.spec
        width, depth = config.width, config.depth
        self.features = YoloxFeatures(PIXEL_MEAN.tolist(), PIXEL_STD.tolist(), width=width, depth=depth)
        maps = {f"stride{stride}": (stride, channels) for stride, channels in channels_of(width).items()}
        self.head = ObjectnessHead(maps, width=config.head_width, depth=config.head_depth)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input, and logits (B, N) of their objectness."""
        return self.head(dict(zip(self.head.inputs, self.features(pixels).values(), strict=True)))

    @torch.no_grad()
    def propose(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input, and their objectness (B, N) in 0..1."""
        boxes, logits = self(pixels)
        return boxes, logits.sigmoid()


def _detector(size: str, image_size: int, *, width: int, depth: int, head_width: int) -> DetectorConfig:
    """One of the sizes of YOLOX."""
    name = f"detector_{size}"
    spec = NetworkSpec(
        name, f"this project's {name}", image_size=image_size, decoder="", proposes=True, stride=32
    )
    return DetectorConfig(spec, width, depth, head_width)


DETECTORS = (
    _detector("nano", 416, width=16, depth=1, head_width=64),
    _detector("tiny", 416, width=24, depth=1, head_width=96),
    _detector("small", 640, width=32, depth=1, head_width=128),
    _detector("medium", 640, width=48, depth=2, head_width=192),
)
