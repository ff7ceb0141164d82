"""EfficientViT-SAM's image encoders L0, L1 and L2 (Cai et al. 2023, Zhang et al. 2024).

Convolutions on the fine maps, linear attention on the two coarse ones; the three coarsest
maps are brought to SAM's 64 x 64 grid, summed, and refined. Modules are nested and named
as in the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.spec import MB, NetworkSpec, WorkingSet
from mobilesam.networks.config import NetworkConfig
from mobilesam.networks.layer_norm import LayerNorm2d

EPS = 1e-6  # of all norms
HEAD_DIM = 32  # channels of an attention head
AGGREGATED = 5  # side of the neighbourhood that the second set of queries, keys and values is taken over


class ConvLayer(nn.Module):
    """Convolution, batch normalisation and GELU; the last two may be left out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias
        )
        self.norm = nn.BatchNorm2d(out_channels, EPS) if norm else None
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return F.gelu(x, approximate="tanh") if self.act else x


class ResBlock(nn.Module):
    """Two 3 x 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels)
        self.conv2 = ConvLayer(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class FusedMBConv(nn.Module):
    """A widening 3 x 3 convolution and a pointwise one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.spatial_conv = ConvLayer(in_channels, hidden, 3, stride)
        self.point_conv = ConvLayer(hidden, out_channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.spatial_conv(x))


class MBConv(nn.Module):
    """Inverted residual with a norm at its end only."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.inverted_conv = ConvLayer(in_channels, hidden, 1, bias=True, norm=False)
        self.depth_conv = ConvLayer(hidden, hidden, 3, stride, groups=hidden, bias=True, norm=False)
        self.point_conv = ConvLayer(hidden, out_channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class LiteMLA(nn.Module):
    """Linear attention with ReLU as its kernel, over tokens and over their neighbourhoods.

    Without softmax, keys and values meet first: the cost grows with the number of tokens,
    not with its square.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = ConvLayer(channels, 3 * channels, 1, norm=False, act=False)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(
                        3 * channels,
                        3 * channels,
                        AGGREGATED,
                        padding=AGGREGATED // 2,
                        groups=3 * channels,
                        bias=False,
                    ),
                    nn.Conv2d(3 * channels, 3 * channels, 1, groups=3 * (channels // HEAD_DIM), bias=False),
                )
            ]
        )
        self.proj = ConvLayer(2 * channels, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, self.aggreg[0](qkv)], 1).flatten(2)  # (B, 2 * 3C, N)
        q, k, v = qkv.unflatten(1, (-1, 3, HEAD_DIM)).unbind(2)  # each (B, heads, d, N)
        q, k = F.relu(q).float(), F.relu(k).float()  # sums over all tokens leave float16's range
        v = F.pad(v.float(), (0, 0, 0, 1), value=1.0)  # one more row: the sum of the weights
        found = (v @ k.transpose(-1, -2)) @ q
        found = found[:, :, :-1] / (found[:, :, -1:] + 1e-15)
        return self.proj(found.to(x.dtype).flatten(1, 2).unflatten(-1, size))


class ResidualBlock(nn.Module):
    """``main``, added to its input where shapes allow it."""

    def __init__(self, main: nn.Module, *, shortcut: bool = True) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.shortcut else self.main(x)


class EfficientViTBlock(nn.Module):
    """Linear attention for what is far, an inverted residual for what is near."""

    def __init__(self, channels: int, expand_ratio: int) -> None:
        super().__init__()
        self.context_module = ResidualBlock(LiteMLA(channels))
        self.local_module = ResidualBlock(MBConv(channels, channels, 1, expand_ratio))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


