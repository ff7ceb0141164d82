"""SAM's mask decoder: prompt tokens and an image embedding in, masks and their quality out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

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
        tokens, image = self.transformer.join(image, image_pe, tokens, first_layer, fold=fold)
        return self.answer(tokens, image, mask_tokens)

    def ask(self, sparse_prompt_embeddings: Tensor) -> Tensor:
        """Put the output tokens before prompts (B, N, C): (B, 1 + masks + N, C)."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        output_tokens = output_tokens.expand(sparse_prompt_embeddings.shape[0], -1, -1)
        return torch.cat([output_tokens, sparse_prompt_embeddings], dim=1)

    def answer(self, tokens: Tensor, image: Tensor, mask_tokens: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return the masks and IoU predictions that tokens (B, T, C) and an image (B, C, h, w) hold."""
        upscaled = self.output_upscaling(image)  # (B, C/8, 4h, 4w)
        hyper = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )[:, mask_tokens]  # (B, M, c)
        low_res_masks = (hyper @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:])
        return low_res_masks, self.iou_prediction_head(tokens[:, 0])[:, mask_tokens]
