"""SAM's two-way transformer: prompt tokens and image read each other (Kirillov et al. 2023, appendix A).

Few tokens meet thousands of image positions, so the attention between them never
projects the image where that can be avoided. Both rewrites are exact:

- **Folding.** A score is ``(W_q t) . (W_k x)``, which is ``(W_k^T W_q t) . x``: the
  image side's matrix moves to the few tokens. The values and the output projection
  fold in the same way. It pays up to about ``FOLD_LIMIT`` tokens.
- **Hoisting.** In the first layer the image side does not depend on the prompts, so
  its projections are made once per image (:class:`FirstLayer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional as F

FOLD_LIMIT = 16  # tokens: heads * tokens vectors against embed_dim / 2 projected channels
UNREAD = 1e4  # what a score is lower by that softmax makes 0 of


class FirstLayer(NamedTuple):
    """What the first layer makes of an image alone, each (1, heads, P, head width)."""

    key: Tensor  # for token -> image
    value: Tensor  # for token -> image
    query: Tensor  # for image -> token


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the embedding's."""

    def __init__(self, embed_dim: int, heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = embed_dim // downsample_rate
        self.heads = heads
        self.head_dim = inner // heads
        self.q_proj = nn.Linear(embed_dim, inner)
        self.k_proj = nn.Linear(embed_dim, inner)
        self.v_proj = nn.Linear(embed_dim, inner)
        self.out_proj = nn.Linear(inner, embed_dim)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, inner) -> (B, heads, N, head width)."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """(B, heads, N, head width) -> (B, N, embed_dim), through the output projection."""
        return self.out_proj(x.transpose(1, 2).flatten(-2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, absent: Tensor | None = None) -> Tensor:
        """Attention on projected heads; the batch of ``k`` and ``v``, or of ``q``, may be 1."""
        scores = (q / sqrt(self.head_dim)) @ k.transpose(-2, -1)
        return self.merge(without(scores, absent).softmax(-1) @ v)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, absent: Tensor | None = None) -> Tensor:
        """Plain attention of ``q`` (B, N, C) on ``k`` and ``v`` (B, M, C); see :func:`without`."""
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))
        return self.attend(q, k, v, absent)

    def tokens_read_image(self, tokens: Tensor, image_key: Tensor, image_value: Tensor) -> Tensor:
        """``forward(tokens, image_key, image_value)`` with the image side folded into the tokens.

        The key bias adds the same to every score of a token, which softmax cancels.
        """
        t = tokens.shape[1]
        q = self.split(self.q_proj(tokens)) / sqrt(self.head_dim)  # (B, heads, T, d)
        w_k = self.k_proj.weight.unflatten(0, (self.heads, self.head_dim))  # (heads, d, C)
        q = (q @ w_k).flatten(1, 2)  # (B, heads * T, C)
        read = (q @ image_key.transpose(1, 2)).softmax(-1) @ image_value  # (B, heads * T, C)
        w_v = self.v_proj.weight.unflatten(0, (self.heads, self.head_dim)).transpose(1, 2)
        value = read.unflatten(1, (self.heads, t)) @ w_v  # (B, heads, T, d)
        bias = self.v_proj.bias.unflatten(0, (self.heads, 1, self.head_dim))
        return self.merge(value + bias)

    def image_reads_tokens(
        self, image: Tensor, token_key: Tensor, token_value: Tensor, absent: Tensor | None = None
    ) -> Tensor:
        """``forward(image, token_key, token_value, absent)`` with the image side folded into the tokens."""
        b, t, _ = token_key.shape
        k = self.split(self.k_proj(token_key)) / sqrt(self.head_dim)  # (B, heads, T, d)
        w_q = self.q_proj.weight.unflatten(0, (self.heads, self.head_dim))  # (heads, d, C)
        bias = (k @ self.q_proj.bias.unflatten(0, (self.heads, self.head_dim, 1))).view(b, 1, -1)
        scores = image @ (k @ w_q).flatten(1, 2).transpose(1, 2) + bias  # (B, P, heads * T)
        scores = without(scores.unflatten(-1, (self.heads, t)), absent)
        weights = scores.softmax(-1).flatten(-2)
        return weights @ self._values_through_output(token_value) + self.out_proj.bias

    def _values_through_output(self, token_value: Tensor) -> Tensor:
        """What one unit of attention to each token adds to the output: (B, heads * T, C)."""
        v = self.split(self.v_proj(token_value))  # (B, heads, T, d)
        w_o = self.out_proj.weight.unflatten(1, (self.heads, self.head_dim)).permute(1, 2, 0)
        return (v @ w_o).flatten(1, 2)


class MLPBlock(nn.Module):
    """Two linear layers with ``act`` between them."""

    def __init__(self, dim: int, hidden: int, act: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.act = act
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class TwoWayAttentionBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(
        self, embed_dim: int, heads: int, mlp_dim: int, downsample_rate: int, *, is_first: bool
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embed_dim, heads)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.cross_attn_token_to_image = Attention(embed_dim, heads, downsample_rate)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = MLPBlock(embed_dim, mlp_dim)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.norm4 = nn.LayerNorm(embed_dim)
        self.cross_attn_image_to_token = Attention(embed_dim, heads, downsample_rate)
        self.is_first = is_first

    def join(
        self,
        tokens: Tensor,
        image: Tensor,
        token_pe: Tensor,
        image_pe: Tensor,
        first_layer: FirstLayer | None,
        *,
        fold: bool,
        absent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the updated tokens (B, T, C) and image (B, P, C).

        With ``first_layer`` given, ``image`` and its projections have a batch of 1. Nobody reads tokens that are
        ``absent``, see :func:`without`.
        """
        if self.is_first:  # the tokens are still their own position embedding
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens, absent))
        else:
            q = tokens + token_pe
            tokens = self.norm1(tokens + self.self_attn(q, q, tokens, absent))

        read = self.cross_attn_token_to_image
        if first_layer is not None:
            q = read.split(read.q_proj(tokens + token_pe))
            found = read.attend(q, first_layer.key, first_layer.value)
        elif fold:
            found = read.tokens_read_image(tokens + token_pe, image + image_pe, image)
        else:
            found = read(tokens + token_pe, image + image_pe, image)
        tokens = self.norm2(tokens + found)
        tokens = self.norm3(tokens + self.mlp(tokens))

        write = self.cross_attn_image_to_token
        if first_layer is not None:
            k = write.split(write.k_proj(tokens + token_pe))
            told = write.attend(first_layer.query, k, write.split(write.v_proj(tokens)), absent)
        elif fold:
            told = write.image_reads_tokens(image + image_pe, tokens + token_pe, tokens, absent)
        else:
            told = write(image + image_pe, tokens + token_pe, tokens, absent)
        return tokens, self.norm4(image + told)