class OpSequential(nn.Module):
    """Modules one after the other, under the name that the checkpoints give their list."""

    def __init__(self, *ops: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(ops)

    def forward(self, x: Tensor) -> Tensor:
        for op in self.op_list:
            x = op(x)
        return x


class EfficientViTLargeBackbone(nn.Module):
    """The trunk: pixels (B, 3, S, S) -> maps of strides 8, 16 and 32.

    Args:
        width_list: channels of the stages of strides 2 to 32.
        depth_list: blocks of each stage, after the one that reduces.
    """

    def __init__(self, *, width_list: Sequence[int], depth_list: Sequence[int]) -> None:
        super().__init__()
        w, d = width_list, depth_list
        self.stages = nn.ModuleList(
            [
                OpSequential(ConvLayer(3, w[0], 3, 2), *(ResidualBlock(ResBlock(w[0])) for _ in range(d[0]))),
                *(
                    OpSequential(
                        ResidualBlock(FusedMBConv(w[i - 1], w[i], 2, 16), shortcut=False),
                        *(ResidualBlock(FusedMBConv(w[i], w[i], 1, 4)) for _ in range(d[i])),
                    )
                    for i in (1, 2)
                ),
                OpSequential(
                    ResidualBlock(MBConv(w[2], w[3], 2, 16), shortcut=False),
                    *(ResidualBlock(MBConv(w[3], w[3], 1, 4)) for _ in range(d[3])),
                ),
                OpSequential(
                    ResidualBlock(MBConv(w[3], w[4], 2, 24), shortcut=False),
                    *(EfficientViTBlock(w[4], 6) for _ in range(d[4])),
                ),
            ]
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            pixels = stage(pixels)
            maps.append(pixels)
        return maps[2:]


class UpSampleLayer(nn.Module):
    """Enlarge to SAM's grid, bicubically."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = (size, size)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == self.size:
            return x
        return F.interpolate(x, size=self.size, mode="bicubic", align_corners=False)


class SamNeck(nn.Module):
    """Merge the three coarsest maps on SAM's grid.

    Args:
        in_channel_list: channels of the maps, coarsest first.
        head_width: channels of the merged map.
        head_depth: blocks on it.
        out_dim: channels that come out.
        grid_size: side of the grid.
    """

    def __init__(
        self,
        *,
        in_channel_list: Sequence[int],
        head_width: int,
        head_depth: int,
        out_dim: int,
        grid_size: int = 64,
    ) -> None:
        super().__init__()
        self.input_ops = nn.ModuleList(
            OpSequential(ConvLayer(n, head_width, 1, act=False), UpSampleLayer(grid_size))
            for n in in_channel_list
        )
        self.middle = OpSequential(
            *(ResidualBlock(FusedMBConv(head_width, head_width, 1, 1)) for _ in range(head_depth))
        )
        self.output_ops = nn.ModuleList(
            [OpSequential(ConvLayer(head_width, out_dim, 1, bias=True, norm=False, act=False))]
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = torch.stack([op(x) for op, x in zip(self.input_ops, maps, strict=True)]).sum(0)
        return self.output_ops[0](self.middle(x))


class EfficientViTSamImageEncoder(nn.Module):
    """EfficientViT-SAM's image encoder: pixels (B, 3, 512, 512) -> image embedding (B, 256, 64, 64).

    Args:
        width_list: channels of the trunk's stages.
        depth_list: blocks of each.
        head_width: channels of the neck.
        head_depth: blocks of the neck.
        out_channels: channels of the image embedding.
    """

    stride = 8

    def __init__(
        self,
        *,
        width_list: Sequence[int] = (32, 64, 128, 256, 512),
        depth_list: Sequence[int],
        head_width: int = 256,
        head_depth: int,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.backbone = EfficientViTLargeBackbone(width_list=width_list, depth_list=depth_list)
        self.neck = SamNeck(
            in_channel_list=width_list[:1:-1],
            head_width=head_width,
            head_depth=head_depth,
            out_dim=out_channels,
        )
        self.norm = LayerNorm2d(out_channels, EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        fine, middle, coarse = self.backbone(pixels)
        return self.norm(self.neck([coarse, middle, fine]))


def _sam(kind: str, depths: tuple[int, ...], head_depth: int) -> NetworkConfig:
    """EfficientViT-SAM in one of its sizes."""
    spec = NetworkSpec(
        f"efficientvit_sam_{kind}",
        f"EfficientViT-SAM {kind.upper()}",
        image_size=512,
        prompt_size=1024,
        stride=8,
        working_set=WorkingSet(200 * MB),
    )
    return NetworkConfig(spec, partial(EfficientViTSamImageEncoder, depth_list=depths, head_depth=head_depth))


NETWORKS = (
    _sam("l0", (1, 1, 1, 4, 4), 4),
    _sam("l1", (1, 1, 1, 6, 6), 8),
    _sam("l2", (1, 2, 2, 8, 8), 12),
)
