"""SAM's image encoder: a plain vision transformer with windows (Li et al. 2022, ViTDet)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.spec import MB, NetworkSpec, WorkingSet
from mobilesam.networks.config import NetworkConfig
from mobilesam.networks.layer_norm import LayerNorm2d
from mobilesam.networks.two_way_transformer import MLPBlock

EPS = 1e-6  # of the layer norms


class PatchEmbed(nn.Module):
    """Patches as tokens: (B, 3, S, S) -> (B, S/p, S/p, C)."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_size, patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).permute(0, 2, 3, 1)


class RelativeAttention(nn.Module):
    """Self-attention on a square of tokens, with learned relative positions along rows and columns.

    Args:
        dim: channels.
        heads: attention heads.
        side: side of the square.
    """

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.side = side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, side, side, C) for an input of the same shape."""
        b, side = x.shape[0], self.side
        qkv = self.project(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, d)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(q))
        return self.proj(found.transpose(1, 2).reshape(b, side, side, -1))

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values (B, N, 3C) of tokens (B, side, side, C)."""
        return self.qkv(x.flatten(1, 2))

    def bias(self, q: Tensor) -> Tensor:
        """What positions alone add to the scores of queries (B, heads, N, d): (B, heads, N, N).

        It depends on the query: each meets the embedding of its distance to the key, along
        the rows and along the columns.
        """
        side = self.side
        place = torch.arange(side, device=q.device)
        distance = place[:, None] - place + side - 1  # (query, key)
        q = q.unflatten(2, (side, side))
        rows = torch.einsum("bhrcd,rkd->bhrck", q, self.rel_pos_h[distance])
        columns = torch.einsum("bhrcd,ckd->bhrck", q, self.rel_pos_w[distance])
        return (rows[..., :, None] + columns[..., None, :]).flatten(4, 5).flatten(2, 3)


class Block(nn.Module):
    """Transformer block whose attention sees windows of ``side``, or the whole grid.

    Args:
        dim: channels.
        heads: attention heads.
        side: of the windows; as large as the grid for attention over the whole.
        mlp_dim: hidden width of the perceptron.
    """

    def __init__(self, dim: int, heads: int, side: int, mlp_dim: int) -> None:
        super().__init__()
        self.side = side
        self.norm1: nn.Module = nn.LayerNorm(dim, EPS)
        self.attn = RelativeAttention(dim, heads, side)
        self.norm2: nn.Module = nn.LayerNorm(dim, EPS)
        self.mlp = MLPBlock(dim, mlp_dim, F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1]
        windows = split_windows(self.norm1(x), self.side)
        x = x + join_windows(self.attn(windows), size)
        return x + self.mlp(self.norm2(x))


def split_windows(x: Tensor, side: int) -> Tensor:
    """Cut (B, S, S, C) into windows (B * n * n, side, side, C), with zeros right and below where needed."""
    missing = -x.shape[1] % side
    x = F.pad(x, (0, 0, 0, missing, 0, missing))
    n = x.shape[1] // side
    x = x.unflatten(2, (n, side)).unflatten(1, (n, side))  # (B, n, side, n, side, C)
    return x.transpose(2, 3).flatten(0, 2)


def join_windows(windows: Tensor, size: int) -> Tensor:
    """Undo :func:`split_windows` for a grid of ``size``."""
    side = windows.shape[1]
    n = -(-size // side)
    x = windows.unflatten(0, (-1, n, n)).transpose(2, 3)  # (B, n, side, n, side, C)
    return x.flatten(3, 4).flatten(1, 2)[:, :size, :size]


class ImageEncoderViT(nn.Module):
    """SAM's image encoder: pixels (B, 3, 1024, 1024) -> image embedding (B, 256, 64, 64).

    Args:
        embed_dim: channels of the tokens.
        depth: blocks.
        num_heads: attention heads.
        global_attn_indexes: blocks that attend over the whole grid.
        mlp_dim: hidden width of the blocks' perceptrons; four times ``embed_dim`` where None.
        window_size: side of the other blocks' windows.
        grid_size: side of the grid of patches, which the position embeddings fix.
        patch_size: side of a patch in pixels.
        out_channels: channels of the image embedding.
    """

    stride = 16

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        global_attn_indexes: Sequence[int],
        mlp_dim: int | None = None,
        window_size: int = 14,
        grid_size: int = 64,
        patch_size: int = 16,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid_size, grid_size, embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                grid_size if i in global_attn_indexes else window_size,
                mlp_dim or 4 * embed_dim,
            )
            for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed(pixels) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


def _vit(
    name: str, called: str, megabytes: int, *, width: int, depth: int, heads: int, mlp_dim: int | None = None
) -> NetworkConfig:
    """SAM's ViT in one of its sizes; each quarter of its blocks ends with one that looks at the whole image."""
    spec = NetworkSpec(name, called, image_size=1024, fixed_size=True, working_set=WorkingSet(megabytes * MB))
    whole = tuple(depth // 4 * (i + 1) - 1 for i in range(4))
    encoder = partial(
        ImageEncoderViT,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        global_attn_indexes=whole,
        mlp_dim=mlp_dim,
    )
    return NetworkConfig(spec, encoder)


NETWORKS = (
    _vit("vit_b", "SAM vit_b", 3_300, width=768, depth=12, heads=12),
    _vit("vit_l", "SAM vit_l", 4_400, width=1024, depth=24, heads=16),
    _vit("vit_h", "SAM vit_h", 4_600, width=1280, depth=32, heads=16),
    # ViT-B with 50 and 77 % of its channels pruned (Chen et al. 2023, "SlimSAM: 0.1% Data Makes Segment Anything Slim").
    _vit("slimsam_50", "SlimSAM-50", 3_100, width=384, depth=12, heads=12),
    _vit("slimsam_77", "SlimSAM-77", 2_900, width=168, depth=12, heads=12, mlp_dim=696),
)
