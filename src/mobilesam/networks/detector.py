"""A detector of objects by itself: what MobileSAMv2 runs beside its model.

Anchor-free, decoupled and class-agnostic: YOLOX's pyramid (:mod:`~mobilesam.networks.yolox`) at any
width and depth, and the head that ``pocket`` carries on its own features
(:mod:`~mobilesam.networks.objectness`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD
from mobilesam.networks.objectness import ObjectnessHead
from mobilesam.networks.yolox import YoloxFeatures, channels_of


class ObjectDetector(nn.Module):
    """Normalised pixels (B, 3, S, S) -> boxes of objects; ``S`` must be divisible by 32.

    Args:
        name: of ``configs.DETECTORS``.
        image_size: side of the square input that the weights are meant for.
        width: channels of the first layer; the maps have 4, 8 and 16 times as many.
        depth: bottlenecks of the shortest layers; the longest have three times as many.
        head_width: channels of the head's two branches.
        head_depth: convolutions in each of them.
    """

    def __init__(
        self, *, name: str, image_size: int, width: int, depth: int, head_width: int, head_depth: int
    ) -> None:
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.features = YoloxFeatures(PIXEL_MEAN.tolist(), PIXEL_STD.tolist(), width=width, depth=depth)
        maps = {f"stride{stride}": (stride, channels) for stride, channels in channels_of(width).items()}
        self.head = ObjectnessHead(maps, width=head_width, depth=head_depth)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input, and logits (B, N) of their objectness."""
        return self.head(dict(zip(self.head.inputs, self.features(pixels).values(), strict=True)))

    @torch.no_grad()
    def propose(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input, and their objectness (B, N) in 0..1."""
        boxes, logits = self(pixels)
        return boxes, logits.sigmoid()
