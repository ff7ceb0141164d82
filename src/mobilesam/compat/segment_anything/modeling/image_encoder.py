"""segment_anything's ``modeling.image_encoder``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mobilesam.compat.segment_anything.modeling.common import MLPBlock
from mobilesam.networks import image_encoder_vit
from mobilesam.networks.image_encoder_vit import PatchEmbed as PatchEmbed

Norm = Callable[[int], nn.Module]


class Attention(image_encoder_vit.RelativeAttention):
    """Self-attention on a square of tokens (B, side, side, C), with or without relative positions."""

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(dim, num_heads, input_size[0] if input_size else 1)
        self.num_heads = num_heads
        self.use_rel_pos = use_rel_pos
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        if not use_rel_pos:
            del self.rel_pos_h, self.rel_pos_w

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values (B, N, 3C); ``qkv`` sees (B, side, side, C), as adapters expect."""
        return self.qkv(x).flatten(1, 2)

    def bias(self, q: Tensor) -> Tensor:
        """What positions alone add to the scores; nothing without relative positions."""
        return super().bias(q) if self.use_rel_pos else q.new_zeros(1, 1, 1, 1)


class Block(image_encoder_vit.Block):
    """Transformer block whose attention sees windows, or the whole grid where ``window_size`` is 0."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_layer: Norm = nn.LayerNorm,
        act_layer: type[nn.Module] = nn.GELU,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        side = window_size or (input_size[0] if input_size else 1)
        super().__init__(dim, num_heads, side, int(dim * mlp_ratio))
        self.window_size = window_size
        self.norm1 = norm_layer(dim)
        self.norm2 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, qkv_bias, use_rel_pos, rel_pos_zero_init, (side, side))
        self.mlp = MLPBlock(dim, int(dim * mlp_ratio), act_layer)


class ImageEncoderViT(image_encoder_vit.ImageEncoderViT):
    """SAM's image encoder: pixels (B, in_chans, S, S) -> image embedding (B, out_chans, S / p, S / p)."""

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        out_chans: int = 256,
        qkv_bias: bool = True,
        norm_layer: Norm = nn.LayerNorm,
        act_layer: type[nn.Module] = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        global_attn_indexes: Sequence[int] = (),
    ) -> None:
        grid_size = img_size // patch_size
        super().__init__(
            embed_dim=embed_dim,
            depth=0,
            num_heads=num_heads,
            global_attn_indexes=(),
            grid_size=grid_size,
            patch_size=patch_size,
            out_channels=out_chans,
        )
        self.img_size = img_size
        self.stride = patch_size
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                qkv_bias,
                norm_layer,
                act_layer,
                use_rel_pos,
                rel_pos_zero_init,
                0 if i in global_attn_indexes else window_size,
                (grid_size, grid_size),
            )
            for i in range(depth)
        )
        if in_chans != 3:
            self.patch_embed.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)
        if not use_abs_pos:
            del self.pos_embed
            self.register_buffer("pos_embed", torch.zeros(1, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the image embedding of normalised pixels."""
        return super().forward(x)
