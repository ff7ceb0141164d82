"""segment_anything's ``modeling.prompt_encoder``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilesam.core.prompts import BOX_CORNERS, LOW_RES_PER_GRID, PAD
from mobilesam.networks import prompt_encoder
from mobilesam.networks.prompt_encoder import LABELS

Points = tuple[Tensor, Tensor]  # coordinates (B, N, 2) and labels (B, N)


class PositionEmbeddingRandom(prompt_encoder.PositionEmbeddingRandom):
    """Sines and cosines of random spatial frequencies; ``forward((h, w))`` encodes a grid's cells: (C, h, w)."""

    def __init__(self, num_pos_feats: int = 64, scale: float | None = None) -> None:
        super().__init__(num_pos_feats)
        if scale is not None and scale > 0:
            self.positional_encoding_gaussian_matrix *= scale

    def _pe_encoding(self, coords: Tensor) -> Tensor:
        """Encode positions (..., 2) in 0..1."""
        return self.encode(coords)

    def forward_with_coords(self, coords_input: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Encode positions (B, N, 2) in pixels of an image of (height, width): (B, N, C)."""
        height, width = image_size
        return self.encode(coords_input.float() / coords_input.new_tensor([width, height], dtype=torch.float))


class PromptEncoder(prompt_encoder.PromptEncoder):
    """Turns points, boxes and masks into sparse and dense embeddings.

    Args:
        embed_dim: channels of both.
        image_embedding_size: (h, w) of the image embedding.
        input_image_size: (height, width) of the padded image that points and boxes are given in.
        mask_in_chans: channels inside the mask prompt's convolutions.
        activation: of these.
    """

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__(embed_dim=embed_dim, mask_in_chans=mask_in_chans)
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        replace_gelu(self.mask_downscaling, activation)
        self.embed_dim = embed_dim
        self.image_embedding_size = image_embedding_size
        self.input_image_size = input_image_size
        self.num_point_embeddings = LABELS
        height, width = image_embedding_size
        self.mask_input_size = (LOW_RES_PER_GRID * height, LOW_RES_PER_GRID * width)

    def get_dense_pe(self) -> Tensor:
        """Return the position embedding (1, C, h, w) of the image embedding's grid."""
        return self.pe_layer(self.image_embedding_size)[None]

    def forward(
        self, points: Points | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return sparse (B, N, C) and dense (B, C, h, w) embeddings.

        Args:
            points: coordinates (B, N, 2) in pixels of the padded image and labels (B, N), or None.
            boxes: (B, 4), or any shape with four numbers for each prompt, or None.
            masks: (B, 1, 4h, 4w) logits, or None.
        """
        coords, labels = join_prompts(points, boxes, self.no_mask_embed.weight.device)
        if points is None and boxes is None and masks is not None:
            coords, labels = coords.expand(len(masks), -1, -1), labels.expand(len(masks), -1)
        sparse, dense = self.embed_on_grid(coords, labels, masks)
        return sparse, dense.expand(len(sparse), -1, *dense_size(dense, self.image_embedding_size))

    def embed_on_grid(self, coords: Tensor, labels: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed joined prompts (B, N, 2) and (B, N) for the grid that the mask decoder reads."""
        return self.embed(
            coords,
            labels,
            None if masks is None else masks.to(self.no_mask_embed.weight.dtype),
            image_size=self.input_image_size,
            grid_size=self.image_embedding_size,
        )


def join_prompts(points: Points | None, boxes: Tensor | None, device: torch.device) -> Points:
    """Join points and boxes into the decoder's coordinates (B, N, 2) and labels (B, N); with neither, (1, 0).

    Points without boxes are followed by a pad; the corners of a box follow the points.
    """
    coords, labels = [], []
    if points is not None:
        coords.append(points[0].float())
        labels.append(points[1].float())
    if boxes is not None:
        corners = boxes.reshape(-1, 2, 2).float()
        coords.append(corners)
        labels.append(corners.new_tensor(BOX_CORNERS).expand(len(corners), -1))
    elif points is not None:
        coords.append(coords[0].new_zeros(len(coords[0]), 1, 2))
        labels.append(coords[0].new_full((len(coords[0]), 1), PAD))
    if not coords:
        return torch.zeros(1, 0, 2, device=device), torch.zeros(1, 0, device=device)
    return torch.cat(coords, dim=1), torch.cat(labels, dim=1)


def dense_size(dense: Tensor, grid_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (h, w) that a dense embedding is spread over: the grid, if it is the same everywhere."""
    height, width = dense.shape[-2:]
    return grid_size if (height, width) == (1, 1) else (height, width)


def replace_gelu(layers: nn.Sequential, activation: type[nn.Module]) -> None:
    """Put another activation in place of GELU."""
    if activation is not nn.GELU:
        for name, layer in layers.named_children():
            if isinstance(layer, nn.GELU):
                setattr(layers, name, activation())
