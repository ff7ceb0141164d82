"""YOLOX's features: a depthwise CSPDarknet and its feature pyramid (Ge et al. 2021).

The detector's head is left out: :class:`YoloxFeatures` returns the maps that the head would look
at. Trained on boxes, they tell one object from its neighbour, which features trained on
one label per photo do not. Batch normalisation is folded into the convolutions, as in
the published ONNX file of the smallest network, :class:`YoloxNano`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Module):
    """Convolution with bias, then SiLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


class DepthwiseConv(nn.Module):
    """Depthwise 3 x 3 and pointwise convolution, each with SiLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = Conv(in_channels, in_channels, 3, stride, in_channels)
        self.pconv = Conv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):
    """Pointwise, then depthwise separable, added to the input where ``shortcut``."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels)
        self.conv2 = DepthwiseConv(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels pass through bottlenecks, half beside them."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, *, shortcut: bool) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = Conv(in_channels, hidden)
        self.conv2 = Conv(in_channels, hidden)
        self.conv3 = Conv(2 * hidden, out_channels)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut=shortcut) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class SpatialPyramidPooling(nn.Module):
    """The map beside its maxima over three neighbourhoods."""

    def __init__(self, channels: int, sizes: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 2)
        self.conv2 = Conv(channels // 2 * (1 + len(sizes)), channels)
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(F.max_pool2d(x, s, 1, s // 2) for s in self.sizes)], 1))


class Focus(nn.Module):
    """Space to depth, twofold, and a convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv(4 * in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)], 1))


class Darknet(nn.Module):
    """The trunk: space to depth, then stages of strides 4, 8, 16 and 32.

    Args:
        width: channels of the first layer; each stage has twice those of the one before.
        depth: bottlenecks of the first stage and the last; those between have three times as many.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        w2, w4, w8, w16 = (width * factor for factor in (2, 4, 8, 16))
        self.stem = Focus(3, width)
        self.dark2 = nn.Sequential(DepthwiseConv(width, w2, 2), CSPLayer(w2, w2, depth, shortcut=True))
        self.dark3 = nn.Sequential(DepthwiseConv(w2, w4, 2), CSPLayer(w4, w4, 3 * depth, shortcut=True))
        self.dark4 = nn.Sequential(DepthwiseConv(w4, w8, 2), CSPLayer(w8, w8, 3 * depth, shortcut=True))
        self.dark5 = nn.Sequential(
            DepthwiseConv(w8, w16, 2), SpatialPyramidPooling(w16), CSPLayer(w16, w16, depth, shortcut=False)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x3 = self.dark3(self.dark2(self.stem(pixels)))
        x4 = self.dark4(x3)
        return x3, x4, self.dark5(x4)


class YoloxFeatures(nn.Module):
    """The detector's feature pyramid: normalised pixels (B, 3, S, S) -> maps of strides 8, 16 and 32.

    Args:
        mean: of red, green and blue in 0..255, which was subtracted from the pixels.
        std: what they were divided by.
        width: channels of the first layer; the maps have those of :func:`channels_of`.
        depth: bottlenecks of the shortest layers.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, width: int, depth: int) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        w4, w8, w16 = channels_of(width).values()
        self.backbone = Darknet(width, depth)
        self.lateral_conv0 = Conv(w16, w8)
        self.C3_p4 = CSPLayer(w16, w8, depth, shortcut=False)
        self.reduce_conv1 = Conv(w8, w4)
        self.C3_p3 = CSPLayer(w8, w4, depth, shortcut=False)
        self.bu_conv2 = DepthwiseConv(w4, w4, 2)
        self.C3_n3 = CSPLayer(w8, w8, depth, shortcut=False)
        self.bu_conv1 = DepthwiseConv(w8, w8, 2)
        self.C3_n4 = CSPLayer(w16, w16, depth, shortcut=False)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        # The network reads 0..255, blue first.
        colours = [pixels[:, c : c + 1] * self.std[c] + self.mean[c] for c in (2, 1, 0)]
        x3, x4, x5 = self.backbone(torch.cat(colours, 1))
        top = self.lateral_conv0(x5)
        middle = self.reduce_conv1(self.C3_p4(torch.cat([_twice(top), x4], 1)))
        n3 = self.C3_p3(torch.cat([_twice(middle), x3], 1))
        n4 = self.C3_n3(torch.cat([self.bu_conv2(n3), middle], 1))
        return {8: n3, 16: n4, 32: self.C3_n4(torch.cat([self.bu_conv1(n4), top], 1))}


def channels_of(width: int) -> dict[int, int]:
    """Return the maps' channels by their stride, where the first layer has ``width``."""
    return {8: 4 * width, 16: 8 * width, 32: 16 * width}


class YoloxNano(YoloxFeatures):
    """The smallest published network; see :class:`YoloxFeatures`."""

    WIDTH, DEPTH = 16, 1
    CHANNELS = channels_of(WIDTH)

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std, width=self.WIDTH, depth=self.DEPTH)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
