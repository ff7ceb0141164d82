"""TinyViT, MobileSAM's image encoder (Zhang et al. 2023, section 3; TinyViT: Wu et al. 2022).

Four stages: the first of inverted-residual convolutions, the other three of window
attention. The last down-sampling has stride 1 instead of 2, so that a 1024 x 1024
image becomes the 64 x 64 grid that SAM's mask decoder was trained on. Every shape
is taken from the input, so any size divisible by 16 works.

Module names are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.spec import MB, NetworkSpec, WorkingSet
from mobilesam.networks.config import NetworkConfig
from mobilesam.networks.layer_norm import LayerNorm2d

CLASSES = 1000  # of the ImageNet head that the checkpoint carries and segmentation never uses


class ConvBN(nn.Sequential):
    """Convolution without bias, then batch normalisation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.add_module("c", conv)
        self.add_module("bn", nn.BatchNorm2d(out_channels))


class PatchEmbed(nn.Module):
    """Two strided 3 x 3 convolutions: (B, 3, H, W) -> (B, C, H/4, W/4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvBN(3, channels // 2, 3, stride=2),
            nn.GELU(),
            ConvBN(channels // 2, channels, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted residual: expand, depthwise 3 x 3, project; GELU after the sum."""

    def __init__(self, channels: int, expand_ratio: float) -> None:
        super().__init__()
        hidden = int(channels * expand_ratio)
        self.conv1 = ConvBN(channels, hidden)
        self.conv2 = ConvBN(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBN(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(hidden))


class PatchMerging(nn.Module):
    """Change the channels, and halve the grid where ``stride`` is 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(in_channels, out_channels)
        self.conv2 = ConvBN(out_channels, out_channels, 3, stride=stride, groups=out_channels)
        self.conv3 = ConvBN(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


def attention_offsets(window: int) -> tuple[Tensor, int]:
    """Return which learned bias each pair of window positions uses, and how many biases there are.

    Pairs with the same absolute offset share one bias; offsets are numbered in the
    order in which they first appear. The index is flat, (window**4,).
    """
    positions = list(product(range(window), range(window)))
    numbers: dict[tuple[int, int], int] = {}
    index = [
        numbers.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(numbers))
        for a in positions
        for b in positions
    ]
    return torch.tensor(index, dtype=torch.int32), len(numbers)


class WindowAttention(nn.Module):
    """Multi-head attention inside one window, with a learned bias per offset."""

    offset_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        index, offsets = attention_offsets(window)
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)  # interleaved by head: q, k, v of head 0, then head 1, ...
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, offsets))
        self.register_buffer("offset_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(self.norm(x)).view(b, n, self.heads, -1).transpose(1, 2)  # (B, heads, N, 3d)
        q, k, v = qkv.chunk(3, dim=-1)
        bias = self.attention_biases.index_select(1, self.offset_index).view(1, self.heads, n, n)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    """Pre-normalised two-layer perceptron with GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise convolution across windows, and a perceptron."""

    def __init__(self, dim: int, heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, heads, window)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.local_conv = ConvBN(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        if h == self.window and w == self.window:
            x = x + self.attn(x.flatten(1, 2)).view(b, h, w, c)
        else:
            windows, rows, columns = self._to_windows(x)
            x = x + self._from_windows(self.attn(windows), rows, columns)[:, :h, :w]
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # the sum is not taken here
        return x + self.mlp(x)

    def _to_windows(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Cut (B, H, W, C) into windows; the last ones are filled up with zeros, unmasked."""
        b, h, w, c = x.shape
        s = self.window
        x = F.pad(x, (0, 0, 0, -w % s, 0, -h % s))
        rows, columns = x.shape[1] // s, x.shape[2] // s
        x = x.view(b, rows, s, columns, s, c).transpose(2, 3)
        return x.reshape(b * rows * columns, s * s, c), rows, columns

    def _from_windows(self, x: Tensor, rows: int, columns: int) -> Tensor:
        s, c = self.window, x.shape[-1]
        x = x.view(-1, rows, columns, s, s, c).transpose(2, 3)
        return x.reshape(-1, rows * s, columns * s, c)


class ConvStage(nn.Module):
    """Stage 1: inverted residuals on a (B, C, H, W) map, then patch merging."""

    def __init__(self, dim: int, depth: int, expand_ratio: float, downsample: PatchMerging) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MBConv(dim, expand_ratio) for _ in range(depth))
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class AttentionStage(nn.Module):
    """Stages 2 to 4: window attention on a (B, C, H, W) map, then patch merging if any."""

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        window: int,
        mlp_ratio: float,
        downsample: PatchMerging | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TinyViTBlock(dim, heads, window, mlp_ratio) for _ in range(depth))
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        x = self.attend(x)
        return x if self.downsample is None else self.downsample(x)

    def attend(self, x: Tensor) -> Tensor:
        """Return the stage's features (B, C, H, W), before they are sampled down."""
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)  # (B, C, H, W)


