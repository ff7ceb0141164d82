"""SAM's prompt encoder (Kirillov et al. 2023, section 3): points, boxes and masks as embeddings."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn

from mobilesam.core.prompts import PAD
from mobilesam.core.types import DecoderInputs
from mobilesam.networks.layer_norm import LayerNorm2d

LABELS = 4  # background point, foreground point, top-left corner, bottom-right corner


class PositionEmbeddingRandom(nn.Module):
    """Sines and cosines of random spatial frequencies (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, frequencies))

    def encode(self, positions: Tensor) -> Tensor:
        """Encode positions (..., 2), x and y in 0..1, as (..., 2 * frequencies)."""
        matrix = self.positional_encoding_gaussian_matrix
        matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))  # half cannot tell pixels apart
        angles = 2 * pi * ((2 * positions.to(matrix.dtype) - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, grid_size: tuple[int, int]) -> Tensor:
        """Encode the centre of every cell of a grid of (height, width): (C, height, width)."""
        return self.encode(grid_centres(grid_size, self.positional_encoding_gaussian_matrix)).permute(2, 0, 1)


def inputs_to_tensors(inputs: DecoderInputs, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return coordinates (B, N, 2), labels (B, N) and mask input (B, 1, h, w) or None, on a device."""
    mask_input = inputs.mask_input
    return (
        torch.from_numpy(inputs.point_coords).to(device),
        torch.from_numpy(inputs.point_labels).to(device),
        None if mask_input is None else torch.from_numpy(mask_input).to(device),
    )


def grid_axes(grid_size: tuple[int, int], like: Tensor, side: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the centres of a grid's columns and of its rows in 0..1, shapes (width,) and (height,).

    Args:
        grid_size: (height, width) in cells.
        like: a tensor whose device and type are used.
        side: cells of the square whose upper left part the grid is; where None, 0..1 spans the grid's own sides.
    """
    height, width = grid_size
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / (side or width)
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / (side or height)
    return x, y


def grid_centres(grid_size: tuple[int, int], like: Tensor) -> Tensor:
    """Return the (x, y) centres of a grid's cells in 0..1, shape (height, width, 2)."""
    height, width = grid_size
    x, y = grid_axes(grid_size, like)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


class PromptEncoder(nn.Module):
    """Turn decoder inputs into sparse and dense prompt embeddings.

    Args:
        embed_dim: channels of the sparse embedding.
        dense_dim: channels of the dense embedding; ``embed_dim`` where None.
        mask_in_chans: channels inside the mask prompt's convolutions.
        prompt_maps: draws the point and box prompts on the grid as well, see
            :class:`mobilesam.networks.pocket_decoder.PromptMaps`; SAM has none.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        dense_dim: int | None = None,
        mask_in_chans: int = 16,
        prompt_maps: nn.Module | None = None,
    ) -> None:
        super().__init__()
        dense_dim = dense_dim or embed_dim
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(LABELS))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, 2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, 2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, dense_dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dense_dim)
        self.prompt_maps = prompt_maps

    def embed_points(self, positions: Tensor, labels: Tensor) -> Tensor:
        """Embed positions (B, N, 2) in 0..1 with labels (B, N): (B, N, C)."""
        kinds = torch.cat(
            [self.not_a_point_embed.weight, *self.point_embeddings.parameters()]
        )  # (5, C), pad first, so that a label is its row less one
        labels = labels.long()
        is_point = (labels != PAD)[..., None].to(kinds.dtype)  # a pad has no position
        return self.pe_layer.encode(positions).to(kinds.dtype) * is_point + kinds[labels - PAD]

    def embed_mask(self, mask_input: Tensor) -> Tensor:
        """Embed mask logits (B, 1, 4h, 4w) on the grid: (B, dense_dim, h, w)."""
        return self.mask_downscaling(mask_input)

    def no_mask(self) -> Tensor:
        """The dense embedding of a prompt without a mask: (1, dense_dim, 1, 1), the same everywhere."""
        return self.no_mask_embed.weight[:, :, None, None]

    def embed(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor | None,
        *,
        image_size: tuple[int, int],
        grid_size: tuple[int, int],
        side: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return sparse (B, N, C) and dense (B or 1, dense_dim, h or 1, w or 1) prompt embeddings.

        Args:
            point_coords: (B, N, 2) x and y in pixels of the model's input.
            point_labels: (B, N) 1 foreground, 0 background, 2 and 3 box corners, -1 pad.
            mask_input: (B, 1, 4h, 4w) logits, or None.
            image_size: (height, width) of the model's input.
            grid_size: (h, w) of the image embedding.
            side: side in cells of the square whose upper left part that is; ``image_size`` is then the square's.
        """
        height, width = image_size
        scale = torch.tensor([width, height], dtype=point_coords.dtype, device=point_coords.device)
        positions = (point_coords + 0.5) / scale  # pixel centres
        sparse = self.embed_points(positions, point_labels)
        dense = self.no_mask() if mask_input is None else self.embed_mask(mask_input)
        if self.prompt_maps is not None:
            dense = dense + self.prompt_maps(positions, point_labels, grid_size, side)
        return sparse, dense
