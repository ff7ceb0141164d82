"""SAM's mask decoder: prompt tokens and an image embedding in, masks and their quality out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.networks.layer_norm import LayerNorm2d
from mobilesam.networks.two_way_transformer import FirstLayer, TwoWayTransformer


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int, depth: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Predict one mask (token 0) and three masks (tokens 1 to 3) with their IoU.

    Attributes:
        PER_PROMPT: the arrays that are combined with each prompt.
        PER_IMAGE: those that need no copy for each prompt; SAM has none.
        ends_at_box: whether masks that nearly fit their box are cut to it; SAM's are not.

    Args:
        transformer: joins prompts and image.
        embed_dim: channels of the transformer.
        iou_head_hidden: hidden width of the IoU head.
        num_multimask_outputs: number of masks besides the single one.
    """

    PER_PROMPT: tuple[str, ...] = ("image_embedding",)
    PER_IMAGE: tuple[str, ...] = ()
    ends_at_box = False

    def __init__(
        self,
        *,
        transformer: TwoWayTransformer,
        embed_dim: int = 256,
        iou_head_hidden: int = 256,
        num_multimask_outputs: int = 3,
    ) -> None:
        super().__init__()
        self.num_mask_tokens = 1 + num_multimask_outputs
        self.transformer = transformer
        self.iou_token = nn.Embedding(1, embed_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, embed_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(embed_dim, embed_dim // 4, 2, stride=2),
            LayerNorm2d(embed_dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(embed_dim // 4, embed_dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(embed_dim, embed_dim, embed_dim // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(embed_dim, iou_head_hidden, self.num_mask_tokens, 3)

    def project_image(self, image_embedding: Tensor, image_pe: Tensor, dense: Tensor) -> FirstLayer:
        """Make the first layer's image side once for all prompts of an image.

        Valid for prompts whose dense embedding is ``dense`` (1, C, 1, 1): those without a mask.
        """
        image_pe = image_pe.to(image_embedding.dtype)
        return self.transformer.project_first_layer(image_embedding + dense, image_pe)

    def decode(
        self,
        embedding: Mapping[str, Tensor],
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        mask_tokens: Tensor,
        first_layer: FirstLayer | None = None,
        *,
        fold: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return low-resolution logits (B, M, 4h, 4w) and IoU predictions (B, M).

        Args:
            embedding: ``image_embedding`` (B or 1, C, h, w).
            image_pe: (1, C, h, w).
            sparse_prompt_embeddings: (B, N, C).
            dense_prompt_embeddings: (B or 1, C, h or 1, w or 1).
            mask_tokens: (M,) numbers of the mask tokens asked for; 0 is the single mask.
            first_layer: from :meth:`project_image`; only where the dense embedding is shared.
            fold: see :class:`TwoWayTransformer`.
        """
        image_embedding = embedding["image_embedding"]  # its dtype is that of the image side
        image_pe = image_pe.to(image_embedding.dtype)
        dense_prompt_embeddings = dense_prompt_embeddings.to(image_embedding.dtype)
        tokens = self.ask(sparse_prompt_embeddings)
        image = image_embedding + dense_prompt_embeddings
        tokens, read = self.transformer.join(image, image_pe, tokens, first_layer, fold=fold)
        return self.answer(tokens, read, image.shape[-2:], mask_tokens)

    def ask(self, sparse_prompt_embeddings: Tensor) -> Tensor:
        """Put the output tokens before prompts (B, N, C): (B, 1 + masks + N, C)."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        output_tokens = output_tokens.expand(sparse_prompt_embeddings.shape[0], -1, -1)
        return torch.cat([output_tokens, sparse_prompt_embeddings], dim=1)

    def answer(
        self, tokens: Tensor, image: Tensor, grid_size: Sequence[int], mask_tokens: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        """Return the masks and IoU predictions that tokens (B, T, C) and an image (B, h * w, C) hold."""
        masks = scatter(self.draw(tokens, image, mask_tokens), grid_size)
        return masks, self.expect(tokens)[:, mask_tokens]

    def draw(self, tokens: Tensor, image: Tensor, mask_tokens: Tensor | slice) -> Tensor:
        """Return the masks as values of each cell (B, M, h * w * 4 * 4), see :func:`scatter`."""
        upscaled = self.upscale(image)  # (B, h * w, 2 * 2, 2 * 2, C/8)
        hyper = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )[:, mask_tokens]  # (B, M, C/8)
        return hyper @ upscaled.flatten(1, 3).transpose(1, 2)

    def expect(self, tokens: Tensor) -> Tensor:
        """Return the IoU predictions (B, 4) of all masks."""
        return self.iou_prediction_head(tokens[:, 0])

    def upscale(self, image: Tensor) -> Tensor:
        """Make 4 x 4 places of each cell (B, P, C): (B, P, 4, 4, C/8), two by two and again two by two.

        This is ``output_upscaling``, as one product for each transposed convolution, whose windows do not overlap.
        Channels stay last, so that nothing is moved but the masks in the end.
        """
        first, norm, activation, second, last_activation = self.output_upscaling
        assert isinstance(first, nn.ConvTranspose2d) and isinstance(second, nn.ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d)
        x = F.layer_norm(split_cells(image, first), norm.weight.shape, norm.weight, norm.bias, norm.eps)
        return last_activation(split_cells(activation(x), second))


def split_cells(image: Tensor, convolution: nn.ConvTranspose2d) -> Tensor:
    """Make 2 x 2 places of each (..., C) by a transposed convolution of stride 2: (..., 4, c)."""
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # (C, 2 * 2 * c)
    bias = cast("Tensor", convolution.bias).repeat(4)
    return (image @ weight + bias).unflatten(-1, (4, -1))


def scatter(masks: Tensor, grid_size: Sequence[int]) -> Tensor:
    """Put values (B, M, h * w * 4 * 4), which are two by two in each cell, in their rows: (B, M, 4h, 4w)."""
    height, width = grid_size
    masks = masks.unflatten(-1, (height, width, 2, 2, 2, 2)).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return masks.flatten(5, 7).flatten(2, 4)