class TinyViT(nn.Module):
    """MobileSAM's image encoder: pixels (B, 3, S, S) -> image embedding (B, 256, S/16, S/16).

    Args:
        embed_dims: channels of the four stages.
        depths: blocks of each stage.
        num_heads: attention heads of each stage (the first has none).
        window_sizes: side of the attention windows of each stage (the first has none).
        mlp_ratio: width of the perceptrons, as a multiple of the stage's channels.
        mbconv_expand_ratio: width of the inverted residuals, likewise.
        out_channels: channels of the image embedding.
        last_stride: of the last down-sampling. TinyViT's is 2, MobileSAM's 1; with 2 and no ``fpn`` the image
            embedding has S/32.
        fpn: instead bring the last stage's features to the grid of the one before and add that one's, as EdgeSAM's
            feature pyramid does; with ``last_stride=2``.
    """

    stride = 16

    def __init__(
        self,
        *,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        mlp_ratio: float = 4.0,
        mbconv_expand_ratio: float = 4.0,
        out_channels: int = 256,
        last_stride: int = 1,
        fpn: bool = False,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(embed_dims[0])
        strides = (2, 2, last_stride)  # the published 2, 2, 2 with SAM's grid in mind
        self.stride = 16 if fpn else 16 * last_stride
        merges = [
            PatchMerging(embed_dims[i], embed_dims[i + 1], strides[i]) for i in range(len(embed_dims) - 1)
        ]
        self.layers = nn.ModuleList([ConvStage(embed_dims[0], depths[0], mbconv_expand_ratio, merges[0])])
        for i in range(1, len(embed_dims)):
            downsample = merges[i] if i < len(merges) else None
            self.layers.append(
                AttentionStage(embed_dims[i], depths[i], num_heads[i], window_sizes[i], mlp_ratio, downsample)
            )
        self.norm_head = nn.LayerNorm(embed_dims[-1])  # in the checkpoint, unused
        self.head: nn.Module = nn.Linear(embed_dims[-1], CLASSES)  # in the checkpoint, unused
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dims[-1], out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )
        self.lateral = nn.Conv2d(embed_dims[-2], out_channels, 1, bias=False) if fpn else None

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed(pixels)  # (B, 64, S/4, S/4)
        if self.lateral is not None:
            return self.pyramid(x, self.lateral)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)  # (B, 256, S/16, S/16)

    def pyramid(self, x: Tensor, lateral: nn.Module) -> Tensor:
        """Join the last two stages' features on the finer one's grid."""
        *first, third, fourth = self.layers
        for layer in first:
            x = layer(x)
        assert isinstance(third, AttentionStage) and third.downsample is not None
        finer = third.attend(x)  # (B, 160, S/16, S/16)
        coarse = self.neck[0](fourth(third.downsample(finer)))
        coarse = F.interpolate(coarse, size=finer.shape[-2:], mode="bilinear", align_corners=False)
        return self.neck[1:](coarse + lateral(finer))


NETWORKS = (
    NetworkConfig(
        NetworkSpec(
            "vit_t", "MobileSAM's vit_t", image_size=1024, rectangles=64, working_set=WorkingSet(400 * MB)
        ),
        TinyViT,
    ),
)
