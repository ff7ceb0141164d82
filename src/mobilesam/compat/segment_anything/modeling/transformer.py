"""segment_anything's ``modeling.transformer``."""

from __future__ import annotations

from torch import Tensor, nn

from mobilesam.compat.segment_anything.modeling.common import MLPBlock, as_built, folding
from mobilesam.networks import two_way_transformer


class Attention(two_way_transformer.Attention):
    """Multi-head attention ``forward(q, k, v)`` whose inner width may be smaller than the embedding's."""

    def __init__(self, embedding_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__(embedding_dim, num_heads, downsample_rate)
        self.embedding_dim = embedding_dim
        self.internal_dim = embedding_dim // downsample_rate
        self.num_heads = num_heads


class TwoWayAttentionBlock(two_way_transformer.TwoWayAttentionBlock):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int = 2048,
        activation: type[nn.Module] = nn.ReLU,
        attention_downsample_rate: int = 2,
        skip_first_layer_pe: bool = False,
    ) -> None:
        super().__init__(
            embedding_dim, num_heads, mlp_dim, attention_downsample_rate, is_first=skip_first_layer_pe
        )
        self.self_attn = Attention(embedding_dim, num_heads)
        self.cross_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.mlp = MLPBlock(embedding_dim, mlp_dim, activation)
        self.cross_attn_image_to_token = Attention(embedding_dim, num_heads, attention_downsample_rate)

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the updated tokens (B, N, C) and image (B, P, C)."""
        return self.join(queries, keys, query_pe, key_pe, None, fold=False)


class TwoWayTransformer(two_way_transformer.TwoWayTransformer):
    """Blocks of two-way attention, then a last look of the tokens at the image."""

    def __init__(
        self,
        depth: int,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        activation: type[nn.Module] = nn.ReLU,
        attention_downsample_rate: int = 2,
    ) -> None:
        super().__init__(depth=0, embed_dim=embedding_dim)
        self.depth = depth
        self.embedding_dim = embedding_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                embedding_dim, num_heads, mlp_dim, activation, attention_downsample_rate, i == 0
            )
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)

    def forward(
        self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the updated tokens (B, N, C) and image, as rows (B, h * w, C).

        Args:
            image_embedding: (B, C, h, w).
            image_pe: (B or 1, C, h, w).
            point_embedding: (B, N, C).
        """
        if not as_built(self):
            return self._by_its_layers(image_embedding, image_pe, point_embedding)
        return self.join(image_embedding, image_pe, point_embedding, fold=folding())

    def _by_its_layers(self, image: Tensor, image_pe: Tensor, token_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Call each layer as it is now, by segment_anything's names."""
        image, image_pe = two_way_transformer.rows(image), two_way_transformer.rows(image_pe)
        tokens = token_pe
        for layer in self.layers:
            tokens, image = layer(queries=tokens, keys=image, query_pe=token_pe, key_pe=image_pe)
        look = self.final_attn_token_to_image
        found = look(q=tokens + token_pe, k=image + image_pe, v=image)
        return self.norm_final_attn(tokens + found), image