class TwoWayTransformer(nn.Module):
    """Blocks of two-way attention, then a last look of the tokens at the image.

    Args:
        depth: number of blocks.
        embed_dim: channels of tokens and image.
        heads: attention heads; must divide ``embed_dim``.
        mlp_dim: hidden width of the perceptrons.
        downsample_rate: by how much the cross attentions narrow their inner width.
    """

    def __init__(
        self,
        *,
        depth: int = 2,
        embed_dim: int = 256,
        heads: int = 8,
        mlp_dim: int = 2048,
        downsample_rate: int = 2,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(embed_dim, heads, mlp_dim, downsample_rate, is_first=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embed_dim, heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embed_dim)

    @property
    def blocks(self) -> Sequence[TwoWayAttentionBlock]:
        """The layers with their own type, which a ModuleList loses."""
        return cast("Sequence[TwoWayAttentionBlock]", self.layers)

    def project_first_layer(self, image: Tensor, image_pe: Tensor) -> FirstLayer:
        """Project images (B, C, h, w) that no prompt has changed yet for the first block."""
        image, image_pe = rows(image), rows(image_pe)
        first = self.blocks[0]
        read, write = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        return FirstLayer(
            key=read.split(read.k_proj(image + image_pe)),
            value=read.split(read.v_proj(image)),
            query=write.split(write.q_proj(image + image_pe)),
        )

    def join(
        self,
        image: Tensor,
        image_pe: Tensor,
        tokens: Tensor,
        first_layer: FirstLayer | None = None,
        *,
        fold: bool | None = None,
        absent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the updated tokens (B, T, C) and image (B, h * w, C).

        Args:
            image: (B, C, h, w), or (1, C, h, w) together with ``first_layer``.
            image_pe: (1, C, h, w) position embedding of the image.
            tokens: (B, T, C), also their own position embedding.
            first_layer: projections of ``image`` made once per image.
            fold: use the folded form; by default only where it is cheaper.
            absent: which tokens are none, see :func:`without`.
        """
        if fold is None:
            fold = tokens.shape[1] <= FOLD_LIMIT
        image, image_pe = rows(image), rows(image_pe)
        token_pe = tokens
        for layer in self.blocks:
            tokens, image = layer.join(
                tokens, image, token_pe, image_pe, first_layer, fold=fold, absent=absent
            )
            first_layer = None
        return self.last_look(tokens, token_pe, image, image_pe, fold=fold), image

    def last_look(
        self, tokens: Tensor, token_pe: Tensor, image: Tensor, image_pe: Tensor, *, fold: bool
    ) -> Tensor:
        """Let the tokens (B, T, C) read the finished image (B, P, C) once more."""
        last = self.final_attn_token_to_image
        look = last.tokens_read_image if fold else last
        return self.norm_final_attn(tokens + look(tokens + token_pe, image + image_pe, image))


def without(scores: Tensor, absent: Tensor | None) -> Tensor:
    """Return scores (B, X, Y, T) of tokens by which those that are absent get no attention.

    A graph of fixed shapes has a place for each of so many tokens, and not every prompt has as many.

    Args:
        scores: before softmax.
        absent: (B, 1, 1, T) 1 for a place without a token, 0 for others; None where there is a token in each.
    """
    return scores if absent is None else scores - UNREAD * absent


def rows(image: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return image.flatten(2).transpose(1, 2)


def grid(image: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w)."""
    return image.transpose(1, 2).unflatten(-1, grid_size)
