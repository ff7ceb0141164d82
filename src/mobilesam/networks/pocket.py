"""``pocket``: the small network that this project trains itself.

Two trunks look at the pixels. MobileNetV2 (Sandler et al. 2018) learned from ImageNet what
things look like; YOLOX-nano (:mod:`~mobilesam.networks.yolox`) learned from boxes where
one ends and the next begins. Their features are merged top-down into maps of strides 16
and 8; finer ones are passed on for the masks' edges. A 768 x 768 input gives a grid of 96 x 96.
:mod:`~mobilesam.networks.pocket_decoder` reads it in views of up to 64 x 64, which is what SAM's
decoder has at 1024 (:mod:`mobilesam.core.views`). YOLOX-nano's own maps are passed on for
:mod:`~mobilesam.networks.objectness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD
from mobilesam.core.spec import MB, NetworkSpec, WorkingSet
from mobilesam.networks.config import NetworkConfig
from mobilesam.networks.layer_norm import LayerNorm2d
from mobilesam.networks.objectness import ObjectnessHead
from mobilesam.networks.yolox import YoloxNano

# MobileNetV2's table 2: expansion, channels, blocks, stride of the first block.
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
TAPS = {0: 2, 1: 4, 2: 8, 4: 16, 6: 32}  # stage -> stride of its output

# Channels of the arrays that the decoder reads, by name; their strides are 16, 8, 4 and 2.
EMBEDDING = {"coarse_embedding": 128, "image_embedding": 64, "skip_stride4": 32, "skip_stride2": 16}

# Stride and channels of the arrays that the head for objects reads, by name.
OBJECT_MAPS = {f"objects_stride{stride}": (stride, n) for stride, n in YoloxNano.CHANNELS.items()}


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, if asked for, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, *, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, depthwise 3 x 3, project, added to the input where shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvNorm(in_channels, hidden, 1, 1, 1, relu=True)
        self.depthwise = ConvNorm(hidden, hidden, 3, stride, hidden, relu=True)
        self.project = ConvNorm(hidden, out_channels, 1, 1, 1, relu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The trunk: pixels (B, 3, S, S) -> features of strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2, 1, relu=True)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for expansion, width, blocks, stride in MOBILENET_V2:
            self.stages.append(
                nn.Sequential(
                    *(
                        InvertedResidual(
                            channels if i == 0 else width, width, stride if i == 0 else 1, expansion
                        )
                        for i in range(blocks)
                    )
                )
            )
            channels = width

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        x = self.stem(pixels)
        features = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in TAPS:
                features[TAPS[i]] = x
        return features


class NeckBlock(nn.Module):
    """Residual block: depthwise 7 x 7, normalise, and a pointwise perceptron (as in ConvNeXt)."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.widen = nn.Conv2d(channels, channels * expansion, 1)
        self.narrow = nn.Conv2d(channels * expansion, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.widen(self.norm(self.spatial(x)))))


class PocketEncoder(nn.Module):
    """Image encoder of ``pocket``: pixels (B, 3, h, w) -> the arrays of ``EMBEDDING`` and ``OBJECT_MAPS``.

    Height and width must be divisible by 32.

    Args:
        width: channels of the neck at strides 32 and 16.
        fine_width: channels of the neck at stride 8.
        depths: blocks of the neck at strides 32, 16 and 8.
    """

    stride = 8

    def __init__(self, *, width: int = 192, fine_width: int = 128, depths: Sequence[int] = (3, 3, 2)) -> None:
        super().__init__()
        channels = {TAPS[i]: MOBILENET_V2[i][1] for i in TAPS}
        merged = {stride: channels[stride] + n for stride, n in YoloxNano.CHANNELS.items()}
        self.trunk = MobileNetV2()
        self.detector = YoloxNano(PIXEL_MEAN.tolist(), PIXEL_STD.tolist())
        widths = {32: width, 16: width, 8: fine_width}
        self.laterals = nn.ModuleList(nn.Conv2d(merged[stride], n, 1) for stride, n in widths.items())
        self.blocks = nn.ModuleList(
            nn.Sequential(*(NeckBlock(n) for _ in range(depth)))
            for n, depth in zip(widths.values(), depths, strict=True)
        )
        self.narrow = nn.Conv2d(width, fine_width, 1)
        coarse, fine, skip4, skip2 = EMBEDDING.values()
        self.coarse = nn.Conv2d(width, coarse, 1)
        self.coarse_of_fine = nn.Conv2d(fine_width, coarse, 2, stride=2)
        self.coarse_norm = LayerNorm2d(coarse)
        self.fine = nn.Conv2d(fine_width, fine, 1)
        self.fine_norm = LayerNorm2d(fine)
        self.skip4 = nn.Conv2d(channels[4], skip4, 1)
        self.skip2 = nn.Conv2d(channels[2], skip2, 3, padding=1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.trunk(pixels)
        seen = self.detector(pixels)
        merged = {stride: torch.cat([features[stride], x], 1) for stride, x in seen.items()}
        x = self.blocks[0](self.laterals[0](merged[32]))
        middle = self.blocks[1](twice(x) + self.laterals[1](merged[16]))
        x = self.blocks[2](twice(self.narrow(middle)) + self.laterals[2](merged[8]))
        return {
            "coarse_embedding": self.coarse_norm(self.coarse(middle) + self.coarse_of_fine(x)),
            "image_embedding": self.fine_norm(self.fine(x)),
            "skip_stride4": self.skip4(features[4]),
            "skip_stride2": F.relu(self.skip2(features[2])),
            **dict(zip(OBJECT_MAPS, seen.values(), strict=True)),
        }


def twice(x: Tensor) -> Tensor:
    """Enlarge a map bilinearly to twice its height and width."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a map bilinearly to (height, width)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


NETWORKS = (
    NetworkConfig(
        NetworkSpec(
            "pocket",
            "this project's pocket",
            image_size=768,
            padded_to=96,
            view_size=512,
            decoder="pocket",
            proposes=True,
            stride=PocketEncoder.stride,
            working_set=WorkingSet(260 * MB, prompt=15 * MB, slot=100_000),
        ),
        PocketEncoder,
        partial(ObjectnessHead, OBJECT_MAPS),
    ),
)
